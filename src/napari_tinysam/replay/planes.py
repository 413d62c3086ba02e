"""Planes of labels that are made again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.journal.sparse import SparseLabels


class LabelPlane:
    """A plane of labels, (H, W), rows down the screen.

    Parameters
    ----------
    labels : SparseLabels
    index : sequence of int or None
        Of the plane in its image; labels may lack the first axes of the image.
    transposed : bool
    channel_axis : int, optional
        Of the image; objects belong to all channels.

    Raises
    ------
    FileError
        If the labels have no such plane.
    """

    def __init__(
        self,
        labels: SparseLabels,
        index: Sequence[int | None],
        *,
        transposed: bool = False,
        channel_axis: int | None = None,
    ) -> None:
        self._labels = labels
        drop = len(index) - len(labels.shape)
        own = list(index[max(drop, 0) :])
        self._axes = [axis for axis, at in enumerate(own) if at is None]
        fits = (
            drop >= 0
            and len(self._axes) == 2
            and all(
                at is None or 0 <= at < n
                for at, n in zip(own, labels.shape, strict=True)
            )
        )
        if not fits:
            raise FileError(
                "The provenance file tells of a plane that its labels lack."
            )
        if transposed:
            self._axes.reverse()
        self._transposed = transposed
        self._start = [0 if at is None else at for at in own]
        self._count = [1] * len(own)
        if channel_axis is not None and not drop and channel_axis not in self._axes:
            self._start[channel_axis] = 0
            self._count[channel_axis] = labels.shape[channel_axis]
        self.shape = (labels.shape[self._axes[0]], labels.shape[self._axes[1]])

    def box(self, rows: slice, columns: slice) -> tuple[list[int], list[int]]:
        """First index and length on each axis of the labels of a rectangle of the plane."""
        start, count = list(self._start), list(self._count)
        for axis, part in zip(self._axes, (rows, columns), strict=True):
            start[axis], count[axis] = part.start, part.stop - part.start
        return start, count

    def read(self, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Copy a rectangle of the plane, (h, w)."""
        start, count = self.box(rows, columns)
        one = [n if axis in self._axes else 1 for axis, n in enumerate(count)]
        ids = self._labels.read(start, one)
        ids = ids.reshape([n for axis, n in enumerate(one) if axis in self._axes])
        return np.ascontiguousarray(ids.T if self._transposed else ids)

    def boxed(
        self, rows: slice, columns: slice, ids: npt.NDArray[Any]
    ) -> tuple[tuple[int, ...], npt.NDArray[Any]]:
        """Return the first index and the values of a rectangle in the axes of the labels."""
        start, count = self.box(rows, columns)
        ids = ids.T if self._transposed else ids
        one = [n if axis in self._axes else 1 for axis, n in enumerate(count)]
        return tuple(start), np.broadcast_to(ids.reshape(one), count)
