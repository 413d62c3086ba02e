"""The formats of image files. A new one is a module in this folder and a line in `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats.npy import is_npy, open_npy
from napari_tinysam.files.formats.ome_zarr import is_zarr, open_ome_zarr
from napari_tinysam.files.formats.pictures import needs_codec, open_coded, open_picture
from napari_tinysam.files.formats.stack import Stack, explained_reading
from napari_tinysam.files.formats.tiff import is_tiff, open_tiff
from napari_tinysam.files.formats.vendors import is_of_a_vendor, open_of_a_vendor
from napari_tinysam.files.remote import ImagePath, RemotePath


class Format(NamedTuple):
    """How files of one format are recognised and opened.

    Attributes
    ----------
    recognises : callable
        Whether a file that begins with these bytes (up to 26) is of this format.
    open : callable
        Path and number of the series to the stack. It may raise anything.
    suffixes : tuple of str
        Names end in one of these; in folders, others are passed over.
    """

    recognises: Callable[[bytes], bool]
    open: Callable[[Path, int], Stack]
    suffixes: tuple[str, ...] = ()


#: The first that recognises a file opens it.
FORMATS = (
    Format(is_tiff, open_tiff, (".tif", ".tiff")),
    Format(is_npy, open_npy, (".npy",)),
    Format(is_of_a_vendor, open_of_a_vendor, (".czi", ".lif", ".nd2")),
    Format(needs_codec, open_coded),
    Format(lambda _: True, open_picture, (".png", ".jpg", ".jpeg", ".bmp", ".gif")),
)

#: Suffixes of the images in a folder; other files are passed over.
IMAGE_SUFFIXES = tuple(suffix for each in FORMATS for suffix in each.suffixes)


def open_stack(path: ImagePath, series: int = 0) -> Stack:
    """Open an image file.

    Parameters
    ----------
    path : Path or RemotePath
        A TIFF, OME-TIFF or NPY file, a picture, or an OME-Zarr folder, which may be on a server.
        The contents decide, not the name.
    series : int
        Which of its images, where it holds several.

    Raises
    ------
    FileError
        If the file is missing, broken, too large or not an image, has no such series, or holds
        numbers that cannot be read exactly.
    """
    if is_zarr(path):
        with explained_reading(path):
            return open_ome_zarr(path, series)
    if isinstance(path, RemotePath):
        raise FileError(f"{path} cannot be reached, or is not an OME-Zarr image.")
    _check_regular(path)
    with explained_reading(path):
        with open(path, "rb") as file:
            head = file.read(26)
        found = next(each for each in FORMATS if each.recognises(head))
        return found.open(path, series)


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
