"""Pictures: PNG, JPEG and other formats that Pillow reads without changing values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats.stack import Stack, check_series, slices, too_large
from napari_tinysam.files.quiet import MAX_PIXELS

if TYPE_CHECKING:
    from pathlib import Path

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG2000_MAGIC = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")

# Formats that Pillow reads exactly. It cuts 16 bits to 8 in others, such as SGI.
_TRUSTED = frozenset(("BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "PPM", "WEBP"))


def needs_codec(magic: bytes) -> bool:
    """Whether Pillow would cut 16 bits to 8: in PNG with colours or alpha, in JPEG 2000."""
    if magic.startswith(_JPEG2000_MAGIC):
        return True
    depth, colours = magic[24:25], magic[25:26]  # of the header of a PNG
    return magic.startswith(_PNG_MAGIC) and depth == b"\x10" and colours != b"\0"


def open_coded(path: Path, series: int) -> Stack:
    """Decode a PNG or JPEG 2000 with all its bits."""
    import imagecodecs

    check_series(path, series, 1)
    content = path.read_bytes()
    png = content.startswith(_PNG_MAGIC)
    if png and int.from_bytes(content[16:20]) * int.from_bytes(content[20:24]) > (
        MAX_PIXELS
    ):
        raise too_large(path)
    decode = imagecodecs.png_decode if png else imagecodecs.jpeg2k_decode
    array = np.asarray(decode(content))
    axes = "YX" if array.ndim == 2 else "YXS"
    return Stack(axes, array.shape, lambda index: array[slices(index)], path)


def open_picture(path: Path, series: int) -> Stack:
    """Read a picture with Pillow; of an animation, one frame."""
    import imageio.v3 as iio
    from PIL import Image

    try:
        with Image.open(path) as picture:
            kind, frames = str(picture.format), int(getattr(picture, "n_frames", 1))
            cut = kind == "PPM" and picture.mode == "RGB" and _deep_ppm(path)
        if kind not in _TRUSTED or cut:
            raise FileError(
                f"{path} is a {kind} picture, and reading it could change its values; save it as "
                "TIFF or PNG."
            )
        frames = (
            1 if kind == "MPO" else frames
        )  # the others are thumbnails and the like
        check_series(path, series, frames)
        mode = iio.immeta(path, index=series, plugin="pillow").get("mode")
        colours = "RGB" if mode in ("CMYK", "YCbCr", "LAB", "HSV") else None
        array = np.asarray(
            iio.imread(path, index=series, plugin="pillow", mode=colours)
        )
    except Image.DecompressionBombError as error:
        raise too_large(path) from error
    axes = "YX" if array.ndim == 2 else "YXS"
    return Stack(axes, array.shape, lambda index: array[slices(index)], path, frames)


def _deep_ppm(path: Path) -> bool:
    """Whether a portable pixmap says that its largest value is above 255."""
    with open(path, "rb") as file:
        lines = [line.split(b"#")[0] for line in file.read(4096).splitlines()]
    words = b" ".join(lines).split()
    return len(words) > 3 and words[3].isdigit() and int(words[3]) > 255
