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
    boxes: npt.NDArray[np.float32], margin: float, shape: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Widen boxes by a share of their sides on every side, within the image."""
    wider = margin * (boxes[:, 2:] - boxes[:, :2] + 1)
    last = np.array([shape[1] - 1, shape[0] - 1], np.float32)
    corners = [
        np.maximum(boxes[:, :2] - wider, 0),
        np.minimum(boxes[:, 2:] + wider, last),
    ]
    return np.concatenate(corners, axis=1).astype(np.float32)
