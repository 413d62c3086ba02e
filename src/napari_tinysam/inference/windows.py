"""Windows of the frame in which objects are decoded: as much of it as an object needs.

The decoder of a model with dense prompts is trained on windows of 256 and 512 pixels of the frame,
so it needs no more of an image than the surroundings of an object. Before it has answered, prompts
and object map tell where the object is; if the answer reaches the window's border, a larger window
is asked. numpy only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.dense_prompts import REACH
from napari_tinysam.frame import CELL, FRAME, LOGIT
from napari_tinysam.inference.looks import Look

if TYPE_CHECKING:
    import numpy.typing as npt

#: Sides of windows in pixels of the frame, ascending; the last one is the whole frame.
SIDES = (256, 512, FRAME)

#: Room around an object on all sides, as a share of its longest side, and at least that in pixels.
_ROOM, _LEAST_ROOM = 0.25, 32.0

#: Room around a click, in pixels.
_CLICK_ROOM = 24.0

#: An answer reaches a border if it is within this many pixels of it.
_RIM = 8

_FRAME = (FRAME, FRAME)


def boxes_of_regions(regions: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Boxes of the objects that the object head sees.

    Parameters
    ----------
    regions : numpy.ndarray
        (256, 256), objects 1…K, with gaps in their numbers; 0 where there is none.

    Returns
    -------
    numpy.ndarray
        (K + 1, 4) x0, y0, x1, y1 in pixels of the frame, the last pixels inclusive; NaN for numbers
        without an object.
    """
    from scipy.ndimage import find_objects

    found = find_objects(regions)
    boxes = np.full((len(found) + 1, 4), np.nan, np.float32)
    for number, place in enumerate(found, start=1):
        if place is not None:
            rows, columns = place
            boxes[number] = columns.start, rows.start, columns.stop, rows.stop
    boxes *= LOGIT
    boxes[:, 2:] -= 1
    return boxes


def wanted_boxes(
    points: npt.NDArray[np.float32] | None,
    labels: npt.NDArray[np.int32] | None,
    boxes: npt.NDArray[np.float32] | None,
    masks: npt.NDArray[np.float32] | None,
    regions: npt.NDArray[np.integer] | None,
    region_boxes: npt.NDArray[np.float32] | None,
) -> npt.NDArray[np.float32]:
    """Return what the window of each object must hold: where the object seems to be, with room.

    Parameters
    ----------
    points, labels, boxes, masks
        As for `Runtime.decode`, N objects.
    regions : numpy.ndarray or None
        (256, 256), objects that the object head sees.
    region_boxes : numpy.ndarray or None
        Of `boxes_of_regions`.

    Returns
    -------
    numpy.ndarray
        (N, 4) x0, y0, x1, y1 in pixels of the frame, which they may exceed; infinite for an object
        of which nothing is known.
    """
    count = next(len(a) for a in (points, boxes, masks) if a is not None)
    found = np.tile(
        np.array([np.inf, np.inf, -np.inf, -np.inf], np.float32), (count, 1)
    )
    if boxes is not None:
        found = _union(found, with_room(boxes))
    if masks is not None:
        found = _union(found, with_room(boxes_of_masks(masks)))
    if points is None or labels is None:
        return found
    reach = np.full(points.shape[:2], _CLICK_ROOM, np.float32)
    if regions is not None and region_boxes is not None:
        last = len(regions) - 1
        place = np.floor((points + 0.5) / LOGIT).astype(np.intp)
        column, row = np.clip(place, 0, last).transpose(2, 0, 1)
        under = np.where(labels == 1, regions[row, column], 0)
    else:
        under = np.zeros(labels.shape, np.intp)
    if boxes is None and masks is None:
        # A click on no object is drawn as far as this.
        reach[(labels == 1) & (under == 0)] = REACH
        if region_boxes is not None:
            for column in under.T:
                found = _union(found, with_room(region_boxes[column]))
    around = np.concatenate([points - reach[..., None], points + reach[..., None]], -1)
    for each in around.transpose(1, 0, 2):
        found = _union(found, each)
    return found


def boxes_of_masks(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, h, w) logits over the frame to (N, 4) boxes in its pixels; NaN for empty masks."""
    above = np.asarray(logits > 0)
    found = np.full((len(logits), 4), np.nan, np.float32)
    for first, axis in ((0, 1), (1, 2)):  # x, then y
        there = np.asarray(above.any(axis=axis))
        some = there.any(axis=1)
        found[some, first] = LOGIT * there[some].argmax(axis=1)
        last = there.shape[1] - there[some, ::-1].argmax(axis=1)
        found[some, first + 2] = LOGIT * last - 1
    return found


def with_room(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, 4) boxes, grown by the room that an object needs around it."""
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    room = np.maximum(_ROOM * sides, _LEAST_ROOM)[:, np.newaxis]
    return np.concatenate([boxes[:, :2] - room, boxes[:, 2:] + room], axis=1)


def window_around(box: npt.NDArray[np.floating], least: int = SIDES[0]) -> Look:
    """Return the smallest window around a box.

    Parameters
    ----------
    box : numpy.ndarray
        (4,) x0, y0, x1, y1 in pixels of the frame, which it may exceed; of `wanted_boxes`.
    least : int
        Of `SIDES`, the smallest to use.

    Returns
    -------
    Look
        Of the frame, in its pixels: a square of one of `SIDES` in the frame, its corner on a cell
        of the embedding.
    """
    if not np.isfinite(box).all():
        return Look.whole(_FRAME)
    x, y = (box[:2] + box[2:] + 1) / 2
    for side in SIDES:
        if side < least:
            continue
        y0, x0 = (_first(float(centre), side) for centre in (y, x))
        found = Look(y0, x0, y0 + side, x0 + side)
        if found.clearance(box, _FRAME) >= 0:
            return found
    return Look.whole(_FRAME)


def in_logits(window: Look) -> tuple[slice, slice, slice]:
    """Slices of a window in (M, 256, 256) logits of the frame."""
    rows, columns = (
        slice(each.start // LOGIT, each.stop // LOGIT)
        for each in (window.rows, window.columns)
    )
    return slice(None), rows, columns


def reaches_border(logits: npt.NDArray[np.float32], window: Look) -> bool:
    """Whether masks reach a side of their window that is not a side of the frame.

    Parameters
    ----------
    logits : numpy.ndarray
        (…, h, w), of the window.
    window : Look
        Of the frame.
    """
    rim = _RIM // LOGIT
    sides = [
        (window.y0 > 0, logits[..., :rim, :]),
        (window.x0 > 0, logits[..., :rim]),
        (window.y1 < FRAME, logits[..., -rim:, :]),
        (window.x1 < FRAME, logits[..., -rim:]),
    ]
    return any(bool((edge > 0).any()) for cut, edge in sides if cut)


def _first(centre: float, side: int) -> int:
    """First pixel of a window along one side of the frame, as near to the middle as can be."""
    first = CELL * round((centre - side / 2) / CELL)
    return min(max(first, 0), FRAME - side)


def _union(a: Any, b: Any) -> npt.NDArray[np.float32]:
    """(N, 4) boxes that hold both; NaN counts as no box."""
    low, high = np.fmin(a[:, :2], b[:, :2]), np.fmax(a[:, 2:], b[:, 2:])
    return np.concatenate([low, high], axis=1, dtype=np.float32)
