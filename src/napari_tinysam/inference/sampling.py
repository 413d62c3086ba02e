"""A few parts of a large plane, spread evenly: they show its contrast without reading it all."""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.frame import FRAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

#: Pixels of a plane that are looked at, about.
_SAMPLE = 2_000_000

#: Chunks that are read along each axis of a plane that is not in memory.
_CHUNKS = 5

#: Longest side of what is read of a chunk, and the side of a chunk where there are none, in pixels.
_CHUNK = 2 * FRAME


def sampled_parts(data: Any, axes: Sequence[int]) -> list[tuple[slice, slice]]:
    """Choose rows and columns to read, with a step that leaves about two million pixels of all.

    Parameters
    ----------
    data : array-like
        In memory every second, third … pixel of all is chosen; of others parts of 5 × 5 chunks.
    axes : sequence of int
        Those of Y and X.
    """
    lengths = [int(data.shape[axis]) for axis in axes]
    if isinstance(data, np.ndarray):
        step = max(1, int(np.ceil(np.sqrt(lengths[0] * lengths[1] / _SAMPLE))))
        return [(slice(None, None, step), slice(None, None, step))]
    chosen = [_some(_edges(data, axis)) for axis in axes]
    count = max(1, len(chosen[0]) * len(chosen[1]))
    largest = max((b - a) * (d - c) for (a, b), (c, d) in product(*chosen))
    step = max(1, int(np.ceil(np.sqrt(count * largest / _SAMPLE))))
    return [
        (slice(*rows, step), slice(*columns, step))
        for rows, columns in product(*chosen)
    ]


def _edges(data: Any, axis: int) -> npt.NDArray[np.int64]:
    """Where the chunks of an array begin, and its end."""
    length = int(data.shape[axis])
    chunks = getattr(data, "chunks", None)
    along = _CHUNK // 4 if chunks is None else chunks[axis]
    if isinstance(along, tuple):  # dask
        return np.concatenate([[0], np.cumsum(along)]).astype(np.int64)
    return np.append(np.arange(0, length, max(int(along), 1)), length)


def _some(edges: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Choose chunks that are spread evenly, and of each no more than `_CHUNK` pixels."""
    chunks = list(pairwise(edges.tolist()))
    places = np.linspace(0, len(chunks) - 1, min(len(chunks), _CHUNKS))
    some = [chunks[int(place)] for place in np.round(places)]
    middles = [(first + last) // 2 for first, last in some]
    return [
        (max(first, middle - _CHUNK // 2), min(last, middle + _CHUNK // 2))
        if len(chunks) > 1
        else (first, last)
        for (first, last), middle in zip(some, middles, strict=True)
    ]
