"""Boxes of true objects, as careful and careless users draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.masks import BoxedMask


def tight_boxes(truth: Sequence[BoxedMask]) -> npt.NDArray[np.float32]:
    """(N, 4) float32 (x0, y0, x1, y1): centres of the first and the last pixels of objects."""
    return np.array([mask.box for mask in truth], np.float32)


def loose_boxes(
    boxes: npt.NDArray[np.float32],
    share: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Move each side of boxes, out or in, by up to a share of the box's extent, within the image.

    Parameters
    ----------
    boxes : ndarray of float32, (N, 4)
        x0, y0, x1, y1 of the outermost pixels.
    share : float
        Largest error, uniformly distributed.
    shape : (int, int)
        Height and width of the image.
    rng : numpy.random.Generator
    """
    extents = np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)
    moved = boxes + rng.uniform(-share, share, boxes.shape) * extents
    height, width = shape
    return np.clip(moved, 0, [width - 1, height - 1] * 2).astype(np.float32)
