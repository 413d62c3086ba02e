"""File names: which files are labels, and of which image.

Labels of NAME are called NAME_label, where ``label`` may also be ``labels``, ``instances``,
``cp_masks``, ``mask``, ``masks``, ``seg`` or ``gt``, after ``_``, ``-``, a dot or a space. A number
at the end marks another labelling of the same image. The image itself may be called
NAME_img, NAME_image or NAME_raw.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Words for labels, the least ambiguous first.
LABEL_WORDS = ("label", "instance", "cp_mask", "mask", "seg", "gt")

#: Endings that only results of this and other programs have.
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
    """The parts of a label file's name.

    Attributes
    ----------
    base : str
        Name of the image.
    family : int
        Index of the word in `LABEL_WORDS`.
    number : int
        Number of the labelling, from 1.
    """

    base: str
    family: int
    number: int


def as_label(stem: str) -> LabelName | None:
    """Parse a name without suffix; None if it is not that of a label file."""
    match = _LABEL.fullmatch(stem)
    if match is None:
        return None
    family = LABEL_WORDS.index(match["word"].lower())
    return LabelName(match["base"], family, int(match["number"] or 1))


def image_base(stem: str) -> str | None:
    """Return NAME for NAME_image; None for other names."""
    match = _IMAGE.fullmatch(stem)
    return None if match is None else match["base"]


def is_result(stem: str, others: frozenset[str]) -> bool:
    """Whether the name is that of a result or of labels instead of an image.

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
