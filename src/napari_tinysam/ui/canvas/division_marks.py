"""The napari layer that marks possible divisions: a ring around each mother and her daughters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Points

from napari_tinysam.ui.canvas.tracks_layer import insert_above
from napari_tinysam.ui.state.planes import transform_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Labels

#: What the name of the layer ends in.
NAME = "possible divisions"

#: Colours of the rings.
_COLORS = {"mother": "#ffd23f", "daughter": "#ff7f2a"}

#: A ring has this many diameters of its object.
_ROOM = 1.5

#: Width of a ring, as a share of its diameter.
_WIDTH = 0.12

#: Least and most pixels of a ring on the screen. The smallest have borders of half of that.
_ON_SCREEN = (10, 4000)


class DivisionMarks:
    """Marks possible divisions above their labels.

    The layer is made with the first mark. Then it stays, as napari takes a second to remove one.

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
        self.layer: Points | None = None

    def show(
        self,
        places: npt.NDArray[np.float64],
        sizes: npt.NDArray[np.float64],
        mothers: Sequence[bool],
    ) -> None:
        """Mark objects; napari shows those of its frame.

        Parameters
        ----------
        places : ndarray of float64, (N, D)
            Centres in the data of the labels.
        sizes : ndarray of float64, (N,)
            Diameters of the objects, in pixels.
        mothers : sequence of bool, (N,)
            Which of them are mothers; the others are daughters.
        """
        there = self.layer is not None and self.layer in self._viewer.layers
        if not there:
            self.layer = None
        if self.layer is None and not len(places):
            return
        roles = ["mother" if mother else "daughter" for mother in mothers]
        if self.layer is None:
            self.layer = self._made(places.shape[1])
            insert_above(self._viewer, self.layer, self._labels)
        layer, sizes = self.layer, _ROOM * sizes
        if len(layer.data) == len(places) and np.array_equal(layer.data, places):
            return
        with layer.events.blocker_all():  # drawn once, at the end
            layer.data = places
            layer.features = {"role": roles}
            if roles:
                layer.border_color = [_COLORS[role] for role in roles]
                layer.size = sizes
        layer.refresh()
        layer.events.data(value=layer.data)

    def remove(self) -> None:
        """Remove the layer, if it is there."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        self.layer = None

    def _made(self, ndim: int) -> Points:
        """Make the layer, without marks."""
        layer = Points(
            np.zeros((0, ndim)),
            name=self._name,
            canvas_size_limits=_ON_SCREEN,
            face_color="transparent",
            border_width=_WIDTH,
            **transform_of(self._labels),
        )
        layer.editable = False
        return layer
