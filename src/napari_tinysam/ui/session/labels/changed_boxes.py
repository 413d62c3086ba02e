"""Boxes of labels that were changed: around pixels, inside the layer, none within another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from napari_tinysam.journal.lines import Window
from napari_tinysam.ui.session.labels.edits import places_of

Box = tuple[slice, ...]


def box_of(indices: Iterable[Any]) -> Box:
    """Return the box around pixels, given by their indices on each axis."""
    sides = [np.asarray(at) for at in indices]
    return tuple(slice(int(at.min()), int(at.max()) + 1) for at in sides)


def painted_boxes(item: Iterable[Any]) -> Iterator[Box]:
    """Give the boxes of napari's records of painting, filling and erasing."""
    for atom in item:
        places = atom[0]
        if len(atom) == 3:
            yield box_of([np.asarray(index) for index in places])
        else:
            yield tuple(places)


def before_painting(item: Sequence[Any], data: Any) -> Iterator[Window]:
    """Give what was in the box of napari's records of painting, if there are any."""
    boxes = [inside(box, data.shape, data) for box in painted_boxes(item)]
    if not boxes:
        return
    around = tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )
    start = tuple(side.start for side in around)
    part = np.array(data[around])
    for atom in reversed(item):
        places, old, _ = places_of(atom)
        part[tuple(at - first for at, first in zip(places, start, strict=True))] = old
    yield Window(start, part)


def inside(box: Box, shape: tuple[int, ...], data: Any) -> Box:
    """Return a box with numbers for both ends of each side, in all channels that share memory."""
    strides = data.strides if isinstance(data, np.ndarray) else (1,) * len(shape)
    return tuple(
        slice(*side.indices(length)[:2]) if stride else slice(0, length)
        for side, length, stride in zip(box, shape, strides, strict=True)
    )


def merged(boxes: Iterable[Box]) -> list[Box]:
    """Leave out boxes that lie in others: all are read as they are now."""
    kept: list[Box] = []
    for box in boxes:
        if any(_holds(other, box) for other in kept):
            continue
        kept = [other for other in kept if not _holds(box, other)]
        kept.append(box)
    return kept


def _holds(outer: Box, inner: Box) -> bool:
    return all(
        a.start <= b.start and b.stop <= a.stop
        for a, b in zip(outer, inner, strict=True)
    )
