"""What file names say: which are labels, and of which image.

Labels of NAME are called NAME_label, where ``label`` may also be ``labels``, ``instances``,
``cp_masks``, ``mask``, ``masks``, ``seg`` or ``gt``, after ``_``, ``-``, a dot or a space. A number
behind it is a further labelling of the same image. The image may call itself NAME_img, NAME_image
or NAME_raw.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Words for labels, the surest first.
LABEL_WORDS = ("label", "instance", "cp_mask", "mask", "seg", "gt")

#: Ends of names that nothing but results of this and other programs have.
_RESULTS = (
    *("_labels", "_overlay", "_cp_masks", "_cp_outlines", "_cp_output"),
    *("_flows", "_committed_objects"),
)

_LABEL = re.compile(
    rf"(?P<base>.+?)[_\-. ](?P<word>{'|'.join(LABEL_WORDS)})s?_?(?P<number>\d?)",
    re.IGNORECASE | re.DOTALL,
)
_IMAGE = re.compile(r"(?P<base>.+)[_\-. ](image|img|raw)", re.IGNORECASE | re.DOTALL)


class LabelName(NamedTuple):
    """The name of a label file, taken apart.

    Attributes
    ----------
    base : str
        Name of the image.
    family : int
        Place of the word in `LABEL_WORDS`.
    number : int
        Of the labelling, from 1.
    """

    base: str
    family: int
    number: int


def as_label(stem: str) -> LabelName | None:
    """Take a name without suffix apart; None if it is not called labels."""
    match = _LABEL.fullmatch(stem)
    if match is None:
        return None
    family = LABEL_WORDS.index(match["word"].lower())
    return LabelName(match["base"], family, int(match["number"] or 1))


def image_base(stem: str) -> str | None:
    """Return NAME of a NAME_image; None if it is not called so."""
    match = _IMAGE.fullmatch(stem)
    return None if match is None else match["base"]


def is_result(stem: str, others: frozenset[str]) -> bool:
    """Whether a file is no image but what was made of one, as far as its name tells.

    Parameters
    ----------
    stem : str
        Its name without suffix.
    others : frozenset of str
        Those of the files beside it.
    """
    if stem.lower().endswith(_RESULTS):
        return True
    label = as_label(stem)
    if label is None:
        return False
    known = others | {base for other in others if (base := image_base(other))}
    return label.base in known
