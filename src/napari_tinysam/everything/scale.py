"""The side of the tiles that a plane is searched in, chosen by what is found in a few places.

How large objects must be to be found depends on what they are: nuclei of 15 pixels in a stained
tissue are found if they are enlarged to 60, axons of 13 pixels as they are. So a few places are
searched as they are and enlarged, more of them if it is a close thing. Smaller tiles take four
times as long: they are chosen where they show more objects of the same size, or objects of which
the model is surer, and larger ones where objects fill a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.everything.choosing import shapes_of
from napari_tinysam.frame import FRAME
from napari_tinysam.inference.looks import Look, LookGrid
from napari_tinysam.inference.pyramid import COARSEST

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything.choosing import LabelSettings
    from napari_tinysam.everything.proposals import Proposals

#: Smallest side, in pixels of the plane.
_LEAST = FRAME // 4

#: Places that are compared, and places that are looked at to find so many with objects.
_PLACES, _TRIED = 8, 16

#: So many are enough if the sum of what counts grows by a factor outside of these.
_ENOUGH, _UNCLEAR = 4, (1.0, 1.4)

#: A score from which an object counts, the more the higher it is.
_DOUBTFUL = 0.5

#: In smaller tiles the sum of what counts is at least so many times as large, and larger by this, …
_MORE, _AT_LEAST = 1.08, 0.5

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

Search = Callable[[Look], "Proposals"]


@dataclass(frozen=True)
class _Seen:
    """Objects of a look: scores, and boxes (x0, y0, x1, y1) in pixels of the plane."""

    scores: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float64]

    def within(self, part: Look) -> _Seen:
        """Return the objects with their middle in a part of the plane."""
        x, y = (self.boxes[:, :2] + self.boxes[:, 2:] + 1).T / 2
        inside = (part.y0 <= y) & (y < part.y1) & (part.x0 <= x) & (x < part.x1)
        return _Seen(self.scores[inside], self.boxes[inside], self.areas[inside])

    @property
    def sure(self) -> float:
        """How much the model sees, and how sure it is: the sum of the scores above `_DOUBTFUL`."""
        return float(np.maximum(self.scores - _DOUBTFUL, 0).sum())

    @property
    def sides(self) -> npt.NDArray[np.float64]:
        """Longer sides, in pixels."""
        return np.asarray((self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1) + 1)

    @classmethod
    def of(cls, several: Sequence[_Seen]) -> _Seen:
        """Put the objects of several looks together."""
        several = [cls(np.zeros(0), np.zeros((0, 4)), np.zeros(0)), *several]
        return cls(
            np.concatenate([each.scores for each in several]),
            np.concatenate([each.boxes for each in several]),
            np.concatenate([each.areas for each in several]),
        )


class ScaleChoice:
    """Chooses the side of the tiles; iterating searches a few places.

    Parameters
    ----------
    grid : LookGrid
        Tiles at the plane's own resolution; others are like them, smaller or larger.
    part : Look
        Where objects are looked for.
    search : callable
        ``search(look)`` searches a look; proposals in pixels of the look.
    settings : LabelSettings
        Which proposals count.

    Attributes
    ----------
    side : int
        The best so far.
    """

    def __init__(
        self,
        grid: LookGrid,
        part: Look,
        search: Search,
        settings: LabelSettings,
    ) -> None:
        self.side = grid.side
        self._grid, self._part = grid, part
        self._search, self._settings = search, settings

    def __iter__(self) -> Iterator[None]:
        """Search a few places, one a step."""
        looks = iter(self._looks(self.side))
        places: list[tuple[Look, _Seen]] = []
        while len(places) < _ENOUGH and (look := next(looks, None)):
            yield from self._look_at(look, places)
        if _usual([seen for _, seen in places]) > _LARGE * self.side:
            yield from self._larger()
            return
        while places and self.side > _LEAST:
            side = self.side // 2
            before, after, finer = [], [], []
            for look, seen in places:  # which grows
                closer = _middle(look, side)
                found = self._seen(closer)
                yield
                clear = _middle(closer, int(_CLEAR * side))
                before.append(seen.within(clear))
                after.append(found.within(clear))
                finer.append((closer, found))
                if len(finer) == _PLACES:
                    break
                if len(finer) >= _ENOUGH and _is_clear(
                    _Seen.of(before), _Seen.of(after)
                ):
                    break
                while len(finer) == len(places) and (another := next(looks, None)):
                    yield from self._look_at(another, places)
            old, new = _Seen.of(before), _Seen.of(after)
            if not _shows_more(old, new) or np.median(new.sides) > _FITS * side:
                return
            self.side, places, looks = side, finer, iter(())

    def _look_at(self, look: Look, places: list[tuple[Look, _Seen]]) -> Iterator[None]:
        """Search a look; it becomes a place if there are objects in it."""
        seen = self._seen(look)
        yield
        if len(seen.scores):
            places.append((look, seen))

    def _larger(self) -> Iterator[None]:
        """Take larger looks until objects no longer fill them."""
        while self.side < min(max(self._grid.shape), COARSEST):
            self.side *= 2
            looks = self._looks(self.side)[:_PLACES]
            seen = []
            for look in looks:
                seen.append(self._seen(look))
                yield
            if _usual(seen) <= _LARGE * self.side:
                return

    def _looks(self, side: int) -> list[Look]:
        """List looks of this side that are spread over the part, whatever is on the screen."""
        share = side / self._grid.side
        overlap = int(share * self._grid.overlap)
        grid = LookGrid(self._grid.shape, side, overlap) if share != 1 else self._grid
        looks = sorted(grid.touching(self._part))
        count = min(len(looks), _TRIED)
        # Places that follow each other are far apart: a step of the golden section.
        order = np.argsort((np.arange(len(looks)) * 0.618034) % 1, kind="stable")
        spread = order[np.linspace(0, len(looks) - 1, count).round().astype(int)]
        return [looks[number] for number in spread.tolist()]

    def _seen(self, look: Look) -> _Seen:
        """Search a look."""
        proposals = self._search(look)
        shown = shapes_of(proposals, self._settings).numbers
        if not shown:
            return _Seen(np.zeros(0), np.zeros((0, 4)), np.zeros(0))
        boxes = proposals.boxes[shown] + [look.x0, look.y0, look.x0, look.y0]
        areas = proposals.areas[shown].astype(np.float64)
        return _Seen(proposals.scores[shown], boxes.astype(np.float64), areas)


def _is_clear(before: _Seen, after: _Seen) -> bool:
    low, high = _UNCLEAR
    return not low * before.sure < after.sure < high * before.sure


def _shows_more(before: _Seen, after: _Seen) -> bool:
    if after.sure < max(_MORE * before.sure, before.sure + _AT_LEAST):
        return False
    if not len(before.scores):
        return True
    if after.sure < _MANY * before.sure and np.median(
        after.sides
    ) < _SMALLER * np.median(before.sides):
        return False
    return bool(after.scores.mean() >= before.scores.mean() - _LESS_SURE)


def _usual(seen: list[_Seen]) -> float:
    """Longer side of the object around a pixel of an object, on average."""
    all_of_it = _Seen.of(seen)
    if not len(all_of_it.areas):
        return 0.0
    return float(np.average(all_of_it.sides, weights=all_of_it.areas))


def _middle(look: Look, side: int) -> Look:
    """Return the middle of a look, with at most this side."""
    (y0, y1), (x0, x1) = (
        ((a + b - min(side, b - a)) // 2, (a + b + min(side, b - a)) // 2)
        for a, b in ((look.y0, look.y1), (look.x0, look.x1))
    )
    return Look(y0, x0, y1, x1)
