"""Second, smaller looks at an image, for large objects.

A TinyViT encoder attends within windows of some 200 pixels and sees little of an object that fills
half of the frame; and microscopy has few such objects to learn from. In a smaller picture of the
same image they are as large as the others. So an image is embedded at half and at a quarter of the
frame's size too, which costs a quarter and a sixteenth as much again, prompts are decoded at each
size, and the answer that the model itself expects to be the best is kept.

numpy only; what is embedded and decoded, is `napari_tinysam.predictor`'s affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.dense_prompts import LOGIT
from napari_tinysam.masks import MASK_THRESHOLD

if TYPE_CHECKING:
    import numpy.typing as npt

#: How many times smaller the further looks are.
FACTORS = (2, 4)

#: A smaller look answers for objects of at least so many logits of its own (20 by 20, which are 160
#: pixels of the frame at half of its size): borders of smaller ones are too coarse there, whatever
#: the model expects of them. This and the next number were chosen on training images.
LEAST_AREA = 400

#: Where the object head sees an object of less than this share of `LEAST_AREA` under a click, the
#: smaller look is not even asked.
SURELY_SMALL = 0.5

#: By so much the largest look's score counts for more than others…
HEAD_START = 0.05

#: … unless their answer has at least so many logits: what is large is seen better in small.
LARGE_AREA = 4 * LEAST_AREA


def reduced(rgb: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Make an image smaller by a whole factor: means of squares of pixels.

    Parameters
    ----------
    rgb : numpy.ndarray
        (h, w, C) uint8. Sides that are no multiples of `factor` are continued at the end.
    factor : int
        Up to 16.

    Returns
    -------
    numpy.ndarray
        (⌈h / factor⌉, ⌈w / factor⌉, C) uint8, rounded; halves to the even number.
    """
    height, width, channels = rgb.shape
    rest = ((0, -height % factor), (0, -width % factor), (0, 0))
    whole = np.pad(rgb, rest, mode="edge") if any(map(sum, rest)) else rgb
    rows, columns = whole.shape[0] // factor, whole.shape[1] // factor
    # Whole rows are added, then columns: a tenth of the time of a mean over squares.
    sums = whole.reshape(rows, factor, -1).sum(axis=1, dtype=np.uint16)
    squares = sums.reshape(rows, columns, factor, channels)
    sums = squares[:, :, 0].copy()
    for column in range(1, factor):
        sums += squares[:, :, column]
    means = np.arange(255 * factor**2 + 1) / factor**2  # of every sum
    return np.asarray(np.rint(means).astype(np.uint8)[sums], np.uint8)


def to_reduced(xy: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    """Map pixels of the frame to pixels of the smaller one; the first pixel's centre is 0."""
    return np.asarray((xy + 0.5) / factor - 0.5, np.float32)


def reduced_logits(
    logits: npt.NDArray[np.float32], factor: int
) -> npt.NDArray[np.float32]:
    """Make logits smaller: (N, h, w) to the means of squares, (N, h / factor, w / factor)."""
    count, height, width = logits.shape
    squares = logits.reshape(count, height // factor, factor, width // factor, factor)
    return np.asarray(squares.mean(axis=(2, 4)), np.float32)


def enlarged_logits(
    logits: npt.NDArray[np.float32], factor: int
) -> npt.NDArray[np.float32]:
    """Make logits larger by a power of two, bilinearly, doubling by doubling.

    Parameters
    ----------
    logits : numpy.ndarray
        (..., h, w).
    factor : int
        1, 2, 4, …

    Returns
    -------
    numpy.ndarray
        (..., h · factor, w · factor) float32.
    """
    while factor > 1:
        logits = _doubled(_doubled(logits).swapaxes(-1, -2)).swapaxes(-1, -2)
        factor //= 2
    return np.ascontiguousarray(logits, np.float32)


def _doubled(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Double the last axis: each value becomes two, a quarter of the way to its neighbours."""
    before = np.concatenate([rows[..., :1], rows[..., :-1]], axis=-1)
    after = np.concatenate([rows[..., 1:], rows[..., -1:]], axis=-1)
    found = np.empty((*rows.shape[:-1], 2 * rows.shape[-1]), np.float32)
    found[..., 0::2] = 0.75 * rows + 0.25 * before
    found[..., 1::2] = 0.75 * rows + 0.25 * after
    return found


def large_boxes(boxes: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.bool_]:
    """Say which boxes are worth a smaller look.

    Parameters
    ----------
    boxes : numpy.ndarray
        (N, 4) x0, y0, x1, y1 in pixels of the frame.
    factor : int
        How many times smaller the look is.

    Returns
    -------
    numpy.ndarray
        (N,) bool: whether an object could fill `LEAST_AREA` there.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]) / (factor * LOGIT)
    return np.asarray(sides.prod(axis=1) >= LEAST_AREA, bool)


def small_objects(
    regions: npt.NDArray[np.int32],
    points: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
) -> npt.NDArray[np.bool_]:
    """Say which clicks lie on objects that are surely too small for a look.

    Parameters
    ----------
    regions : numpy.ndarray
        (h, w) the objects that the object head sees in this look; 0 where there is none.
    points : numpy.ndarray
        (N, P, 2) x and y in pixels of the look.
    labels : numpy.ndarray
        (N, P): 1 on the object, 0 beside it.

    Returns
    -------
    numpy.ndarray
        (N,) bool. Never where a click on the object lies in no region, since its size is not known.
    """
    last = np.array(regions.shape[::-1]) - 1
    cells = np.clip(np.floor((points + 0.5) / LOGIT), 0, last).astype(np.intp)
    under = np.where(labels == 1, regions[cells[..., 1], cells[..., 0]], 0)  # (N, P)
    known = ((labels != 1) | (under > 0)).all(axis=1) & (labels == 1).any(axis=1)
    areas = np.bincount(regions.ravel())
    areas[0] = 0
    under = np.sort(under, axis=1)
    under[:, 1:][under[:, 1:] == under[:, :-1]] = 0  # a region counts once
    small = areas[under].sum(axis=1) < SURELY_SMALL * LEAST_AREA
    return np.asarray(known & small, bool)


def worth(
    logits: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Say how good the answers of a smaller look are, to be compared with others' scores.

    Parameters
    ----------
    logits : numpy.ndarray
        (N, 3, h, w), as they came.
    scores : numpy.ndarray
        (N, 3) predicted IoU.

    Returns
    -------
    numpy.ndarray
        (N,) the best score, with `HEAD_START` where its mask has `LARGE_AREA`; minus infinity where
        that mask is too small for this look.
    """
    rows, best = np.arange(len(scores)), scores.argmax(axis=1)
    areas = np.count_nonzero(logits[rows, best] > MASK_THRESHOLD, axis=(1, 2))
    found = scores[rows, best] + np.where(areas >= LARGE_AREA, HEAD_START, 0.0)
    return np.asarray(np.where(areas >= LEAST_AREA, found, -np.inf), np.float32)
