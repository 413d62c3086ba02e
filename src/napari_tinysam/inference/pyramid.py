"""Which look a prompt is answered from: a pyramid of looks, fine to coarse.

A prompt is answered from the finest look that shows its object well: in one piece, clear of the
borders at which the look is cut, and large enough. How large the object is, only the answer tells,
so an answer may ask for another look. numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

from napari_tinysam.frame import FRAME
from napari_tinysam.inference.looks import Look, LookGrid, is_large

if TYPE_CHECKING:
    from napari_tinysam.masks import BoxedMask

T = TypeVar("T")

#: (x0, y0, x1, y1) in pixels of the plane, the last pixel inclusive.
Box = tuple[float, float, float, float]

#: An object with fewer pixels of the frame along its longer side is looked at more closely. Of
#: synthetic nuclei, the bundled model's masks have a mean IoU of 0.95 with the truth at 48 pixels,
#: 0.90 at 31, 0.85 at 23 and 0.80 at 14; below that they join several nuclei.
SMALL = 32

#: So does a look in which the object head sees mostly objects of fewer pixels of the frame: the
#: mask of such an object may well be that of many.
_TINY = 16

#: Shortest side of a look, in pixels of the plane. It is enlarged: small objects need that.
FINEST = FRAME // 2

#: An object that takes a larger share of a look's side is looked at from further away.
MOST = 0.5

#: Longest side of a look, in pixels of the plane: the mask of an object in a larger one would
#: take gigabytes.
COARSEST = 16 * FRAME

#: A prompt keeps this share of a look's side clear of the borders at which it is cut.
_ROOM = 1 / 32

#: An answer that ends within so many pixels of the frame of such a border may be cut there.
_CUT = 2.0


@dataclass(frozen=True)
class LookPyramid:
    """Grids of looks on one plane, each of about twice the scale of the one before.

    Neighbours share half a side, so an object of up to half a side lies clear of the border in
    the look around its middle.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the plane.
    sides : tuple of int
        Longest side of the looks of each level, ascending, in pixels of the plane.
    """

    shape: tuple[int, int]
    sides: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, int], *, whole: bool = False) -> LookPyramid:
        """Make the pyramid of a plane: one look if the plane is not large, or `whole` is asked."""
        longest = max(shape)
        last = min(longest, COARSEST)
        if whole or not is_large(shape):
            return cls(shape, (last if is_large(shape) else longest,))
        sides = []
        side = FINEST
        while 5 * side < 4 * last:
            sides.append(side)
            side *= 2
        return cls(shape, (*sides, last))

    @cached_property
    def grids(self) -> tuple[LookGrid, ...]:
        """The looks of each level."""
        return tuple(LookGrid(self.shape, side, side // 2) for side in self.sides)

    @property
    def own(self) -> int:
        """The level at the plane's own resolution, or the only level."""
        return self.sides.index(FRAME) if FRAME in self.sides else self.last

    @property
    def last(self) -> int:
        """The coarsest level."""
        return len(self.sides) - 1

    def scale(self, level: int) -> float:
        """Pixels of the plane for one of the frame."""
        return self.sides[level] / FRAME

    def showing(self, length: float) -> int:
        """Finest level that shows a part with this longest side in two looks."""
        enough = (level for level, side in enumerate(self.sides) if 2 * side >= length)
        return next(enough, self.last)

    def fitting(self, size: float, level: int) -> int:
        """Level nearest to the given one at which objects of this longest side are seen well."""
        while level > 0 and size < SMALL * self.scale(level):
            level -= 1
        while level < self.last and size > MOST * self.sides[level]:
            level += 1
        return level

    def holding(self, box: Box, level: int) -> tuple[int, Look]:
        """Find the look around a box, at the given level or the next coarser one that has room."""
        x0, y0, x1, y1 = box
        middle = (x0 + x1) / 2, (y0 + y1) / 2
        for each in range(level, self.last):
            look = self.grids[each].around(middle)
            room = _ROOM * self.sides[each]
            if look.clearance(box, self.shape) >= room and _longest(box) <= (
                MOST * self.sides[each]
            ):
                return each, look
        return self.last, self.grids[-1].around(middle)


@dataclass(frozen=True)
class Question:
    """One object to be segmented.

    Parameters
    ----------
    box : (float, float, float, float)
        Around all of its prompts.
    level : int
        Where to begin.
    fresh : bool
        Whether a small object may be looked at more closely: not once the user has seen a mask.
    """

    box: Box
    level: int
    fresh: bool = True


