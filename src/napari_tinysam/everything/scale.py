"""The side of the tiles that a plane is searched in, chosen by what is found in a few places.

How large objects must be to be found depends on what they are: nuclei of 15 pixels in a stained
tissue are found if they are enlarged to 60, axons of 13 pixels as they are. So a few places are
searched as they are and enlarged: the middle of each, and all of it if that is a close thing.
Smaller tiles take four times as long: they are chosen where they show more objects of the same
size, or objects of which the model is surer, and larger ones where objects fill a tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_tinysam.everything.choosing import shapes_of
from napari_tinysam.everything.proposals import Proposals
from napari_tinysam.frame import FRAME
from napari_tinysam.inference.looks import Look, LookGrid
from napari_tinysam.inference.pyramid import COARSEST

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything.choosing import LabelSettings
    from napari_tinysam.everything.proposals import Proposal

#: Smallest side, in pixels of the plane.
_LEAST = FRAME // 4

#: Places that are compared, and places that are looked at to find so many with objects.
_PLACES, _TRIED = 4, 16

#: Their middles are enough if they show so many objects, and the sum of what counts grows by a
#: factor outside of these (where more is asked for, the lower one is as much higher). Places are
#: tiles, and so are the smaller looks at them, so that nothing is searched in vain.
_SEVERAL, _UNCLEAR = 10, (1.0, 1.4)

#: A score from which an object counts, the more the higher it is.
_DOUBTFUL = 0.5

#: In smaller tiles the sum of what counts is at least so many times as large (in those of a quarter
#: of the side and below: particles were found worse there at 1.16), and larger by this, …
_MORE, _STILL_MORE, _AT_LEAST = 1.08, 1.2, 0.5

#: … with a mean score that is lower by at most this.
_LESS_SURE = 0.01

#: Objects whose median side is below this share of the one before are something else, such as
#: texture, unless the sum is this many times as large.
_SMALLER, _MANY = 0.9, 2.0

#: Smaller tiles are not taken if the median side of objects exceeds this share of theirs: what is
#: longer than two tiles share is cut in both.
_FITS = 0.1

#: Share of the side of a look whose objects are compared: others may be cut by its border.
_CLEAR = 0.75

#: Objects take more than this share of a tile's side: larger tiles show them better.
_LARGE = 0.5


@dataclass(frozen=True)
class _Seen:
    """N objects of a look: scores, points and sides in pixels of the plane."""

    scores: npt.NDArray[np.float64]
    points: npt.NDArray[np.float64]  # (N, 2) x and y
    sides: npt.NDArray[np.float64]  # the longer ones
    areas: npt.NDArray[np.float64]

    def within(self, part: Look) -> _Seen:
        """Return the objects with their point in a part of the plane.

        The point, as tiles are searched at points in their core: objects whose middle lies in it
        may belong to another tile.
        """
        x, y = self.points.T + 0.5
        inside = (part.y0 <= y) & (y < part.y1) & (part.x0 <= x) & (x < part.x1)
        return _Seen(*(each[inside] for each in self._arrays))

    @property
    def sure(self) -> float:
        """How much the model sees, and how sure it is: the sum of the scores above `_DOUBTFUL`."""
        return float(np.maximum(self.scores - _DOUBTFUL, 0).sum())

    @property
    def _arrays(self) -> tuple[npt.NDArray[np.float64], ...]:
        return self.scores, self.points, self.sides, self.areas

    @classmethod
    def of(cls, several: Sequence[_Seen]) -> _Seen:
        """Put the objects of several looks together."""
        nothing = cls(np.zeros(0), np.zeros((0, 2)), np.zeros(0), np.zeros(0))
        arrays = zip(*(each._arrays for each in (nothing, *several)), strict=True)
        return cls(*map(np.concatenate, arrays))


class Samples(NamedTuple):
    """Looks that must be searched before the choice goes on.

    Attributes
    ----------
    grid : LookGrid
        Whose looks they are.
    looks : list of Look
    """

    grid: LookGrid
    looks: list[Look]


class ScaleChoice:
    """Chooses the side of the tiles; iterating says which looks must be searched.

    It searches nothing by itself, so that several may do it. What was found in the looks is told by
    `take` before the iteration goes on.

    Parameters
    ----------
    grid : LookGrid
        Tiles at the plane's own resolution; others are like them, smaller or larger.
    part : Look
        Where objects are looked for.
    settings : LabelSettings
        Which proposals count.

    Attributes
    ----------
    grid : LookGrid
        The best tiles so far.
    """

    def __init__(self, grid: LookGrid, part: Look, settings: LabelSettings) -> None:
        self.grid = grid
        self._first, self._part, self._settings = grid, part, settings
        self._found: dict[Look, _Seen] = {}

    def take(self, look: Look, found: Sequence[Proposal]) -> None:
        """Tell what was found in a look, placed in the plane."""
        proposals = Proposals(found, self._first.shape)
        shown = shapes_of(proposals, self._settings).numbers
        points = [proposals[number].point for number in shown]
        boxes = proposals.boxes[shown]
        self._found[look] = _Seen(
            proposals.scores[shown],
            np.array(points, np.float64).reshape(-1, 2),
            ((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) + 1.0),
            proposals.areas[shown].astype(np.float64),
        )

    def __iter__(self) -> Iterator[Samples]:
        """Give the looks to be searched next; each once."""
        places: list[Look] = []
        queue = self._spread(self.grid)
        while queue and len(places) < _PLACES:
            count = _PLACES - len(places)
            some, queue = queue[:count], queue[count:]
            yield Samples(self.grid, some)
            places += [look for look in some if len(self._found[look].scores)]
        if self._usual(places) > _LARGE * self.grid.side:
            yield from self._larger()
            return
        more = _MORE
        while places and self.grid.side > _LEAST:
            grid = self._like(self.grid.side // 2)
            finer = [self._closer(grid, look) for look in places]
            for count in (1, len(max(finer, key=len))):
                both = [
                    (look, tile)
                    for look, tiles in zip(places, finer, strict=True)
                    for tile in tiles[:count]
                ]
                yield from self._wanted(grid, [tile for _, tile in both])
                before, after = self._compared(grid, both)
                if _is_clear(before, after, more):
                    break
            if (
                not _shows_more(before, after, more)
                or np.median(after.sides) > _FITS * grid.side
            ):
                return
            self.grid, places, more = grid, [tiles[0] for tiles in finer], _STILL_MORE

    def _closer(self, grid: LookGrid, look: Look) -> list[Look]:
        """List the smaller tiles that show a tile, the one in its middle first."""
        core = self.grid.core(look)
        first = grid.around(_middle(core))
        return [first, *(one for one in grid.touching(core) if one != first)]

    def _wanted(self, grid: LookGrid, looks: Sequence[Look]) -> Iterator[Samples]:
        missing = [look for look in looks if look not in self._found]
        if missing:
            yield Samples(grid, missing)

    def _compared(
        self, grid: LookGrid, both: Sequence[tuple[Look, Look]]
    ) -> tuple[_Seen, _Seen]:
        """Return what looks and smaller ones show, where both were searched and nothing is cut."""
        before, after = [], []
        for look, finer in both:
            clear = _common(_within(finer, int(_CLEAR * grid.side)), grid.core(finer))
            clear = _common(clear, self.grid.core(look))
            before.append(self._found[look].within(clear))
            after.append(self._found[finer].within(clear))
        return _Seen.of(before), _Seen.of(after)

    def _larger(self) -> Iterator[Samples]:
        """Take larger looks until objects no longer fill them."""
        while self.grid.side < min(max(self.grid.shape), COARSEST):
            self.grid = self._like(2 * self.grid.side)
            looks = self._spread(self.grid)[: 2 * _PLACES]
            yield from self._wanted(self.grid, looks)
            if self._usual(looks) <= _LARGE * self.grid.side:
                return

    def _like(self, side: int) -> LookGrid:
        """Return tiles of another side, which share as much of it."""
        first = self._first
        return LookGrid(first.shape, side, first.overlap * side // first.side)

    def _spread(self, grid: LookGrid) -> list[Look]:
        """List looks that are spread over the part, whatever is on the screen."""
        looks = sorted(grid.touching(self._part))
        count = min(len(looks), _TRIED)
        # Places that follow each other are far apart: a step of the golden section.
        order = np.argsort((np.arange(len(looks)) * 0.618034) % 1, kind="stable")
        spread = order[np.linspace(0, len(looks) - 1, count).round().astype(int)]
        return [looks[number] for number in spread.tolist()]

    def _usual(self, looks: Sequence[Look]) -> float:
        """Longer side of the object around a pixel of an object, on average."""
        all_of_it = _Seen.of([self._found[look] for look in looks])
        if not len(all_of_it.areas):
            return 0.0
        return float(np.average(all_of_it.sides, weights=all_of_it.areas))


def _is_clear(before: _Seen, after: _Seen, more: float) -> bool:
    """Whether a look at the middle of each place tells enough."""
    low, high = _UNCLEAR
    if max(len(before.scores), len(after.scores)) < _SEVERAL:
        return False
    if after.sure <= (low + more - _MORE) * before.sure:
        return True
    return after.sure >= high * before.sure and _shows_more(before, after, more)


def _shows_more(before: _Seen, after: _Seen, more: float) -> bool:
    if after.sure < max(more * before.sure, before.sure + _AT_LEAST):
        return False
    if not len(before.scores):
        return True
    if after.sure < _MANY * before.sure and np.median(
        after.sides
    ) < _SMALLER * np.median(before.sides):
        return False
    return bool(after.scores.mean() >= before.scores.mean() - _LESS_SURE)


def _within(look: Look, side: int) -> Look:
    """Return the middle of a look, with at most this side."""
    (y0, y1), (x0, x1) = (
        ((a + b - min(side, b - a)) // 2, (a + b + min(side, b - a)) // 2)
        for a, b in ((look.y0, look.y1), (look.x0, look.x1))
    )
    return Look(y0, x0, y1, x1)


def _common(one: Look, other: Look) -> Look:
    """Return the part that two looks share."""
    y0, x0 = max(one.y0, other.y0), max(one.x0, other.x0)
    return Look(y0, x0, max(y0, min(one.y1, other.y1)), max(x0, min(one.x1, other.x1)))


def _middle(look: Look) -> tuple[float, float]:
    """Return x and y of the middle of a look."""
    return (look.x0 + look.x1 - 1) / 2, (look.y0 + look.y1 - 1) / 2
