"""The objects of the planes of a stack, and how many pixels they share. numpy only.

Planes are measured one after the other, in time linear in the pixels of their objects, with a few
planes in memory.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

#: Planes that an object may be missing in: overlaps are measured across as many.
MOST_GAP = 3


@dataclass(frozen=True, eq=False)
class PlaneOverlaps:
    """The objects of the planes of a stack, and how they overlap.

    Attributes
    ----------
    ids : list of ndarray of int
        For each plane, (N,) labels of its objects, ascending.
    areas : list of ndarray of int
        For each plane, (N,) their pixels.
    pairs : dict
        For planes p < q, (K, 2) indices into `ids` of p and q, and (K,) common pixels.
    """

    ids: list[npt.NDArray[np.int64]] = field(default_factory=list)
    areas: list[npt.NDArray[np.int64]] = field(default_factory=list)
    pairs: dict[tuple[int, int], tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]] = (
        field(default_factory=dict)
    )

    @classmethod
    def of(
        cls, planes: Iterable[npt.NDArray[np.integer[Any]]], gap: int = MOST_GAP
    ) -> PlaneOverlaps:
        """Measure the planes of a stack, one after the other.

        Parameters
        ----------
        planes : iterable of ndarray of int, (H, W)
            Labels; 0 is the background. The same label in two planes says nothing.
        gap : int
            The most planes that an object may be missing in.

        Raises
        ------
        ValueError
            If the planes differ in size.
        """
        measuring = OverlapMeasuring(gap)
        for plane in planes:
            measuring.add(plane)
        return measuring.overlaps

    def __len__(self) -> int:
        """Return the number of planes."""
        return len(self.ids)

    def iou(self, first: int, second: int) -> npt.NDArray[np.float64]:
        """Return (K,) intersection over union of the pairs of two planes."""
        pairs, common = self.pairs[first, second]
        union = self.areas[first][pairs[:, 0]] + self.areas[second][pairs[:, 1]]
        return np.asarray(common / np.maximum(union - common, 1), np.float64)


class OverlapMeasuring:
    """Measures the planes of a stack one at a time, for those who cannot wait for all of them.

    Parameters
    ----------
    gap : int
        The most planes that an object may be missing in.

    Attributes
    ----------
    overlaps : PlaneOverlaps
        Of the planes so far.
    """

    def __init__(self, gap: int = MOST_GAP) -> None:
        self.overlaps = PlaneOverlaps()
        self._shape: tuple[int, ...] | None = None
        #: Of the last planes, (H * W,) places of their objects in `overlaps.ids`, from 1.
        self._before: deque[npt.NDArray[np.int32]] = deque(maxlen=gap + 1)

    def add(self, plane: npt.NDArray[np.integer[Any]]) -> None:
        """Measure the next plane, (H, W) labels; the last ones are kept.

        Raises
        ------
        ValueError
            If its size is not that of the planes before, or a label is negative.
        TypeError
            If the labels are not integers.
        """
        overlaps, number = self.overlaps, len(self.overlaps)
        if plane.dtype.kind not in "iub":
            raise TypeError(f"Labels are whole numbers; got {plane.dtype}.")
        if self._shape is not None and plane.shape != self._shape:
            raise ValueError(
                f"Planes of one size are needed; plane {number} has {plane.shape}, the one "
                f"before {self._shape}."
            )
        self._shape = plane.shape
        flat = plane.ravel()
        # Only pixels of objects are looked at: most have none.
        where = np.flatnonzero(flat)
        ids, index, areas = counted(flat[where].astype(np.int64))
        overlaps.ids.append(ids)
        overlaps.areas.append(areas)
        for back, other in enumerate(reversed(self._before), start=1):
            first = number - back
            overlaps.pairs[first, number] = _common(
                other[where] - 1, index, len(overlaps.ids[first]), len(ids)
            )
        dense = np.zeros(flat.size, np.int32)
        dense[where] = index + 1
        self._before.append(dense)


def counted(
    labels: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Return (N,) labels, where each of the given ones is among them, and how many they are."""
    if not labels.size:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing.astype(np.intp), nothing
    if labels.min() < 0:
        raise ValueError(f"Labels are not negative; there is {labels.min()}.")
    highest = int(labels.max())
    if highest > 4 * labels.size + 1000:  # a table would be too large
        ids, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return ids, index.astype(np.intp), counts.astype(np.int64)
    counts = np.bincount(labels)
    ids = np.flatnonzero(counts).astype(np.int64)
    place = np.zeros(len(counts), np.intp)
    place[ids] = np.arange(len(ids))
    return ids, place[labels], counts[ids].astype(np.int64)


def _common(
    one: npt.NDArray[np.integer[Any]],
    other: npt.NDArray[np.intp],
    rows: int,
    columns: int,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Count the pixels that objects of two planes share.

    Parameters
    ----------
    one, other : ndarray of int, (P,)
        At each pixel the object of the one plane, or -1, and that of the other.
    rows, columns : int
        How many objects the planes have.

    Returns
    -------
    pairs : ndarray of intp, (K, 2)
        Ascending.
    common : ndarray of int64, (K,)
    """
    both = one >= 0
    keys = one[both].astype(np.int64) * columns + other[both]
    if rows * columns <= 4 * len(keys) + 1000:
        counts = np.bincount(keys, minlength=rows * columns)
        found = np.flatnonzero(counts)
        counts = counts[found]
    else:
        found, counts = np.unique(keys, return_counts=True)
    pairs = np.stack(np.divmod(found, max(columns, 1)), axis=1).astype(np.intp)
    return pairs, counts.astype(np.int64)
