"""What the dock shows of the axes of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from napari_tinysam.ui.state.planes import full_shape
from napari_tinysam.ui.state.stack_planes import (
    AxisKind,
    axis_kind,
    axis_name,
    axis_of_kind,
    is_named,
    knows_plane_step,
    stack_axes,
)

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tinysam.ui.state.images import ImageState
    from napari_tinysam.ui.state.planes import Plane


class StackAxis(NamedTuple):
    """An axis along which an image has several planes.

    Attributes
    ----------
    axis : int
        Of the image.
    name : str
        "" if it has none.
    kind : AxisKind or None
        None if nobody has said it.
    named : bool
        Whether the layer says it, so that nobody has to be asked.
    """

    axis: int
    name: str
    kind: AxisKind | None
    named: bool


class Depth(NamedTuple):
    """The planes of a stack.

    Attributes
    ----------
    length : int
        Number of planes.
    step : float
        From one plane to the next, in `unit`; 0 if that is not known.
    unit : str
        "px" are pixels of a plane.
    asked : bool
        Whether only the user can say it.
    """

    length: int
    step: float
    unit: str
    asked: bool

    def words(self, planes: int) -> str:
        """Write a number of planes: "3 planes", or "3 (1.5 µm)"."""
        if not self.step or not planes:
            return f"{planes} plane{'' if planes == 1 else 's'}"
        return f"{planes} ({planes * self.step:.3g} {self.unit})"


def axes_of(image: Image, plane: Plane, state: ImageState) -> list[StackAxis]:
    """Describe the axes along which an image has several planes."""
    return [
        StackAxis(
            axis,
            axis_name(image, axis),
            axis_kind(image, axis, state),
            is_named(image, axis),
        )
        for axis in stack_axes(image, plane)
    ]


def depth_of(image: Image, plane: Plane, state: ImageState) -> Depth | None:
    """Describe the planes of a stack; None where no axis is known to be depth."""
    axis = axis_of_kind(image, plane, state, AxisKind.DEPTH)
    if axis is None:
        return None
    length, unit = full_shape(image)[axis], image.units[axis]
    if unit.is_compatible_with("meter"):
        return Depth(length, abs(float(image.scale[axis])), f"{unit:~P}", False)
    if knows_plane_step(image, plane, axis):
        return Depth(length, 0.0, "", False)
    return Depth(length, state.z_step or 0.0, "px", True)
