"""How well masks fill the box that was drawn around an object.

The decoder scores its three masks by what it sees of the object; that a box ends where the object
ends, it hardly uses. A mask that fills only a part of its box (the nucleus of a cell), or reaches
far out of it, is believed less. People draw boxes carelessly: what a careless box leaves is enough.
numpy only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.inference.windows import boxes_of_masks

if TYPE_CHECKING:
    import numpy.typing as npt

#: IoU of a mask's own box with the drawn one that is as good as 1, and the share of a score that
#: a mask without any overlap loses. Measured (training/papers/diary.md, "Masks that fill their
#: box").
ENOUGH, LOSS = 0.85, 0.4


def box_fit(
    logits: npt.NDArray[np.float32], box: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Return what the scores of masks are multiplied by.

    Parameters
    ----------
    logits : numpy.ndarray
        (3, h, w), masks of one object.
    box : numpy.ndarray
        (4,) x0, y0, x1, y1 in pixels of the frame, from the first logit's corner.

    Returns
    -------
    numpy.ndarray
        (3,) float32, from 1 - `LOSS` to 1.
    """
    found = boxes_of_masks(logits)
    low = np.maximum(found[:, :2], box[:2])
    high = np.minimum(found[:, 2:], box[2:])
    shared = np.clip(high - low + 1, 0, None).prod(1)
    areas = [(each[..., 2:] - each[..., :2] + 1).prod(-1) for each in (found, box)]
    iou = np.nan_to_num(shared / (areas[0] + areas[1] - shared))  # of an empty mask
    fit = np.minimum(iou / ENOUGH, 1)
    return np.asarray(1 - LOSS * (1 - fit), np.float32)
