"""The layer of proposals: the Labels layer `auto_segmentation`, placed like the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap

from napari_tinysam.ui.state.coloring import PALETTE
from napari_tinysam.ui.state.images import put_above
from napari_tinysam.ui.state.planes import (
    empty_labels,
    full_shape,
    transform_for_labels,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image

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
        self.layer: Labels | None = None

    def write(
        self,
        image: Image,
        channel_axis: int | None,
        plane: Plane,
        labels: npt.NDArray[np.int32],
    ) -> None:
        """Show proposals on a plane of an image; make the layer if there is none.

        Parameters
        ----------
        image : napari.layers.Image
        channel_axis : int or None
            Of the image: objects belong to all channels.
        plane : Plane
            Of the image.
        labels : ndarray of int32, (H, W)
            Values of proposals, see `napari_tinysam.ui.state.coloring`.
        """
        layer = self._attached(image, channel_axis)
        own = plane.without_channel().for_ndim(layer.ndim)
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
        cut = plane.without_channel().for_ndim(layer.ndim).cut()
        if layer.data[cut].any():
            layer.data[cut] = 0
            layer.refresh(extent=False)

    def remove(self) -> None:
        """Remove the layer from the viewer."""
        layer, self.layer, self._image = self.layer, None, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _attached(self, image: Image, channel_axis: int | None) -> Labels:
        shape = full_shape(image)[1 if channel_axis == 0 else 0 :]
        layer = self.layer
        if (
            layer is not None
            and layer in self._viewer.layers
            and self._image is image
            and layer.data.shape == shape
        ):
            put_above(self._viewer, layer, image)
            return layer
        self.remove()
        layer = Labels(
            empty_labels(image, channel_axis, np.int32),
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
        self.layer, self._image = layer, image
        return layer
