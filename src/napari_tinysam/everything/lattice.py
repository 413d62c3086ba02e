"""Point grids of the hierarchical search: a coarse one for the first round, a dense one after it.

TinySAM (arXiv 2312.13789), section 3.4: first a quarter of the points per side, then the original
density without the points in confident regions of the first round. The dense points of the
published code are not Segment Anything's grid: they are half a cell off, and rounded strides put
some on the border of the image (see `official_lattice`). The default here is Segment Anything's
grid in blocks of 4 × 4, with one point of each block in the first round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

#: Points along the side of a block; one of them per side is in the first round.
BLOCK = 4


@dataclass(frozen=True, eq=False)
class Lattice:
    """Points of both rounds, in pixels of the image.

    Attributes
    ----------
    coarse : numpy.ndarray
        (C, 2) float64, x and y, points of the first round.
    dense : numpy.ndarray
        (D, 2) float64, points of the second round; none of them is in the first.
    """

    coarse: npt.NDArray[np.float64]
    dense: npt.NDArray[np.float64]

    @property
    def all(self) -> npt.NDArray[np.float64]:
        """(C + D, 2), the points of both rounds."""
        return np.concatenate([self.coarse, self.dense])

    def inside(self, where: npt.NDArray[np.bool_]) -> Lattice:
        """Return the points that lie in a region, (H, W) bool."""
        x, y = self.all.astype(np.intp).T
        kept = where[y, x]
        count = len(self.coarse)
        return Lattice(self.coarse[kept[:count]], self.dense[kept[count:]])


def centred_lattice(size: tuple[int, int], points_per_side: int = 32) -> Lattice:
    """Segment Anything's grid, (i + ½) / n of each side, split into two rounds.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image.
    points_per_side : int
        n, at least 1. A side with fewer pixels than n has a point for each pixel.

    Returns
    -------
    Lattice
        The first round has one point near the middle of each block of 4 × 4.

    Raises
    ------
    ValueError
        If there are no points, or the image has no pixels.
    """
    _check(size, points_per_side)
    axes = [
        (np.arange(n) + 0.5) / n * length
        for n, length in _counts(size, points_per_side)
    ]
    first = np.outer(*(_near_middles(len(axis)) for axis in axes))
    y, x = np.meshgrid(*axes, indexing="ij")
    points = np.stack([x, y], axis=-1)
    return Lattice(points[first], points[~first])


def _counts(size: tuple[int, int], points_per_side: int) -> list[tuple[int, int]]:
    return [(min(points_per_side, length), length) for length in size]


def _near_middles(count: int) -> npt.NDArray[np.bool_]:
    """(count,) whether a point along a side is near the middle of its block."""
    found = np.zeros(count, bool)
    for start in range(0, count, BLOCK):
        length = min(BLOCK, count - start)
        found[start + (length - 1) // 2] = True
    return found


def official_lattice(size: tuple[int, int], points_per_side: int = 32) -> Lattice:
    """Points of TinySAM's published code, with its rounding.

    The first round is a grid of n / 4 points per side. Around each of them the second round has 15
    points at distances of −1, 0, 1 and 2 strides. A stride is the side of the image divided by n,
    rounded down, so the points are not evenly spaced unless n divides the side. Points at 2 strides
    are dropped if they lie outside the image.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image.
    points_per_side : int
        n, at least 4.

    Raises
    ------
    ValueError
        If n is below 4 or the image is smaller than n: the published code fails or repeats points
        then.
    """
    _check(size, points_per_side)
    if points_per_side < BLOCK or min(size) < points_per_side:
        raise ValueError(
            f"The official lattice needs at least {BLOCK} points per side and an image of as many "
            f"pixels; got {points_per_side} points and {size[1]} × {size[0]} pixels."
        )
    count = points_per_side // BLOCK
    height, width = size
    along = (np.arange(count) + 0.5) / count
    y, x = np.meshgrid(along * height, along * width, indexing="ij")
    coarse = np.stack([x.ravel(), y.ravel()], axis=-1)
    step_y, step_x = height // points_per_side, width // points_per_side
    dense = [
        (px + step_x * dx, py + step_y * dy)
        for px, py in coarse
        for dx, dy in _OFFSETS
        if (dx < 2 or px + 2 * step_x < width) and (dy < 2 or py + 2 * step_y < height)
    ]
    points = np.array(dense, np.float64).reshape(-1, 2)
    return Lattice(coarse, points)


#: Offsets (x, y) in strides of the points around one of the first round, in the published order.
_OFFSETS = [
    *((dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dx, dy) != (0, 0)),
    *((2, dy) for dy in (-1, 0, 1)),
    *((dx, 2) for dx in (-1, 0, 1)),
    (2, 2),
]


def _check(size: tuple[int, int], points_per_side: int) -> None:
    if points_per_side < 1:
        raise ValueError(
            f"At least one point per side is needed, not {points_per_side}."
        )
    if min(size) < 1:
        raise ValueError("The image has no pixels.")
