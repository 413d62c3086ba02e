"""Objects of a stack in all of their planes: removed, merged, split along the axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.labels.edits import read_ids
from napari_tinysam.ui.session.labels.stack_edits import StackEdit, renamed
from napari_tinysam.ui.session.labels.writing import LabelsError, object_mask
from napari_tinysam.ui.state.planes import full_shape
from napari_tinysam.ui.state.stack_planes import stack_axes
from napari_tinysam.ui.state.traces import Trace, moved_to, position

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from napari.layers import Image, Labels

    from napari_tinysam.ui.session.labels.outputs import Outputs
    from napari_tinysam.ui.state.images import Memory
    from napari_tinysam.ui.state.planes import Plane


@dataclass(frozen=True, eq=False)
class WholeObject:
    """An object in the planes of an axis.

    Attributes
    ----------
    layer : napari.layers.Labels
    label : int
    axis : int
        Of the image.
    planes : dict of int to Plane
        By position on the axis: the planes of the layer that have it.
    """

    layer: Labels
    label: int
    axis: int
    planes: dict[int, Plane]


class WholeObjects:
    """Changes objects in all of their planes, each as one step.

    Where an object was followed, its planes are known. Other labels may use one id for different
    objects in different planes; there the planes are those in which the id goes on, each
    overlapping with the one before.

    Parameters
    ----------
    outputs : Outputs
        Which labels belong to which image.
    memory : Memory
        Knows the followed objects.
    """

    def __init__(self, outputs: Outputs, memory: Memory) -> None:
        self._outputs = outputs
        self._memory = memory

    def find(self, image: Image, plane: Plane, label: int) -> WholeObject | None:
        """Find the planes of an object; None if it is in one plane only.

        Parameters
        ----------
        image, plane
            Where it is.
        label : int
        """
        state = self._memory.state_of(image)
        axes = stack_axes(image, plane)
        found = self._outputs.plane(image, plane)
        if not axes or found is None:
            return None
        layer = found[0]
        traces = self._memory.traces_of(layer)
        trace = traces.get(label)
        axis = state.follow_axis if state.follow_axis in axes else axes[-1]
        if trace is not None and trace.holds(plane):
            axis = trace.axis
        planes = {position(plane, axis): found[1]}
        for step in (1, -1):
            planes |= self._onwards(image, plane, axis, label, step)
        if trace is not None and trace.holds(plane):
            for at in traces.masks(trace):
                if at not in planes:
                    planes[at] = self._plane(image, moved_to(plane, axis, at))
        if len(planes) < 2:
            return None
        return WholeObject(layer, label, axis, dict(sorted(planes.items())))

    def remove(self, whole: WholeObject) -> StackEdit:
        """Remove an object from all of its planes."""
        return self._renamed(whole, 0, {whole.label: None})

    def merge(self, whole: WholeObject, label: int) -> StackEdit:
        """Give an object the id of another one, in all of its planes."""
        traces = self._memory.traces_of(whole.layer)
        other = traces.get(label)
        after: dict[int, Trace | None] = {whole.label: None}
        edit = self._renamed(whole, label, after)
        if other is not None:
            joined = other
            for at, plane in whole.planes.items():
                joined = joined.with_anchor(at, object_mask(whole.layer, plane, label))
            after[label] = joined
            traces.put(label, joined)
        return edit

    def split(self, whole: WholeObject, at: int) -> tuple[StackEdit, int]:
        """Let another object begin in a plane: from there on it has a new id.

        Returns
        -------
        edit : StackEdit
        new : int
            The id of the later part.

        Raises
        ------
        LabelsError
            If there is nothing before that plane.
        """
        later = {
            number: plane for number, plane in whole.planes.items() if number >= at
        }
        if len(later) in (0, len(whole.planes)):
            raise LabelsError(
                f"Object {whole.label} begins here: go to the first plane of the second object."
            )
        (new,) = self._outputs.ids(whole.layer).next()
        self._outputs.ids(whole.layer).used(new)
        trace = self._memory.traces_of(whole.layer).get(whole.label)
        after: dict[int, Trace | None] = {}
        if trace is not None:
            earlier = trace.without(number for number in trace.found if number >= at)
            after[whole.label] = replace(earlier, last=at - 1)
            rest = trace.without(number for number in trace.found if number < at)
            after[new] = replace(rest, label=new, first=at)
        part = WholeObject(whole.layer, whole.label, whole.axis, later)
        return self._renamed(part, new, after), new

    def _renamed(
        self, whole: WholeObject, new: int, after: dict[int, Trace | None]
    ) -> StackEdit:
        """Rename an object; what is known of objects changes with the step."""
        traces = self._memory.traces_of(whole.layer)
        before = {label: traces.get(label) for label in {whole.label, new} | set(after)}

        def turned(applied: bool) -> None:
            for label, trace in (after if applied else before).items():
                traces.put(label, trace)

        edit = StackEdit(whole.layer, turned)
        for plane in whole.planes.values():
            piece = renamed(whole.layer, plane, whole.label, new)
            if piece is not None:
                edit.add(piece)
        turned(True)
        whole.layer.refresh()
        return edit

    def _onwards(
        self, image: Image, plane: Plane, axis: int, label: int, step: int
    ) -> dict[int, Plane]:
        """Follow an id from plane to plane, as long as it overlaps with itself."""
        planes: dict[int, Plane] = {}
        layer = self._outputs.of(image)
        assert layer is not None
        mask = object_mask(layer, self._plane(image, plane), label)
        for at in self._beyond(image, plane, axis, step):
            there = self._plane(image, moved_to(plane, axis, at))
            if not (read_ids(layer, there, *mask.slices)[mask.mask] == label).any():
                break
            planes[at] = there
            mask = object_near(layer, there, label, mask)
        return planes

    @staticmethod
    def _beyond(image: Image, plane: Plane, axis: int, step: int) -> Iterator[int]:
        at, end = position(plane, axis) + step, full_shape(image)[axis]
        yield from range(at, end if step > 0 else -1, step)

    def _plane(self, image: Image, plane: Plane) -> Plane:
        found = self._outputs.plane(image, plane)
        assert found is not None
        return found[1]


def object_near(layer: Labels, plane: Plane, label: int, near: BoxedMask) -> BoxedMask:
    """Find an object of a plane around the place of another mask.

    Only twice that place is read, unless the object reaches out of it.
    """
    height, width = near.mask.shape
    y0, x0 = max(near.y0 - height, 0), max(near.x0 - width, 0)
    rows, columns = slice(y0, near.y0 + 2 * height), slice(x0, near.x0 + 2 * width)
    inside: npt.NDArray[np.bool_] = read_ids(layer, plane, rows, columns) == label
    edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
    if any(edge.any() for edge in edges):
        return object_mask(layer, plane, label)
    return BoxedMask(inside, y0, x0, plane.shape).trimmed()
