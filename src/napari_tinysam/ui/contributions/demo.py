"""The window of ``napari-tinysam demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari

from napari_tinysam.ui.session.labels.outputs import committed_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def open_demo(
    image: npt.NDArray[np.float32], labels: npt.NDArray[np.integer[Any]]
) -> None:
    """Show an image with its labels and the dock. Returns when the window is closed.

    Parameters
    ----------
    image : numpy.ndarray
        (Y, X) float32.
    labels : numpy.ndarray
        (Y, X) integers. The dock commits to their layer.
    """
    viewer = napari.Viewer(title="napari-tinysam demo")
    nuclei = viewer.add_image(image, name="nuclei")
    objects = viewer.add_labels(labels, name=committed_name(nuclei))
    objects.contour = 1
    viewer.layers.selection.active = nuclei
    viewer.window.add_plugin_dock_widget("napari-tinysam", "TinySAM")
    napari.run()
