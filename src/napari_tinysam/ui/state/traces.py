"""What is known of the objects of a stack that were followed: plane by plane, along one axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.volume.followed import Origin, PlaneMask

if TYPE_CHECKING:
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.state.planes import Plane

#: Trust below which a plane is shown as weak.
WEAK = 0.6


class PlaneState(Enum):
    """What is known of an object in a plane."""

    ANCHOR = "as you said"
    FOLLOWED = "followed"
    COPIED = "copied"
    WEAK = "weak"


@dataclass(frozen=True, eq=False)
class Trace:
    """One object along one axis.

    Attributes
    ----------
    label : int
        Its id in the labels layer.
    axis : int
        Of the image.
    plane : Plane
        One of its planes, of the image; the others differ on the axis only.
    anchors : frozenset of int
        Planes that the user clicked or accepted; they are never computed again.
    found : mapping of int to PlaneMask
        The planes that have it, as they were written, those of the anchors included.
    first, last : int
        The range in which it is followed, both included.
    """

    label: int
    axis: int
    plane: Plane
    anchors: frozenset[int]
    found: Mapping[int, PlaneMask]
    first: int
    last: int

    def at(self, number: int) -> Plane:
        """Return the plane of the image at a position on the axis."""
        return moved_to(self.plane, self.axis, number)

    def holds(self, plane: Plane) -> bool:
        """Whether a plane of the image is one of its planes, of any channel."""
        at = plane.index[self.axis]
        return at is not None and self.at(at).without_channel() == (
            plane.without_channel()
        )

    def with_anchor(self, plane: int, mask: BoxedMask) -> Trace:
        """Return the trace with a plane in which the user says what the object is."""
        found = {
            **self.found,
            plane: PlaneMask(plane, mask, Origin.ANCHOR, 1.0),
        }
        return replace(self, anchors=self.anchors | {plane}, found=found)

    def without(self, planes: Iterable[int]) -> Trace:
        """Return the trace without some planes."""
        gone = set(planes)
        return replace(
            self,
            anchors=self.anchors - gone,
            found={at: each for at, each in self.found.items() if at not in gone},
        )


@dataclass(eq=False)
class Traces:
    """The followed objects of a labels layer.

    What the user does to such an object in a plane, with clicks or napari's brush, makes that plane
    an anchor. It is read from the labels themselves, so undo needs no bookkeeping: where they are
    again as they were written, the plane is no anchor any more.

    Attributes
    ----------
    current : int or None
        Id of the object that the dock shows.
    """

    current: int | None = None
    _traces: dict[int, Trace] = field(default_factory=dict)
    _by_hand: dict[int, dict[int, BoxedMask]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Trace]:
        return iter(list(self._traces.values()))

    def get(self, label: int | None) -> Trace | None:
        """Return what is known of an object."""
        return None if label is None else self._traces.get(label)

    def clear(self) -> None:
        """Forget everything: the objects have other ids."""
        self._traces.clear()
        self._by_hand.clear()
        self.current = None

    def put(self, label: int, trace: Trace | None) -> None:
        """Replace what is known of an object; None forgets it."""
        if trace is None:
            self._traces.pop(label, None)
            self._by_hand.pop(label, None)
        else:
            self._traces[label] = trace

    def check(self, trace: Trace, plane: int, now: BoxedMask) -> bool:
        """Compare an object with what was written into a plane.

        Parameters
        ----------
        trace : Trace
        plane : int
        now : BoxedMask
            What the labels have there; may be empty.

        Returns
        -------
        bool
            Whether the user has changed it since the last check.
        """
        written = trace.found.get(plane)
        by_hand = self._by_hand.setdefault(trace.label, {})
        before = by_hand.get(plane)
        if same(now, None if written is None else written.mask):
            by_hand.pop(plane, None)
            return False
        by_hand[plane] = now
        return before is None or not same(before, now)

    def is_other(self, trace: Trace, plane: int, now: BoxedMask) -> bool:
        """Whether an id belongs to another object now: they have no pixel in common."""
        before = self.masks(trace).get(plane)
        return before is not None and bool(now.area) and before.iou(now) == 0

    def settle(self, label: int, planes: Iterable[int]) -> None:
        """Forget what the user changed in planes: the trace has it now."""
        by_hand = self._by_hand.get(label, {})
        for plane in list(planes):
            by_hand.pop(plane, None)

    def masks(self, trace: Trace) -> dict[int, BoxedMask]:
        """Return the planes of an object, with what the user changed."""
        masks = {at: each.mask for at, each in trace.found.items()}
        masks |= self._by_hand.get(trace.label, {})
        return {at: masks[at] for at in sorted(masks) if masks[at].area}

    def anchors(self, trace: Trace) -> dict[int, BoxedMask]:
        """Return the planes in which the user says what the object is."""
        by_hand = self._by_hand.get(trace.label, {})
        masks = self.masks(trace)
        return {at: masks[at] for at in masks if at in trace.anchors or at in by_hand}

    def states(self, trace: Trace) -> dict[int, PlaneState]:
        """Return what is known of each plane of an object."""
        anchors = self.anchors(trace)
        return {
            at: PlaneState.ANCHOR if at in anchors else _state(trace.found[at])
            for at in self.masks(trace)
        }

    def weakest(self, trace: Trace) -> int | None:
        """Return the plane that needs a look most; None if all are the user's own."""
        anchors = self.anchors(trace)
        rest = [at for at in self.masks(trace) if at not in anchors]
        return min(rest, key=lambda at: trace.found[at].trust, default=None)


def same(mask: BoxedMask, other: BoxedMask | None) -> bool:
    """Whether two masks of one plane are equal; None has no pixels."""
    if other is None or not other.area or not mask.area:
        return not mask.area and (other is None or not other.area)
    one, two = mask.trimmed(), other.trimmed()
    return (one.y0, one.x0) == (two.y0, two.x0) and np.array_equal(one.mask, two.mask)


def position(plane: Plane, axis: int) -> int:
    """Return where a plane is on an axis that is not shown."""
    at = plane.index[axis]
    if at is None:
        raise ValueError(f"Axis {axis} is shown.")
    return at


def moved_to(plane: Plane, axis: int, number: int) -> Plane:
    """Return the plane at another position on an axis that is not shown."""
    index = list(plane.index)
    index[axis] = number
    return replace(plane, index=tuple(index))


def _state(found: PlaneMask) -> PlaneState:
    if found.origin is Origin.ANCHOR:
        return PlaneState.FOLLOWED
    if found.trust < WEAK:
        return PlaneState.WEAK
    return PlaneState.COPIED if found.origin is Origin.COPIED else PlaneState.FOLLOWED