@dataclass(frozen=True)
class Seen(Generic[T]):
    """What the model said about objects in one look.

    Parameters
    ----------
    found : sequence of (T, BoxedMask)
        What was asked for, and the mask that shows in the plane, of each object.
    usual : float
        Longer side of the look's usual object in pixels of the plane; 0 if that is not known.
    """

    found: Sequence[tuple[T, BoxedMask]]
    usual: float = 0.0


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What the model said about one object, and from which look.

    Parameters
    ----------
    found : T
        What was asked for.
    level : int
        Of the pyramid.
    look : Look
        It shows the object well, if `settled`.
    settled : bool
        False if another look, which may not be asked now, would show the object better.
    """

    found: T
    level: int
    look: Look
    settled: bool = True


def answered(
    pyramid: LookPyramid,
    questions: Sequence[Question],
    ask: Callable[[Look, list[int]], Seen[T]],
    may_ask: Callable[[Look], bool] = lambda look: True,
) -> list[Answer[T]]:
    """Ask about objects, each in the look that shows it well.

    Parameters
    ----------
    pyramid : LookPyramid
    questions : sequence of Question
        N objects.
    ask : callable
        ``ask(look, numbers)`` asks about these objects in this look.
    may_ask : callable
        Whether a look, other than the first one, may be asked.

    Returns
    -------
    list of Answer
        N, in order.
    """
    answers: dict[int, Answer[T]] = {}
    places = {
        number: pyramid.holding(question.box, question.level)
        for number, question in enumerate(questions)
    }
    tried: dict[int, list[Look]] = {number: [] for number in places}
    fresh = {number: question.fresh for number, question in enumerate(questions)}
    while places:
        looks: dict[Look, list[int]] = {}
        for number, (_, look) in places.items():
            looks.setdefault(look, []).append(number)
        following: dict[int, tuple[int, Look]] = {}
        for look, numbers in looks.items():
            seen = ask(look, numbers)
            for number, (found, mask) in zip(numbers, seen.found, strict=True):
                level, _ = places[number]
                tried[number].append(look)
                answers[number] = Answer(found, level, look)
                box = questions[number].box
                usual = seen.usual if fresh[number] else None
                better = _better(pyramid, box, level, look, mask, usual)
                while better is not None and better[1] in tried[number]:
                    better = _coarser(pyramid, box, mask, better[0], level)
                if better is None:
                    continue
                if not may_ask(better[1]):
                    answers[number] = replace(answers[number], settled=False)
                    continue
                fresh[number] &= better[0] >= level  # looked at more closely once only
                following[number] = better
        places = following
    return [answers[number] for number in range(len(questions))]


def _better(
    pyramid: LookPyramid,
    box: Box,
    level: int,
    look: Look,
    mask: BoxedMask,
    usual: float | None,
) -> tuple[int, Look] | None:
    """Return the look that should show the object of an answer better; None if none does.

    `usual` is None where small objects are not looked at more closely.
    """
    sizes = []
    if usual and usual < _TINY * pyramid.scale(level):
        sizes.append(usual)
    if mask.mask.size:
        sizes.append(_longest(mask.box))
    if usual is not None and sizes:
        finer = pyramid.fitting(min(sizes), level)
        if finer < level:
            found = pyramid.holding(box, finer)
            if found[0] < level:
                return found
    if not mask.mask.size:
        return None
    cut = look.clearance(mask.box, pyramid.shape) < _CUT * look.scale
    if cut or _longest(mask.box) > MOST * pyramid.sides[level]:
        return pyramid.holding(_around(box, mask.box), level)
    return None


def _coarser(
    pyramid: LookPyramid, box: Box, mask: BoxedMask, level: int, asked: int
) -> tuple[int, Look] | None:
    """Return the next coarser look than one that was tried; None if there is none."""
    if level < asked or level == pyramid.last:
        return None
    return pyramid.holding(_around(box, mask.box), level + 1)


def _around(one: Box, other: Sequence[float]) -> Box:
    return (
        min(one[0], other[0]),
        min(one[1], other[1]),
        max(one[2], other[2]),
        max(one[3], other[3]),
    )


def _longest(box: Sequence[float]) -> float:
    """Longer side of a box, in pixels."""
    return max(box[2] - box[0], box[3] - box[1]) + 1
