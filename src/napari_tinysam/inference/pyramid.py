"""Which look a prompt is answered from: a pyramid of looks, fine to coarse.

A prompt is answered from the finest look that shows its object well: in one piece, clear of the
borders at which the look is cut, and large enough. How large the object is, only the answer tells,
so an answer may ask for another look. In a coarse look a field of small objects may be taken for
one; the object maps of the look do not confirm such a mask, and a look at the plane's own
resolution decides. numpy only.
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

#: A mask in a coarse look is doubted if it is confirmed less than that. Masks of objects that fill
#: 75 to 750 pixels of the frame are confirmed by 0.79 to 0.97; those of fields of nuclei, each of 2
#: to 8 pixels, by 0.00 to 0.03, in stained tissue by up to 0.64.
CONFIRMED = 0.7

#: At the plane's own resolution a mask is doubted only if it is confirmed less than that: what the
#: model sees inside of an object that is larger than the look is confirmed by 0.00 to 0.30.
_UNSEEN = 0.35

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

    def first(self, question: Question) -> tuple[int, Look]:
        """Return the level and the look in which the search for an object begins."""
        level = question.level
        if question.sized and question.fresh:
            level = self.fitting(_longest(question.box), level)
        return self.holding(question.box, level)


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
    sized : bool
        Whether the box is that of the object. It is looked at where objects of that size are seen
        well.
    any_size : bool
        Whether nothing tells how large the object may be, such as the zoom. One that is doubted at
        the plane's own resolution is then looked at from afar as well.
    """

    box: Box
    level: int
    fresh: bool = True
    sized: bool = False
    any_size: bool = False


@dataclass(frozen=True)
class SeenObject(Generic[T]):
    """What the model said about one object in a look.

    Parameters
    ----------
    found : T
        What was asked for.
    mask : BoxedMask
        The mask that shows in the plane.
    confirmed : float
        0–1, how well the object maps of the look agree with the mask; without maps, how good the
        model thinks it is.
    """

    found: T
    mask: BoxedMask
    confirmed: float = 1.0


@dataclass(frozen=True)
class Seen(Generic[T]):
    """What the model said about objects in one look.

    Parameters
    ----------
    objects : sequence of SeenObject
        In the order in which they were asked about.
    usual : float
        Longer side of the look's usual object in pixels of the plane; 0 if that is not known.
    """

    objects: Sequence[SeenObject[T]]
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
    searches: list[_Search[T]] = [_Search(pyramid, each) for each in questions]
    going_on = dict(enumerate(searches))
    while going_on:
        looks: dict[Look, list[int]] = {}
        for number, search in going_on.items():
            looks.setdefault(search.place[1], []).append(number)
        for look, numbers in looks.items():
            seen = ask(look, numbers)
            for number, each in zip(numbers, seen.objects, strict=True):
                if not searches[number].goes_on(each, seen.usual, may_ask):
                    del going_on[number]
    return [search.answer for search in searches]


class _Search(Generic[T]):
    """The search for the look that shows one object well.

    Attributes
    ----------
    place : (int, Look)
        The level and the look to ask next.
    answer : Answer
        So far.
    """

    answer: Answer[T]

    def __init__(self, pyramid: LookPyramid, question: Question) -> None:
        self._pyramid = pyramid
        self._box = question.box
        self._fresh = question.fresh
        self._any_size = question.any_size and not question.sized
        self._tried: list[Look] = []
        self._doubted: tuple[tuple[int, Look], SeenObject[T]] | None = None
        self.place = pyramid.first(question)

    def goes_on(
        self, seen: SeenObject[T], usual: float, may_ask: Callable[[Look], bool]
    ) -> bool:
        """Take what was seen in the look; return whether another one has to be asked."""
        self._tried.append(self.place[1])
        following = self._check(seen)
        if following is None:
            seen = self._decided(seen)
            following = self._better(seen, usual)
        level, look = self.place
        self.answer = Answer(seen.found, level, look)
        if following is None:
            return False
        if not may_ask(following[1]):
            self.answer = replace(self.answer, settled=False)
            return False
        if self._doubted is None:
            self._fresh &= following[0] >= level  # looked at more closely once only
        self.place = following
        return True

    def _check(self, seen: SeenObject[T]) -> tuple[int, Look] | None:
        """Return the look that decides about a doubted object; None if it is not doubted."""
        if not self._fresh or self._doubted is not None or seen.confirmed >= CONFIRMED:
            return None
        level, pyramid = self.place[0], self._pyramid
        if level > pyramid.own:
            found = pyramid.holding(self._box, pyramid.own)
        elif level == pyramid.own and self._any_size and seen.confirmed < _UNSEEN:
            found = pyramid.holding(self._box, pyramid.last)
        else:
            return None
        self._any_size = False
        if found[1] in self._tried:
            return None
        self._doubted = self.place, seen
        return found

    def _decided(self, seen: SeenObject[T]) -> SeenObject[T]:
        """Choose between what was seen at the plane's own resolution and from afar."""
        if self._doubted is None:
            return seen
        (place, doubted), self._doubted = self._doubted, None
        own = self._pyramid.own
        least = CONFIRMED if self.place[0] > own else 0.0
        better = seen.confirmed > max(doubted.confirmed, least)
        if better and not self._is_cut(seen.mask):
            # The user has waited for two looks: a third one only for what is tiny.
            tiny = _longest(seen.mask.box) < _TINY * self._pyramid.scale(self.place[0])
            self._fresh &= tiny or self.place[0] > own
            return seen
        self.place = place
        self._fresh &= place[0] <= own  # else a closer look has just been taken
        return doubted

    def _better(self, seen: SeenObject[T], usual: float) -> tuple[int, Look] | None:
        """Return the look that should show the object better; None if none does."""
        level = self.place[0]
        mask = seen.mask
        better = self._finer(mask, usual if seen.confirmed < CONFIRMED else 0.0)
        if better is None and self._is_cut(mask):
            better = self._pyramid.holding(_around(self._box, mask.box), level)
        while better is not None and better[1] in self._tried:
            if better[0] < level or better[0] == self._pyramid.last:
                return None
            around = _around(self._box, mask.box) if mask.mask.size else self._box
            better = self._pyramid.holding(around, better[0] + 1)
        return better

    def _finer(self, mask: BoxedMask, usual: float) -> tuple[int, Look] | None:
        """Return the look at which a small object is seen more closely."""
        level, _ = self.place
        sizes = []
        if usual and usual < _TINY * self._pyramid.scale(level):
            sizes.append(usual)
        if mask.mask.size:
            sizes.append(_longest(mask.box))
        if not self._fresh or not sizes:
            return None
        finer = self._pyramid.fitting(min(sizes), level)
        found = self._pyramid.holding(self._box, min(finer, level))
        return found if found[0] < level else None

    def _is_cut(self, mask: BoxedMask) -> bool:
        """Whether a mask ends at the border of the look, or is too large for it."""
        level, look = self.place
        if not mask.mask.size:
            return False
        if look.clearance(mask.box, self._pyramid.shape) < _CUT * look.scale:
            return True
        most = MOST * self._pyramid.sides[level]
        return level < self._pyramid.last and _longest(mask.box) > most


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
