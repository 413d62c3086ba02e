"""TIFF, OME-TIFF and formats built on them, read with tifffile."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats.stack import (
    Index,
    Stack,
    check_series,
    contiguous_chunks,
    guessed_axes,
    slices,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from tifffile import TiffFile, TiffPageSeries

# First bytes of TIFF and BigTIFF of both byte orders.
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Colour spaces whose samples are gray values, labels or RGB.
_PLAIN_COLOURS = frozenset(
    ("MINISWHITE", "MINISBLACK", "RGB", "PALETTE", "MASK", "CFA", "LINEAR_RAW")
)


def is_tiff(head: bytes) -> bool:
    """Whether a file begins like a TIFF or BigTIFF."""
    return head.startswith(_MAGIC)


def open_tiff(path: Path, number: int) -> Stack:
    """Open one series of a TIFF file."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        if not tiff.series:
            raise FileError(f"{path} holds no image.")
        check_series(path, number, len(tiff.series))
        series = tiff.series[number]
        _check_colours(path, series)
        axes, shape = str(series.axes), tuple(int(n) for n in series.shape)
        if set(axes) <= set("QYX"):  # written without names for its axes
            axes = guessed_axes(shape)
        page_axes = len(series.keyframe.axes)
        count = _images(tiff)
        chunks = _chunks(series, axes, shape)

    def read(index: Index) -> npt.NDArray[Any]:
        try:
            whole = tifffile.memmap(path, series=number, mode="r")
        except ValueError:  # compressed or tiled: not as it is in memory
            if any(isinstance(each, slice) for each in index):
                return _read_part(path, number, index, shape)
            return _read_pages(path, number, index, page_axes)
        return np.array(whole.reshape(shape)[slices(index)])

    return Stack(axes, shape, read, path, count, chunks)


def _chunks(
    series: TiffPageSeries, axes: str, shape: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Return the lengths of tiles or strips; None if a page is one piece."""
    page = series.keyframe
    if page.is_memmappable and series.dataoffset is not None:
        return contiguous_chunks(axes, shape)
    lead, own = len(shape) - len(page.axes), tuple(int(n) for n in page.chunks)
    if (
        len(own) != len(page.axes)
        or (1,) * lead + page.shape != (1,) * lead + shape[lead:]
    ):
        return None
    chunks = (1,) * lead + own
    small = [
        chunk < length
        for axis, chunk, length in zip(axes, chunks, shape, strict=True)
        if axis in "YX"
    ]
    return chunks if any(small) else None


def _read_part(
    path: Path, series_number: int, index: Index, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Decode the tiles or strips of a part of a plane."""
    import tifffile
    import zarr

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[series_number]
        with _named_compression(path, series):
            array: Any = zarr.open_array(series.aszarr(level=0), mode="r")
            if tuple(array.shape) != shape:
                raise FileError(f"{path} cannot be read in parts.")
            return np.asarray(array[slices(index)])


def _images(tiff: TiffFile) -> int:
    """Count the series, without thumbnails and label pictures of a slide."""
    sizes = [int(np.prod(series.shape)) for series in tiff.series]
    return sum(size * 16 > max(sizes) for size in sizes)


def _check_colours(path: Path, series: TiffPageSeries) -> None:
    """Refuse colour spaces other than gray and RGB."""
    page = series.keyframe
    kind = getattr(page.photometric, "name", str(page.photometric))
    decoded = kind == "YCBCR" and "JPEG" in getattr(page.compression, "name", "")
    if kind not in _PLAIN_COLOURS and not decoded:
        raise FileError(
            f"{path} stores its colours as {kind}, which is not supported; save the image as "
            "gray or RGB."
        )


def _read_pages(
    path: Path, series_number: int, index: Index, page_axes: int
) -> npt.NDArray[Any]:
    """Decode only the requested page, where each page is one plane."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[series_number]
        shape = tuple(int(n) for n in series.shape)
        split = len(shape) - page_axes
        lead = [i for i in index[:split] if isinstance(i, int)]
        if len(lead) != split or np.prod(shape[:split]) != len(series.pages):
            with _named_compression(path, series):
                return np.asarray(series.asarray())[slices(index)]
        number = int(np.ravel_multi_index(lead, shape[:split])) if split else 0
        page = series.pages[number]
        if page is None:
            raise FileError(f"The plane is missing in {path}.")
        with _named_compression(path, series):
            pixels = np.asarray(page.asarray())
    return pixels.reshape(shape[split:])[slices(index[split:])]


@contextmanager
def _named_compression(path: Path, series: TiffPageSeries) -> Iterator[None]:
    """Name the compression where a codec is missing: the file is not damaged."""
    try:
        yield
    except (ValueError, ImportError) as error:
        known = ("imagecodecs", "not supported", "not available", "COMPRESSION")
        if not any(word in str(error) for word in known):
            raise
        name = getattr(series.keyframe.compression, "name", "unknown")
        raise FileError(
            f"The compression of {path} ({name}) is not supported; save the image uncompressed, or "
            "with LZW or deflate."
        ) from error
