"""The window of ``napari-tinysam demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def open_demo(
    image: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer[Any]]
) -> None:
    """Show an image with its labels and the dock, and return when the window is closed.

    Parameters
    ----------
    image : numpy.ndarray
        (Y, X, 3) uint8.
    labels : numpy.ndarray
        (Y, X) integers. They are in the layer that the dock commits to, so that work goes on where
        the demo ends.
    """
    viewer = napari.Viewer(title="napari-tinysam demo")
    layer = viewer.add_image(image, name="tissue", rgb=True)
    viewer.add_labels(labels, name="committed_objects").contour = 2
    viewer.layers.selection.active = layer
    viewer.window.add_plugin_dock_widget("napari-tinysam", "TinySAM")
    napari.run()
