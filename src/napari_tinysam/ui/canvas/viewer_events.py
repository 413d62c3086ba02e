"""The napari events that the session follows, connected and disconnected in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.layers import Image

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: Events of the dims after which another plane may be shown.
_DIMS = ("point", "order", "ndisplay", "ndim")

#: Events of the image after which masks lie elsewhere.
_TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine")

#: Events of the camera after which another part of the plane is on the screen.
_VIEW = ("zoom", "center")

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
    on_active : callable
        Another layer is the active one, or it has another mode.
    on_plane : callable
        Another plane may be shown.
    on_view : callable
        Another part of the plane is on the screen.
    on_data : callable
        Called with an image layer that has other data.
    on_contrast, on_moved : callable
        The followed image has other contrast limits, another place.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        *,
        on_inserted: Callable[[Layer], None],
        on_removed: Callable[[Layer], None],
        on_listed: Follow,
        on_active: Follow,
        on_plane: Follow,
        on_view: Follow,
        on_data: Callable[[Image], None],
        on_contrast: Follow,
        on_moved: Follow,
    ) -> None:
        self._viewer = viewer
        self._on_inserted = on_inserted
        self._on_removed = on_removed
        self._on_listed = on_listed
        self._on_active = on_active
        self._on_plane = on_plane
        self._on_view = on_view
        self._on_data = on_data
        self._on_contrast = on_contrast
        self._on_moved = on_moved
        self._image: Image | None = None
        layers = viewer.layers.events
        layers.inserted.connect(self._inserted)
        layers.removed.connect(self._removed)
        layers.reordered.connect(self._listed)
        viewer.layers.selection.events.active.connect(self._active)
        for name in _DIMS:
            getattr(viewer.dims.events, name).connect(self._plane)
        for name in _VIEW:
            getattr(viewer.scene.camera.events, name).connect(self._view)
        for layer in viewer.layers:
            self._connect(layer)

    def follow(self, image: Image | None) -> None:
        """Follow another image layer."""
        if self._image is not None:
            self._image.events.contrast_limits.disconnect(self._contrast)
            for name in _TRANSFORMS:
                getattr(self._image.events, name).disconnect(self._moved)
        self._image = image
        if image is not None:
            image.events.contrast_limits.connect(self._contrast)
            for name in _TRANSFORMS:
                getattr(image.events, name).connect(self._moved)

    def close(self) -> None:
        """Disconnect."""
        self.follow(None)
        layers = self._viewer.layers.events
        layers.inserted.disconnect(self._inserted)
        layers.removed.disconnect(self._removed)
        layers.reordered.disconnect(self._listed)
        self._viewer.layers.selection.events.active.disconnect(self._active)
        for name in _DIMS:
            getattr(self._viewer.dims.events, name).disconnect(self._plane)
        for name in _VIEW:
            getattr(self._viewer.scene.camera.events, name).disconnect(self._view)
        for layer in self._viewer.layers:
            self._disconnect(layer)

    def _connect(self, layer: Layer) -> None:
        layer.events.name.connect(self._listed)
        layer.events.mode.connect(self._active)
        if isinstance(layer, Image):
            layer.events.data.connect(self._data)

    def _disconnect(self, layer: Layer) -> None:
        layer.events.name.disconnect(self._listed)
        layer.events.mode.disconnect(self._active)
        if isinstance(layer, Image):
            layer.events.data.disconnect(self._data)

    def _inserted(self, event: Any) -> None:
        self._connect(event.value)
        self._on_inserted(event.value)

    def _removed(self, event: Any) -> None:
        self._disconnect(event.value)
        self._on_removed(event.value)

    def _active(self, event: Any = None) -> None:
        self._on_active()

    def _listed(self, event: Any = None) -> None:
        self._on_listed()

    def _plane(self, event: Any = None) -> None:
        self._on_plane()

    def _view(self, event: Any = None) -> None:
        self._on_view()

    def _data(self, event: Any) -> None:
        self._on_data(event.source)

    def _contrast(self, event: Any = None) -> None:
        self._on_contrast()

    def _moved(self, event: Any = None) -> None:
        self._on_moved()
