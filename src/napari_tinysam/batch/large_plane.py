"""A large plane of a batch, whose tiles are searched by any worker, in any order.

The first one that opens the plane finds its contrast and its tiles and keeps both on disk. From
then on what is found in a tile depends on nothing else, and is kept as soon as it is found.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari_tinysam.everything import TiledSegmentation, grid_of
from napari_tinysam.inference.plane_looks import PlaneLooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.batch.parts import TileParts
    from napari_tinysam.batch.settings import BatchSettings
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
        known = parts.find_plan()
        limits = None if known is None else known.limits
        self._looks = PlaneLooks(
            plane.pixels, coarse=plane.coarse, limits=limits, **plane.options
        )
        grid = grid_of(self._looks, settings.tiles) if known is None else known.grid
        # One for all tiles: it knows the larger looks that it has made.
        self._segmentation = TiledSegmentation(
            predictor,
            partial(self._looks.encode, predictor),
            grid,
            settings.mode,
            choose=known is None and settings.tiles == "auto",
        )
        self._grid = self._segmentation.choose()
        if known is None:
            parts.keep_plan(self._looks.limits, self._grid)
        self._tiles = list(self._grid)

    def __len__(self) -> int:
        """Return how many tiles there are."""
        return len(self._tiles)

    def missing(self) -> tuple[tuple[int, ...], ...]:
        """Return the numbers of the tiles that are not searched yet, task by task."""
        left = [n for n in range(len(self)) if not self._parts.is_there(n)]
        each = min(_AT_ONCE, max(1, len(left) // _LEAST_TASKS))
        starts = range(0, len(left), each)
        return tuple(tuple(left[start : start + each]) for start in starts)

    def search(self, numbers: Sequence[int]) -> None:
        """Search tiles, unless that was done; raises `FileError` if reading or keeping fails."""
        for number in numbers:
            if not self._parts.is_there(number):
                found = self._segmentation.search(self._tiles[number])
                self._parts.keep(number, found)

    def joined(self) -> TiledSegmentation:
        """Bring all tiles together; those that are missing or damaged are searched now."""
        whole = self._segmentation
        for number, look in enumerate(self._tiles):
            found = self._parts.find(number, self._grid.shape)
            whole.take(look, whole.search(look) if found is None else found)
        return whole.run()
