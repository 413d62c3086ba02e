"""Where the shown plane lies in a layer's data, and how to get from the cursor to its pixels.

Three spaces: `world` (the viewer's), `data` (indices of the layer's full-resolution array, without
the colour axis) and `xy_plane` (pixels of the shown plane at full resolution). The model works on a
plane, prompts are kept in `xy_plane`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import TinySAMError
from napari_tinysam.frame import FRAME, MAX_CHANNELS

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import Dims
    from napari.layers import Image, Layer

#: Labels of axes that certainly are channels, and of axes that certainly are not.
_CHANNELS = ("c", "channel", "channels", "ch")
_NOT_CHANNELS = ("t", "time", "z", "depth", "s", "p", "position")


class Contrast(Enum):
    """Which values become black and white for the model."""

    PERCENTILES = "percentiles of the plane"
    DISPLAYED = "as displayed"


class PlaneError(TinySAMError, ValueError):
    """The shown plane cannot be segmented; the message tells the user why."""


@dataclass(frozen=True)
class Plane:
    """One plane of a layer: which axes are shown, and where on the others.

    Parameters
    ----------
    index : tuple of int or None
        One entry per axis of the layer's full-resolution data: the position on an axis that is not
        shown, None on the two that are.
    axes : (int, int)
        The axes of the layer that run down and across the screen.
    shape : (int, int)
        Full-resolution pixels down and across.
    channel_axis : int, optional
        The axis of the layer that holds channels, where it is not shown.
    """

    index: tuple[int | None, ...]
    axes: tuple[int, int]
    shape: tuple[int, int]
    channel_axis: int | None = None

    def data_position(self, xy_plane: Sequence[float]) -> npt.NDArray[np.float64]:
        """Map (x, y) on the plane to a position in the layer's data, (ndim,)."""
        position = np.array([0 if i is None else i for i in self.index], float)
        position[self.axes[0]] = xy_plane[1]
        position[self.axes[1]] = xy_plane[0]
        return position

    def xy_plane(self, position: npt.ArrayLike) -> tuple[float, float]:
        """Map a position in the layer's data, (ndim,), to (x, y) on the plane."""
        data = np.asarray(position, float)
        return float(data[self.axes[1]]), float(data[self.axes[0]])

    def contains(self, xy_plane: Sequence[float]) -> bool:
        """Whether (x, y) falls on a pixel of the plane."""
        x, y = xy_plane
        height, width = self.shape
        return -0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5

    def cut(
        self, y: slice = slice(None), x: slice = slice(None)
    ) -> tuple[int | slice, ...]:
        """Index a rectangle of the plane in full-resolution data of the layer's ndim."""
        cut: list[int | slice] = [slice(None) if i is None else i for i in self.index]
        cut[self.axes[0]], cut[self.axes[1]] = y, x
        return tuple(cut)

    @property
    def transposed(self) -> bool:
        """Whether the rows of the plane are a later axis of the data than its columns."""
        return self.axes[0] > self.axes[1]

    def for_ndim(self, ndim: int) -> Plane:
        """Return the same plane of a layer with fewer axes, which napari aligns at the end.

        Raises
        ------
        PlaneError
            If one of the axes that are shown would be left out, or others than the channels while
            these stay: the planes of the two layers would not be the same ones.
        """
        drop = len(self.index) - ndim
        if drop < 0 or min(self.axes) < drop:
            raise PlaneError("The layer does not have the axes that are shown.")
        channels = self.channel_axis
        if drop and channels is not None and channels >= drop:
            raise PlaneError("The layer leaves out another axis than the channels.")
        return Plane(
            self.index[drop:],
            (self.axes[0] - drop, self.axes[1] - drop),
            self.shape,
            None if channels is None or drop else channels,
        )

    def without_channel(self) -> Plane:
        """Return the plane that all channels have in common: the first channel's."""
        if self.channel_axis is None:
            return self
        index = list(self.index)
        index[self.channel_axis] = 0
        return replace(self, index=tuple(index))


def shown_plane(layer: Image, dims: Dims, channel_axis: int | None = None) -> Plane:
    """Find the plane of a layer that the viewer shows.

    Parameters
    ----------
    layer : napari.layers.Image
        Of any number of axes; RGB and multiscale too.
    dims : napari.components.Dims
        The viewer's.
    channel_axis : int, optional
        The axis of the layer that holds channels.

    Raises
    ------
    PlaneError
        If the viewer shows 3D, an axis that the layer does not have, or a place outside it.
    """
    if dims.ndisplay != 2:
        raise PlaneError("Clicking works in 2D. Switch off the 3D view (Ctrl+Y).")
    offset = dims.ndim - layer.ndim
    axes = [axis - offset for axis in dims.displayed]
    if min(axes) < 0:
        raise PlaneError(f"{layer.name} does not have the two axes that are shown.")
    shape = full_shape(layer)
    position = layer.world_to_data(dims.point)
    index: list[int | None] = [None] * layer.ndim
    for axis in range(layer.ndim):
        if axis in axes:
            continue
        at = round(float(position[axis]))
        if not 0 <= at < shape[axis]:
            raise PlaneError(f"{layer.name} has no plane at this position.")
        index[axis] = at
    return Plane(
        tuple(index),
        (axes[0], axes[1]),
        (int(shape[axes[0]]), int(shape[axes[1]])),
        None if channel_axis in axes else channel_axis,
    )


