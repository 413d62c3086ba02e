"""An image file as a stack: its axes are known, its pixels are not read yet."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import FileError
from napari_tinysam.files.quiet import MAX_PIXELS, read_quietly
from napari_tinysam.frame import MAX_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

#: Axes that a file does not name (tifffile's "other" and "sequence").
UNKNOWN_AXES = "QI"

#: An index for each axis of a stack, None for all of it.
Index = tuple[int | None, ...]


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
    path : Path
        For messages.
    images : int
        How many images the file holds: series of a TIFF, frames of an animation. The stack is one
        of them.
    """

    axes: str
    shape: tuple[int, ...]
    reader: Callable[[Index], npt.NDArray[Any]]
    path: Path
    images: int = 1

    def read(self, index: Index) -> npt.NDArray[Any]:
        """Read a part of the file.

        Parameters
        ----------
        index : tuple of int or None
            One for each axis; None for all of an axis, as for Y, X and S.

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
def explained_reading(path: Path) -> Iterator[None]:
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
        raise FileError(
            f"{path} cannot be read: it is damaged or incomplete, or not an image in TIFF, "
            "OME-TIFF, OME-Zarr, NPY, PNG or JPEG format."
        ) from error


def check_series(path: Path, series: int, count: int) -> None:
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


def slices(index: Index) -> tuple[int | slice, ...]:
    """Turn an index into one that NumPy takes."""
    return tuple(slice(None) if i is None else i for i in index)


def too_large(path: Path) -> FileError:
    """Return the error about a plane of more than `MAX_PIXELS`."""
    return FileError(
        f"{path} has more than {MAX_PIXELS // 1_000_000:,} million pixels; crop the part "
        "you need, or use a smaller level of the pyramid."
    )
