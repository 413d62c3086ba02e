"""Splits annotated images: for training, for choosing the best moment, for reported figures.

The best of many moments of a run, as measured on some images, scores a little higher on those than
on others, by chance. Reported figures should come from images that chose nothing, or have a caveat.
Tiles of a plane and planes of a stack are one image here (`ImageEntry.image`): neighbours are
nearly equal. What the start has learnt from would flatter it, and is held out last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tinysam_training.data.parting import HELD_OUT, part_image
from tinysam_training.labelled_image import ImageEntry
from tinysam_training.run.seen import Seen

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
_PART = (
    "What was held out is a part of an image that the model learnt from, so the figures say little "
    "about other images."
)
_SEEN = "The model as it was had learnt from the held-out images, so its figures are too good."

_Images = dict[str, list[ImageEntry]]


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
    seen : Seen
        What the start knows.
    background : list of ImageEntry
        Complete images without objects, to train on as well.
    """

    train: list[ImageEntry]
    choosing: list[ImageEntry]
    reported: list[ImageEntry]
    seen: Seen = field(default_factory=Seen)
    background: list[ImageEntry] = field(default_factory=list)

    @property
    def caveat(self) -> str:
        """Caveats about the reported figures; empty if there are none."""
        reported = {id(entry) for entry in self.reported}
        found = []
        if any(id(entry) in reported for entry in self.train):
            found.append(_TRAINED)
        else:
            if self._is_part:
                found.append(_PART)
            if any(id(entry) in reported for entry in self.choosing):
                found.append(_SAME)
        if any(map(self.seen.has_learnt, self.reported)):
            found.append(_SEEN)
        return " ".join(found)

    @property
    def notes(self) -> dict[str, str]:
        """What the model that comes out has seen, for its file."""
        learnt = [*self.train, *self.background]
        return self.seen.notes(learnt, [*self.choosing, *self.reported])

    @property
    def _is_part(self) -> bool:
        learnt = {entry.image for entry in self.train}
        return any(entry.image in learnt for entry in self.reported)

    def text(self) -> str:
        """Describe the split in a sentence."""
        caveat = self.caveat
        if _TRAINED in caveat and count_images(self.train) == 1:
            return "There is only one image, so the model is judged on what it learns from."
        if _PART in caveat:
            return (
                f"A part of {self.reported[0].image} is held out, for choosing the best moment "
                "and for the figures in the end."
            )
        reported = count_images(self.reported)
        if _SAME in caveat or _TRAINED in caveat:
            return (
                f"{_images(reported)} held out, for choosing the best moment and for the figures "
                "in the end."
            )
        return (
            f"{_images(count_images(self.choosing))} held out for choosing the best moment, and "
            f"{reported} for the figures in the end."
        )


