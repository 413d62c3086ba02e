"""A large plane of a batch, whose tiles are searched by any worker, in any order.

The first one that opens the plane finds its contrast and keeps it on disk. Then a few tiles of some
sides are searched, by all workers, until the side is chosen. From then on what is found in a tile
depends on nothing else, and is kept as soon as it is found.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari_tinysam.batch.parts import TilePlan
from napari_tinysam.batch.tasks import Choosing
from napari_tinysam.everything import TiledSegmentation, grid_of, tiles
from napari_tinysam.everything.scale import ScaleChoice
from napari_tinysam.inference.looks import Look, LookGrid
from napari_tinysam.inference.plane_looks import PlaneLooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.batch.parts import TileParts
    from napari_tinysam.batch.settings import BatchSettings
    from napari_tinysam.everything import Proposal
    from napari_tinysam.files.planes import FilePlane
    from napari_tinysam.inference.predictor import Predictor

#: Most tiles that are searched by one task: seconds of work, and a kill loses one of them. Of few
#: tiles there are at least so many tasks, so that workers have equal shares.
_AT_ONCE, _LEAST_TASKS = 4, 32


class LargePlane:
    """Searches tiles of a plane, and joins them.

    Parameters
    ----------
    predictor : Predictor
    plane : FilePlane
        Read tile by tile, if its pixels are lazy.
    settings : BatchSettings
    parts : TileParts
        Where contrast, tiles and what is found in them is kept.
    """

    def __init__(
        self,
        predictor: Predictor,
        plane: FilePlane,
        settings: BatchSettings,
        parts: TileParts,
    ) -> None:
        self.plane = plane
        self._parts = parts
        plan = parts.find_plan()
        limits = None if plan is None else plan.limits
        self._looks = PlaneLooks(
            plane.pixels, coarse=plane.coarse, limits=limits, **plane.options
        )
        if plan is None:
            grid = grid_of(self._looks, settings.tiles)
            plan = TilePlan(self._looks.limits, grid, settings.tiles != "auto")
            parts.keep_plan(plan)
        self._plan = plan
        self._make = partial(
            TiledSegmentation,
            predictor,
            partial(self._looks.encode, predictor),
            mode=settings.mode,
        )
        # One for all tiles: it knows the larger looks that it has made.
        self._segmentation = self._make(plan.grid)

    def __len__(self) -> int:
        """Return how many tiles there are."""
        return len(self._plan.grid)

    def choose(self) -> Choosing | None:
        """Choose the side of the tiles, as far as the tiles that were searched tell.

        Returns
        -------
        Choosing or None
            Which tiles must be searched before it can be told; None once it is chosen. Raises
            `FileError` if it cannot be kept.
        """
        self._refresh()
        if self._plan.chosen:
            return None
        whole = Look.whole(self._plan.grid.shape)
        choice = ScaleChoice(self._plan.grid, whole, self._segmentation.settings)
        for grid, looks in choice:
            numbers = {look: number for number, look in enumerate(grid)}
            found = {look: self._parts.find(grid, numbers[look]) for look in looks}
            missing = tuple(numbers[look] for look in looks if found[look] is None)
            if missing:
                return Choosing(missing, grid.side)
            for look in looks:
                choice.take(look, found[look] or ())
        self._parts.keep_plan(TilePlan(self._plan.limits, choice.grid, True))
        self._refresh()
        return None

    def missing(self) -> tuple[tuple[int, ...], ...]:
        """Return the numbers of the tiles that are not searched yet, task by task."""
        grid = self._grid()
        left = [n for n in range(len(self)) if not self._parts.is_there(grid, n)]
        each = min(_AT_ONCE, max(1, len(left) // _LEAST_TASKS))
        starts = range(0, len(left), each)
        return tuple(tuple(left[start : start + each]) for start in starts)

    def search(self, numbers: Sequence[int], side: int | None = None) -> None:
        """Search tiles, unless that was done; raises `FileError` if reading or keeping fails.

        Parameters
        ----------
        numbers : sequence of int
        side : int, optional
            Of tiles of which a few are searched to choose the side.
        """
        grid = self._grid() if side is None else tiles(self._plan.grid.shape, side)
        looks = list(grid)
        for number in numbers:
            if self._parts.find(grid, number) is None:
                self._search(grid, number, looks[number])

    def joined(self) -> TiledSegmentation:
        """Bring all tiles together; those that are missing or damaged are searched now."""
        grid = self._grid()
        for number, look in enumerate(grid):
            found = self._parts.find(grid, number)
            self._segmentation.take(
                look, self._search(grid, number, look) if found is None else found
            )
        return self._segmentation.run()

    def _grid(self) -> LookGrid:
        """Return the tiles; if what was chosen is lost, it is chosen again."""
        while (wanted := self.choose()) is not None:
            self.search(wanted.missing, wanted.side)
        return self._plan.grid

    def _search(self, grid: LookGrid, number: int, look: Look) -> list[Proposal]:
        found = self._segmentation.search(look, grid)
        self._parts.keep(grid, number, found)
        return found

    def _refresh(self) -> None:
        """Take the side that was chosen meanwhile, maybe by another worker."""
        if not self._plan.chosen:
            plan = self._parts.find_plan() or self._plan
            if plan.grid != self._plan.grid:
                self._segmentation = self._make(plan.grid)
            self._plan = plan
