"""Reads NumPy's archives: their arrays, and parts of these. Nothing is ever unpickled."""

from __future__ import annotations

import math
import re
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format

from napari_tinysam.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

_IMAGE_KEY = re.compile(r"images?|imgs?|raw|x|inputs?|data", re.IGNORECASE)
_LABEL_KEY = re.compile(
    r"(labels?|instances?|masks?|y|seg|segmentation|gt|annotations?)_?(?P<number>\d?)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class NpzKeys:
    """The arrays of an archive by their purpose.

    Parameters
    ----------
    image : str or None
        The image.
    labels : tuple of str
        Labels of the image, the main ones first.
    only : str or None
        The single array of an archive, if its name is not known.
    """

    image: str | None
    labels: tuple[str, ...]
    only: str | None


def npz_keys(path: Path) -> NpzKeys:
    """Read the purposes of an archive's arrays from their names.

    Raises
    ------
    DataError
        If the file is not such an archive.
    """
    with _explained(path), zipfile.ZipFile(path) as archive:
        names = [
            n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")
        ]
    images = [name for name in names if _IMAGE_KEY.fullmatch(name)]
    labels = sorted(
        (int(match["number"] or 1), name)
        for name in names
        if (match := _LABEL_KEY.fullmatch(name))
    )
    unknown = len(names) == 1 and not images and not labels
    return NpzKeys(
        images[0] if images else None,
        tuple(name for _, name in labels),
        names[0] if unknown else None,
    )


def npz_shape(path: Path, key: str) -> tuple[int, ...]:
    """Read the shape of one array of an archive, from its header.

    Raises
    ------
    DataError
        If it cannot be read, or holds Python objects.
    """
    with _explained(path), _opened(path, key) as (_, shape, _, _):
        return shape


def read_npz(
    path: Path, key: str, index: tuple[int, ...] = ()
) -> npt.NDArray[np.generic]:
    """Read an array of an archive, or a part of it.

    Parameters
    ----------
    path, key
        Which array.
    index : tuple of int
        Indices of the first axes. Only that part is kept in memory.

    Raises
    ------
    DataError
        If it cannot be read, or holds Python objects.
    """
    with _explained(path), _opened(path, key) as (file, shape, by_columns, dtype):
        if by_columns:
            data = file.read()
            array = np.frombuffer(bytearray(data), dtype).reshape(shape[::-1]).T
            return np.array(array[index])
        rest = shape[len(index) :]
        length = math.prod(rest) * dtype.itemsize
        start = 0
        if index:
            start = int(np.ravel_multi_index(index, shape[: len(index)])) * length
        file.seek(start, 1)
        data = file.read(length)
        if len(data) != length:
            raise DataError(f"{path} cannot be read: {key} is not complete.")
        return np.frombuffer(bytearray(data), dtype).reshape(rest)


@contextmanager
def _opened(
    path: Path, key: str
) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
    """Open an array: the file after its header, and the header's content."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        version = npy_format.read_magic(file)
        read_header = (
            npy_format.read_array_header_1_0
            if version == (1, 0)
            else npy_format.read_array_header_2_0
        )
        shape, by_columns, dtype = read_header(file)
        if dtype.hasobject:
            raise DataError(
                f"{path}: {key} holds Python objects, and loading those may run code; save an "
                "array of numbers instead."
            )
        yield file, shape, by_columns, dtype


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn any error from a broken archive into a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except PermissionError as error:
        raise DataError(f"You have no permission to read {path}.") from error
    except MemoryError as error:
        raise DataError(f"There is not enough memory to read {path}.") from error
    except Exception as error:  # a broken zip or header can raise many errors
        raise DataError(
            f"{path} cannot be read: it is damaged or incomplete, or not an NPZ file."
        ) from error
