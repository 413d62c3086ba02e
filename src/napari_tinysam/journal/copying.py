"""Labels of a layer are copied at once if they are small, else read in parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.journal.lines import PackedWindow

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.journal.sparse import SparseLabels

#: Labels up to this many bytes are copied when a journal begins; the thread reads larger ones.
_COPIED = 2**22

#: Values of labels that are read at once.
_READ_AT_ONCE = 2**22


def kept(labels: Any) -> Any:
    """Copy labels, if that takes no time."""
    if isinstance(labels, np.ndarray) and labels.nbytes <= _COPIED:
        return labels.copy()
    return labels


def read_into(labels: SparseLabels, source: Any) -> None:
    """Copy labels."""
    for start, part in parts(labels.shape, source):
        if part.any():
            labels.write(start, part)


def differences(known: SparseLabels, labels: Any) -> Iterator[PackedWindow]:
    """Give the parts in which labels differ from those that are known."""
    for start, part in parts(known.shape, labels):
        differ = np.nonzero(part != known.read(start, part.shape))
        if differ[0].size:
            box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in differ)
            first = (at + b.start for at, b in zip(start, box, strict=True))
            yield PackedWindow.of(tuple(first), part[box].astype(known.dtype))


def parts(
    shape: tuple[int, ...], source: Any
) -> Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]]:
    """Read labels in parts of rows of the first axes that are not too large."""
    axis, inner = 0, int(np.prod(shape[1:], dtype=np.int64))
    while inner > _READ_AT_ONCE and axis < len(shape) - 2:
        axis += 1
        inner = int(np.prod(shape[axis + 1 :], dtype=np.int64))
    rows = max(1, _READ_AT_ONCE // max(inner, 1))
    for outer in np.ndindex(*shape[:axis]):
        for first in range(0, shape[axis], rows):
            part = np.asarray(source[(*outer, slice(first, first + rows))])
            start = (*outer, first, *(0 for _ in shape[axis + 1 :]))
            yield start, part[(None,) * axis]
