"""An image file as a stack: its axes are known, its pixels are not read yet."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import FileError
from napari_tinysam.files.quiet import MAX_PIXELS, read_quietly
from napari_tinysam.files.remote import ImagePath, RemotePath
from napari_tinysam.frame import FRAME, MAX_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

#: Axes that a file does not name (tifffile's "other" and "sequence").
UNKNOWN_AXES = "QI"

#: An index for each axis of a stack, None for all of it.
Index = tuple[int | slice | None, ...]


@dataclass(frozen=True, eq=False)
class Stack:
    """One image of a file.

    Parameters
    ----------
    axes : str
        A letter for each axis: Y and X, S for colours or interleaved channels, C for channels, Q or
        I for axes without a name, any other letter for axes such as depth or time.
    shape : tuple of int
        Lengths of the axes.
    reader : callable
        Reads a part; `read` calls it.
    path : Path or RemotePath
        For messages.
    images : int
        How many images the file holds: series of a TIFF, frames of an animation. The stack is one
        of them.
    chunks : tuple of int, optional
        Lengths along each axis of the pieces that are read by themselves, so that reading a small
        part costs little. None if the file has to be read plane by plane.
    coarse : Stack, optional
        The same image with fewer pixels along Y and X, if the file has a pyramid.
    absent : callable, optional
        Counts the chunks that are not stored, which are read as empty, and all chunks.
    """

    axes: str
    shape: tuple[int, ...]
    reader: Callable[[Index], npt.NDArray[Any]]
    path: ImagePath
    images: int = 1
    chunks: tuple[int, ...] | None = None
    coarse: Stack | None = None
    absent: Callable[[], tuple[int, int]] | None = None

    def read(self, index: Index) -> npt.NDArray[Any]:
        """Read a part of the file.

        Parameters
        ----------
        index : tuple of int, slice or None
            One for each axis; None for all of an axis, as for S.

        Returns
        -------
        numpy.ndarray
            The axes that are left, in the file's order.

        Raises
        ------
        FileError
            If the file is broken there, or memory does not suffice.
        """
        with explained_reading(self.path):
            return self.reader(index)


@contextmanager
def explained_reading(path: ImagePath) -> Iterator[None]:
    """Turn everything that a reader raises into a `FileError`."""
    try:
        with read_quietly():
            yield
    except FileError:
        raise
    except MemoryError as error:
        raise FileError(f"There is not enough memory to read {path}.") from error
    except PermissionError as error:
        raise FileError(f"You have no permission to read {path}.") from error
    except Exception as error:  # readers fail in any way at all on a broken file
        if isinstance(path, RemotePath):
            raise FileError(
                f"{path} cannot be read: the server does not answer, or the image is damaged."
            ) from error
        raise FileError(
            f"{path} cannot be read: it is damaged or incomplete, or not an image in TIFF, "
            "OME-TIFF, OME-Zarr, NPY, PNG or JPEG format."
        ) from error


def check_series(path: ImagePath, series: int, count: int) -> None:
    """Refuse the number of a series that a file does not have; raises `FileError`."""
    if not 0 <= series < count:
        images = "a single image" if count == 1 else f"{count} images"
        raise FileError(
            f"{path} holds {images}; there is no series {series}. Counting starts at 0."
        )


def guessed_axes(shape: tuple[int, ...]) -> str:
    """Guess the axes of an array: a last axis that is short, or has 3 or 4 places, is channels."""
    last, others = (shape[-1], shape[-3:-1]) if len(shape) > 2 else (0, ())
    if last in (3, 4) or (0 < last <= MAX_CHANNELS and last < min(others)):
        return "Q" * (len(shape) - 3) + "YXS"
    return "Q" * (len(shape) - 2) + "YX"[max(0, 2 - len(shape)) :]


def contiguous_chunks(axes: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks for an array that is mapped into memory: any part of it can be read."""
    return tuple(
        min(length, FRAME) if axis in "YX" else length if axis == "S" else 1
        for axis, length in zip(axes, shape, strict=True)
    )


def slices(index: Index) -> tuple[int | slice, ...]:
    """Turn an index into one that NumPy takes."""
    return tuple(slice(None) if i is None else i for i in index)


def too_large(path: ImagePath) -> FileError:
    """Return the error about a plane of more than `MAX_PIXELS`."""
    return FileError(
        f"{path} has more than {MAX_PIXELS // 1_000_000:,} million pixels; crop the part "
        "you need, or use a smaller level of the pyramid."
    )
