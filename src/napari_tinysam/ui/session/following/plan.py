"""What a run follows: which objects, from which planes, in which range. No napari."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_tinysam.masks import BoxedMask

#: Planes outside a range that tell how objects move.
_BEYOND = 3

#: The planes of objects: by id, then by position on the axis.
PlanesOf = Mapping[int, Mapping[int, "BoxedMask"]]


@dataclass(frozen=True, eq=False)
class Stage:
    """Objects that are followed together.

    Attributes
    ----------
    anchors : dict of int to dict of int to BoxedMask
        By id and plane: where they are known.
    first, last : int
        The range, both included; planes of anchors are in it.
    beyond : dict of int to dict of int to BoxedMask
        Known planes just outside the range: they tell how the objects move.
    """

    anchors: dict[int, dict[int, BoxedMask]]
    first: int
    last: int
    beyond: dict[int, dict[int, BoxedMask]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Planes of the range."""
        return self.last - self.first + 1

    def of(self, label: int) -> Stage:
        """Return the same for one of the objects."""
        beyond = {label: self.beyond.get(label, {})}
        return Stage({label: self.anchors[label]}, self.first, self.last, beyond)


def outwards(known: PlanesOf, first: int, last: int) -> list[Stage]:
    """Follow objects from all planes where they are known, between them and beyond.

    Parameters
    ----------
    known : mapping
        Where the objects are known.
    first, last : int
        The range, both included.

    Returns
    -------
    list of Stage
        Objects that are known in the same planes are followed together.
    """
    return _joined(
        (label, window, known[label])
        for label in known
        for window in _windows(known[label], first, last)
    )


def around(known: PlanesOf, changed: int, first: int, last: int) -> list[Stage]:
    """Follow objects anew up to the nearest anchors, after one plane of them has changed.

    Parameters
    ----------
    known : mapping
        The anchors of the objects, the changed plane among them.
    changed : int
        That plane.
    first, last : int
        The range, both included.
    """
    found = []
    for label, anchors in known.items():
        before = max((at for at in anchors if at < changed), default=first)
        after = min((at for at in anchors if at > changed), default=last)
        near = {at: mask for at, mask in anchors.items() if before <= at <= after}
        found += [
            (label, window, near)
            for window in _windows(near, min(before, changed), max(after, changed))
        ]
    return _joined(found)


def between(known: PlanesOf, annotated: Iterable[int]) -> list[Stage]:
    """Fill the planes between annotated ones.

    Parameters
    ----------
    known : mapping
        Where objects are known.
    annotated : iterable of int
        Planes of which all objects are known: an object that one of them does not have ends before
        it.
    """
    found = []
    for first, last in pairwise(sorted(set(annotated))):
        if last - first < 2:
            continue
        for label, masks in known.items():
            near = {at: masks[at] for at in (first, last) if at in masks}
            if not near:
                continue
            # Without an anchor in a neighbour, the object is not looked for there.
            window = (
                first if first in near else first + 1,
                last if last in near else last - 1,
            )
            found.append((label, window, near))
    return _joined(found)


def _windows(anchors: Iterable[int], first: int, last: int) -> list[tuple[int, int]]:
    """Cut a range at the anchors; parts without planes to compute are left out."""
    inside = sorted(at for at in anchors if first <= at <= last)
    if len(inside) < 2:
        return [(first, last)] if inside and last > first else []
    ends = sorted({first, *inside, last})
    return [
        (a, b)
        for a, b in pairwise(ends)
        if b - a > 1 or (b - a == 1 and not {a, b} <= set(inside))
    ]


def _joined(
    parts: Iterable[tuple[int, tuple[int, int], Mapping[int, BoxedMask]]],
) -> list[Stage]:
    """Follow objects together that have anchors in the same planes of the same range."""
    stages: dict[object, Stage] = {}
    for label, (first, last), anchors in parts:
        near = {at: mask for at, mask in anchors.items() if first <= at <= last}
        key = (first, last, tuple(sorted(near)))
        stage = stages.setdefault(key, Stage({}, first, last))
        stage.anchors[label] = near
        stage.beyond[label] = nearest_beyond(anchors, first, last)
    return list(stages.values())


def nearest_beyond(
    known: Mapping[int, BoxedMask], first: int, last: int
) -> dict[int, BoxedMask]:
    """Return the known planes outside a range that are no more than three away from it."""
    return {
        at: mask
        for at, mask in known.items()
        if first - _BEYOND <= at < first or last < at <= last + _BEYOND
    }
