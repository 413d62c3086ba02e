"""The planes of a stack or movie that are segmented together: all of them, or a range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from itertools import product
from typing import TYPE_CHECKING, NamedTuple, Protocol

from napari_tinysam.ui.state.planes import Plane, axes_of_file, full_shape

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image, Layer

#: First and last position on an axis, as the viewer's slider counts them.
Range = tuple[int, int]

#: Names of axes that certainly are depth, and of axes that certainly are time.
_DEPTH = ("z", "depth")
_TIME = ("t", "time", "frame", "frames")


class AxisKind(Enum):
    """What an axis of a stack is."""

    DEPTH = "depth (z)"
    TIME = "time (t)"


class KnowsKinds(Protocol):
    """An image's state: what axes without a telling label are."""

    @property
    def kind(self) -> dict[int, AxisKind]:
        """By axis."""
        ...


class KnowsPlaneStep(Protocol):
    """An image's state: how far planes lie apart."""

    @property
    def z_step(self) -> float | None:
        """In pixels of a plane."""
        ...


def axis_kind(image: Image, axis: int, state: KnowsKinds) -> AxisKind | None:
    """Return what an axis of an image is: by its label, or as its file or the user said.

    Returns
    -------
    AxisKind or None
        None if nobody has said it: ask, and put the answer into ``state.kind``.
    """
    return _kind_of(str(image.axis_labels[axis])) or state.kind.get(axis)


def is_named(image: Image, axis: int) -> bool:
    """Whether the label of an axis says that it is depth, or time."""
    return _kind_of(str(image.axis_labels[axis])) is not None


def kinds_in_file(image: Image) -> dict[int, AxisKind]:
    """Return what the file of an image says of its axes; nothing where the layer says it."""
    if image.ndim < 3 or any(_kind_of(str(label)) for label in image.axis_labels):
        return {}
    kinds = {axis: _kind_of(name) for axis, name in enumerate(axes_of_file(image))}
    return {axis: kind for axis, kind in kinds.items() if kind is not None}


def _kind_of(name: str) -> AxisKind | None:
    if name.lower() in _DEPTH:
        return AxisKind.DEPTH
    return AxisKind.TIME if name.lower() in _TIME else None


def knows_plane_step(image: Image, plane: Plane, axis: int) -> bool:
    """Whether the layer says how far planes lie apart: it has units, or planes another step."""
    step, pixel = (abs(float(image.scale[each])) for each in (axis, plane.axes[0]))
    return bool(image.units[axis].is_compatible_with("meter")) or step != pixel


def plane_step(image: Image, plane: Plane, axis: int, state: KnowsPlaneStep) -> float:
    """Return how far planes lie apart on an axis of depth, in the unit of the layer's scale."""
    step, pixel = (abs(float(image.scale[each])) for each in (axis, plane.axes[0]))
    if state.z_step is not None and not knows_plane_step(image, plane, axis):
        step = state.z_step * pixel
    return step or 1.0


def stack_axes(image: Image, plane: Plane) -> list[int]:
    """Return the axes of an image along which it has several planes; channels are none."""
    shape = full_shape(image)
    return [
        axis
        for axis, at in enumerate(plane.index)
        if at is not None and axis != plane.channel_axis and shape[axis] > 1
    ]


def nearest_plane(image: Layer, dims: Dims, channel_axis: int | None) -> Plane | None:
    """Return the plane of an image that is nearest to what the viewer shows.

    Parameters
    ----------
    image : napari.layers.Image
    dims : napari.components.Dims
        The viewer's.
    channel_axis : int or None
        Of the image.

    Returns
    -------
    Plane or None
        None if the image does not have the two axes that are shown.
    """
    offset = dims.ndim - image.ndim
    axes = [axis - offset for axis in dims.displayed[-2:]]
    if min(axes) < 0:
        return None
    shape, position = full_shape(image), image.world_to_data(dims.point)
    index = tuple(
        None
        if axis in axes
        else min(max(round(float(position[axis])), 0), shape[axis] - 1)
        for axis in range(image.ndim)
    )
    return Plane(
        index,
        (axes[0], axes[1]),
        (shape[axes[0]], shape[axes[1]]),
        None if channel_axis in axes else channel_axis,
    )


