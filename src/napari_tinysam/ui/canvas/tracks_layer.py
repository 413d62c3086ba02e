"""The napari layer that shows the tracks of a labels layer, with their graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Tracks

from napari_tinysam.ui.state.planes import transform_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

#: What the name of the layer ends in.
NAME = "tracks"

#: Frames that the tail of a track shows.
_TAIL = 12


class TracksLayer:
    """Shows tracks above their labels.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    labels : napari.layers.Labels
    name : str
        Of the image.
    """

    def __init__(self, viewer: ViewerModel, labels: Labels, name: str) -> None:
        self._viewer = viewer
        self._name = f"{name} {NAME}"
        self._labels = labels
        self.layer: Tracks | None = None

    def show(self, rows: npt.NDArray[np.float64], parents: Mapping[int, int]) -> None:
        """Show tracks.

        Parameters
        ----------
        rows : ndarray of float64, (N, 1 + D)
            Track, and place in the data of the labels, by track and time.
        parents : mapping of int to int
            The mother of each track that has one.
        """
        if not len(rows):
            self.remove()
            return
        graph = {child: [mother] for child, mother in parents.items()}
        if self.layer is not None and self.layer in self._viewer.layers:
            self.layer.data = rows
            self.layer.graph = graph
            return
        self.layer = layer = Tracks(
            rows,
            graph=graph,
            name=self._name,
            tail_length=_TAIL,
            **transform_of(self._labels),
        )
        insert_above(self._viewer, layer, self._labels)

    def remove(self) -> None:
        """Remove the layer, if it is there."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        self.layer = None


def insert_above(viewer: ViewerModel, layer: Layer, labels: Labels) -> None:
    """Add a layer right above labels; clicks and keys stay where they were."""
    layers = viewer.layers
    chosen, active = set(layers.selection), layers.selection.active
    layers.insert(layers.index(labels) + 1, layer)
    layers.selection = chosen
    layers.selection.active = active
