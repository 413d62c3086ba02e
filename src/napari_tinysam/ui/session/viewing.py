"""Following the viewer: which image is segmented, and which plane of it is shown."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image

from napari_tinysam.ui.canvas.viewer_events import ViewerEvents
from napari_tinysam.ui.state.images import seen_plane
from napari_tinysam.ui.state.planes import (
    Contrast,
    PlaneError,
    full_shape,
    shown_plane,
)
from napari_tinysam.ui.state.status import Status, StatusKind

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_tinysam.inference.cache import RecentEmbeddings
    from napari_tinysam.inference.looks import Look
    from napari_tinysam.ui.session.embedding.embedder import Embedder
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.seeing import Seeing
    from napari_tinysam.ui.state.subject import Subject

NO_IMAGE = Status(StatusKind.NO_IMAGE, "Open an image to begin")

Call = Callable[[], None]


class Viewing:
    """Keeps the subject in step with the viewer, and requests the embedding of its plane.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    subject : Subject
    embedder : Embedder
    cache : RecentEmbeddings
        Of planes visited before.
    on_image : callable
        Called when another image is chosen, or other axes of it, before its plane is looked up.
    on_leave : callable
        Called before another plane, or none, is segmented.
    on_plane : callable
        Called when another plane is shown, or the same one is embedded again.
    on_no_plane : callable
        Called with a `Status` where there is nothing to segment.
    on_layer, on_layer_removed : callable
        Called with an added layer that is not an image; with any removed layer.
    on_listed, on_active, on_moved, on_view : callable
        Called when layers were removed, renamed or reordered; when another layer or tool is
        active; when the image has another place; when another part of it is on the screen.
    on_data : callable
        Called with an image that has other data.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        embedder: Embedder,
        cache: RecentEmbeddings,
        *,
        on_image: Call,
        on_leave: Call,
        on_plane: Call,
        on_no_plane: Callable[[Status], None],
        on_layer: Callable[[Layer], None],
        on_layer_removed: Callable[[Layer], None],
        on_listed: Call,
        on_active: Call,
        on_moved: Call,
        on_view: Call,
        on_data: Callable[[Image], None],
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._embedder = embedder
        self._cache = cache
        self._on_image = on_image
        self._on_leave = on_leave
        self._on_plane = on_plane
        self._on_no_plane = on_no_plane
        self._on_layer = on_layer
        self._on_layer_removed = on_layer_removed
        self._on_listed = on_listed
        self._on_active = on_active
        self._on_data = on_data
        self._closed = False
        self._events = ViewerEvents(
            viewer,
            on_inserted=self._inserted,
            on_removed=self._removed,
            on_listed=on_listed,
            on_active=self._active_changed,
            on_plane=self.refresh,
            on_view=on_view,
            on_data=self._data_changed,
            on_contrast=self._contrast_changed,
            on_moved=on_moved,
        )

    def close(self) -> None:
        """Disconnect."""
        self._closed = True
        self._events.close()

    # --- images --------------------------------------------------------------------------

    def images(self) -> list[Image]:
        """Return the layers that can be segmented, in the order of the layer list."""
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def beside(self) -> list[tuple[Image, Plane]]:
        """Return the images after and before the segmented one, with the planes they would show."""
        images, image = self.images(), self._subject.image
        if image not in images:
            return []
        at = images.index(image)
        found = []
        for other in [*images[at + 1 : at + 2], *images[max(at - 1, 0) : at]]:
            axis = self._subject.memory.state_of(other).channel_axis
            with contextlib.suppress(PlaneError):
                found.append((other, shown_plane(other, self._viewer.dims, axis)))
        return found

    def choose_first(self) -> None:
        """Segment the selected image, else the previous one, else the last; or none yet."""
        active = self._viewer.layers.selection.active
        images, last = self.images(), self._subject.memory.image()
        if isinstance(active, Image):
            self.set_image(active)
        elif images:
            self.set_image(last if last in images else images[-1])
        else:
            self._embedder.start()

    def set_image(self, layer: Image | None) -> None:
        """Segment this layer from now on; its embedding starts by itself."""
        subject = self._subject
        if layer is subject.image:
            return
        subject.image = layer
        subject.memory.image = (lambda: None) if layer is None else weakref.ref(layer)
        subject.show(None, None)
        self._events.follow(layer)
        selection = self._viewer.layers.selection
        if layer is not None and isinstance(selection.active, Image):
            selection.active = layer  # the selected image is the segmented one
        self._on_image()
        self.refresh()
        self._on_active()
        self._on_listed()

    def _active_changed(self) -> None:
        """Follow the image that the user selects."""
        active = self._viewer.layers.selection.active
        if isinstance(active, Image) and active in self._viewer.layers:
            self.set_image(active)
        self._on_active()

    def _inserted(self, layer: Layer) -> None:
        if isinstance(layer, Image):
            self.set_image(layer)
        else:
            self._on_layer(layer)

    def _removed(self, layer: Layer) -> None:
        self._on_layer_removed(layer)
        if layer is self._subject.image:
            images = self.images()
            self.set_image(images[-1] if images else None)
        else:
            self._on_listed()

    def _data_changed(self, image: Image) -> None:
        if image in self._subject.memory.states:
            self._subject.memory.states[image].touch()
            self._on_data(image)

    # --- the plane -----------------------------------------------------------------------

    def refresh(self, *, force: bool = False) -> None:
        """Follow the viewer; `force` requests the embedding again even if the plane is the same."""
        if self._closed:
            return
        subject = self._subject
        image = subject.image
        if image is None or image not in self._viewer.layers:
            self._leave(NO_IMAGE)
            return
        try:
            plane = shown_plane(image, self._viewer.dims, subject.state.channel_axis)
        except PlaneError as error:
            flat = self._viewer.dims.ndisplay == 2
            kind = StatusKind.UNSUPPORTED if flat else StatusKind.VIEW_3D
            self._leave(Status(kind, str(error)))
            return
        seen = seen_plane(image, plane, subject.memory, self._cache)
        if seen.key != subject.key or force:
            cursor = subject.cursor
            self._on_leave()
            subject.show(plane, seen)
            if (look := subject.first_look(cursor)) is not None:
                self.read(look)
            self._on_plane()

    def read(self, look: Look) -> None:
        """Request the embedding of a look at the plane."""
        seen = self._subject.seen
        if seen is not None:
            self._embedder.want(
                seen.look_key(look), lambda predictor: seen.read(predictor, look)
            )

    def _leave(self, status: Status) -> None:
        self._on_leave()
        self._subject.show(None, None)
        self._embedder.want(None, None)
        self._on_no_plane(status)

    def go_to(self, plane: Plane) -> None:
        """Show a plane of the image."""
        image, shown = self._subject.image, self._subject.plane
        if image is None or (
            shown is not None and shown.without_channel() == plane.without_channel()
        ):
            return
        position = plane.data_position((0, 0))
        for axis, at in enumerate(plane.index):
            if at is not None and axis != plane.channel_axis:
                self._slide(image, axis, position)

    def _slide(
        self, image: Image, axis: int, position: npt.NDArray[np.float64]
    ) -> None:
        """Move the viewer's slider of an axis to a position in the image's data."""
        offset = self._viewer.dims.ndim - image.ndim
        world = image.data_to_world(position)
        self._viewer.dims.set_point(axis + offset, float(world[axis]))

    # --- channels and contrast -----------------------------------------------------------

    @property
    def channel_axis(self) -> int | None:
        """Axis of the image that holds channels; None where all axes make a stack."""
        return None if self._subject.image is None else self._subject.state.channel_axis

    @property
    def channel(self) -> int | None:
        """Which channel is shown and segmented; None where there are none."""
        axis, plane = self.channel_axis, self._subject.plane
        if axis is None or plane is None or plane.channel_axis is None:
            return None
        return plane.index[axis]

    @property
    def channel_count(self) -> int:
        """How many channels there may be; 1: no choice."""
        image = self._subject.image
        axis = None if image is None else self._subject.state.possible_channel_axis
        return 1 if image is None or axis is None else full_shape(image)[axis]

    def set_channel(self, channel: int | None) -> None:
        """Show and segment one channel; None: no axis holds channels, all make a stack."""
        image = self._subject.image
        if image is None:
            return
        state = self._subject.state
        axis = None if channel is None else state.possible_channel_axis
        if axis != state.channel_axis:
            if not state.chosen:
                state.target = None
            state.channel_axis = axis
            self._subject.show(None, None)
            self._on_image()
        if axis is not None and channel is not None:
            position = np.zeros(image.ndim)
            position[axis] = channel
            self._slide(image, axis, position)
        self.refresh()
        self._on_listed()

    def set_seeing(self, seeing: Seeing) -> None:
        """Choose through which looks large planes are seen."""
        self._subject.memory.seeing = seeing
        self.refresh()

    def set_contrast(self, contrast: Contrast) -> None:
        """Choose which values are black and white for the model."""
        self._subject.memory.contrast = contrast
        self.refresh()

    def _contrast_changed(self) -> None:
        if self._subject.memory.contrast is Contrast.DISPLAYED:
            self.refresh()
