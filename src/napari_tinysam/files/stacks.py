"""Image files opened as stacks: their axes are known, their pixels not read yet."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.files.quiet import MAX_PIXELS, read_quietly
from napari_tinysam.frame import MAX_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt
    from tifffile import TiffFile, TiffPageSeries

#: Axes that a file does not name (tifffile's "other" and "sequence").
UNKNOWN_AXES = "QI"

# First bytes of TIFF and BigTIFF of both byte orders, and of NumPy's format.
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NPY_MAGIC = b"\x93NUMPY"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG2000_MAGIC = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")

# Formats that Pillow reads as the numbers they hold. Of others (SGI, for one) it cuts 16 bits to 8.
_TRUSTED = frozenset(("BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "PPM", "WEBP"))

# How TIFF files may store colours so that their samples are gray values, numbers or RGB.
_PLAIN_COLOURS = frozenset(
    ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE", "MASK", "CFA", "LINEAR_RAW")
)


#: An index for each axis of a stack, None for all of it.
Index = tuple[int | None, ...]


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
    images : int
        How many images the file holds, of which this is one: the series of a TIFF, the frames of
        a picture.
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
        with _explained(self.path):
            return self.reader(index)


def open_stack(path: Path, series: int = 0) -> Stack:
    """Open an image file.

    Parameters
    ----------
    path : Path
        A TIFF, OME-TIFF or NPY file, or a picture. The contents decide, not the name.
    series : int
        Which of its images, where it holds several.

    Raises
    ------
    FileError
        If the file is missing, broken, too large or not an image, has no such series, or holds
        numbers that cannot be read exactly.
    """
    _check_regular(path)
    with _explained(path):
        with open(path, "rb") as file:
            magic = file.read(26)
        if magic.startswith(_TIFF_MAGIC):
            return _tiff(path, series)
        if magic.startswith(_NPY_MAGIC):
            _check_series(path, series, 1)
            return _npy(path)
        if _needs_codec(magic):
            _check_series(path, series, 1)
            return _coded(path)
        return _picture(path, series)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises into a `FileError`."""
    try:
        with read_quietly():
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


def _check_series(path: Path, series: int, count: int) -> None:
    if not 0 <= series < count:
        images = "a single image" if count == 1 else f"{count} images"
        raise FileError(
            f"{path} holds {images}; there is no series {series}. Counting starts at 0."
        )


def _tiff(path: Path, number: int) -> Stack:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        if not tiff.series:
            raise FileError(f"{path} holds no image.")
        _check_series(path, number, len(tiff.series))
        series = tiff.series[number]
        _check_colours(path, series)
        axes, shape = str(series.axes), tuple(int(n) for n in series.shape)
        if set(axes) <= set("QYX"):  # written without names for its axes
            axes = _guessed_axes(shape)
        page_axes = len(series.keyframe.axes)
        count = _images(tiff)

    def read(index: Index) -> npt.NDArray[Any]:
        try:
            whole = tifffile.memmap(path, series=number, mode="r")
        except ValueError:  # compressed or tiled: not as it is in memory
            return _tiff_pages(path, number, index, page_axes)
        return np.array(whole.reshape(shape)[_slices(index)])

    return Stack(axes, shape, read, path, count)


def _images(tiff: TiffFile) -> int:
    """Count the series, without thumbnails, labels and such of a slide."""
    sizes = [int(np.prod(series.shape)) for series in tiff.series]
    return sum(size * 16 > max(sizes) for size in sizes)


def _check_colours(path: Path, series: TiffPageSeries) -> None:
    """Refuse colours whose samples are neither gray nor RGB."""
    page = series.keyframe
    kind = getattr(page.photometric, "name", str(page.photometric))
    decoded = kind == "YCBCR" and "JPEG" in getattr(page.compression, "name", "")
    if kind not in _PLAIN_COLOURS and not decoded:
        raise FileError(
            f"{path} stores its colours as {kind}, which is not read; save the image as gray or "
            "RGB."
        )


