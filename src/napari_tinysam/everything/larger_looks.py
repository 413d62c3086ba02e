"""Whether a larger look shows the large objects of a tile.

In a tile of little but background the object head at times sees one large object: nothing tells it
how large objects are. A look of four times the side tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.inference.looks import Look, LookGrid
from napari_tinysam.inference.pyramid import COARSEST

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything.proposals import Proposal
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

#: Sides of a tile that a larger look shows; its neighbour shows one of them as well.
_SIDES = 4

#: Proposals whose longer side is at least this share of the tile's are large.
_LARGE = 0.25

#: Least mean foreground of a proposal's pixels in the larger look. On validation images those of
#: objects have 0.8 and more, others 0 in nine cases of ten.
_LEAST_FOREGROUND = 0.3

#: Larger looks whose foreground is kept.
_KEPT = 16


class LargerLooks:
    """Tells which proposals of a tile a larger look confirms.

    Parameters
    ----------
    predictor : Predictor
        Without an object head everything is confirmed.
    embed : callable
        ``embed(look)`` reads and encodes a look of the plane; None if nothing is to be seen in it.
    shape : (int, int)
        Height and width of the plane.
    """

    def __init__(
        self,
        predictor: Predictor,
        embed: Callable[[Look], Embedding | None],
        shape: tuple[int, int],
    ) -> None:
        self._predictor, self._embed, self._shape = predictor, embed, shape
        self._foregrounds: dict[Look, npt.NDArray[np.float16] | None] = {}

    def confirmed(self, tile: Look, found: Iterable[Proposal]) -> list[Proposal]:
        """Leave out large proposals of a tile where a larger look shows background.

        Parameters
        ----------
        tile : Look
        found : iterable of Proposal
            Placed in the tile.

        Returns
        -------
        list of Proposal
            In the same order. It depends on nothing but the plane, the tile and the proposal.
        """
        side = max(tile.size)
        larger = min(_SIDES * side, COARSEST)
        if not self._predictor.has_object_head or min(larger, max(self._shape)) <= side:
            return list(found)
        grid = LookGrid(self._shape, larger, larger // _SIDES)
        return [
            each
            for each in found
            if not _is_large(each, side)
            or self._foreground(each, tile, grid) >= _LEAST_FOREGROUND
        ]

    def _foreground(self, proposal: Proposal, tile: Look, grid: LookGrid) -> float:
        """Return the mean foreground of a proposal's pixels in the larger look around it."""
        x, y = proposal.mask.centre
        larger = grid.around((x + tile.x0, y + tile.y0))
        there = self._foreground_of(larger)
        if there is None:
            return 1.0
        rows, columns = np.nonzero(proposal.mask.mask)
        # The middles of pixels, as shares of the larger look.
        at = []
        for pixels, start, low, length, cells in zip(
            (rows, columns),
            (tile.y0 + proposal.mask.y0, tile.x0 + proposal.mask.x0),
            (larger.y0, larger.x0),
            larger.size,
            there.shape,
            strict=True,
        ):
            share = (pixels + start - low + 0.5) / length
            at.append(np.clip((share * cells).astype(np.intp), 0, cells - 1))
        return float(there[at[0], at[1]].mean(dtype=np.float64))

    def _foreground_of(self, larger: Look) -> npt.NDArray[np.float16] | None:
        """Return the foreground of a larger look, (h, w) without the frame's padding."""
        if larger not in self._foregrounds:
            embedding = self._embed(larger)
            maps = None if embedding is None else self._predictor.object_maps(embedding)
            found = None
            if embedding is not None and maps is not None:
                upscaler = embedding.upscaler
                height, width = (
                    max(1, round(inner * len(maps[0]) / upscaler.frame_size))
                    for inner in upscaler.input_size
                )
                found = maps[0, :height, :width].astype(np.float16)
            if len(self._foregrounds) >= _KEPT:
                self._foregrounds.pop(next(iter(self._foregrounds)))
            self._foregrounds[larger] = found
        return self._foregrounds[larger]


def _is_large(proposal: Proposal, side: int) -> bool:
    x0, y0, x1, y1 = proposal.box
    return max(x1 - x0, y1 - y0) + 1 >= _LARGE * side
