"""Image files opened as stacks: their axes are known, their pixels not read yet."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt
    from tifffile import TiffPageSeries

#: Planes with more pixels are refused: on the model's frame of 1024 pixels nothing is left of them.
MAX_PIXELS = 2**30

#: Axes that a file does not name (tifffile's "other" and "sequence").
UNKNOWN_AXES = "QI"

# First bytes of TIFF and BigTIFF of both byte orders, and of NumPy's format.
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NPY_MAGIC = b"\x93NUMPY"

# A last axis up to this long, shorter than the others, is read as channels.
_MAX_CHANNELS = 16


#: An index for each axis of a stack, None for all of it.
Index = tuple[int | None, ...]


class FileError(Exception):
    """A file cannot be read or written; the message is a sentence for the user."""


@dataclass(frozen=True, eq=False)
class Stack:
    """What a file holds.

    Parameters
    ----------
    axes : str
        A letter for each axis: Y and X, S for colours or interleaved channels, C for channels, Q or
        I for an axis without a name, and any other letter for a stack's own axes.
    shape : tuple of int
        Their lengths.
    reader : callable
        What `read` calls.
    path : Path
        For messages.
    """

    axes: str
    shape: tuple[int, ...]
    reader: Callable[[Index], npt.NDArray[Any]]
    path: Path

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
        with _explained(self.path):
            return self.reader(index)


def open_stack(path: Path) -> Stack:
    """Open an image file.

    Parameters
    ----------
    path : Path
        A TIFF, OME-TIFF or NPY file, or a picture that Pillow reads. The contents decide, not the
        name.

    Raises
    ------
    FileError
        If the file is missing, broken, too large or not an image.
    """
    _check_regular(path)
    with _explained(path):
        with open(path, "rb") as file:
            magic = file.read(8)
        if magic.startswith(_TIFF_MAGIC):
            return _tiff(path)
        return _npy(path) if magic.startswith(_NPY_MAGIC) else _picture(path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises into a `FileError`."""
    try:
        with _silenced():
            yield
    except FileError:
        raise
    except MemoryError as error:
        raise FileError(f"There is not enough memory to read {path}.") from error
    except PermissionError as error:
        raise FileError(f"{path} may not be read by you.") from error
    except Exception as error:  # readers fail in any way at all on a broken file
        raise FileError(
            f"{path} cannot be read: it is damaged or incomplete, or not an image in TIFF, "
            "OME-TIFF, NPY, PNG or JPEG format."
        ) from error


def _check_regular(path: Path) -> None:
    try:
        if path.is_dir():
            raise FileError(f"{path} is a folder, not an image file.")
        if not path.exists():
            raise FileError(f"{path} does not exist.")
        if not path.is_file():
            raise FileError(f"{path} is not a regular file.")
        if path.stat().st_size == 0:
            raise FileError(f"{path} is empty.")
    except (OSError, ValueError) as error:  # too long, a null byte, a locked folder
        raise FileError(f"{str(path)!r} cannot be opened.") from error


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep what readers log and warn about away from the user: errors are raised."""
    logger = logging.getLogger("tifffile")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def _tiff(path: Path) -> Stack:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        if not tiff.series:
            raise FileError(f"{path} holds no image.")
        series = tiff.series[0]
        axes, shape = str(series.axes), tuple(int(n) for n in series.shape)
        if set(axes) <= set("QYX"):  # written without names for its axes
            axes = _guessed_axes(shape)
        page_axes = len(series.keyframe.axes)

    def read(index: Index) -> npt.NDArray[Any]:
        try:
            whole = tifffile.memmap(path, series=0, mode="r")
        except ValueError:  # compressed or tiled: not as it is in memory
            return _tiff_pages(path, index, page_axes)
        return np.array(whole.reshape(shape)[_slices(index)])

    return Stack(axes, shape, read, path)


def _tiff_pages(path: Path, index: Index, page_axes: int) -> npt.NDArray[Any]:
    """Decode only the page that is wanted, where the stack's axes are its pages."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        shape = tuple(int(n) for n in series.shape)
        split = len(shape) - page_axes
        lead = [i for i in index[:split] if i is not None]
        if len(lead) != split or np.prod(shape[:split]) != len(series.pages):
            return np.asarray(series.asarray())[_slices(index)]
        number = int(np.ravel_multi_index(lead, shape[:split])) if split else 0
        page = _tiff_page(path, series, number)
    return page.reshape(shape[split:])[_slices(index[split:])]


def _tiff_page(path: Path, series: TiffPageSeries, number: int) -> npt.NDArray[Any]:
    page = series.pages[number]
    if page is None:
        raise FileError(f"The plane is missing in {path}.")
    try:
        return np.asarray(page.asarray())
    except ImportError:  # a compression of Python's own, from 3.14 on
        pass
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    # LZW and a few others: tifffile needs an optional package, Pillow has libtiff
    import imageio.v3 as iio

    try:
        return np.asarray(iio.imread(path, index=page.index, plugin="pillow"))
    except Exception as error:  # Pillow has many ways to say so
        raise FileError(
            f"The compression of {path} is of a kind that is not read; save the image "
            "uncompressed, or with LZW or deflate."
        ) from error


def _npy(path: Path) -> Stack:
    array = np.load(path, mmap_mode="r", allow_pickle=False)

    def read(index: Index) -> npt.NDArray[Any]:
        return np.array(array[_slices(index)])

    return Stack(_guessed_axes(array.shape), array.shape, read, path)


def _picture(path: Path) -> Stack:
    """PNG, JPEG and whatever else Pillow reads; the first frame of an animation."""
    import imageio.v3 as iio
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2
    try:
        mode = iio.immeta(path, index=0, plugin="pillow").get("mode")
        colours = "RGB" if mode in ("CMYK", "YCbCr", "LAB", "HSV") else None
        array = np.asarray(iio.imread(path, index=0, plugin="pillow", mode=colours))
    except Image.DecompressionBombError as error:
        raise too_large(path) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    axes = "YX" if array.ndim == 2 else "YXS"
    return Stack(axes, array.shape, lambda index: array[_slices(index)], path)


def _guessed_axes(shape: tuple[int, ...]) -> str:
    """Axes of an array that does not name them; few, or three or four, last are channels."""
    last, others = (shape[-1], shape[-3:-1]) if len(shape) > 2 else (0, ())
    if last in (3, 4) or (0 < last <= _MAX_CHANNELS and last < min(others)):
        return "Q" * (len(shape) - 3) + "YXS"
    return "Q" * (len(shape) - 2) + "YX"[max(0, 2 - len(shape)) :]


def _slices(index: Index) -> tuple[int | slice, ...]:
    return tuple(slice(None) if i is None else i for i in index)


def too_large(path: Path) -> FileError:
    """Return the error about a plane of more than `MAX_PIXELS`."""
    return FileError(
        f"{path} has more than {MAX_PIXELS // 1_000_000:,} million pixels; cut out the part "
        "you need, or use a smaller level of the pyramid."
    )
