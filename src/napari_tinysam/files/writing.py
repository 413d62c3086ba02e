"""Write labels and pictures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.files.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

#: Suffixes that `write_label_stack` writes.
TIFF_SUFFIXES = (".tif", ".tiff")

#: Suffixes that `write_labels` writes.
LABEL_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".npy")


def write_labels(path: Path, labels: npt.NDArray[np.integer[Any]]) -> None:
    """Write labels, (Y, X) of uint16 or uint32, as TIFF, PNG or NPY by the file's suffix.

    Raises
    ------
    FileError
        If the suffix is not one of `LABEL_SUFFIXES`, a PNG would need more than 16 bits, or
        writing fails.
    """
    suffix = check_output(path, LABEL_SUFFIXES)
    if suffix == ".png" and labels.max(initial=0) > np.iinfo(np.uint16).max:
        raise FileError("A PNG holds 65,535 labels at most; write a .tif instead.")
    if suffix in TIFF_SUFFIXES:
        write_label_stack(path, labels, "YX")
        return
    with replacing(path) as file:
        if suffix == ".npy":
            np.save(file, labels, allow_pickle=False)
        else:
            write_png(file, labels.astype(np.uint16))


def write_label_stack(
    path: Path, labels: npt.NDArray[np.integer[Any]], axes: str, description: str = ""
) -> None:
    """Write labels of any number of axes as a compressed TIFF file.

    Parameters
    ----------
    path : Path
        Ends in ``.tif`` or ``.tiff``.
    labels : ndarray of integers
    axes : str
        One of tifffile's letters for each axis, such as ``ZYX``.
    description : str
        Stored in the file.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    planes = labels.reshape(-1, *labels.shape[-2:])
    write_label_planes(path, planes, labels.shape, labels.dtype, axes, description)


def label_axes(ndim: int) -> str:
    """Return tifffile's letters for labels of so many axes: the last two are Y and X."""
    known = "TZYX"
    return "Q" * max(0, ndim - len(known)) + known[-ndim:]


def unsigned_labels(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return labels with a type that programs read as labels, if there is one that holds them."""
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if labels.dtype.kind == "u" and labels.dtype.itemsize <= 4:
        return labels
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high > np.iinfo(np.uint32).max:
        return labels
    return labels.astype(np.uint32)


def write_label_planes(
    path: Path,
    pieces: Iterable[npt.NDArray[np.integer[Any]] | bytes],
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    axes: str,
    description: str = "",
    *,
    tile: int | None = None,
) -> None:
    """Write labels as a compressed TIFF file, of which only a piece is in memory at a time.

    Parameters
    ----------
    path : Path
        Ends in ``.tif`` or ``.tiff``.
    pieces : iterable of ndarray of int, (H, W)
        The planes; or, with `tile`, tiles as zlib compresses them.
    shape : sequence of int
        Of all planes together; the last two axes are Y and X.
    dtype : dtype
        An integer type that holds all labels.
    axes : str
        One of tifffile's letters for each axis, such as ``ZYX``.
    description : str
        Stored in the file.
    tile : int, optional
        Side of the tiles, a multiple of 16.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    import tifffile

    check_output(path, TIFF_SUFFIXES)
    kind = np.dtype(dtype)
    given: Any = (
        each if isinstance(each, bytes) else np.asarray(each, kind) for each in pieces
    )
    with replacing(path) as file:
        tifffile.imwrite(
            file,
            given,
            shape=tuple(shape),
            dtype=kind,
            tile=None if tile is None else (tile, tile),
            compression="zlib",
            photometric="minisblack",
            # Its offsets have 32 bits otherwise.
            bigtiff=int(np.prod(shape, dtype=np.int64)) * kind.itemsize
            >= 2**32 - 2**25,
            description=description or None,
            metadata={"axes": axes},
        )


def write_picture(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write (Y, X, 3) uint8 as a PNG file; raises `FileError` if that fails."""
    check_output(path, (".png",))
    with replacing(path) as file:
        write_png(file, rgb)


def write_png(file: BinaryIO, pixels: npt.NDArray[Any]) -> None:
    """Write uint8 or uint16 pixels to an open file."""
    import imageio.v3 as iio

    iio.imwrite(file, pixels, extension=".png", plugin="pillow")


def check_output(path: Path, suffixes: Sequence[str]) -> str:
    """Check that a file can be written, and return its suffix.

    Raises
    ------
    FileError
        If the suffix is not one of `suffixes`, the folder is missing or read-only, or the path is
        that of a folder.
    """
    suffix = path.suffix.lower()
    try:
        folder = path.resolve().parent
        if suffix not in suffixes:
            kinds = ", ".join(suffixes)
            raise FileError(f"{path} should end in one of these: {kinds}.")
        if path.is_dir():
            raise FileError(f"{path} is a folder; give the name of a file in it.")
        if not folder.is_dir():
            raise FileError(f"The folder {folder} does not exist.")
    except (OSError, ValueError, RuntimeError) as error:  # too long, null byte, loop
        raise FileError(f"{str(path)!r} cannot be written.") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"You have no permission to write to the folder {folder}.")
    return suffix
