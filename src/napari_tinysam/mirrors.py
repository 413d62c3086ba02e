"""Mirrored images: what an object head says of them, turned back, is another opinion of the image.

Their mean is steadier than either: errors that depend on the direction in which an object lies
cancel out. Each costs as much as encoding the image. numpy only; what is encoded, is
`napari_tinysam.predictor`'s affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.dense_prompts import LOGIT
from napari_tinysam.scales import FACTORS

if TYPE_CHECKING:
    import numpy.typing as npt

#: Which axes, of height and width, are turned in the first, second and third mirror image.
AXES: tuple[tuple[int, ...], ...] = ((1,), (0,), (0, 1))

#: Pixels of the frame that every look's maps divide into whole values.
_CELL = LOGIT * max(FACTORS)


def mirrored(
    rgb: npt.NDArray[np.uint8], axes: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """Mirror an image in the model's frame, so that maps of it can be turned back exactly.

    Parameters
    ----------
    rgb : numpy.ndarray
        (h, w, 3) uint8. It is continued at its end to multiples of 16 pixels, which come first in
        the mirror image.
    axes : tuple of int
        0 for upside down, 1 for left to right.

    Returns
    -------
    numpy.ndarray
        (h', w', 3) uint8.
    """
    height, width = rgb.shape[:2]
    rest = ((0, -height % _CELL), (0, -width % _CELL), (0, 0))
    return np.ascontiguousarray(np.flip(np.pad(rgb, rest, mode="edge"), axes))


def turned_back(
    maps: npt.NDArray[np.float32], size: tuple[int, int], axes: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Turn the maps of a mirror image to the image's own direction.

    Parameters
    ----------
    maps : numpy.ndarray
        (3, m, m) of a look at what `mirrored` made.
    size : (int, int)
        Height and width of that, in values of these maps.
    axes : tuple of int
        As there.

    Returns
    -------
    numpy.ndarray
        (3, m, m); 0 beyond the image.
    """
    found = np.zeros_like(maps)
    height, width = size
    along = tuple(axis + 1 for axis in axes)
    found[:, :height, :width] = np.flip(maps[:, :height, :width], along)
    return found


def mean_maps(
    opinions: Sequence[Sequence[npt.NDArray[np.float32]]],
) -> list[npt.NDArray[np.float32]]:
    """Mean of what several images say, look by look.

    Parameters
    ----------
    opinions : sequence of sequences of numpy.ndarray
        Of the image and of its mirror images, turned back; all with the same looks.
    """
    return [
        np.mean(looks, axis=0, dtype=np.float32)
        for looks in zip(*opinions, strict=True)
    ]
