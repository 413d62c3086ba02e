"""Everything mode in a plane of any size: look by look, each at the plane's own resolution.

The model sees a frame of 1024 pixels. A large plane is searched in overlapping looks; what they
find is joined (`napari_tinysam.everything.joining`). An object that no look shows whole is decoded
once more, in a look around all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.everything.instances import Guide, Instance, answers_to, best_answer
from napari_tinysam.everything.joining import Group, Joined, Place, claims, joined
from napari_tinysam.everything.larger_looks import LargerLooks
from napari_tinysam.everything.proposals import Proposal, Proposals
from napari_tinysam.everything.scale import ScaleChoice
from napari_tinysam.everything.search import SearchReport
from napari_tinysam.everything.segmentation import (
    InSteps,
    Mode,
    Progress,
    Segmentation,
    resolved_mode,
)
from napari_tinysam.everything.thresholds import Thresholds
from napari_tinysam.frame import FRAME
from napari_tinysam.inference.looks import Look, LookGrid

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything.choosing import LabelSettings
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

#: Least number of pixels that neighbouring looks share, for looks of a frame's side. Objects of up
#: to this diameter are whole in the look that owns them.
OVERLAP = 128

#: A look is searched in its core, and this share of its side beyond: two looks may differ about
#: where the middle of an object is.
_MARGIN = 1 / 64

#: Share of the longest side of a look around an object that the object takes.
_ROOM = 0.7

#: Objects that are decoded at once, in a look around them.
_AT_ONCE = 16

Embed = Callable[[Look], "Embedding | None"]
Where = Callable[[Look], "npt.NDArray[np.bool_]"]


def tiles(shape: tuple[int, int], side: int = FRAME) -> LookGrid:
    """Return the looks in which a plane of this height and width is searched.

    Parameters
    ----------
    shape : (int, int)
    side : int
        Longest side of a look in pixels of the plane.

    Raises
    ------
    ValueError
        If the side is below 1.
    """
    if side < 1:
        raise ValueError("The side of a tile is at least one pixel.")
    return LookGrid(shape, side, OVERLAP * side // FRAME)


class TiledSegmentation(InSteps):
    """A `Segmentation` of a large plane: iterating searches look by look.

    The caller may stop at any time; what was found until then is joined.

    Parameters
    ----------
    predictor : Predictor
    embed : callable
        ``embed(look)`` reads and encodes a look of the plane; None if nothing is to be seen in it.
        Looks around objects are asked for, too, which are not in the grid. All looks need one
        contrast.
    grid : LookGrid
        See `tiles`.
    choose : bool
        Whether another side of the tiles may be chosen, after a look at a few places, see
        `napari_tinysam.everything.scale`.
    mode, thresholds
        As for `Segmentation`.
    where : callable, optional
        ``where(look)`` returns in which pixels of a look objects are looked for, bool.
    part : Look, optional
        The part of the plane where objects are looked for.
    first : Look, optional
        The part of the plane where the search begins.

    Attributes
    ----------
    mode, report
        As of `Segmentation`.

    Raises
    ------
    ValueError
        If the mode is unknown, or the model has no object head and the mode needs one.
    """

    def __init__(
        self,
        predictor: Predictor,
        embed: Embed,
        grid: LookGrid,
        mode: Mode = "auto",
        *,
        choose: bool = False,
        thresholds: Thresholds | None = None,
        where: Where | None = None,
        part: Look | None = None,
        first: Look | None = None,
    ) -> None:
        self.mode = resolved_mode(mode, predictor)
        self.thresholds = thresholds or Thresholds.from_notes(predictor.notes)
        self.report = SearchReport()
        self._predictor = predictor
        self._embed = embed
        self._grid = grid
        self._larger = LargerLooks(predictor, embed, grid.shape)
        self._choose = choose
        self._where = where
        self._part = part or Look.whole(grid.shape)
        self._first = first
        #: What was found in looks of the tiles, and of others while their side is chosen.
        self._all: dict[LookGrid, dict[Look, list[Proposal]]] = {grid: {}}
        #: The look of the tiles that is being searched.
        self._current: tuple[Look, Segmentation] | None = None
        #: All that was searched, joined; None after more was searched.
        self._whole: Joined | None = None
        #: Objects that were decoded once more.
        self._decoded: dict[tuple[Place, ...], Proposal] = {}

    def __iter__(self) -> Iterator[Progress]:
        """Search look by look; the caller may stop at any time."""
        yield from self._chosen()
        looks = [look for look in self._looks() if look not in self._searched]
        done = len(self._searched)
        total = done + len(looks)
        for look in looks:
            for _ in self._search(look, self._grid):
                yield Progress([], done, total, "tiles")
            done += 1
            yield Progress(self._owned([look]), done, total, "tiles")
        for _ in self._seams():
            yield Progress([], total, total, "tiles")

    @property
    def side(self) -> int:
        """Longest side of the tiles in pixels of the plane; it may be chosen in the first steps."""
        return self._grid.side

    def _chosen(self) -> Iterator[Progress]:
        """Choose the side of the tiles; what is found meanwhile in tiles of that side is kept."""
        if not self._choose:
            return
        before = self._grid
        if self._first is not None:  # so that there is something to see
            for look in islice(self._looks(), 1):
                yield from self._sample(before, look)
        choice = ScaleChoice(before, self._part, self.settings)
        for grid, looks in choice:
            for look in looks:
                yield from self._sample(grid, look)
                choice.take(look, self._all[grid][look])
        self._choose, self._grid = False, choice.grid
        self._all = {self._grid: self._all.get(self._grid, {})}
        self._whole = None
        if self._grid != before:
            found = self._owned(self._searched)
            yield Progress(found, 0, len(self._grid), "places", afresh=True)

    def _sample(self, grid: LookGrid, look: Look) -> Iterator[Progress]:
        """Search a look of any tiles, unless that was done."""
        if look not in self._all.setdefault(grid, {}):
            total = len(self._grid)
            yield Progress([], 0, total, "places")
            for _ in self._search(look, grid):
                yield Progress([], 0, total, "places")
            new = self._owned([look]) if grid == self._grid else []
            yield Progress(new, 0, total, "places")

    def _owned(self, looks: Iterable[Look]) -> list[Proposal]:
        """List what was found in looks of the tiles and is theirs."""
        cores = {look: self._grid.core(look) for look in looks}
        return [
            each
            for look, core in cores.items()
            for each in self._searched[look]
            if claims(each, core)
        ]

    def search(self, look: Look, grid: LookGrid | None = None) -> list[Proposal]:
        """Search one look of the tiles, or of a grid; returns what was found, placed in the plane.

        It depends on no other look, so looks may be searched anywhere, in any order; `take` brings
        them together, and only what it was given.
        """
        grid = grid or self._grid
        for _ in self._search(look, grid):
            pass
        self._whole = None
        return self._all[grid].pop(look)

    def take(self, look: Look, found: Sequence[Proposal]) -> None:
        """Take what `search` found in a tile, here or elsewhere; it is not searched again."""
        self._searched[look] = list(found)
        self._whole = None

    @property
    def _searched(self) -> dict[Look, list[Proposal]]:
        """What was found in tiles."""
        return self._all[self._grid]

    @property
    def settings(self) -> LabelSettings:
        """The model's settings for labels in this mode."""
        return self.thresholds.labels_in(self.mode)

    @property
    def note(self) -> str:
        """A sentence for the user about the tiles."""
        side, count = min(self._grid.side, max(self._grid.shape)), len(self._grid)
        tiles = "1 tile" if count == 1 else f"{count} tiles"
        return f"The image is searched in {tiles} of {side} pixels."

    @property
    def proposals(self) -> Proposals:
        """The proposals found so far, joined; a new object at each access."""
        found = self._joined()
        whole = (self._decoded.get(each.places, each.whole) for each in found.groups)
        return Proposals([*found.kept, *whole], self._grid.shape)

    def _looks(self) -> Iterator[Look]:
        """Give the looks in the order in which they are searched."""
        everywhere = self._grid.touching(self._part)
        if self._first is None:
            return iter(sorted(everywhere))
        near = [
            look for look in self._grid.touching(self._first) if look in set(everywhere)
        ]
        # The others follow by distance.
        middle = np.add(self._first[:2], self._first[2:]) / 2

        def away(look: Look) -> float:
            return float(np.hypot(*(np.add(look[:2], look[2:]) / 2 - middle)))

        rest = sorted(set(everywhere) - set(near), key=lambda look: (away(look), look))
        return iter([*near, *rest])

    def _search_of(
        self, embedding: Embedding, where: npt.NDArray[np.bool_]
    ) -> Segmentation:
        return Segmentation(
            self._predictor,
            embedding,
            self.mode,
            thresholds=self.thresholds,
            where=where,
        )

    def _placed(self, found: Iterable[Proposal], look: Look) -> list[Proposal]:
        return [each.moved(look.y0, look.x0, self._grid.shape) for each in found]

    def _search(self, look: Look, grid: LookGrid) -> Iterator[None]:
        """Search one look of some tiles, in steps."""
        self._all.setdefault(grid, {})[look] = []
        self._whole = None
        where = self._own(look, grid)
        if not where.any():
            return
        begun = time.perf_counter()
        embedding = self._embed(look)
        self.report.spent("encode", begun)
        if embedding is None:
            return
        yield
        search = self._search_of(embedding, where)
        if grid == self._grid:
            self._current = look, search
        for _ in search:
            yield
        yield
        found = self._larger.confirmed(look, search.proposals)
        self._all[grid][look] = self._placed(found, look)
        self._current = None
        self.report.add(search.report)

    def _joined(self) -> Joined:
        """Join what was found so far."""
        if self._current is not None:  # it grows
            return joined(self._found(), self._grid)
        if self._whole is None:
            self._whole = joined(self._found(), self._grid)
        return self._whole

    def _found(self) -> dict[Look, list[Proposal]]:
        """Gather what was found so far in each look, placed in the plane."""
        if self._current is None:
            return self._searched
        look, search = self._current
        return {**self._searched, look: self._placed(search.proposals, look)}

    def _own(self, look: Look, grid: LookGrid) -> npt.NDArray[np.bool_]:
        """Where a look is searched: in its core, and a little beyond."""
        core, (height, width) = grid.core(look), look.size
        margin = int(np.ceil(_MARGIN * max(look.size)))
        where = np.zeros((height, width), bool)
        where[
            max(core.y0 - look.y0 - margin, 0) : core.y1 - look.y0 + margin,
            max(core.x0 - look.x0 - margin, 0) : core.x1 - look.x0 + margin,
        ] = True
        return where if self._where is None else where & self._where(look)

    def _seams(self) -> Iterator[None]:
        """Decode objects that no look shows whole once more, each in a look around all of it."""
        if self.mode == "head":  # nothing is decoded
            return
        groups = [
            group
            for group in self._joined().groups
            if group.whole.score >= self.settings.confidence
        ]
        guide: Guide
        while groups:
            look = self._around(groups[0].whole)
            room = (1 - _ROOM) / 4 * max(look.size)
            inside = [
                look.clearance(group.whole.box, self._grid.shape) >= room
                for group in groups
            ]
            inside[0] = True
            embedding = self._embed(look)
            here = [group for group, is_in in zip(groups, inside, strict=True) if is_in]
            groups = [
                group for group, is_in in zip(groups, inside, strict=True) if not is_in
            ]
            if embedding is None:
                continue
            # The box of a fragment that is like no other ends where its look ended.
            lone = [group for group in here if len(group.places) == 1]
            joint = [group for group in here if len(group.places) > 1]
            for guide, some in (("point", lone), ("point_and_box", joint)):
                for start in range(0, len(some), _AT_ONCE):
                    part = some[start : start + _AT_ONCE]
                    self._decode(look, embedding, part, guide)
                    yield

    def _decode(
        self, look: Look, embedding: Embedding, groups: list[Group], guide: Guide
    ) -> None:
        instances = []
        for group in groups:
            whole = group.whole.moved(-look.y0, -look.x0, look.size)
            instances.append(Instance(0, whole.mask, whole.mask.deepest))
        guided = self.thresholds.guided
        answers = answers_to(self._predictor, embedding, instances, guide, self.report)
        for group, instance, own in zip(groups, instances, answers, strict=True):
            best = best_answer(
                instance, own, trust=guided.trust, least_agreement=guided.agreement
            )
            placed = best.moved(look.y0, look.x0, self._grid.shape)
            # The union holds the score of what was seen; its territory has no seam.
            self._decoded[group.places] = replace(
                placed, score=group.whole.score, territory=group.whole.territory
            )

    def _around(self, proposal: Proposal) -> Look:
        """Return a look centred on a proposal, of the grid's side or larger."""
        x0, y0, x1, y1 = proposal.box
        side = max(self._grid.side, int(max(x1 - x0, y1 - y0) / _ROOM) + 1)
        ends = []
        for low, high, length in zip((y0, x0), (y1, x1), self._grid.shape, strict=True):
            start = min(max((low + high + 1 - side) // 2, 0), max(length - side, 0))
            ends.append((start, min(start + side, length)))
        (top, bottom), (left, right) = ends
        return Look(top, left, bottom, right)
