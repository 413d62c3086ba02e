"""The frames of a movie: which planes of an image and of its labels belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from napari_tinysam.ui.session.labels.writing import LabelsError, plane_in
from napari_tinysam.ui.state.stack_planes import (
    AxisKind,
    axis_of_kind,
    plane_step,
    planes_along,
    stack_axes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Image, Labels

    from napari_tinysam.ui.state.images import ImageState
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.stack_planes import Range


class MovieFrames(NamedTuple):
    """The frames of labels.

    Attributes
    ----------
    layer : napari.layers.Labels
    axis : int
        Time, in the layer.
    planes : list of list of Plane
        Of the layer, for each frame those of its depth.
    scale : tuple of float
        Side of a pixel along the axes of a frame.
    """

    layer: Labels
    axis: int
    planes: list[list[Plane]]
    scale: tuple[float, ...]


def image_frames(
    image: Image,
    plane: Plane | None,
    state: ImageState,
    ranges: Mapping[int, Range] | None = None,
) -> list[list[Plane]]:
    """Return the planes of each frame of an image; nothing if its time is not known.

    Parameters
    ----------
    image, plane, state
        As `movie_frames` takes them.
    ranges : mapping of int to (int, int), optional
        First and last position on axes of which not all is wanted.
    """
    if plane is None:
        return []
    time = axis_of_kind(image, plane, state, AxisKind.TIME)
    depth = axis_of_kind(image, plane, state, AxisKind.DEPTH)
    if time is None:
        return []
    inside = [] if depth is None else [depth]
    stacks = planes_along(image, plane, time, inside, ranges)
    return stacks[0] if stacks else []


def movie_frames(
    image: Image, plane: Plane | None, state: ImageState, layer: Labels | None
) -> MovieFrames:
    """Return the frames of the labels of an image.

    Parameters
    ----------
    image : napari.layers.Image
    plane : Plane or None
        Gives the axes that are shown, and the channel.
    state : ImageState
        Of the image.
    layer : napari.layers.Labels or None

    Raises
    ------
    LabelsError
        If there is nothing to track, or the axes do not make a movie.
    """
    if layer is None or plane is None:
        raise LabelsError(f"There is nothing to track: {image.name} has no labels yet.")
    axes = stack_axes(image, plane)
    if not axes:
        raise LabelsError(
            f"There is nothing to track: {image.name} has one frame only."
        )
    time = axis_of_kind(image, plane, state, AxisKind.TIME)
    depth = axis_of_kind(image, plane, state, AxisKind.DEPTH)
    if time is None:
        raise LabelsError(
            f"No axis of {image.name} is known to be time (t). Choose it first."
        )
    rest = [axis for axis in axes if axis not in (time, depth)]
    if rest:
        raise LabelsError(
            f"{image.name} has a further axis, {rest[0]}: only a movie of planes or of stacks "
            "can be tracked."
        )
    scale = [abs(float(image.scale[axis])) or 1.0 for axis in plane.axes]
    if depth is not None:
        scale.insert(0, plane_step(image, plane, depth, state))
    planes = [
        [plane_in(layer, each) for each in group]
        for group in image_frames(image, plane, state, state.part)
    ]
    if len(planes) < 2:
        raise LabelsError("Tracking takes two frames or more: choose a longer range.")
    return MovieFrames(layer, time - (image.ndim - layer.ndim), planes, tuple(scale))