def planes_in(image: Image, plane: Plane, ranges: Mapping[int, Range]) -> list[Plane]:
    """List the planes of an image, in order, or of a part of it.

    Parameters
    ----------
    image : napari.layers.Image
    plane : Plane
        Gives the axes that are shown, and the channel.
    ranges : mapping of int to (int, int)
        First and last position, both included, on axes of which not all is wanted.
    """
    parts = axis_ranges(image, plane, ranges)
    found = []
    for places in product(*(range(part.first, part.last + 1) for part in parts)):
        index = list(plane.index)
        for part, at in zip(parts, places, strict=True):
            index[part.axis] = at
        found.append(replace(plane, index=tuple(index)))
    return found


def axis_of_kind(
    image: Image, plane: Plane, state: KnowsKinds, kind: AxisKind
) -> int | None:
    """Return the axis of a stack that is depth, or time; None if none is known to be."""
    for axis in stack_axes(image, plane):
        if axis_kind(image, axis, state) is kind:
            return axis
    return None


def planes_along(
    image: Image,
    plane: Plane,
    axis: int,
    inside: Sequence[int] = (),
    ranges: Mapping[int, Range] | None = None,
) -> list[list[list[Plane]]]:
    """List the planes of an image in the order in which they are linked along an axis.

    Parameters
    ----------
    image : napari.layers.Image
    plane : Plane
        Gives the axes that are shown, and the channel.
    axis : int
        Depth or time.
    inside : sequence of int
        Axes of which all planes belong together at each place on `axis`, as the depth of a frame.
    ranges : mapping of int to (int, int), optional
        As `planes_in` takes it.

    Returns
    -------
    list of list of list of Plane
        For each place on all other axes, for each place on `axis`, the planes that are there.
    """
    stacks: dict[tuple[int | None, ...], dict[int, list[Plane]]] = {}
    for each in planes_in(image, plane, ranges or {}):
        index = list(each.index)
        at, index[axis] = index[axis], None
        for other in inside:
            index[other] = None
        stacks.setdefault(tuple(index), {}).setdefault(at or 0, []).append(each)
    return [[places[at] for at in sorted(places)] for places in stacks.values()]


class AxisRange(NamedTuple):
    """The part of an axis that is searched.

    Attributes
    ----------
    axis : int
        Of the image.
    name : str
        "" if it has none.
    first, last : int
        Positions, both included.
    end : int
        The last position that there is.
    """

    axis: int
    name: str
    first: int
    last: int
    end: int


def axis_ranges(
    image: Image, plane: Plane, ranges: Mapping[int, Range]
) -> list[AxisRange]:
    """Return the part of each axis of a stack that is searched, see `planes_in`."""
    found = []
    for axis in stack_axes(image, plane):
        end = full_shape(image)[axis] - 1
        first, last = ranges.get(axis, (0, end))
        first, last = max(first, 0), min(last, end)
        found.append(AxisRange(axis, axis_name(image, axis), first, last, end))
    return found


def axis_name(image: Image, axis: int) -> str:
    """Return the name of an axis for people; "" if it has none."""
    label = str(image.axis_labels[axis])
    return "" if label.lstrip("-").isdecimal() else label


def place_in_words(image: Image, plane: Plane) -> str:
    """Say which plane of an image this is: "plane 12", "t 3, z 12"; "" if it has one only."""
    axes = stack_axes(image, plane)
    if len(axes) == 1:
        return f"plane {plane.index[axes[0]]}"
    return ", ".join(
        f"{axis_name(image, axis) or f'axis {axis}'} {plane.index[axis]}"
        for axis in axes
    )
