"""Dense prompts: points, boxes and earlier answers drawn as one map.

Segment Anything tells its decoder about points and boxes by tokens alone, and the decoder must
learn from millions of images which place of the image a token speaks of. Its mask prompt, which
official code fills with the logits of an earlier answer, is added to the image at the place itself.
A model with `SegmentAnything.dense_prompts` gets every prompt both ways: as tokens, and drawn into
the mask prompt. For a click that is the object which the object head sees there, if it sees one;
for a box the one that fills it most.
What is drawn is also the first guess, to which the decoder's logits are added: it corrects what it
is shown instead of searching for it.

The same code draws numpy arrays for inference and torch tensors for training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

    import numpy.typing as npt

#: Pixels of the model's frame along a side of one logit.
LOGIT = 4

#: Logit of a place that is surely inside (or, negative, outside), and of a place that was clicked.
SURE, CLICKED = 8.0, 16.0

#: Share of a drawn prompt in the answer; more would be harder to correct.
GUESS = 0.5

#: Around a click without anything better the logit falls with the distance, to 0 at so many pixels
#: of the frame; nuclei have about this radius where a whole field of them is in the frame.
REACH = 96.0

#: A click marks what is nearer than so many pixels of the frame.
MARKED = 8.0

#: Within so many pixels of the frame the logit rises from the sides of a box to the inside.
EDGE = 16.0

#: A box is drawn as the object in it which fills more than so much of it.
FILLED = 0.25


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

    What says most is drawn: an earlier answer, else the box, else what the clicks say, else nothing
    (0). Every click marks its place on top. A box says: the object with most logits in it, as far
    as it lies in the box, where that fills a good part of it; else its inside. Clicks say: the
    objects under the positive ones, without what lies nearer to a negative click on the same
    object; and around positive clicks on no object a cone, which is cut off where a negative click
    is nearer.

    Parameters
    ----------
    xp : module
        `numpy` or `torch`, whichever the arrays are of.
    shape : (int, int)
        Height and width of the map, in logits of 4 pixels of the model's frame.
    points : array, optional
        (N, P, 2) x and y in pixels; the centre of the first pixel is (0, 0).
    labels : array, optional
        (N, P): 1 on the object, 0 beside it, −1 not a point.
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
    first = next(a for a in (points, boxes, masks) if a is not None)
    where = {"device": first.device, "dtype": xp.float32}
    ys = (LOGIT * xp.arange(shape[0], **where) + (LOGIT - 1) / 2)[:, None]  # (h, 1)
    xs = (LOGIT * xp.arange(shape[1], **where) + (LOGIT - 1) / 2)[None]  # (1, w)
    drawn = xp.zeros((len(first), *shape), **where)
    clicked = points is not None and points.shape[1] > 0
    if clicked:
        wanted, on, off = _clicks(xp, ys, xs, drawn, points, labels, objects)
        positive = (labels == 1).any(1)[:, None, None]
        drawn = xp.where(positive, wanted, drawn)
    if boxes is not None:
        inside = _depth(xp, ys, xs, boxes)
        if objects is not None:
            inside = _object_in(xp, inside, objects)
        drawn = xp.where(xp.isnan(inside), drawn, inside)
    if masks is not None:
        drawn = xp.where(xp.isnan(masks), drawn, masks)
    if clicked:
        drawn = xp.where((on < MARKED) & (on <= off), CLICKED, drawn)
        drawn = xp.where((off < MARKED) & (off < on), -CLICKED, drawn)
    return drawn if drawn.dtype == xp.float32 else xp.asarray(drawn, dtype=xp.float32)


def draw_boxes(xp: ModuleType, shape: tuple[int, int], boxes: Any) -> Any:
    """Draw the boxes of N objects as such, whatever is in them.

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
        (N, h, w) float32: 0 at the sides of the box, positive inside and negative outside, as far
        as `SURE`; 0 throughout in rows without a box.
    """
    where = {"device": boxes.device, "dtype": xp.float32}
    ys = (LOGIT * xp.arange(shape[0], **where) + (LOGIT - 1) / 2)[:, None]  # (h, 1)
    xs = (LOGIT * xp.arange(shape[1], **where) + (LOGIT - 1) / 2)[None]  # (1, w)
    inside = _depth(xp, ys, xs, boxes)
    drawn = xp.where(xp.isnan(inside), xp.zeros_like(inside), inside)
    return drawn if drawn.dtype == xp.float32 else xp.asarray(drawn, dtype=xp.float32)


def _depth(xp: ModuleType, ys: Any, xs: Any, boxes: Any) -> Any:
    """(N, h, w) logits that rise from the sides of boxes to their insides; NaN without a box."""
    x0, y0, x1, y1 = (boxes[:, i, None, None] for i in range(4))
    depth = xp.minimum(xp.minimum(xs - x0, x1 - xs), xp.minimum(ys - y0, y1 - ys))
    return xp.clip(depth * (SURE / EDGE), -SURE, SURE)


def _object_in(xp: ModuleType, inside: Any, objects: Any) -> Any:
    """Draw the object with most logits in a box, cut by the box, where it fills enough of it.

    `inside` is (N, h, w), of `_depth`, which stays where there is no such object.
    """
    count = len(objects)
    # Where sides cut through a logit, it counts: none is farther from its centre than half of it.
    within = inside >= -SURE * (LOGIT / 2) / EDGE
    most = int(objects.max()) + 1 if objects.shape[0] else 1
    rows = xp.arange(count, device=inside.device)[:, None, None]
    places = xp.where(within, objects + rows * most, count * most)
    found = xp.bincount(
        xp.asarray(places, dtype=xp.int64).reshape(-1), minlength=count * most + 1
    )
    found = found[: count * most].reshape(count, most)
    found[:, 0] = 0
    best = found.argmax(1)
    filled = found[xp.arange(count, device=inside.device), best]
    enough = (filled > FILLED * within.sum((1, 2)))[:, None, None]
    held = within & (objects == best[:, None, None])
    return xp.where(enough & ~xp.isnan(inside), xp.where(held, SURE, -SURE), inside)


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
    """Whether every object has one click and nothing else: under the cursor, and in a grid."""
    return points is not None and points.shape[1] == 1 and bool((labels == 1).all())


def _draw_lone_clicks(
    shape: tuple[int, int],
    points: npt.NDArray[Any],
    objects: npt.NDArray[np.integer] | None,
) -> npt.NDArray[np.float32]:
    """Draw one positive click for each object, (N, 2): the same, in a tenth of the time.

    Nothing but the object under a click reaches further than its cone.
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


