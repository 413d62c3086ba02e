"""Area, place and intensity of the objects of a label image, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

#: Side of a block in pixels: a multiple of the chunks of most files, and little memory.
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Measured:
    """The objects of a label image, by their labels.

    Attributes
    ----------
    labels, areas : ndarray of int64, (N,)
    boxes : ndarray of int64, (N, 4)
        x0, y0, x1, y1 of the first and last pixels.
    centres : ndarray of float64, (N, 2)
        x and y of the centre of mass.
    means : ndarray of float64, (N, C)
        Mean intensity in each channel.
    """

    labels: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]
    centres: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]


def measured(labels: Any, pixels: Any) -> Measured:
    """Measure the objects of a label image.

    Parameters
    ----------
    labels : array-like of int, (H, W)
        0 is background.
    pixels : array-like, (H, W) or (H, W, C)
        Both are read in blocks.
    """
    height, width = labels.shape
    channels = 1 if len(pixels.shape) == 2 else int(pixels.shape[2])
    sums = _Sums(channels)
    starts = product(range(0, height, _BLOCK), range(0, width, _BLOCK))
    for y, x in starts:
        place = slice(y, min(y + _BLOCK, height)), slice(x, min(x + _BLOCK, width))
        own = np.asarray(labels[place])
        rows, columns = np.nonzero(own)
        if rows.size:
            values = np.asarray(pixels[place]).reshape(*own.shape, channels)
            sums.add(own[rows, columns], rows + y, columns + x, values[rows, columns])
    return sums.measured()


class _Sums:
    """Sums over the pixels of each object, as far as they were read."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._areas = np.zeros(0, np.int64)
        self._low = np.zeros((0, 2), np.int64)
        self._high = np.zeros((0, 2), np.int64)
        self._places = np.zeros((0, 2), np.float64)
        self._values = np.zeros((0, channels), np.float64)

    def add(
        self,
        labels: npt.NDArray[Any],
        rows: npt.NDArray[np.intp],
        columns: npt.NDArray[np.intp],
        values: npt.NDArray[Any],
    ) -> None:
        """Add P pixels, with (P, C) values."""
        own, which = np.unique(labels, return_inverse=True)
        self._reserve(int(own[-1]) + 1)
        counts = np.bincount(which)
        self._areas[own] += counts
        order = np.argsort(which, kind="stable")
        begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
        for axis, places in enumerate((columns, rows)):
            self._places[own, axis] += np.bincount(which, places)
            sorted_places = places[order]
            low = np.minimum.reduceat(sorted_places, begins)
            high = np.maximum.reduceat(sorted_places, begins)
            self._low[own, axis] = np.minimum(self._low[own, axis], low)
            self._high[own, axis] = np.maximum(self._high[own, axis], high)
        for channel in range(self._channels):
            weights = values[:, channel].astype(np.float64)
            self._values[own, channel] += np.bincount(which, weights)

    def measured(self) -> Measured:
        """Return what was measured of the objects that were seen."""
        there = np.flatnonzero(self._areas)
        areas = self._areas[there]
        return Measured(
            there,
            areas,
            np.concatenate([self._low[there], self._high[there]], axis=1),
            self._places[there] / areas[:, None],
            self._values[there] / areas[:, None],
        )

    def _reserve(self, count: int) -> None:
        more = count - len(self._areas)
        if more <= 0:
            return
        more = max(more, len(self._areas))  # so that it happens rarely
        largest = np.iinfo(np.int64).max

        def longer(array: Any, value: int) -> Any:
            added = np.full((more, *array.shape[1:]), value, array.dtype)
            return np.concatenate([array, added])

        self._areas, self._places = longer(self._areas, 0), longer(self._places, 0)
        self._values = longer(self._values, 0)
        self._low, self._high = longer(self._low, largest), longer(self._high, -1)
