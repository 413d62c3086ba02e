"""The layer of proposals: the Labels layer `auto_segmentation`, placed like the image.

On large planes it is a pyramid whose pixels are painted when they are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap

from napari_tinysam.inference.looks import is_large
from napari_tinysam.ui.canvas.painted_pyramid import PaintedPyramid
from napari_tinysam.ui.state.coloring import PALETTE
from napari_tinysam.ui.state.images import put_above
from napari_tinysam.ui.state.painted import whole
from napari_tinysam.ui.state.planes import (
    empty_labels,
    full_shape,
    transform_for_labels,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_tinysam.ui.state.painted import PaintedPlane
    from napari_tinysam.ui.state.planes import Plane

#: Name of the layer.
PROPOSED = "auto_segmentation"


class ProposalLayer:
    """Owns the layer of proposals of one viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layer goes.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._image: Image | None = None
        self._pyramid: PaintedPyramid | None = None
        self._palette: tuple[str, ...] = PALETTE
        self.layer: Labels | None = None

    def write(
        self,
        image: Image,
        channel_axis: int | None,
        plane: Plane,
        painted: PaintedPlane,
        palette: Sequence[str] = PALETTE,
    ) -> None:
        """Show proposals on a plane of an image; make the layer if there is none.

        Parameters
        ----------
        image : napari.layers.Image
        channel_axis : int or None
            Of the image: objects belong to all channels.
        plane : Plane
            Of the image.
        painted : PaintedPlane
            Values of proposals, see `napari_tinysam.ui.state.coloring`.
        palette : sequence of str
            Their colours.
        """
        layer = self._attached(image, channel_axis, plane)
        if tuple(palette) != self._palette:
            layer.colormap = CyclicLabelColormap(colors=["transparent", *palette])
            self._palette = tuple(palette)
        own = plane.without_channel().for_ndim(layer.ndim)
        if self._pyramid is not None:
            self._pyramid.write(own, painted)
        else:
            labels = whole(painted)
            layer.data[own.cut()] = labels.T if own.transposed else labels
        layer.refresh(extent=False)

    def clear(self, image: Image, plane: Plane) -> None:
        """Clear a plane of an image; remove the layer if it belongs to another image."""
        layer = self.layer
        if layer is None or layer not in self._viewer.layers:
            return
        if self._image is not image:
            self.remove()
            return
        own = plane.without_channel().for_ndim(layer.ndim)
        if self._pyramid is not None:
            changed = self._pyramid.write(own, None)
        else:
            changed = bool(layer.data[own.cut()].any())
            layer.data[own.cut()] = 0
        if changed:
            layer.refresh(extent=False)

    def remove(self) -> None:
        """Remove the layer from the viewer."""
        layer, self.layer, self._image = self.layer, None, None
        self._pyramid = None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _attached(self, image: Image, channel_axis: int | None, plane: Plane) -> Labels:
        shape = full_shape(image)[1 if channel_axis == 0 else 0 :]
        layer = self.layer
        if (
            layer is not None
            and layer in self._viewer.layers
            and self._image is image
            and full_shape(layer) == shape
        ):
            put_above(self._viewer, layer, image)
            return layer
        self.remove()
        pyramid = None
        if is_large(plane.shape):
            own = plane.without_channel().for_ndim(len(shape))
            pyramid = PaintedPyramid(shape, own.axes)
        layer = Labels(
            pyramid.levels if pyramid else empty_labels(image, channel_axis, np.int32),
            multiscale=pyramid is not None,
            name=PROPOSED,
            opacity=0.5,
            colormap=CyclicLabelColormap(colors=["transparent", *PALETTE]),
            **transform_for_labels(image, channel_axis),
        )
        # Every setting redraws it: painting on it would be lost.
        layer.editable = False
        selection = self._viewer.layers.selection
        chosen, active = set(selection), selection.active
        self._viewer.layers.insert(self._viewer.layers.index(image) + 1, layer)
        self._viewer.layers.selection = chosen
        self._viewer.layers.selection.active = active
        self.layer, self._image, self._pyramid = layer, image, pyramid
        self._palette = PALETTE
        return layer
