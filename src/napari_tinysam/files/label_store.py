"""Labels of planes that do not fit into memory: a pyramid on disk, of which only parts are read."""

from __future__ import annotations

import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.files.writing import write_label_planes

if TYPE_CHECKING:
    import numpy.typing as npt

#: Labels of planes with more pixels than this are kept on disk. Napari prepares all pixels of a
#: layer that is no pyramid for the screen, several times when it is added: with 2**27 pixels that
#: holds up the window for about half a second, with 20,000² pixels for two to three.
LARGEST_IN_MEMORY = 2**27

#: Side of the chunks, and of the tiles of a TIFF file, in pixels.
_CHUNK = 1024


class LabelStore:
    """The finest level of the pyramid; what is written into it goes into all levels.

    Reads like an array, with integers and slices. The files are removed with the object.

    Parameters
    ----------
    shape : tuple of int
        The last two axes are those of the planes.
    dtype : dtype
        An integer type.

    Attributes
    ----------
    levels : list of array-like
        This one, then levels of half the size of the one before, (up to 1,024 pixels).
    """

    def __init__(self, shape: Sequence[int], dtype: npt.DTypeLike = np.uint32) -> None:
        import zarr

        folder = tempfile.mkdtemp(prefix="napari-tinysam-labels-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.shape = tuple(int(length) for length in shape)
        self.dtype = np.dtype(dtype)
        self._arrays: list[Any] = []
        height, width = self.shape[-2:]
        while not self._arrays or max(height, width) > _CHUNK:
            if self._arrays:
                height, width = -(-height // 2), -(-width // 2)
            self._arrays.append(
                zarr.create_array(
                    Path(folder) / str(len(self._arrays)),
                    shape=(*self.shape[:-2], height, width),
                    chunks=(1,) * (self.ndim - 2) + (_CHUNK, _CHUNK),
                    dtype=self.dtype,
                )
            )
        self._written: set[tuple[int, ...]] = set()  # chunks
        self._places: dict[int, npt.NDArray[np.int64]] = {}  # first and last index

    @property
    def levels(self) -> list[Any]:
        """All levels, the finest first."""
        return [self, *self._arrays[1:]]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Read a part."""
        return np.asarray(self._arrays[0][key])

    def max(self) -> int:
        """Return the largest label that was ever written; 0 at first."""
        return max(self._places, default=0)

    def place(self, label: int) -> tuple[slice, ...] | None:
        """Return a part that holds all pixels of a label; None if it was never written."""
        found = self._places.get(label)
        if found is None:
            return None
        return tuple(slice(int(a), int(b) + 1) for a, b in zip(*found, strict=True))

    def write(
        self, indices: Sequence[npt.NDArray[np.intp]], labels: npt.NDArray[Any]
    ) -> None:
        """Write N labels at N pixels.

        Parameters
        ----------
        indices : sequence of ndarray of int, (N,)
            One for each axis.
        labels : ndarray of int, (N,)
        """
        places = np.stack(list(indices))
        for label, at in _groups(labels, places):
            if label:
                new = np.stack([at.min(axis=1), at.max(axis=1)])
                old = self._places.get(label, new)
                self._places[label] = np.stack(
                    [np.minimum(old[0], new[0]), np.maximum(old[1], new[1])]
                )
        for array in self._arrays:
            counts = (*array.shape[:-2], *(-(-n // _CHUNK) for n in array.shape[-2:]))
            chunks = np.ravel_multi_index(
                (*places[:-2], places[-2] // _CHUNK, places[-1] // _CHUNK), counts
            )
            both = np.concatenate([places, labels[np.newaxis].astype(places.dtype)])
            for number, part in _groups(chunks, both):
                _write_chunk(array, part[:-1], part[-1])
                if array is self._arrays[0]:
                    chunk = np.unravel_index(number, counts)
                    self._written.add(tuple(int(each) for each in chunk))
            kept = (places[-2:] % 2 == 0).all(axis=0)
            places, labels = places[:, kept], labels[kept]
            places[-2:] //= 2
            if not labels.size:
                break

    def write_tiff(self, path: Path, axes: str) -> None:
        """Write the labels as a compressed TIFF file, tile by tile.

        Parameters
        ----------
        path : Path
            Ends in ``.tif`` or ``.tiff``.
        axes : str
            One of tifffile's letters for each axis.

        Raises
        ------
        FileError
            If the file cannot be written.
        """
        write_label_planes(
            path, self._tiles(), self.shape, self.dtype, axes, tile=_CHUNK
        )

    def _tiles(self) -> Iterator[bytes]:
        """Give all tiles, compressed; most of them are empty and are compressed once."""
        side = (_CHUNK, _CHUNK)
        empty = zlib.compress(np.zeros(side, self.dtype).tobytes())
        counts = [-(-length // _CHUNK) for length in self.shape[-2:]]
        for chunk in np.ndindex(*self.shape[:-2], *counts):
            if chunk not in self._written:
                yield empty
                continue
            *plane, row, column = chunk
            y, x = row * _CHUNK, column * _CHUNK
            part = self[(*plane, slice(y, y + _CHUNK), slice(x, x + _CHUNK))]
            tile = np.zeros(side, self.dtype)
            tile[: part.shape[0], : part.shape[1]] = part
            yield zlib.compress(tile.tobytes())


def _groups(
    keys: npt.NDArray[np.integer], columns: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Give each of N keys with the columns of a (k, N) array that have it, in their order."""
    if not keys.size:
        return
    order = np.argsort(keys, kind="stable")
    keys, columns = keys[order], columns[:, order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
        yield int(keys[start]), columns[:, start:end]


def _write_chunk(
    array: Any, places: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> None:
    """Write labels at pixels of one chunk: as a block, for zarr takes long over single pixels."""
    first, last = places.min(axis=1), places.max(axis=1)
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    part = np.array(array[box])
    part[tuple(places - first[:, np.newaxis])] = labels
    array[box] = part
