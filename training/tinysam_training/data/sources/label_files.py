"""Reads label files: their planes, and one plane as numbers of objects.

Labels are a number for each pixel. Other content is read as labels only if that is certain:

- In pictures with a palette (PNG, GIF, BMP) the indices are the labels, as PASCAL VOC and most
  annotation tools write them, even if two indices have the same colour. Programs that sort palettes
  by frequency may give the background another index than 0. So a file is refused if it uses 0 for a
  colour other than black, and another index for black. Index 255 of VOC's own palette is its "void"
  along borders, not an object. The palette of a TIFF is for display only.
- If all values of each pixel are equal, one is read. Fully transparent pixels of a picture are
  background.
- Colours are objects only with ``colours: objects`` in ``annotation.yaml``: a colour may also be a
  class, or mark several separate objects. Even then there must be a background, black or
  transparent.
- Channels, half transparent pixels, fractions, and lossy compression are refused.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError, FileError
from napari_tinysam.files.formats import open_stack
from napari_tinysam.files.formats.stack import Index, Stack
from napari_tinysam.files.quiet import read_quietly
from tinysam_training.data.sources.npz_files import npz_shape, read_npz

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG2000_MAGIC = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_TIFF_MAGIC = (b"II", b"MM")

# Pictures that may have a palette.
_PALETTE_MAGIC = (b"\x89PNG", b"GIF8", b"BM")

# Compressions of TIFF that change values, or may.
_LOSSY = ("JPEG", "JPEG2000", "JP2", "JPEGXL", "JPEGXR", "JPIP", "WEBP", "LERC")

# The index of "void" in PASCAL VOC's palette.
_VOID = 255

# If more than this share of colours is on a few pixels only: a picture with soft edges, not labels.
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
        # Three or four planes, which some writers mark as colours.
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
    path: Path,
    key: str | None = None,
    plane: tuple[int, ...] = (),
    *,
    colours: bool = False,
) -> npt.NDArray[Any]:
    """Read one plane of labels.

    Parameters
    ----------
    path, key
        As of `open_labels`.
    plane : tuple of int
        An index for each of `plane_counts`.
    colours : bool
        Whether each colour is known to be an object.

    Returns
    -------
    ndarray, (H, W)
        Of the file's dtype; int64 for colours.

    Raises
    ------
    DataError
        If it cannot be read, or is not labels.
    """
    with _explained(path):
        numbers = _palette_numbers(path) if key is None else None
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
    if not _holds_colours(path) and not (colours and labels.shape[2] in (3, 4)):
        return _equal_channels(labels, str(path))
    return labels_of_colours(labels, str(path), objects=colours)


def labels_of_colours(
    colours: npt.NDArray[Any], name: str = "The file", *, objects: bool = False
) -> npt.NDArray[Any]:
    """Read labels of a picture with colours, or with gray values as colours.

    Parameters
    ----------
    colours : ndarray, (H, W, 1…4)
        Gray or RGB, with alpha (2 or 4 values) or without. Fully transparent pixels are background.
    name : str
        For messages.
    objects : bool
        Whether each colour is known to be an object; black is background then.

    Returns
    -------
    ndarray, (H, W)
        Gray values, or one number of int64 for each colour.

    Raises
    ------
    DataError
        If the meaning of the colours is not certain.
    """
    count = colours.shape[2]
    if count not in (1, 2, 3, 4):
        raise _channels_error(name, count)
    shown = colours if count in (1, 3) else colours[..., :-1]
    gray = bool((shown == shown[..., :1]).all())
    numbers = shown[..., 0] if gray else _numbered_colours(shown, name, objects)
    if count in (2, 4):
        alpha = colours[..., -1]
        opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
        if not np.isin(alpha, (0, opaque)).all():
            raise DataError(
                f"{name} is half transparent in places; labels must not be."
            )
        numbers = np.where(alpha == 0, 0, numbers)
    if not gray and (numbers != 0).all():
        raise DataError(
            f"{name} has colours but no black, so the background is not clear."
        )
    return numbers


def _numbered_colours(
    rgb: npt.NDArray[Any], name: str, objects: bool
) -> npt.NDArray[np.int64]:
    """One number for each colour, 0 for black."""
    if rgb.dtype not in (np.uint8, np.uint16):
        raise _channels_error(name, rgb.shape[2])
    red, green, blue = (rgb[..., i].astype(np.int64) for i in range(3))
    numbers: npt.NDArray[np.int64] = red + (green << 16) + (blue << 32)
    _check_colours(numbers, name)
    if not objects:
        raise DataError(
            f"{name} has colours, which may be objects or kinds of objects. Save a number for each "
            "object in their place; or, if each object has a colour of its own and the background "
            "is black, write 'colours: objects' into annotation.yaml beside it."
        )
    return numbers


def _equal_channels(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """(H, W) of (H, W, C) that are the same in all channels; others are refused."""
    first: npt.NDArray[Any] = values[..., 0]
    if not (values == values[..., :1]).all():
        raise _channels_error(name, values.shape[2])
    return first


def _channels_error(name: str, count: int) -> DataError:
    return DataError(
        f"{name} has {count} channels, {count} different values for each pixel; labels are a "
        "single number for each pixel. Save further labels of the same image as a file of their "
        "own, NAME_label2."
    )


def _check_colours(numbers: npt.NDArray[np.int64], name: str) -> None:
    _, counts = np.unique(numbers, return_counts=True)
    if np.count_nonzero(counts <= _RARE_PIXELS) > _RARE_SHARE * len(counts):
        raise DataError(
            f"{name} looks like a picture, not like labels: many of its {len(counts):,} colours "
            "are on a few pixels only. Save a number for each object in its place."
        )


def _check_lossless(path: Path) -> None:
    """Refuse lossy compression: it changes the numbers of objects along their borders."""
    with open(path, "rb") as file:
        start = file.read(4096)
    kind = None
    if start.startswith(_JPEG_MAGIC):
        kind = "JPEG"
    elif start.startswith(_JPEG2000_MAGIC):
        kind = "JPEG 2000"
    elif start[:4] == b"RIFF" and start[8:12] == b"WEBP" and b"VP8L" not in start:
        kind = "WebP with loss"
    elif start.startswith(_TIFF_MAGIC):
        kind = _lossy_compression(path)
    if kind is not None:
        raise DataError(
            f"{path} is a {kind}, whose compression changes labels; save them as PNG or as "
            "lossless TIFF."
        )


def _lossy_compression(path: Path) -> str | None:
    import tifffile

    with read_quietly(), tifffile.TiffFile(path) as tiff:
        compression = tiff.pages.first.compression
    name = getattr(compression, "name", str(compression))
    return f"TIFF with {name}" if any(word in name for word in _LOSSY) else None


def _holds_colours(path: Path) -> bool:
    """Whether several values a pixel are colours: a picture, or a TIFF that says so."""
    with open(path, "rb") as file:
        start = file.read(6)
    if not start.startswith(_TIFF_MAGIC):
        return not start.startswith((b"\x93NUMPY", b"PK"))
    import tifffile

    with read_quietly(), tifffile.TiffFile(path) as tiff:
        return getattr(tiff.pages.first.photometric, "name", "") == "RGB"


def _palette_numbers(path: Path) -> npt.NDArray[Any] | None:
    """Read the indices of a picture with a palette; None of one without."""
    from PIL import Image

    with open(path, "rb") as file:
        if not file.read(4).startswith(_PALETTE_MAGIC):
            return None
    try:
        with read_quietly(), Image.open(path) as image:
            if image.mode != "P":
                return None
            numbers = np.array(image)
            colours = np.array(image.getpalette("RGBA"), np.uint8).reshape(-1, 4)
            clear = image.info.get("transparency")
    except Image.DecompressionBombError:
        return None
    if isinstance(clear, bytes):
        colours[: len(clear), 3] = np.frombuffer(clear, np.uint8)[: len(colours)]
    elif isinstance(clear, int) and clear < len(colours):
        colours[clear, 3] = 0
    # Some programs show indices beyond the palette as black; as labels they are kept.
    used = [int(n) for n in np.unique(numbers) if n < len(colours)]
    empty = (colours[:, :3] == 0).all(axis=1) | (colours[:, 3] == 0)
    other = [n for n in used if n and empty[n]]
    if 0 in used and other and not empty[0]:
        raise DataError(
            f"{path} has a palette in which {other[0]} is black or transparent and 0 is not, so "
            "the background is not clear. Save it without a palette."
        )
    if len(colours) > _VOID and (colours[:, :3] == _voc_palette()).all():
        numbers = np.where(numbers == _VOID, 0, numbers)
    return numbers


def _voc_palette() -> npt.NDArray[np.uint8]:
    """(256, 3) colours of PASCAL VOC: the bits of each index, three at a time, from the highest."""
    index = np.arange(256)
    palette = np.zeros((256, 3), int)
    for place in range(8):
        for channel in range(3):
            palette[:, channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return palette.astype(np.uint8)


def _npz(path: Path, key: str) -> Stack:
    shape = npz_shape(path, key)
    axes = "Q" * (len(shape) - 2) + "YX"[max(0, 2 - len(shape)) :]
    if len(shape) > 2 and shape[-1] == 1:
        axes = "Q" * (len(shape) - 3) + "YXS"

    def read(index: Index) -> npt.NDArray[Any]:
        return read_npz(path, key, tuple(i for i in index if isinstance(i, int)))

    return Stack(axes, shape, read, path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn any error of a reader into a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except FileError as error:
        raise DataError(str(error)) from error
    except PermissionError as error:
        raise DataError(f"You have no permission to read {path}.") from error
    except MemoryError as error:
        raise DataError(f"There is not enough memory to read {path}.") from error
    except Exception as error:  # readers can raise any error on a broken file
        raise DataError(
            f"{path} cannot be read: it is damaged or incomplete."
        ) from error
