"""Draw a result: outlines of objects, and their prompts."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt, find_objects

from napari_tinysam.masks import BoxedMask
from napari_tinysam.prompts import NEGATIVE, POSITIVE

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.prompts import Prompts

#: Limits of the picture's longer side in pixels.
_MIN_SIDE, _MAX_SIDE = 1024, 2048

#: The picture is drawn this many times larger, then reduced: lines become smooth.
_SUPERSAMPLING = 2

#: Okabe and Ito's palette (2008) without black, distinct for colour-blind readers as well.
_COLOURS = (
    (86, 180, 233),
    (240, 228, 66),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (0, 114, 178),
)
_GREEN, _RED, _WHITE = (0, 200, 83), (229, 57, 53), (255, 255, 255)

#: Opacity of an object's colour.
_FILL = 0.28


def draw_overlay(
    rgb: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    prompts: Prompts | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw objects and prompts over an image.

    Parameters
    ----------
    rgb : numpy.ndarray
        (Y, X, 3) uint8, the image as the model saw it.
    labels : numpy.ndarray
        (Y, X) integers; object number 1 is the first of `prompts`.
    prompts : Prompts, optional
        In pixels of the image. Boxes are thin lines in the object's colour, positive points green
        dots, negative points red ones.

    Returns
    -------
    numpy.ndarray
        (y, x, 3) uint8; enlarged or reduced, the longer side at least 1024 and at most 2048 pixels.
    """
    height, width = rgb.shape[:2]
    side = min(max(height, width, _MIN_SIDE), _MAX_SIDE) * _SUPERSAMPLING
    scale = side / max(height, width)
    large = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(rgb).resize(large, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    stroke = max(2, round(side / 512))
    for number, place in enumerate(find_objects(labels), start=1):
        if place is not None:
            boxed = BoxedMask(
                labels[place] == number, place[0].start, place[1].start, (height, width)
            )
            _draw_object(picture, boxed, _colour(number), scale, stroke)
    if prompts is not None:
        _draw_prompts(draw, prompts, scale, stroke)
    final = tuple(max(1, n // _SUPERSAMPLING) for n in large)
    return np.asarray(picture.resize((final[0], final[1]), Image.Resampling.LANCZOS))


def _draw_prompts(
    draw: ImageDraw.ImageDraw, prompts: Prompts, scale: float, stroke: int
) -> None:
    if prompts.boxes is not None:
        for row in np.flatnonzero(prompts.has_box):
            _draw_box(draw, prompts.boxes[row], scale, _colour(int(row) + 1), stroke)
    if prompts.points is not None and prompts.labels is not None:
        for sign, colour in ((NEGATIVE, _RED), (POSITIVE, _GREEN)):
            chosen = prompts.points[prompts.labels == sign]
            _draw_points(draw, chosen, scale, colour, stroke)


def _colour(number: int) -> tuple[int, int, int]:
    return _COLOURS[(number - 1) % len(_COLOURS)]


def _draw_object(
    picture: Image.Image,
    boxed: BoxedMask,
    colour: tuple[int, int, int],
    scale: float,
    stroke: int,
) -> None:
    """Tint a mask and draw its outline, `stroke` pixels wide, inside it."""
    if not boxed.area:
        return
    rows, columns = boxed.slices
    # The part of the picture that holds the mask, and the part of the mask under that: whole
    # pixels of the picture, fractions of the mask's, with a pixel around it to fade into.
    left, top = int((columns.start - 1) * scale), int((rows.start - 1) * scale)
    right, bottom = ceil((columns.stop + 1) * scale), ceil((rows.stop + 1) * scale)
    margin = ceil(2 + 2 / scale)
    around = Image.fromarray(np.pad(boxed.mask, margin).astype(np.uint8) * 255)
    origin = np.array([columns.start - margin, rows.start - margin] * 2)
    corners = np.array([left, top, right, bottom]) / scale - origin
    soft = around.resize(
        (right - left, bottom - top),
        Image.Resampling.BICUBIC,
        box=(corners[0], corners[1], corners[2], corners[3]),
    )
    inside = np.asarray(soft) > 127
    ring = inside & (distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1] <= stroke)
    alpha = np.where(ring, 255, np.where(inside, round(255 * _FILL), 0))
    picture.paste(colour, (left, top), Image.fromarray(alpha.astype(np.uint8)))


def _draw_box(
    draw: ImageDraw.ImageDraw,
    box: npt.NDArray[np.float32],
    scale: float,
    colour: tuple[int, int, int],
    stroke: int,
) -> None:
    x0, y0, x1, y1 = (float(value + 0.5) * scale for value in box)
    width = max(1, stroke // 2)
    draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=_WHITE, width=width + 2)
    draw.rectangle((x0, y0, x1, y1), outline=colour, width=width)


def _draw_points(
    draw: ImageDraw.ImageDraw,
    points: npt.NDArray[np.float32],
    scale: float,
    colour: tuple[int, int, int],
    stroke: int,
) -> None:
    radius = 3 * stroke
    for x, y in points:
        centre = (x + 0.5) * scale, (y + 0.5) * scale
        draw.circle(centre, radius, fill=_WHITE)
        draw.circle(centre, radius - stroke, fill=colour)
