"""NumPy's own format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.files.formats.stack import (
    Index,
    Stack,
    check_series,
    contiguous_chunks,
    guessed_axes,
    slices,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def is_npy(head: bytes) -> bool:
    """Whether a file begins like an NPY file."""
    return head.startswith(b"\x93NUMPY")


def open_npy(path: Path, series: int) -> Stack:
    """Open an array without reading it."""
    check_series(path, series, 1)
    array = np.load(path, mmap_mode="r", allow_pickle=False)

    def read(index: Index) -> npt.NDArray[Any]:
        return np.array(array[slices(index)])

    axes = guessed_axes(array.shape)
    chunks = contiguous_chunks(axes, array.shape)
    return Stack(axes, array.shape, read, path, chunks=chunks)
