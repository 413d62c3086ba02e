"""Reading a part of a plane by itself, where the model would see the whole plane too coarsely."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.frame import FRAME
from napari_tinysam.inference.looks import Look
from napari_tinysam.inference.plane_looks import encode_part
from napari_tinysam.ui.state.planes import Contrast, Plane

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

#: A part is read by itself if that enlarges it by at least this factor.
_WORTH = 1.25

#: Least side in pixels that is enlarged to the whole frame: smaller parts have too little around
#: the objects, and no more detail.
_LEAST = 256

#: Longest side of what is read for one frame, in pixels.
_MOST_READ = 4 * FRAME


def can_be_finer(side: int) -> bool:
    """Whether the model may see a part finer than an image with this longest side, in px."""
    return side >= 2 * _LEAST


def finer_part(part: Look, shape: tuple[int, int]) -> Look | None:
    """Find the rectangle to read by itself for a region; None where the whole plane will do.

    The part is read even where the frame has all pixels of the plane: enlarged, small objects are
    found better.

    Parameters
    ----------
    part : Look
        The region; not empty.
    shape : (int, int)
        Height and width of the plane.

    Returns
    -------
    Look or None
        With some surroundings where the region is small.
    """
    whole = max(shape)
    if not can_be_finer(whole):
        return None
    (y0, y1), (x0, x1) = (
        _least_side(first, last, length)
        for first, last, length in zip(part[:2], part[2:], shape, strict=True)
    )
    found = Look(y0, x0, y1, x1)
    return found if whole > _WORTH * max(found.size) else None


def _least_side(start: int, stop: int, room: int) -> tuple[int, int]:
    """Where a region lies on an axis of this length, with surroundings up to `_LEAST` pixels."""
    length = min(max(stop - start, _LEAST), room)
    start = min(max((start + stop - length) // 2, 0), room - length)
    return start, start + length


def part_reader(image: Image, plane: Plane) -> Callable[[slice, slice], Any]:
    """Prepare to read parts of a plane, for the inference thread.

    Returns
    -------
    callable
        ``read(rows, columns)`` gives the part, (h, w) or (h, w, 3 or 4) for RGB, rows down the
        screen: from the coarsest level of a pyramid with at least 1024 pixels for its longer side;
        where there are many more, every second, third … pixel of it.
    """
    levels = list(image.data) if image.multiscale else [image.data]
    order = (1, 0, 2) if image.rgb else (1, 0)

    def read(rows: slice, columns: slice) -> Any:
        size = rows.stop - rows.start, columns.stop - columns.start
        full = levels[0].shape
        level = next(
            level
            for level in reversed(levels)
            if level is levels[0]
            or max(
                length * level.shape[axis] / full[axis]
                for length, axis in zip(size, plane.axes, strict=True)
            )
            >= FRAME
        )
        cut: list[int | slice] = []
        for axis, part in enumerate(plane.cut(rows, columns)):
            ratio = full[axis] / level.shape[axis]
            if isinstance(part, slice):
                start, stop = int(part.start / ratio), int(part.stop / ratio)
                cut.append(slice(start, max(stop, start + 1)))
            else:
                cut.append(min(int(part / ratio), level.shape[axis] - 1))
        sides = [each.stop - each.start for each in cut if isinstance(each, slice)]
        step = max(1, max(sides) // _MOST_READ)
        thinned = (
            slice(each.start, each.stop, step) if isinstance(each, slice) else each
            for each in cut
        )
        pixels = np.asarray(level[tuple(thinned)])
        return pixels.transpose(order) if plane.transposed else pixels

    return read


def embed_part(
    image: Image,
    plane: Plane,
    contrast: Contrast,
    part: Look,
) -> Callable[[Predictor], Embedding]:
    """Describe the embedding of a part of a plane, for the inference thread.

    Returns
    -------
    callable
        Reads and embeds it. Prompts and masks of the result are in full-resolution pixels of the
        part. Contrast is stretched over the values of the part, or as the image is displayed.
    """
    limits: tuple[float, float] | None = None
    if contrast is Contrast.DISPLAYED and not image.rgb:
        low, high = image.contrast_limits
        limits = (float(low), float(high))
    read = part_reader(image, plane)

    def embed(predictor: Predictor) -> Embedding:
        return encode_part(
            predictor,
            read(part.rows, part.columns),
            size=part.size,
            limits=limits,
            colours=bool(image.rgb),
        )

    return embed