def full_shape(layer: Layer) -> tuple[int, ...]:
    """Shape of a layer's full-resolution data without the colour axis."""
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return tuple(int(n) for n in data.shape[: layer.ndim])


def plane_reader(layer: Image, plane: Plane) -> Callable[[], Any]:
    """Prepare to cut a plane out of a layer's data; from a pyramid the level that suits the model.

    Returns
    -------
    callable
        Reads the plane, (H, W) or (H, W, 3 or 4) for RGB, rows down the screen. From a pyramid it
        is the coarsest level with at least 1024 pixels on the longer side. Reading may take long
        (a disk, a network, a dask graph): it belongs in a worker.
    """
    shape = full_shape(layer)
    data = layer.data[_level(layer, plane)] if layer.multiscale else layer.data
    cut = list(plane.cut())
    for axis, at in enumerate(plane.index):
        if at is not None:  # the other axes of a pyramid may be downsampled as well
            ratio = shape[axis] / data.shape[axis]
            cut[axis] = min(int(at / ratio), data.shape[axis] - 1)
    order = (1, 0, 2) if layer.rgb else (1, 0)
    transposed = plane.transposed

    def read() -> Any:
        pixels = np.asarray(data[tuple(cut)])
        return pixels.transpose(order) if transposed else pixels

    return read


def _level(layer: Image, plane: Plane) -> int:
    """Which level of a pyramid to read: the coarsest that is not too coarse."""
    sides = [max(level.shape[a] for a in plane.axes) for level in layer.data]
    enough = [i for i, side in enumerate(sides) if side >= FRAME]
    return enough[-1] if enough else 0


def possible_channel_axis(layer: Image) -> int | None:
    """Find the axis that holds channels, or may hold them; None where there is none.

    Colour does not count: RGB layers have an axis of their own for it, which napari leaves out.
    """
    certain = certain_channel_axis(layer)
    if certain is not None or layer.rgb or layer.ndim < 3:
        return certain
    shape, labels = full_shape(layer), _labels_of_axes(layer)
    short = [
        axis
        for axis in range(layer.ndim - 2)
        if 1 < shape[axis] <= MAX_CHANNELS and labels[axis] not in _NOT_CHANNELS
    ]
    # The axis before the rows, as microscopes' files are ordered.
    return short[-1] if short else None


def certain_channel_axis(layer: Image) -> int | None:
    """Find the axis that certainly holds channels: by its label, or by the file's own axes."""
    if layer.rgb or layer.ndim < 3:
        return None
    labels = _labels_of_axes(layer)
    if not any(label in _CHANNELS for label in labels):
        labels = axes_of_file(layer)
    found = [axis for axis, label in enumerate(labels) if label in _CHANNELS]
    return found[0] if found and full_shape(layer)[found[0]] > 1 else None


def _labels_of_axes(layer: Image) -> list[str]:
    return [str(label).lower() for label in layer.axis_labels]


def axes_of_file(layer: Image) -> list[str]:
    """Axes that the file of a layer names, lower case; empty where it does not say or fit."""
    path = layer.source.path
    if path is None or not str(path).lower().endswith((".tif", ".tiff")):
        return []
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            if not (file.is_ome or file.is_imagej):
                return []
            axes, shape = file.series[0].axes.lower(), tuple(file.series[0].shape)
    except (OSError, ValueError, IndexError, tifffile.TiffFileError):
        return []  # an unreadable file names no axes
    return list(axes) if shape == full_shape(layer) else []


def empty_labels(
    layer: Image, channel_axis: int | None, dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Make zeros for objects that belong to all channels of a layer.

    Channels on the first axis are left out, since napari aligns layers at their last axes. Another
    axis stays, but all positions on it share memory: writing one channel writes all.
    """
    shape = full_shape(layer)
    if channel_axis is None:
        return np.zeros(shape, dtype)
    plain = np.zeros((*shape[:channel_axis], *shape[channel_axis + 1 :]), dtype)
    if channel_axis == 0:
        return plain
    shared = np.expand_dims(plain, channel_axis)
    strides = list(shared.strides)
    strides[channel_axis] = 0
    return np.lib.stride_tricks.as_strided(shared, shape, strides, writeable=True)


def transform_of(layer: Layer) -> dict[str, Any]:
    """Return the arguments that put another layer with the same axes where this one is."""
    return {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def transform_for_labels(image: Image, channel_axis: int | None) -> dict[str, Any]:
    """Transform arguments that put a layer of `empty_labels` where the image is.

    The first axis must not be mixed with the others by a rotation; channels never are.
    """
    if channel_axis != 0:
        return transform_of(image)
    affine = np.asarray(image.affine.affine_matrix)
    return {
        "scale": image.scale[1:],
        "translate": image.translate[1:],
        "rotate": image.rotate[1:, 1:],
        "affine": affine[1:, 1:],
        "units": image.units[1:],
        "axis_labels": image.axis_labels[1:],
    }
