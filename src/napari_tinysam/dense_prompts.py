"""Dense prompts: points, boxes and earlier answers drawn as one map.

Segment Anything tells its decoder about points and boxes by tokens alone, and the decoder must
learn from millions of images which place of the image a token speaks of. Its mask prompt, which
official code fills with the logits of an earlier answer, is added to the image at the place itself.
A model with `SegmentAnything.dense_prompts` gets every prompt both ways: as tokens, and drawn into
the mask prompt. For a click that is the object which the object head sees there, if it sees one.
What is drawn is also the first guess, to which the decoder's logits are added: it corrects what it
is shown instead of searching for it.

The same code draws numpy arrays for inference and torch tensors for training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

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


def draw_prompts(
    xp: ModuleType,
    shape: tuple[int, int],
    *,
    points: Any = None,
    labels: Any = None,
    boxes: Any = None,
    masks: Any = None,
    regions: Any = None,
) -> Any:
    """Draw the prompts of N objects.

    What says most is drawn: an earlier answer, else the box, else the region under the clicks, else
    a cone around each positive click, else nothing (0). Every click marks its place on top.

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
    regions : array, optional
        (N, h, w) bool, the object that the object head sees under the clicks; empty where it sees
        none.

    Returns
    -------
    array
        (N, h, w) float32 logits.
    """
    first = next(a for a in (points, boxes, masks) if a is not None)
    where = {"device": first.device}
    ys = (LOGIT * xp.arange(shape[0], **where) + (LOGIT - 1) / 2)[:, None]  # (h, 1)
    xs = (LOGIT * xp.arange(shape[1], **where) + (LOGIT - 1) / 2)[None]  # (1, w)
    drawn = xp.zeros((len(first), *shape), dtype=xp.float32, **where)
    marks = None
    if points is not None and points.shape[1]:
        on, marks = _distances(xp, ys, xs, points, labels)
        clicked = (labels == 1).any(1)[:, None, None]
        cone = xp.clip(SURE * (1 - on / REACH), -SURE, SURE)
        drawn = xp.where(clicked, cone, drawn)
    if regions is not None:
        seen = regions.any(2).any(1)[:, None, None]
        drawn = xp.where(seen, xp.where(regions, SURE, -SURE), drawn)
    if boxes is not None:
        x0, y0, x1, y1 = (boxes[:, i, None, None] for i in range(4))
        depth = xp.minimum(xp.minimum(xs - x0, x1 - xs), xp.minimum(ys - y0, y1 - ys))
        inside = xp.clip(depth * (SURE / EDGE), -SURE, SURE)
        drawn = xp.where(xp.isnan(inside), drawn, inside)
    if masks is not None:
        drawn = xp.where(xp.isnan(masks), drawn, masks)
    if marks is not None:
        positive, negative = marks
        near = xp.minimum(positive, negative) < MARKED
        sign = xp.where(positive <= negative, CLICKED, -CLICKED)
        drawn = xp.where(near, sign, drawn)
    return drawn if drawn.dtype == xp.float32 else xp.asarray(drawn, dtype=xp.float32)


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


def regions_under(xp: ModuleType, objects: Any, points: Any, labels: Any) -> Any:
    """Objects of a segmentation that positive clicks lie on and no negative click does.

    Parameters
    ----------
    xp : module
        `numpy` or `torch`.
    objects : array
        (N, h, w) int, for each row its segmentation; 0 where there is no object.
    points, labels : array
        As for `draw_prompts`.

    Returns
    -------
    array
        (N, h, w) bool.
    """
    height, width = objects.shape[1:]
    rows = xp.arange(len(objects), device=objects.device)
    found = xp.zeros_like(objects, dtype=xp.bool)
    refused = xp.zeros_like(found)
    for i in range(points.shape[1]):
        place = xp.floor((points[:, i] + 0.5) / LOGIT)  # (N, 2)
        x = xp.clip(place[:, 0], 0, width - 1)
        y = xp.clip(place[:, 1], 0, height - 1)
        under = objects[rows, _whole(xp, y), _whole(xp, x)]  # (N,)
        same = (objects == under[:, None, None]) & (under > 0)[:, None, None]
        found |= same & (labels[:, i] == 1)[:, None, None]
        refused |= same & (labels[:, i] == 0)[:, None, None]
    return found & ~refused


def _distances(xp: ModuleType, ys: Any, xs: Any, points: Any, labels: Any) -> Any:
    """(N, h, w) distances to the nearest positive click, and to both kinds' nearest."""
    positive = negative = None
    for i in range(points.shape[1]):
        x, y = points[:, i, 0, None, None], points[:, i, 1, None, None]
        away = xp.sqrt((xs - x) ** 2 + (ys - y) ** 2)
        label = labels[:, i, None, None]
        on = xp.where(label == 1, away, xp.inf)
        off = xp.where(label == 0, away, xp.inf)
        positive = on if positive is None else xp.minimum(positive, on)
        negative = off if negative is None else xp.minimum(negative, off)
    return positive, (positive, negative)


def _whole(xp: ModuleType, values: Any) -> Any:
    return xp.asarray(values, dtype=xp.int64)