def _clicks(
    xp: ModuleType,
    ys: Any,
    xs: Any,
    nothing: Any,
    points: Any,
    labels: Any,
    objects: Any,
) -> tuple[Any, Any, Any]:
    """Map of what clicks say; distances to the nearest positive and negative one.

    All (N, h, w); `nothing` is 0 throughout.
    """
    on = off = lone = nothing + xp.inf
    held, refused = nothing > 0, nothing > 0
    rows = xp.arange(len(nothing), device=nothing.device)
    negatives = bool((labels == 0).any())
    for i in range(points.shape[1]):
        x, y = points[:, i, 0, None, None], points[:, i, 1, None, None]
        away = xp.sqrt((xs - x) ** 2 + (ys - y) ** 2)
        positive = (labels[:, i] == 1)[:, None, None]
        on = xp.minimum(on, xp.where(positive, away, xp.inf))
        if objects is None:
            lone = on
        else:
            column = _index(xp, points[:, i, 0], objects.shape[2])
            row = _index(xp, points[:, i, 1], objects.shape[1])
            under = objects[rows, row, column][:, None, None]
            # No region has the number −1.
            held = held | (objects == xp.where(positive & (under > 0), under, -1))
            alone = positive & (under == 0)
            lone = xp.minimum(lone, xp.where(alone, away, xp.inf))
        if negatives:  # most prompts have none
            negative = (labels[:, i] == 0)[:, None, None]
            off = xp.minimum(off, xp.where(negative, away, xp.inf))
            if objects is not None:
                refused = refused | (
                    objects == xp.where(negative & (under > 0), under, -1)
                )
    cone = xp.clip(SURE * (1 - lone / REACH), -SURE, SURE)
    if negatives:
        held = held & (~refused | (on <= off))
        cone = xp.where(off < lone, xp.clip(cone, -SURE, 0), cone)
    return xp.where(held, SURE, cone), on, off


def _index(xp: ModuleType, pixels: Any, length: int) -> Any:
    """Index of the logits in which pixels lie."""
    place = xp.clip(xp.floor((pixels + 0.5) / LOGIT), 0, length - 1)
    return xp.asarray(place, dtype=xp.int64)
