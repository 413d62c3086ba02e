"""Which annotated images are learnt from, which choose the best moment, which are reported on.

Of many moments of a run the best on some images is a little better there than elsewhere, by chance.
Figures that are reported should come from images that chose nothing, or say that they do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinysam_training.labelled_image import ImageEntry

#: Of so many images one is held out where no others are given.
HELD_OUT_OF = 5

#: At most so many images choose the best moment: validation looks at no more.
CHOOSING = 4

#: From so many held-out images on, a part of them chooses and the others are reported on.
ENOUGH = 4

_SAME = (
    "The same images chose the best moment of the run, so the figures after it are a little too "
    "good."
)
_TRAINED = (
    "The model learnt from the only image there is, so the figures say little about "
    "other images."
)


@dataclass(frozen=True, eq=False)
class Split:
    """What annotated images are for.

    Attributes
    ----------
    train : list of ImageEntry
        Learnt from.
    choosing : list of ImageEntry
        On which the best moment of the run is chosen.
    reported : list of ImageEntry
        On which the model before and after is compared.
    """

    train: list[ImageEntry]
    choosing: list[ImageEntry]
    reported: list[ImageEntry]

    @property
    def caveat(self) -> str:
        """A sentence about what the reported figures are worth; empty if they chose nothing."""
        reported = {id(entry) for entry in self.reported}
        if any(id(entry) in reported for entry in self.train):
            return _TRAINED
        if any(id(entry) in reported for entry in self.choosing):
            return _SAME
        return ""

    def text(self) -> str:
        """Say in a sentence which image is for what."""
        if len(self.train) == 1 and self.caveat == _TRAINED:
            return "There is only one image, so the model is judged on what it learns from."
        if self.caveat:
            return (
                f"{_images(len(self.reported))} held out, for choosing the best moment and for "
                "the figures in the end."
            )
        return (
            f"{_images(len(self.choosing))} held out for choosing the best moment, and "
            f"{len(self.reported)} for the figures in the end."
        )


def split_images(
    train: Sequence[ImageEntry],
    val: Sequence[ImageEntry] = (),
    test: Sequence[ImageEntry] = (),
    seed: int = 0,
) -> Split:
    """Decide what each image is for.

    Parameters
    ----------
    train : sequence of ImageEntry
    val, test : sequence of ImageEntry
        Held out by the user, or none. Where there are both, the former choose and the latter are
        reported on.
    seed : int
        Of the choice where there is one to be made; with it the split is always the same.

    Returns
    -------
    Split
        Of few images some may be in two lists; `Split.caveat` says so.
    """
    left, reported = list(train), list(test)
    shown = {entry.fingerprint for entry in reported}
    choosing = [entry for entry in val if entry.fingerprint not in shown]
    if choosing and reported:
        return Split(left, choosing, reported)
    held = reported or choosing
    if not held:
        left, held = hold_out(left, seed)
        if len(held) < ENOUGH:
            return Split(left, held, held)
    if len(held) >= ENOUGH:
        choosing, reported = _parted(held, min(len(held) // 2, CHOOSING), seed)
        return Split(left, choosing, reported)
    if len(left) >= HELD_OUT_OF:
        left, choosing = hold_out(left, seed)
        return Split(left, choosing, held)
    return Split(left, held, held)


def hold_out(
    entries: Sequence[ImageEntry], seed: int = 0
) -> tuple[list[ImageEntry], list[ImageEntry]]:
    """Set a fifth of the images aside, at least one.

    Parameters
    ----------
    entries : sequence of ImageEntry
    seed : int

    Returns
    -------
    train, held_out : list of ImageEntry
        Of a single image both are that image: there is nothing else to judge on.
    """
    if len(entries) < 2:
        return list(entries), list(entries)
    held, train = _parted(entries, max(1, round(len(entries) / HELD_OUT_OF)), seed)
    return train, held


def _parted(
    entries: Sequence[ImageEntry], count: int, seed: int
) -> tuple[list[ImageEntry], list[ImageEntry]]:
    """So many random entries, and the others; both in their order."""
    chosen = set(np.random.default_rng(seed).permutation(len(entries))[:count].tolist())
    first = [entry for i, entry in enumerate(entries) if i in chosen]
    return first, [entry for i, entry in enumerate(entries) if i not in chosen]


def _images(count: int) -> str:
    return "1 image is" if count == 1 else f"{count} images are"
