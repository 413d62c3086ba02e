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


def part_image(
    entry: ImageEntry, cut: tuple[int, int] | None = None
) -> tuple[ImageEntry, ImageEntry] | None:
    """Cut an image across its shorter side, so that the model sees both parts at the same scale.

    Parameters
    ----------
    entry : ImageEntry
    cut : (int, int), optional
        Axis and place of an earlier cut, to hold the same part out again.

    Returns
    -------
    train, held_out : ImageEntry
        Parts of the image, which share no pixel; None where it has too few objects, or they lie
        so that one part would have none.
    """
    image = entry.read()
    height, width = image.rgb.shape[:2]
    boxes = image.boxes
    if len(boxes) < LEAST_OBJECTS:
        return None
    axis = 0 if height <= width else 1
    first = boxes[:, 2 - axis].astype(float)  # y0 of rows, x0 of columns
    last = boxes[:, 4 - axis].astype(float)
    centres = (first + last) / 2
    own = (axis, round(float(np.quantile(centres, 1 - HELD_OUT))))
    return next(
        (
            parts
            for each in (cut, own)
            if each is not None and (parts := _parted(entry, image, *each))
        ),
        None,
    )


def _parted(
    entry: ImageEntry, image: LabelledImage, axis: int, cut: int
) -> tuple[ImageEntry, ImageEntry] | None:
    """Cut an image at a place; None if a part has no object."""
    if not 0 < cut < image.rgb.shape[axis]:
        return None
    parts = (slice(0, cut), slice(cut, None))
    if not all(_cut(image, axis, part).labels[0].any() for part in parts):
        return None
    key = entry.pixels or entry.fingerprint
    first_part, second_part = (
        replace(
            entry,
            name=f"{entry.name}, {'larger' if number == 0 else 'smaller'} part",
            read=partial(_read_part, entry.read, axis, part),
            fingerprint=combined(entry.fingerprint, axis, cut, number),
            part_of=(*entry.part_of, entry.name),
            pixels=f"{key}/{axis}:{cut}:{number}",
        )
        for number, part in enumerate(parts)
    )
    return first_part, second_part


def whole_key(key: str) -> str:
    """Return the key (`ImageEntry.pixels`) of the image of which this is the key of a part."""
    return key.partition("/")[0]


def cut_of(key: str) -> tuple[int, int] | None:
    """Return axis and place of the cut that a part's key tells; None for a whole image."""
    axis, _, rest = key.partition("/")[2].partition(":")
    return (int(axis), int(rest.partition(":")[0])) if rest else None


def _read_part(
    read: Callable[[], LabelledImage], axis: int, part: slice
) -> LabelledImage:
    return _cut(read(), axis, part)


def _cut(image: LabelledImage, axis: int, part: slice) -> LabelledImage:
    where = (part, slice(None)) if axis == 0 else (slice(None), part)
    labels = np.stack([relabelled(layer[where]) for layer in image.labels])
    rgb = np.ascontiguousarray(image.rgb[where])
    return LabelledImage(image.name, image.dataset, rgb, labels, image.complete)
