"""Label files: which planes they hold, and one plane as numbers of objects.

Numbers are read as they are, also those of indexed colours. Labels saved as colours are understood
where each object can be told by its colour and the background is black or transparent.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.quiet_reading import read_quietly
from napari_tinysam.stack_files import FileError, Stack, open_stack
from tinysam_training.data.labelled_image import DataError
from tinysam_training.data.npz_files import npz_shape, read_npz

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG"

# More than this share of colours on a few pixels only: a picture with soft edges, not labels.
_RARE_SHARE = 0.25
_RARE_PIXELS = 4


def open_labels(path: Path, key: str | None = None) -> Stack:
    """Open labels: their axes end with YX, or YXS for colours; those before are planes.

    Parameters
    ----------
    path : Path
        An image file or an NPZ archive.
    key : str, optional
        Which array of the archive.

    Raises
    ------
    DataError
        If they cannot be read, or have other axes.
    """
    with _explained(path):
        stack = _npz(path, key) if key is not None else open_stack(path)
        _check_lossless(path)
    if -1 < stack.axes.find("S") < stack.axes.find("Y"):
        # Three or four planes, which some writers take for colours.
        stack = replace(stack, axes=stack.axes.replace("S", "Q"))
    axes = "".join(
        axis
        for axis, length in zip(stack.axes, stack.shape, strict=True)
        if axis != "C" or length > 1
    )
    if "Y" not in axes or "X" not in axes or 0 in stack.shape:
        raise DataError(f"{path} holds no labels: its shape is {stack.shape}.")
    if "C" in axes:
        raise DataError(
            f"{path} has channels; labels are a single number for each pixel. Save further "
            "labels of the same image as a file of their own, NAME_label2."
        )
    return stack


def plane_counts(stack: Stack) -> list[int]:
    """Return the lengths of the axes before Y and X, without those of one plane."""
    pairs = zip(stack.axes, stack.shape, strict=True)
    return [length for axis, length in pairs if axis not in "YXSC" and length > 1]


def read_label_plane(
    path: Path, key: str | None = None, plane: tuple[int, ...] = ()
) -> npt.NDArray[Any]:
    """Read one plane of labels.

    Parameters
    ----------
    path, key
        As of `open_labels`.
    plane : tuple of int
        An index for each of `plane_counts`.

    Returns
    -------
    ndarray, (H, W)
        Of the file's type; of int64 for colours.

    Raises
    ------
    DataError
        If it cannot be read, or is not labels.
    """
    with _explained(path):
        numbers = _png_numbers(path)
        if numbers is not None:
            return numbers
    stack = open_labels(path, key)
    left = list(plane)
    index: list[int | None] = []
    for axis, length in zip(stack.axes, stack.shape, strict=True):
        if axis in "YXS":
            index.append(None)
        else:
            index.append(left.pop(0) if axis != "C" and length > 1 else 0)
    with _explained(path):
        labels = stack.read(tuple(index))
    kept = [axis for axis in stack.axes if axis in "YXS"]
    labels = labels.transpose([kept.index(axis) for axis in "YXS" if axis in kept])
    if labels.ndim == 2:
        return labels
    if labels.shape[2] == 1:
        return labels[..., 0]
    return labels_of_colours(labels, str(path))


def labels_of_colours(
    colours: npt.NDArray[Any], name: str = "The file"
) -> npt.NDArray[Any]:
    """Tell objects by their colours.

    Parameters
    ----------
    colours : ndarray of uint8 or uint16, (H, W, 2…4)
        Gray or RGB, with alpha or without. Black or fully transparent pixels are background.
    name : str
        For messages.

    Returns
    -------
    ndarray of int, (H, W)
        Gray values, or one number for each colour.

    Raises
    ------
    DataError
        If colours do not tell objects apart without doubt.
    """
    count = colours.shape[2]
    if count not in (2, 3, 4) or colours.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{name} has {count} values of type {colours.dtype} for each pixel; labels are a "
            "single number for each pixel."
        )
    numbers = colours[..., 0].astype(np.int64)
    if count > 2:
        green, blue = (colours[..., i].astype(np.int64) for i in (1, 2))
        if (numbers != green).any() or (numbers != blue).any():
            numbers = numbers + (green << 16) + (blue << 32)
            _check_colours(numbers, name)
    if count in (2, 4):
        alpha = colours[..., -1]
        opaque = np.iinfo(alpha.dtype).max
        if not np.isin(alpha, (0, opaque)).all():
            raise DataError(
                f"{name} is half transparent in places, which labels are not."
            )
        numbers = np.where(alpha == 0, 0, numbers)
    if (numbers != 0).all():
        raise DataError(
            f"{name} has colours and no black: which of them is the background is not clear."
        )
    return numbers


def _check_colours(numbers: npt.NDArray[np.int64], name: str) -> None:
    _, counts = np.unique(numbers, return_counts=True)
    if np.count_nonzero(counts <= _RARE_PIXELS) > _RARE_SHARE * len(counts):
        raise DataError(
            f"{name} looks like a picture, not like labels: many of its {len(counts):,} colours "
            "are on a few pixels only. Save a number for each object in its place."
        )


def _check_lossless(path: Path) -> None:
    with open(path, "rb") as file:
        jpeg = file.read(3) == _JPEG_MAGIC
    if jpeg:
        raise DataError(
            f"{path} is a JPEG, whose compression changes the numbers of objects; save labels as "
            "PNG or TIFF."
        )


def _png_numbers(path: Path) -> npt.NDArray[Any] | None:
    """Read a PNG of one value a pixel; of one with a palette, the indices are the labels."""
    from PIL import Image

    with open(path, "rb") as file:
        if file.read(4) != _PNG_MAGIC:
            return None
    try:
        with read_quietly(), Image.open(path) as image:
            if image.mode in ("RGB", "RGBA", "LA"):
                return None
            return np.array(image)
    except Image.DecompressionBombError:
        return None


def _npz(path: Path, key: str) -> Stack:
    shape = npz_shape(path, key)
    axes = "Q" * (len(shape) - 2) + "YX"[max(0, 2 - len(shape)) :]
    if len(shape) > 2 and shape[-1] == 1:
        axes = "Q" * (len(shape) - 3) + "YXS"

    def read(index: tuple[int | None, ...]) -> npt.NDArray[Any]:
        return read_npz(path, key, tuple(i for i in index if i is not None))

    return Stack(axes, shape, read, path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises into a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except FileError as error:
        raise DataError(str(error)) from error
    except PermissionError as error:
        raise DataError(f"{path} may not be read by you.") from error
    except MemoryError as error:
        raise DataError(f"There is not enough memory to read {path}.") from error
    except Exception as error:  # readers fail in any way at all on a broken file
        raise DataError(
            f"{path} cannot be read: it is damaged or incomplete."
        ) from error
