"""Where the shown plane lies in a layer's data, and how to get from the cursor to its pixels.

Three spaces: `world` (the viewer's), `data` (indices of the layer's full-resolution array, without
the colour axis) and `xy_plane` (pixels of the shown plane at full resolution). The model works on a
plane, prompts are kept in `xy_plane`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import Dims
    from napari.layers import Image, Layer

#: Longest side that the model looks at: finer pyramid levels would only be scaled down again.
_MODEL_SIDE = 1024

#: Plain arrays with a short first axis, shown as a stack, are often channels.
_MAX_CHANNELS = 16


#: How files label first axes that are certainly not channels.
_NOT_CHANNELS = ("t", "time", "z", "depth")


class Contrast(Enum):
    """Which values become black and white for the model."""

    PERCENTILES = "percentiles of the plane"
    DISPLAYED = "as displayed"


class PlaneError(ValueError):
    """The shown plane cannot be segmented; the message says why, to the user."""


@dataclass(frozen=True)
class Plane:
    """One plane of a layer: which axes are shown, and where on the others.

    Parameters
    ----------
    index : tuple of int or None
        One entry an axis of the layer's full-resolution data: the position on an axis that is not
        shown, None on the two that are.
    axes : (int, int)
        The axes of the layer that run down and across the screen.
    shape : (int, int)
        Full-resolution pixels down and across.
    """

    index: tuple[int | None, ...]
    axes: tuple[int, int]
    shape: tuple[int, int]

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
        """Return the same plane of a layer with fewer axes, which napari aligns at the end."""
        drop = len(self.index) - ndim
        if drop < 0 or min(self.axes) < drop:
            raise PlaneError("The layer does not have the axes that are shown.")
        return Plane(
            self.index[drop:], (self.axes[0] - drop, self.axes[1] - drop), self.shape
        )


def shown_plane(layer: Image, dims: Dims, channel: int | None = None) -> Plane:
    """Find the plane of a layer that the viewer shows.

    Parameters
    ----------
    layer : napari.layers.Image
        Of any number of axes; RGB and multiscale too.
    dims : napari.components.Dims
        The viewer's.
    channel : int, optional
        The position on the first axis, where that is channels, whatever its slider shows.

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
        if axis == 0 and channel is not None:
            index[axis] = channel
            continue
        at = round(float(position[axis]))
        if not 0 <= at < shape[axis]:
            raise PlaneError(f"{layer.name} has no plane at this position.")
        index[axis] = at
    return Plane(
        tuple(index), (axes[0], axes[1]), (int(shape[axes[0]]), int(shape[axes[1]]))
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
    enough = [i for i, side in enumerate(sides) if side >= _MODEL_SIDE]
    return enough[-1] if enough else 0


def channel_count(layer: Image) -> int:
    """How many channels the first axis may hold; 1 where it cannot be channels.

    Colour is not meant: RGB layers have an axis of their own for it, which napari does not count.
    """
    if layer.rgb or layer.ndim < 3:
        return 1
    if str(layer.axis_labels[0]).lower() in _NOT_CHANNELS:
        return 1
    first = full_shape(layer)[0]
    return first if first <= _MAX_CHANNELS else 1


def default_channel(layer: Image) -> int | None:
    """Channel 0 where the first axis is labelled as channels, None where it is a stack."""
    label = str(layer.axis_labels[0]).lower()
    if channel_count(layer) > 1 and label in ("c", "channel", "channels"):
        return 0
    return None


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
