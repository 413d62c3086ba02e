"""One annotated image becomes two: most of it to learn from, the rest to judge on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tinysam_training.data.fingerprints import combined
from tinysam_training.labelled_image import ImageEntry, LabelledImage, relabelled

if TYPE_CHECKING:
    from collections.abc import Callable

#: Images with fewer objects stay whole.
LEAST_OBJECTS = 12

#: Share of the objects that is held out, by their centres.
HELD_OUT = 0.25


def part_image(entry: ImageEntry) -> tuple[ImageEntry, ImageEntry] | None:
    """Cut an image across its shorter side, so that the model sees both parts at the same scale.

    Parameters
    ----------
    entry : ImageEntry

    Returns
    -------
    train, held_out : ImageEntry
        Parts of the image, which share no pixel; None where it has too few objects, or they lie
        so that one part would have none.
    """
    image = entry.read()
    height, width = image.rgb.shape[:2]
    axis = 0 if height <= width else 1
    boxes = image.boxes
    if len(boxes) < LEAST_OBJECTS:
        return None
    first = boxes[:, 2 - axis].astype(float)  # y0 of rows, x0 of columns
    last = boxes[:, 4 - axis].astype(float)
    centres = (first + last) / 2
    cut = round(float(np.quantile(centres, 1 - HELD_OUT)))
    if not 0 < cut < (height, width)[axis]:
        return None
    parts = (slice(0, cut), slice(cut, None))
    if not all(_cut(image, axis, part).labels[0].any() for part in parts):
        return None
    first_part, second_part = (
        replace(
            entry,
            name=f"{entry.name}, {'larger' if number == 0 else 'smaller'} part",
            read=partial(_read_part, entry.read, axis, part),
            fingerprint=combined(entry.fingerprint, axis, cut, number),
        )
        for number, part in enumerate(parts)
    )
    return first_part, second_part


def _read_part(
    read: Callable[[], LabelledImage], axis: int, part: slice
) -> LabelledImage:
    return _cut(read(), axis, part)


def _cut(image: LabelledImage, axis: int, part: slice) -> LabelledImage:
    where = (part, slice(None)) if axis == 0 else (slice(None), part)
    labels = np.stack([relabelled(layer[where]) for layer in image.labels])
    rgb = np.ascontiguousarray(image.rgb[where])
    return LabelledImage(image.name, image.dataset, rgb, labels, image.complete)
