"""What the dock reads of followed objects. Nothing here changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam.ui.state.planes import full_shape
from napari_tinysam.ui.state.stack_planes import (
    AxisKind,
    axis_kind,
    axis_name,
    stack_axes,
)
from napari_tinysam.ui.state.traces import PlaneState, Trace, Traces, position

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject


class FollowedOverview:
    """Read-only properties: the axis, and the object that the bar shows."""

    _subject: Subject
    _labelling: Labeller

    @property
    def axis(self) -> int | None:
        """The axis of the image along which objects are followed; None without one."""
        here = self._subject.here
        return None if here is None else self._axis_of(*here)

    def _axis_of(self, image: Image, plane: Plane) -> int | None:
        axes = stack_axes(image, plane)
        if not axes:
            return None
        chosen = self._subject.memory.state_of(image).follow_axis
        return chosen if chosen in axes else axes[-1]

    @property
    def axes(self) -> list[tuple[int, str]]:
        """The axes to choose from, with their names."""
        here = self._subject.here
        if here is None:
            return []
        return [
            (axis, axis_name(here[0], axis) or f"axis {axis}")
            for axis in stack_axes(*here)
        ]

    @property
    def kind(self) -> AxisKind | None:
        """What the axis is; None if nobody has said it."""
        image, axis = self._subject.image, self.axis
        if image is None or axis is None:
            return None
        return axis_kind(image, axis, self._subject.state)

    @property
    def traces(self) -> Traces | None:
        """The followed objects of the image's labels; None without labels."""
        layer = self._labelling.target
        return None if layer is None else self._subject.memory.traces_of(layer)

    @property
    def current(self) -> Trace | None:
        """The object that the bar shows: the one followed or edited last."""
        traces, here = self.traces, self._subject.here
        if traces is None or here is None:
            return None
        label = self._labelling.edited_id
        trace = traces.get(label) or traces.get(traces.current)
        return trace if trace is not None and trace.holds(here[1]) else None

    @property
    def states(self) -> dict[int, PlaneState]:
        """What is known of each plane of the current object."""
        traces, trace = self.traces, self.current
        return {} if traces is None or trace is None else traces.states(trace)

    @property
    def length(self) -> int:
        """Number of planes along the axis."""
        image, axis = self._subject.image, self.axis
        return 0 if image is None or axis is None else full_shape(image)[axis]

    @property
    def shown(self) -> int | None:
        """Where the shown plane is on the axis."""
        plane, axis = self._subject.plane, self.axis
        return None if plane is None or axis is None else position(plane, axis)
