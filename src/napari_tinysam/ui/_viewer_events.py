"""Which napari events the session follows, connected and disconnected in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

#: The viewer shows another plane.
_DIMS = ("point", "order", "ndisplay", "ndim")

#: Masks lie elsewhere.
_TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine")

Follow = Callable[[], None]


class ViewerEvents:
    """Follows a viewer and one image layer of it.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        To follow.
    on_inserted, on_removed : callable
        Called with a layer.
    on_listed : callable
        Layers were renamed or reordered.
    on_plane : callable
        Another plane may be shown.
    on_data, on_contrast, on_moved : callable
        The followed image has other data, contrast limits, another place.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        *,
        on_inserted: Callable[[Layer], None],
        on_removed: Callable[[Layer], None],
        on_listed: Follow,
        on_plane: Follow,
        on_data: Follow,
        on_contrast: Follow,
        on_moved: Follow,
    ) -> None:
        self._viewer = viewer
        self._on_inserted = on_inserted
        self._on_removed = on_removed
        self._on_listed = on_listed
        self._on_plane = on_plane
        self._on_data = on_data
        self._on_contrast = on_contrast
        self._on_moved = on_moved
        self._image: Image | None = None
        layers = viewer.layers.events
        layers.inserted.connect(self._inserted)
        layers.removed.connect(self._removed)
        layers.reordered.connect(self._listed)
        for name in _DIMS:
            getattr(viewer.dims.events, name).connect(self._plane)
        for layer in viewer.layers:
            layer.events.name.connect(self._listed)

    def follow(self, image: Image | None) -> None:
        """Follow another image layer."""
        if self._image is not None:
            self._image.events.data.disconnect(self._data)
            self._image.events.contrast_limits.disconnect(self._contrast)
            for name in _TRANSFORMS:
                getattr(self._image.events, name).disconnect(self._moved)
        self._image = image
        if image is not None:
            image.events.data.connect(self._data)
            image.events.contrast_limits.connect(self._contrast)
            for name in _TRANSFORMS:
                getattr(image.events, name).connect(self._moved)

    def close(self) -> None:
        """Follow nothing any more."""
        self.follow(None)
        layers = self._viewer.layers.events
        layers.inserted.disconnect(self._inserted)
        layers.removed.disconnect(self._removed)
        layers.reordered.disconnect(self._listed)
        for name in _DIMS:
            getattr(self._viewer.dims.events, name).disconnect(self._plane)
        for layer in self._viewer.layers:
            layer.events.name.disconnect(self._listed)

    def _inserted(self, event: Any) -> None:
        event.value.events.name.connect(self._listed)
        self._on_inserted(event.value)

    def _removed(self, event: Any) -> None:
        event.value.events.name.disconnect(self._listed)
        self._on_removed(event.value)

    def _listed(self, event: Any = None) -> None:
        self._on_listed()

    def _plane(self, event: Any = None) -> None:
        self._on_plane()

    def _data(self, event: Any = None) -> None:
        self._on_data()

    def _contrast(self, event: Any = None) -> None:
        self._on_contrast()

    def _moved(self, event: Any = None) -> None:
        self._on_moved()
