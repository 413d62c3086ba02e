"""The images beside the open one of a list: read before they are wanted, kept for going back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from napari_tinysam.errors import sentence
from napari_tinysam.ui.session.images.files import open_entry
from napari_tinysam.ui.state.planes import Plane, PlaneError, full_shape, shown_plane

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_tinysam.ui.session.aside import Aside
    from napari_tinysam.ui.session.images.files import OpenedEntry
    from napari_tinysam.ui.state.image_list import ImageEntry, ImageList
    from napari_tinysam.ui.state.subject import Subject

#: Larger images are not read before they are wanted, in bytes of the file.
_LARGEST = 400_000_000


class NearImages:
    """Reads images of a list in the background, one at a time, and keeps the nearest.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    subject : Subject
    aside : Aside
        Where files are read.
    on_read : callable
        Called with an `OpenedEntry`.
    on_failed : callable
        Called with an entry that cannot be opened, and the reason in a sentence.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        aside: Aside,
        on_read: Callable[[OpenedEntry], None],
        on_failed: Callable[[ImageEntry, str], None],
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._aside = aside
        self._on_read = on_read
        self._on_failed = on_failed
        self._kept: list[OpenedEntry] = []
        self._reading: ImageEntry | None = None
        self._failed: ImageEntry | None = None

    def keep(self, *opened: OpenedEntry | None) -> None:
        """Keep these, and forget all others."""
        self._kept = [each for each in opened if each is not None]

    def find(self, entry: ImageEntry) -> OpenedEntry | None:
        """Return an image that was read; None if it has to be."""
        return next((each for each in self._kept if each.entry is entry), None)

    def prepare(self, images: ImageList, entry: ImageEntry | None) -> None:
        """Read an image ahead, unless it is very large, or another one is being read."""
        if entry is None or entry.path is None or entry.layer is not None:
            return
        if self._reading or entry is self._failed or self.find(entry):
            return
        with suppress(OSError):
            if entry.path.is_dir() or entry.path.stat().st_size <= _LARGEST:
                self.read(images, entry)

    def read(self, images: ImageList, entry: ImageEntry) -> None:
        """Read an image; nothing happens if that has begun."""
        if self._reading is entry:
            return
        self._reading = entry

        def done(opened: OpenedEntry) -> None:
            if self._reading is entry:
                self._reading = None
            self._kept.append(opened)
            self._on_read(opened)

        def failed(error: Exception) -> None:
            if self._reading is entry:
                self._reading = None
            self._failed = entry
            self._on_failed(entry, sentence(error))

        self._aside.run(lambda: open_entry(images, entry), done, failed)

    def to_encode(self, entry: ImageEntry | None) -> list[tuple[Image, Plane]]:
        """Return an image that was read and is not in the viewer, and the plane it would show."""
        opened = None if entry is None else self.find(entry)
        if opened is None or opened.image in self._viewer.layers:
            return []
        with suppress(PlaneError):
            return [(opened.image, self._plane_of(opened.image))]
        return []

    def _plane_of(self, image: Image) -> Plane:
        axis = self._subject.memory.state_of(image).channel_axis
        dims = self._viewer.dims
        if dims.ndim >= image.ndim:
            return shown_plane(image, dims, axis)
        shape = full_shape(image)
        index = (*(0,) * (image.ndim - 2), None, None)
        shown = image.ndim - 2, image.ndim - 1
        return Plane(index, shown, (shape[-2], shape[-1]), axis)