def split_images(
    train: Sequence[ImageEntry],
    val: Sequence[ImageEntry] = (),
    test: Sequence[ImageEntry] = (),
    seed: int = 0,
    seen: Seen | None = None,
    usual: Sequence[str] = (),
) -> Split:
    """Decide the use of each image.

    Parameters
    ----------
    train : sequence of ImageEntry
    val, test : sequence of ImageEntry
        Held out by the user, or none. With both, `val` chooses and `test` is reported on.
    seed : int
        Of the random choice; the same seed gives the same split.
    seen : Seen, optional
        By the start.
    usual : sequence of str
        As for `hold_out`.

    Returns
    -------
    Split
        With few images some may be in two lists; `Split.caveat` mentions it.
    """
    seen = seen or Seen()
    left, reported = list(train), list(test)
    shown = {entry.fingerprint for entry in reported}
    choosing = [entry for entry in val if entry.fingerprint not in shown]
    if choosing and reported:
        return Split(left, choosing, reported, seen)
    held = reported or choosing
    if not held:
        left, held = hold_out(left, seed, seen, usual)
        if count_images(held) < ENOUGH:
            return Split(left, held, held, seen)
    if (images := count_images(held)) >= ENOUGH:
        choosing, reported = _chosen(held, min(images // 2, CHOOSING), seed)
        return Split(left, choosing, reported, seen)
    if count_images(left) >= HELD_OUT_OF:
        left, choosing = hold_out(left, seed, seen)
        return Split(left, choosing, held, seen)
    return Split(left, held, held, seen)


def hold_out(
    entries: Sequence[ImageEntry],
    seed: int = 0,
    seen: Seen | None = None,
    usual: Sequence[str] = (),
) -> tuple[list[ImageEntry], list[ImageEntry]]:
    """Set a fifth of the images aside, at least one.

    Parameters
    ----------
    entries : sequence of ImageEntry
    seed : int
    seen : Seen, optional
        By the start: images that it has learnt from are held out only where there are no others,
        and images that were held out before come first.
    usual : sequence of str
        Names of all images in the order in which they are held out otherwise; empty: by chance.

    Returns
    -------
    train, held_out : list of ImageEntry
        Of a single image, or of a stack that is more than half of all, a part is held out. A single
        image with few objects is in both: there is nothing else to judge on.
    """
    seen = seen or Seen()
    images = by_image(entries)
    if len(images) < 2:
        parts = part_entries(entries, seen)
        return parts or (list(entries), list(entries))
    order = np.random.default_rng(seed).permutation(len(images))
    names = list(usual) or [str(name) for name in np.array(list(images))[order]]
    fresh = [n for n in names if not any(map(seen.has_learnt, images[n]))]
    names = sorted(fresh or names, key=lambda n: not any(map(seen.held, images[n])))
    wanted = max(1, round(len(images) / HELD_OUT_OF))
    chosen: set[str] = set()
    size = 0
    for name in names:
        if len(chosen) < wanted and size + len(images[name]) <= len(entries) / 2:
            chosen.add(name)
            size += len(images[name])
    if chosen:
        return _two(entries, chosen)
    others = [entry for entry in entries if entry.image != names[0]]
    parts = part_entries(images[names[0]], seen)
    assert parts is not None  # there are several
    return [*others, *parts[0]], parts[1]


def part_entries(
    entries: Sequence[ImageEntry], seen: Seen | None = None
) -> tuple[list[ImageEntry], list[ImageEntry]] | None:
    """Hold out a connected part of one image: its last planes, its last tiles, or one side.

    Parameters
    ----------
    entries : sequence of ImageEntry
        Of one image, in order.
    seen : Seen, optional
        By the start: a single plane is cut where it was cut before, and of several the first are
        held out where the start has learnt from more of the last.

    Returns
    -------
    train, held_out : list of ImageEntry
        None where it cannot be parted.
    """
    seen = seen or Seen()
    if not entries:
        return None
    if len(entries) == 1:
        parts = part_image(entries[0], seen.cut(entries[0]))
        return parts and ([parts[0]], [parts[1]])
    # Whole planes: a tile lies above a nearly equal one of the next plane.
    units = [entry.part_of[1] if entry.part_of[1:] else entry.name for entry in entries]
    if len(set(units)) == 1:
        units = [entry.name for entry in entries]
    names = list(dict.fromkeys(units))
    count = max(1, round(len(names) * HELD_OUT))
    sides = []
    for held in (set(names[-count:]), set(names[:count])):
        parted = [unit in held for unit in units]
        learnt = sum(
            seen.has_learnt(entry)
            for entry, is_held in zip(entries, parted, strict=True)
            if is_held
        )
        sides.append((learnt, parted))
    _, parted = min(sides, key=lambda side: side[0])
    both = list(zip(entries, parted, strict=True))
    return [e for e, held in both if not held], [e for e, held in both if held]


def by_image(entries: Sequence[ImageEntry]) -> _Images:
    """Group planes and tiles by their image, in order."""
    found: _Images = {}
    for entry in entries:
        found.setdefault(entry.image, []).append(entry)
    return found


def count_images(entries: Sequence[ImageEntry]) -> int:
    """Count images, of however many planes and tiles."""
    return len(by_image(entries))


def _chosen(
    entries: Sequence[ImageEntry], count: int, seed: int
) -> tuple[list[ImageEntry], list[ImageEntry]]:
    """Return this many random images, and the others; both in their order."""
    names = list(by_image(entries))
    order = np.random.default_rng(seed).permutation(len(names))[:count]
    others, chosen = _two(entries, {names[number] for number in order})
    return chosen, others


def _two(
    entries: Sequence[ImageEntry], chosen: set[str]
) -> tuple[list[ImageEntry], list[ImageEntry]]:
    """Return the entries of other images, and those of the chosen ones."""
    first = [entry for entry in entries if entry.image not in chosen]
    return first, [entry for entry in entries if entry.image in chosen]


def _images(count: int) -> str:
    return "1 image is" if count == 1 else f"{count} images are"
