"""Images at the size of the model's frame, as Segment Anything resizes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import numpy.typing as npt


def resized_size(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Height and width of an image whose longer side is resized to `size` pixels."""
    scale = size * 1.0 / max(shape)
    return max(1, int(shape[0] * scale + 0.5)), max(1, int(shape[1] * scale + 0.5))


def resize_longest_side(
    image: npt.NDArray[np.uint8], size: int
) -> npt.NDArray[np.uint8]:
    """Resize so that the longer side has `size` pixels.

    Equal to Segment Anything's ``ResizeLongestSide.apply_image`` (antialiased bilinear, sizes
    rounded half up), except that a side never becomes 0.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) or (H, W, 1) uint8.
    size : int
        In pixels.

    Returns
    -------
    numpy.ndarray
        (h, w, 3) or (h, w, 1) uint8, each channel by itself.
    """
    height, width, channels = image.shape
    new_height, new_width = resized_size((height, width), size)
    if (new_height, new_width) == (height, width):
        return image
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    resized = picture.resize((new_width, new_height), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(new_height, new_width, channels)