def _tiff_pages(
    path: Path, series_number: int, index: Index, page_axes: int
) -> npt.NDArray[Any]:
    """Decode only the page that is wanted, where the stack's axes are its pages."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[series_number]
        shape = tuple(int(n) for n in series.shape)
        split = len(shape) - page_axes
        lead = [i for i in index[:split] if i is not None]
        if len(lead) != split or np.prod(shape[:split]) != len(series.pages):
            with _named_compression(path, series):
                return np.asarray(series.asarray())[_slices(index)]
        number = int(np.ravel_multi_index(lead, shape[:split])) if split else 0
        page = series.pages[number]
        if page is None:
            raise FileError(f"The plane is missing in {path}.")
        with _named_compression(path, series):
            pixels = np.asarray(page.asarray())
    return pixels.reshape(shape[split:])[_slices(index[split:])]


@contextmanager
def _named_compression(path: Path, series: TiffPageSeries) -> Iterator[None]:
    """Say which compression it is where a codec is missing: the file is not damaged."""
    try:
        yield
    except (ValueError, ImportError) as error:
        known = ("imagecodecs", "not supported", "not available", "COMPRESSION")
        if not any(word in str(error) for word in known):
            raise
        name = getattr(series.keyframe.compression, "name", "unknown")
        raise FileError(
            f"The compression of {path} ({name}) is not read here; save the image uncompressed, or "
            "with LZW or deflate."
        ) from error


def _npy(path: Path) -> Stack:
    array = np.load(path, mmap_mode="r", allow_pickle=False)

    def read(index: Index) -> npt.NDArray[Any]:
        return np.array(array[_slices(index)])

    return Stack(_guessed_axes(array.shape), array.shape, read, path)


def _needs_codec(magic: bytes) -> bool:
    """Whether Pillow would cut a picture's 16 bits to 8: PNG with colours or alpha, JPEG 2000."""
    if magic.startswith(_JPEG2000_MAGIC):
        return True
    depth, colours = magic[24:25], magic[25:26]  # of the header of a PNG
    return magic.startswith(_PNG_MAGIC) and depth == b"\x10" and colours != b"\0"


def _coded(path: Path) -> Stack:
    """Decode a PNG or JPEG 2000 with all its bits."""
    import imagecodecs

    content = path.read_bytes()
    png = content.startswith(_PNG_MAGIC)
    if png and int.from_bytes(content[16:20]) * int.from_bytes(content[20:24]) > (
        MAX_PIXELS
    ):
        raise too_large(path)
    decode = imagecodecs.png_decode if png else imagecodecs.jpeg2k_decode
    array = np.asarray(decode(content))
    axes = "YX" if array.ndim == 2 else "YXS"
    return Stack(axes, array.shape, lambda index: array[_slices(index)], path)


def _picture(path: Path, series: int) -> Stack:
    """PNG, JPEG and a few more, as Pillow reads them; one frame of an animation."""
    import imageio.v3 as iio
    from PIL import Image

    try:
        with Image.open(path) as picture:
            kind, frames = str(picture.format), int(getattr(picture, "n_frames", 1))
            cut = kind == "PPM" and picture.mode == "RGB" and _deep_ppm(path)
        if kind not in _TRUSTED or cut:
            raise FileError(
                f"{path} is a picture ({kind}) whose numbers might be changed by reading it; save "
                "it as TIFF or PNG."
            )
        frames = (
            1 if kind == "MPO" else frames
        )  # the others are thumbnails and the like
        _check_series(path, series, frames)
        mode = iio.immeta(path, index=series, plugin="pillow").get("mode")
        colours = "RGB" if mode in ("CMYK", "YCbCr", "LAB", "HSV") else None
        array = np.asarray(
            iio.imread(path, index=series, plugin="pillow", mode=colours)
        )
    except Image.DecompressionBombError as error:
        raise too_large(path) from error
    axes = "YX" if array.ndim == 2 else "YXS"
    return Stack(axes, array.shape, lambda index: array[_slices(index)], path, frames)


def _deep_ppm(path: Path) -> bool:
    """Whether a portable pixmap says that its largest value is above 255."""
    with open(path, "rb") as file:
        lines = [line.split(b"#")[0] for line in file.read(4096).splitlines()]
    words = b" ".join(lines).split()
    return len(words) > 3 and words[3].isdigit() and int(words[3]) > 255


def _guessed_axes(shape: tuple[int, ...]) -> str:
    """Axes of an array that does not name them; few, or three or four, last are channels."""
    last, others = (shape[-1], shape[-3:-1]) if len(shape) > 2 else (0, ())
    if last in (3, 4) or (0 < last <= MAX_CHANNELS and last < min(others)):
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
