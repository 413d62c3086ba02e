"""Points and boxes of the command line: from text to coordinates to the prompts of objects."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.errors import UsageError
from napari_tinysam.prompts import IGNORED, NEGATIVE, POSITIVE, Prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ObjectPrompt:
    """The prompts of one object, in pixels of the image.

    Parameters
    ----------
    box : (x0, y0, x1, y1) or None
        Corners in ascending order.
    positive, negative : tuple of (x, y)
        Points on the object and outside it.
    """

    box: Box | None = None
    positive: tuple[Point, ...] = ()
    negative: tuple[Point, ...] = ()

    @property
    def around(self) -> Box:
        """The box around all of them."""
        points = [*self.positive, *self.negative]
        if self.box is not None:
            points += [self.box[:2], self.box[2:]]
        xs, ys = zip(*points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def moved(self, x: float, y: float) -> ObjectPrompt:
        """Return the same prompts so many pixels to the right and down."""
        box = self.box
        if box is not None:
            box = box[0] + x, box[1] + y, box[2] + x, box[3] + y
        return ObjectPrompt(
            box,
            tuple((px + x, py + y) for px, py in self.positive),
            tuple((px + x, py + y) for px, py in self.negative),
        )


def parse_point(text: str) -> Point:
    """Read ``"x,y"``.

    Raises
    ------
    UsageError
        If it is not two finite numbers.
    """
    x, y = _numbers(text, 2, "A point is x,y in pixels, like 120,85")
    return x, y


def parse_box(text: str) -> Box:
    """Read ``"x0,y0,x1,y1"``, any two opposite corners, as ascending corners.

    Raises
    ------
    UsageError
        If it is not four finite numbers.
    """
    xa, ya, xb, yb = _numbers(
        text, 4, "A box is x0,y0,x1,y1 in pixels, like 100,60,180,140"
    )
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)


def _numbers(text: str, count: int, wanted: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{wanted}; got {text!r}.")
    return numbers


def parse_indices(text: str) -> list[int]:
    """Read ``"2"`` or ``"2,0"``.

    Raises
    ------
    UsageError
        If it is not whole numbers from 0.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(
        part.isascii() and part.isdecimal() and len(part) < 10 for part in parts
    ):
        raise UsageError(
            f"A channel or plane is a whole number from 0, or several like 2,0; got {text!r}."
        )
    return [int(part) for part in parts]


def check_inside(
    points: Sequence[Point], boxes: Sequence[Box], size: tuple[int, int]
) -> list[Box]:
    """Return the boxes cut to the image.

    Parameters
    ----------
    points : sequence of (x, y)
        The centre of the first pixel is (0, 0).
    boxes : sequence of (x0, y0, x1, y1)
        From `parse_box`.
    size : (int, int)
        Height and width of the image.

    Raises
    ------
    UsageError
        If a point or a whole box is outside the image, or a box has no area.
    """
    height, width = size
    where = f"the image, which is {width} × {height} pixels (width × height)"
    for x, y in points:
        if not (-0.5 <= x <= width and -0.5 <= y <= height):
            raise UsageError(f"The point {x:g},{y:g} is outside {where}.")
    inside = []
    for box in boxes:
        text = ",".join(f"{value:g}" for value in box)
        x0, y0, x1, y1 = box
        if x0 == x1 or y0 == y1:
            raise UsageError(f"The box {text} has no area.")
        cut = max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)
        if cut[0] >= cut[2] or cut[1] >= cut[3]:
            raise UsageError(f"The box {text} is outside {where}.")
        inside.append(cut)
    return inside


def group(
    positive: Sequence[Point], negative: Sequence[Point], boxes: Sequence[Box]
) -> list[ObjectPrompt]:
    """Decide which point belongs to which object.

    Each box is an object. All points belong to one box if there is just one. With several boxes, a
    point belongs to the smallest box that contains it, and the points in no box make one further
    object, the last. Without boxes all points are one object.

    Raises
    ------
    UsageError
        If there is no box and no positive point, or a negative point belongs to no object.
    """
    if not boxes and not positive:
        raise UsageError(
            "Negative points alone do not say where the object is: add a point or a box."
            if negative
            else "Nothing to segment: give at least one point or box."
        )
    if not boxes:
        return [ObjectPrompt(None, tuple(positive), tuple(negative))]
    if len(boxes) == 1:
        return [ObjectPrompt(boxes[0], tuple(positive), tuple(negative))]
    objects = [ObjectPrompt(box) for box in boxes]
    further = ObjectPrompt()
    for sign, points in ((POSITIVE, positive), (NEGATIVE, negative)):
        for point in points:
            home = _smallest_around(point, boxes)
            if home is None:
                further = _with_point(further, point, sign)
            else:
                objects[home] = _with_point(objects[home], point, sign)
    if further.negative and not further.positive:
        x, y = further.negative[0]
        raise UsageError(f"The negative point {x:g},{y:g} lies in none of the boxes.")
    return [*objects, further] if further.positive else objects


def _smallest_around(point: Point, boxes: Sequence[Box]) -> int | None:
    x, y = point
    around = [
        ((x1 - x0) * (y1 - y0), number)
        for number, (x0, y0, x1, y1) in enumerate(boxes)
        if x0 <= x <= x1 and y0 <= y <= y1
    ]
    return min(around)[1] if around else None


def _with_point(prompt: ObjectPrompt, point: Point, sign: int) -> ObjectPrompt:
    if sign == POSITIVE:
        return replace(prompt, positive=(*prompt.positive, point))
    return replace(prompt, negative=(*prompt.negative, point))


def to_prompts(objects: Sequence[ObjectPrompt]) -> Prompts:
    """Return the objects as one batch; short rows of points are padded."""
    longest = max(len(o.positive) + len(o.negative) for o in objects)
    points = np.zeros((len(objects), longest, 2), np.float32)
    labels = np.full((len(objects), longest), IGNORED, np.int32)
    boxes = np.full((len(objects), 4), np.nan, np.float32)
    for row, prompt in enumerate(objects):
        here = [*prompt.positive, *prompt.negative]
        signs = [POSITIVE] * len(prompt.positive) + [NEGATIVE] * len(prompt.negative)
        points[row, : len(here)] = np.reshape(here, (-1, 2))
        labels[row, : len(here)] = signs
        if prompt.box is not None:
            boxes[row] = prompt.box
    return Prompts(
        points=points if longest else None,
        labels=labels if longest else None,
        boxes=boxes,
    )
