"""Labels in compressed chunks: most of a large label image is background, or rests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.journal.lines import packed, unpacked

if TYPE_CHECKING:
    import numpy.typing as npt

#: Side of a chunk on the last two axes; 1 on the others.
_SIDE = 512

#: Chunks that are not compressed at the moment: 64 MB of uint32.
_OPEN = 64

#: Values of labels that are read at once.
_READ_AT_ONCE = 2**22

Index = tuple[int, ...]


class SparseLabels:
    """Labels that are 0 where nothing was written.

    Parameters
    ----------
    shape : sequence of int
    dtype : dtype
        An integer type.
    chunks : mapping of tuple of int to bytes, optional
        Compressed chunks by index, as `packed_chunks` returns them.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        chunks: Mapping[Index, bytes] | None = None,
    ) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self._side = (1,) * (len(shape) - 2) + (_SIDE,) * min(2, len(shape))
        self._packed: dict[Index, bytes] = dict(chunks or {})
        self._open: OrderedDict[Index, npt.NDArray[Any]] = OrderedDict()

    @classmethod
    def of(
        cls, source: Any, shape: Sequence[int], dtype: npt.DTypeLike
    ) -> SparseLabels:
        """Copy labels, in parts of rows of the first axes that are not too large.

        Parameters
        ----------
        source : array-like
            Is indexed with numbers and slices.
        shape, dtype
            Of it.
        """
        labels = cls(shape, dtype)
        shape = labels.shape
        axis, inner = 0, int(np.prod(shape[1:], dtype=np.int64))
        while inner > _READ_AT_ONCE and axis < len(shape) - 2:
            axis += 1
            inner = int(np.prod(shape[axis + 1 :], dtype=np.int64))
        rows = max(1, _READ_AT_ONCE // max(inner, 1))
        for outer in np.ndindex(*shape[:axis]):
            for first in range(0, shape[axis], rows):
                part = np.asarray(source[(*outer, slice(first, first + rows))])
                if part.any():
                    start = (*outer, first, *(0 for _ in shape[axis + 1 :]))
                    labels.write(start, part[(None,) * axis])
        return labels

    def copy(self) -> SparseLabels:
        """Return labels that are changed by themselves."""
        return SparseLabels(self.shape, self.dtype, self.packed_chunks())

    def write(self, start: Sequence[int], labels: npt.NDArray[Any]) -> None:
        """Replace a box, which lies inside."""
        for index, inside, outside in self._parts(start, labels.shape):
            if labels[outside].any() or self._has(index):
                self._chunk(index)[inside] = labels[outside]

    def read(self, start: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
        """Copy a box, which lies inside."""
        labels = np.zeros(tuple(shape), self.dtype)
        for index, inside, outside in self._parts(start, shape):
            if self._has(index):
                labels[outside] = self._chunk(index)[inside]
        return labels

    def to_array(self) -> npt.NDArray[Any]:
        """Return all labels.

        Raises
        ------
        MemoryError
            If they do not fit into memory; `chunks` gives them in parts.
        """
        labels = np.zeros(self.shape, self.dtype)
        for start, chunk in self.chunks():
            labels[
                tuple(slice(a, a + n) for a, n in zip(start, chunk.shape, strict=True))
            ] = chunk
        return labels

    def chunks(self) -> Iterator[tuple[Index, npt.NDArray[Any]]]:
        """Give the parts that are not background: the first index of each, and its labels."""
        for index in sorted({*self._packed, *self._open}):
            chunk = self._chunk(index)
            if chunk.any():
                yield self._start(index), chunk

    def packed_chunks(self) -> dict[Index, bytes]:
        """Return the compressed chunks by index."""
        for index in list(self._open):
            self._close(index)
        return dict(self._packed)

    def _start(self, index: Index) -> Index:
        return tuple(at * side for at, side in zip(index, self._side, strict=True))

    def chunk_shape(self, index: Index) -> Index:
        """Return the shape of a chunk: those at the end are smaller."""
        return tuple(
            min(side, length - at * side)
            for at, side, length in zip(index, self._side, self.shape, strict=True)
        )

    def _has(self, index: Index) -> bool:
        return index in self._open or index in self._packed

    def _chunk(self, index: Index) -> npt.NDArray[Any]:
        if index not in self._open:
            content, shape = self._packed.get(index), self.chunk_shape(index)
            self._open[index] = (
                np.zeros(shape, self.dtype)
                if content is None
                else unpacked(content, shape, self.dtype)
            )
            if len(self._open) > _OPEN:
                self._close(next(iter(self._open)))
        self._open.move_to_end(index)
        return self._open[index]

    def _close(self, index: Index) -> None:
        chunk = self._open.pop(index)
        if chunk.any():
            self._packed[index] = packed(chunk, self.dtype)
        else:
            self._packed.pop(index, None)

    def _parts(
        self, start: Sequence[int], shape: Sequence[int]
    ) -> Iterator[tuple[Index, tuple[slice, ...], tuple[slice, ...]]]:
        """Give the chunks of a box: index, the part in the chunk, the part in the box."""
        ranges = [
            range(at // side, -(-(at + length) // side) if length else at // side)
            for at, length, side in zip(start, shape, self._side, strict=True)
        ]
        for index in product(*ranges):
            inside, outside = [], []
            for number, at, length, side in zip(
                index, start, shape, self._side, strict=True
            ):
                first = max(number * side, at)
                last = min((number + 1) * side, at + length)
                inside.append(slice(first - number * side, last - number * side))
                outside.append(slice(first - at, last - at))
            yield index, tuple(inside), tuple(outside)
