"""Splits annotated images: for training, for choosing the best moment, for reported figures.

The best of many moments of a run, as measured on some images, scores a little higher on those than
on others, by chance. Reported figures should come from images that chose nothing, or have a caveat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinysam_training.labelled_image import ImageEntry

#: One image of this many is held out where no others are given.
HELD_OUT_OF = 5

#: The most images that choose the best moment: validation uses no more.
CHOOSING = 4

#: From this many held-out images on, some choose and the others are reported on.
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
    """The use of each annotated image.

    Attributes
    ----------
    train : list of ImageEntry
        Images to train on.
    choosing : list of ImageEntry
        Images on which the best moment of the run is chosen.
    reported : list of ImageEntry
        Images on which the models before and after are compared.
    """

    train: list[ImageEntry]
    choosing: list[ImageEntry]
    reported: list[ImageEntry]

    @property
    def caveat(self) -> str:
        """A caveat about the reported figures; empty if their images chose nothing."""
        reported = {id(entry) for entry in self.reported}
        if any(id(entry) in reported for entry in self.train):
            return _TRAINED
        if any(id(entry) in reported for entry in self.choosing):
            return _SAME
        return ""

    def text(self) -> str:
        """Describe the split in a sentence."""
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
    """Decide the use of each image.

    Parameters
    ----------
    train : sequence of ImageEntry
    val, test : sequence of ImageEntry
        Held out by the user, or none. With both, `val` chooses and `test` is reported on.
    seed : int
        Of the random choice; the same seed gives the same split.

    Returns
    -------
    Split
        With few images some may be in two lists; `Split.caveat` mentions it.
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
        A single image is in both: there is no other to judge on.
    """
    if len(entries) < 2:
        return list(entries), list(entries)
    held, train = _parted(entries, max(1, round(len(entries) / HELD_OUT_OF)), seed)
    return train, held


def _parted(
    entries: Sequence[ImageEntry], count: int, seed: int
) -> tuple[list[ImageEntry], list[ImageEntry]]:
    """Return this many random entries, and the others; both in their order."""
    chosen = set(np.random.default_rng(seed).permutation(len(entries))[:count].tolist())
    first = [entry for i, entry in enumerate(entries) if i in chosen]
    return first, [entry for i, entry in enumerate(entries) if i not in chosen]


def _images(count: int) -> str:
    return "1 image is" if count == 1 else f"{count} images are"
