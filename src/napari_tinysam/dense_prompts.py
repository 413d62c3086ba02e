"""Dense prompts: points, boxes and earlier answers drawn as one map.

Segment Anything tells its decoder about points and boxes by tokens alone, and the decoder must
learn from millions of images which place of the image a token means. Its mask prompt, for which
official code uses the logits of an earlier answer, is added to the image at the place itself.
A model with `SegmentAnything.dense_prompts` gets every prompt both ways: as tokens, and drawn into
the mask prompt. A click is drawn as the object that the object head sees there, if it sees one; a
box as the object that fills it most.
The drawing is also the first guess, to which the decoder's logits are added: the decoder corrects
it instead of searching for the object.

The same code draws numpy arrays for inference, and torch tensors for training and in exported
graphs. A graph has no loop over points and no NaN: it calls `draw`, where flags say which objects
have a box and a mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.frame import LOGIT

if TYPE_CHECKING:
    from types import ModuleType

    import numpy.typing as npt

#: Logit of a place that is surely inside (or, negative, outside), and of a clicked place.
SURE, CLICKED = 8.0, 16.0

#: Share of a drawn prompt in the answer; more would be harder to correct.
GUESS = 0.5

#: Around a click on no object the logit falls with the distance, to 0 at this many pixels of the
#: frame. Nuclei have about this radius when a whole field of them is in the frame.
REACH = 96.0

#: A click marks all places within this many pixels of the frame.
MARKED = 8.0

#: The logit rises from the sides of a box to its inside within this many pixels of the frame.
EDGE = 16.0

#: A box is drawn as the object in it that fills more than this share of it.
FILLED = 0.25

#: Farther than any place, in pixels. Infinity would become NaN in the arithmetic of some runtimes.
_FAR = 1e6


def draw_prompts(
    xp: ModuleType,
    shape: tuple[int, int],
    *,
    points: Any = None,
    labels: Any = None,
    boxes: Any = None,
    masks: Any = None,
    objects: Any = None,
) -> Any:
    """Draw the prompts of N objects.

    An earlier answer comes first, else the box, else the clicks, else nothing (0). Every click
    marks its place on top. A box is drawn as the object with most logits in it, cut by the box, if
    that fills a good part of it; else as its inside. Clicks are drawn as the objects under the
    positive ones, without the places nearer to a negative click on the same object; and as a cone
    around positive clicks on no object, which ends where a negative click is nearer.

    Parameters
    ----------
    xp : module
        `numpy` or `torch`, whichever the arrays are of.
    shape : (int, int)
        Height and width of the map, in logits of 4 pixels of the model's frame.
    points : array, optional
        (N, P, 2) x and y in pixels; the centre of the first pixel is (0, 0).
    labels : array, optional
        (N, P): 1 on the object, 0 outside it, −1 not a point.
    boxes : array, optional
        (N, 4) x0, y0, x1, y1 in pixels; NaN in rows without a box.
    masks : array, optional
        (N, h, w) logits of an earlier answer; NaN in rows without one.
    objects : array, optional
        (N, h, w) int, for each row the objects that the object head sees; 0 where there is none.

    Returns
    -------
    array
        (N, h, w) float32 logits.
    """
    if xp is np and boxes is None and masks is None and _lone_clicks(points, labels):
        return _draw_lone_clicks(shape, points[:, 0], objects)
    has_box = has_mask = None
    if boxes is not None:
        has_box = ~xp.isnan(boxes).any(1)
        boxes = xp.where(has_box[:, None], boxes, 0.0)
    if masks is not None:
        has_mask = ~xp.isnan(masks).any(2).any(1)
    return draw(
        xp, shape, points, labels, boxes, has_box, masks, has_mask, objects=objects
    )


def draw(
    xp: ModuleType,
    shape: tuple[int, int],
    points: Any,
    labels: Any,
    boxes: Any,
    has_box: Any,
    masks: Any,
    has_mask: Any,
    *,
    objects: Any = None,
) -> Any:
    """Draw the prompts of N objects; flags say which of them have a box and a mask.

    Parameters
    ----------
    xp, shape, points, labels, boxes, masks
        As for `draw_prompts`, without NaN; other labels than 0 and 1 are no points.
    has_box, has_mask : array or None
        (N,) bool.
    objects : array, optional
        (N, h, w), or (1, h, w) for all rows.
    """
    first = next(a for a in (points, boxes, masks) if a is not None)
    ys, xs = _centres(xp, shape, first.device)
    clicked = points is not None and points.shape[1] > 0
    if clicked:
        drawn, on, off = _clicks(xp, ys, xs, points, labels, objects)
    else:
        drawn = xp.zeros((len(first), *shape), dtype=xp.float32, device=first.device)
    if boxes is not None:
        inside = _depth(xp, ys, xs, boxes)
        if objects is not None:
            inside = _object_in(xp, inside, objects)
        drawn = xp.where(has_box[:, None, None], inside, drawn)
    if masks is not None:
        drawn = xp.where(has_mask[:, None, None], masks, drawn)
    if clicked:
        marks = xp.where(on <= off, CLICKED, -CLICKED)
        drawn = xp.where(xp.minimum(on, off) < MARKED, marks, drawn)
    return _cast(xp, drawn, xp.float32)


def draw_boxes(xp: ModuleType, shape: tuple[int, int], boxes: Any) -> Any:
    """Draw the boxes of N objects as boxes, whatever they contain.

    Parameters
    ----------
    xp : module
        `numpy` or `torch`.
    shape : (int, int)
        As for `draw_prompts`.
    boxes : array
        (N, 4) x0, y0, x1, y1 in pixels; NaN in rows without a box.

    Returns
    -------
    array
        (N, h, w) float32: 0 at the sides of the box, rising to `SURE` inside and falling to
        `-SURE` outside; 0 throughout in rows without a box.
    """
    inside = _depth(xp, *_centres(xp, shape, boxes.device), boxes)
    return _cast(xp, xp.where(xp.isnan(inside), 0.0, inside), xp.float32)


def first_guess(xp: ModuleType, drawn: Any) -> Any:
    """Logits that are added to each of the decoder's three masks.

    Parameters
    ----------
    xp : module
        `numpy` or `torch`.
    drawn : array
        (N, h, w), from `draw_prompts`.

    Returns
    -------
    array
        (N, 1, h, w), from `−GUESS · SURE` to `GUESS · SURE`.
    """
    return GUESS * xp.clip(drawn, -SURE, SURE)[:, None]


def _lone_clicks(points: Any, labels: Any) -> bool:
    """Whether every object has one click and nothing else, as under the cursor and in a grid."""
    return points is not None and points.shape[1] == 1 and bool((labels == 1).all())


def _draw_lone_clicks(
    shape: tuple[int, int],
    points: npt.NDArray[Any],
    objects: npt.NDArray[np.integer] | None,
) -> npt.NDArray[np.float32]:
    """Draw one positive click for each object, (N, 2), as `draw` does in ten times the time.

    Only the object under a click reaches further than the cone around it.
    """
    drawn = np.full((len(points), *shape), -SURE, np.float32)
    held = np.zeros(len(points), bool)
    if objects is not None:
        column = _index(np, points[:, 0], shape[1])
        row = _index(np, points[:, 1], shape[0])
        for number, (plane, regions) in enumerate(zip(drawn, objects, strict=True)):
            under = regions[row[number], column[number]]
            held[number] = under > 0
            if held[number]:
                plane[regions == under] = SURE
    for plane, (x, y), on_object in zip(drawn, points, held, strict=True):
        reach = MARKED if on_object else 2 * REACH
        rows, columns = (
            slice(
                max(0, int((at - reach) // LOGIT)),
                max(0, int((at + reach) // LOGIT + 2)),
            )
            for at in (y, x)
        )
        window = plane[rows, columns]
        ys, xs = (
            np.arange(each.start, each.start + length, dtype=np.float32)
            for each, length in zip((rows, columns), window.shape, strict=True)
        )
        ys, xs = LOGIT * ys + (LOGIT - 1) / 2, LOGIT * xs + (LOGIT - 1) / 2
        away = np.sqrt((xs[None] - x) ** 2 + (ys[:, None] - y) ** 2)
        if not on_object:
            window[...] = np.clip(SURE * (1 - away / REACH), -SURE, SURE)
        window[away < MARKED] = CLICKED
    return drawn


def _centres(xp: ModuleType, shape: tuple[int, int], device: Any) -> tuple[Any, Any]:
    """(h, 1) y and (1, w) x of the centres of logits, in pixels."""
    ys, xs = (
        LOGIT * xp.arange(length, device=device, dtype=xp.float32) + (LOGIT - 1) / 2
        for length in shape
    )
    return ys[:, None], xs[None]


def _depth(xp: ModuleType, ys: Any, xs: Any, boxes: Any) -> Any:
    """(N, h, w) logits that rise from the sides of boxes to their insides."""
    x0, y0, x1, y1 = (boxes[:, i, None, None] for i in range(4))
    depth = xp.minimum(xp.minimum(xs - x0, x1 - xs), xp.minimum(ys - y0, y1 - ys))
    return xp.clip(depth * (SURE / EDGE), -SURE, SURE)


def _object_in(xp: ModuleType, inside: Any, objects: Any) -> Any:
    """Draw the object with most logits in a box, cut by the box, if it fills enough of it.

    `inside` is (N, h, w), of `_depth`, and stays where there is no such object.
    """
    # A logit that a side cuts through counts: the side is at most half a logit from its centre.
    within = inside >= -SURE * (LOGIT / 2) / EDGE
    counts = _counts(xp, xp.where(within, objects, 0))
    enough = xp.amax(counts, 1) > FILLED * _cast(xp, within, xp.float32).sum((1, 2))
    held = within & (objects == counts.argmax(1)[:, None, None])
    return xp.where(enough[:, None, None], xp.where(held, SURE, -SURE), inside)


def _counts(xp: ModuleType, numbers: Any) -> Any:
    """(N, h, w) numbers of objects to (N, n): how many logits each has, none for number 0."""
    if xp is np:
        count = len(numbers)
        most = int(numbers.max(initial=0)) + 1
        placed = numbers + most * np.arange(count)[:, None, None]
        found = np.bincount(placed.ravel(), minlength=count * most)
        found = found.reshape(count, most)
        found[:, 0] = 0
        return found
    # Graphs have no `bincount`. There are no more objects than logits.
    flat = numbers.flatten(1)
    zeros = xp.zeros_like(flat, dtype=xp.float32)
    return zeros.scatter_add(
        1, _cast(xp, flat, xp.int64), _cast(xp, flat > 0, xp.float32)
    )


def _clicks(
    xp: ModuleType, ys: Any, xs: Any, points: Any, labels: Any, objects: Any
) -> tuple[Any, Any, Any]:
    """Map of the clicks; distances to the nearest positive and negative one. All (N, h, w)."""
    x, y = points[..., 0, None, None], points[..., 1, None, None]
    away = xp.sqrt((xs - x) ** 2 + (ys - y) ** 2)  # (N, P, h, w)
    positive, negative = ((labels == i)[..., None, None] for i in (1, 0))
    on, off = _nearest(xp, away, positive), _nearest(xp, away, negative)
    lone, held = on, None
    if objects is not None:
        column = _index(xp, points[..., 0], objects.shape[2])
        row = _index(xp, points[..., 1], objects.shape[1])
        which = xp.arange(len(objects), device=objects.device)[:, None]
        under = objects[which, row, column][..., None, None]
        same = (objects[:, None] == under) & (under > 0)  # (N, P, h, w)
        refused = (same & negative).any(1)
        held = (same & positive).any(1) & (~refused | (on <= off))
        lone = _nearest(xp, away, positive & (under == 0))
    cone = xp.clip(SURE * (1 - lone / REACH), -SURE, SURE)
    cone = xp.where(off < lone, xp.clip(cone, -SURE, 0), cone)
    if held is not None:
        cone = xp.where(held, SURE, cone)
    return xp.where(positive.any(1), cone, 0.0), on, off


def _nearest(xp: ModuleType, away: Any, counted: Any) -> Any:
    """(N, P, h, w) distances to those of the nearest point that counts."""
    return xp.amin(xp.where(counted, away, _FAR), 1)


def _index(xp: ModuleType, pixels: Any, length: int) -> Any:
    """Index of the logits in which pixels lie."""
    place = _cast(xp, xp.floor((pixels + 0.5) / LOGIT), xp.int64)
    return xp.clip(place, 0, length - 1)


def _cast(xp: ModuleType, values: Any, dtype: Any) -> Any:
    return np.asarray(values, dtype) if xp is np else values.to(dtype)
