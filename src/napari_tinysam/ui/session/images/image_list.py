"""The list of images in the viewer: which images, where their labels go, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image

from napari_tinysam.errors import sentence
from napari_tinysam.ui.session.images.files import (
    count_in_file,
    find_list,
    note_label_files,
)
from napari_tinysam.ui.session.images.going import GoingThrough
from napari_tinysam.ui.state.image_list import EntryState, ImageEntry, ImageList

if TYPE_CHECKING:
    from napari.layers import Labels


class ListedImages(GoingThrough):
    """Makes the list that is gone through, finds an earlier one again, and changes it."""

    def open_paths(self, sources: Sequence[Path]) -> None:
        """List the images of folders, files, OME-Zarr images and plates, and open the first.

        What is remembered of the same sources is taken over.
        """
        if not self._may_leave():
            return
        sources = tuple(Path(source) for source in sources)

        def found(images: ImageList) -> None:
            before = self._kept.find(images.sources)
            gone = images.take_over(before) if before is not None else []
            self._begin(images)
            if gone:
                names = ", ".join(entry.name for entry in gone[:3])
                more = "" if len(gone) < 4 else f" and {len(gone) - 3} more"
                self._tell("warning", f"Not there any more: {names}{more}.")

        self._say("Looking for images…")
        self._aside.run(lambda: find_list(sources), found, self._not_opened)

    def go_on_with_offer(self) -> None:
        """Open the list that was used last, at the place where the user stopped."""
        if self.offer is not None:
            self.open_paths(self.offer.sources)

    def take_layers(self) -> None:
        """List the images that are open; they stay in the viewer."""
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        if not layers:
            self._tell("info", "There are no images in the viewer.")
            return
        if not self._may_leave():
            return
        images = ImageList(
            entries=[ImageEntry(each.name, layer=each) for each in layers]
        )
        for entry in images.entries:
            path = entry.layer.source.path if entry.layer is not None else None
            if path is not None and Path(path).exists():
                entry.path = Path(path)
        self._begin(images, self._subject.image)

    def set_folder(self, folder: Path | None) -> None:
        """Save labels into a folder from now on; None: beside the images."""
        if self.images is None:
            return
        if folder is not None:
            folder = folder.absolute()
        self.images.folder, self.needs_folder = folder, False
        note_label_files(self.images)
        if self._opened is not None:
            self._opened.file = self.images.labels_file(self._opened.entry)
        self._say("")
        self._remember()

    def set_skip_done(self, skip: bool) -> None:
        """Pass over images that are done, or not."""
        if self.images is not None:
            self.images.skip_done = skip
            self.read_ahead()
            self._changed()

    def leave_list(self) -> None:
        """Forget the list in the viewer; its open image and all files stay."""
        self._note()
        self._remember()
        self.images = self._opened = self._wanted = None
        self.classifying.use([], [])
        self._near.keep()
        self.offer = self._kept.last()
        self._say("")

    def layers_of(self, entry: ImageEntry) -> tuple[Image, Labels | None] | None:
        """Return the image and labels layers of an entry; None if it is not in the viewer."""
        opened = self._opened
        here = opened is not None and opened.entry is entry
        image = opened.image if opened is not None and here else entry.layer
        if image is None or image not in self._viewer.layers:
            return None
        target = self._subject.memory.state_of(image).target
        there = target is not None and target in self._viewer.layers
        return image, target if there else None

    def look_for_labels(self) -> None:
        """Note label files that something else has written: images were segmented as files."""
        if self.images is not None:
            note_label_files(self.images)
            self._near.keep()  # what was read ahead has no labels yet
            self._remember()
            self._changed()

    def set_state(self, entry: ImageEntry, state: EntryState) -> None:
        """Mark an image."""
        entry.state = state
        self._remember()
        self._changed()

    def mark_labelled(self) -> None:
        """Mark all images that have labels in a file as done."""
        if self.images is not None:
            for entry in self.images.labelled([EntryState.STARTED, EntryState.NEW]):
                entry.state = EntryState.DONE
            self._remember()
            self._changed()

    def _begin(self, images: ImageList, image: Image | None = None) -> None:
        """Start with a list."""
        note_label_files(images)
        if self.images is not None:
            self._remember()
        self.images, self.offer, self.needs_folder = images, None, False
        self.classifying.use(images.classes, images.renames)
        self._near.keep()
        self._told_of_proposals = None
        index = next(
            (at for at, e in enumerate(images.entries) if e.layer is image is not None),
            None,
        )
        if index is None:
            index = images.place_to_go_on() or 0
        self._remember()
        self._wanted, self._step = index, 1
        self._leaving.begin()
        self._proceed()
        self._count_next()
        self._changed()

    def _not_opened(self, error: Exception) -> None:
        self._tell("warning", sentence(error))

    def _count_next(self) -> None:
        """Count the objects of the next image that has labels of which nobody knows how many."""
        images = self.images
        entry = (
            next((e for e in images.entries if _is_uncounted(e)), None)
            if images
            else None
        )
        if entry is None or entry.labels is None:
            return
        file = entry.labels

        def done(count: int) -> None:
            if entry.count is None:
                entry.counted(count)
                self._changed()
            if images is self.images:
                self._count_next()

        # A file that cannot be read is said when its image is opened.
        self._aside.run(lambda: count_in_file(file), done, lambda error: done(0))


def _is_uncounted(entry: ImageEntry) -> bool:
    return entry.count is None and entry.labels is not None
