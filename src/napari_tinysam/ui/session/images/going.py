"""Going through a list of images: one after the other is opened, annotated, saved and left.

Before an image leaves the viewer its objects are committed and its labels are in their file. The
next one is read ahead, so that it can be clicked at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from napari_tinysam.errors import TinySAMError
from napari_tinysam.ui.session.aside import Aside
from napari_tinysam.ui.session.images.ahead import NearImages
from napari_tinysam.ui.session.images.classifying import Classifying
from napari_tinysam.ui.session.images.files import (
    OpenedEntry,
    count_objects,
)
from napari_tinysam.ui.session.images.layers import exchange, find_open, labels_of
from napari_tinysam.ui.session.images.leaving import Leaving
from napari_tinysam.ui.session.images.thumbnails import Thumbnails
from napari_tinysam.ui.session.labels.edits import full_data
from napari_tinysam.ui.state.image_list import EntryState, ImageEntry, ImageList
from napari_tinysam.ui.state.kept_lists import KeptLists

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.session.worker import Inference
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject

#: Labels with more pixels are counted when they are saved, not at each change.
_COUNTED_AT_ONCE = 2**23
_NO_LIST = "Open a list of images first: Images in the dock."
_NOT_LISTED = "No image of the list is selected: click one in the list."


class GoingThrough:
    """Goes through a list of images.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    subject : Subject
    inference : Inference
        Its `post` brings what was read to the session's thread.
    labelling : Labeller
    notify : callable
        ``notify(level, text)``.
    busy : callable
        Whether a run writes into labels now.
    proposed : callable
        How many objects of auto-segmentation are shown and not accepted.
    kept : KeptLists, optional
        Remembers lists.

    Attributes
    ----------
    images : ImageList or None
        The list; None while there is none.
    changed : Signal
        Emitted when anything that the box shows has changed.
    thumbnails : Thumbnails
        Small pictures of the files; ``thumbnail_read`` is emitted with the path of each new one.
    text : str
        What is going on, or what went wrong, in a sentence; "" if nothing is.
    offer : ImageList or None
        The list that was used last, to go on with.
    needs_folder : bool
        Whether labels cannot be saved where they belong: another folder has to be chosen.
    """

    changed = Signal()
    thumbnail_read = Signal(object)

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        inference: Inference,
        labelling: Labeller,
        notify: Notify,
        *,
        busy: Callable[[], bool],
        proposed: Callable[[], int],
        kept: KeptLists | None = None,
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._labelling = labelling
        self._notify = notify
        self._busy, self._proposed = busy, proposed
        self._post = inference.post
        #: Called when the next image can be encoded ahead.
        self.on_read_ahead: Callable[[], None] = lambda: None
        self._kept = kept or KeptLists()
        self._opened: OpenedEntry | None = None
        self._aside = Aside(inference.post)
        self.thumbnails = Thumbnails(self._aside, self.thumbnail_read.emit)
        self._near = NearImages(
            viewer, subject, self._aside, self._read, self._not_read
        )
        self._leaving = Leaving(
            viewer,
            subject,
            labelling,
            self._aside,
            on_waiting=self._say,
            on_kept=self._stays,
            on_refused=self._refused,
            on_told=lambda text: self._notify("warning", text),
            on_saved=self._saved,
        )
        self._wanted: int | None = None
        self._step = 0  # the way to go on if the wanted image cannot be opened
        self._closed = self._proceeding = self._again = False
        self._told_of_proposals: ImageEntry | None = None
        self._counted: tuple[Labels, int] | None = None
        self.classifying = Classifying(subject, labelling, self._aside, notify)
        self.images: ImageList | None = None
        self.text, self.needs_folder = "", False
        self.offer = self._kept.last()
        subject.changed.connect(self._subject_changed)

    def close(self) -> None:
        """Remember the list, and stop following the session."""
        self._note()
        self._remember()
        self._closed = True
        self._aside.close()
        self.classifying.close()
        self._subject.changed.disconnect(self._subject_changed)

    # --- going through it ----------------------------------------------------------------

    @property
    def current(self) -> ImageEntry | None:
        """The entry whose image is segmented; None while another image is."""
        opened = self._opened
        if opened is None or opened.image is not self._subject.image:
            return None
        return opened.entry

    def go_to(self, index: int) -> None:
        """Save the labels of this image, and open another."""
        if self.images is not None and self.current is self.images.entries[index]:
            self._wanted = None  # rather this one than another that is being opened
        else:
            self._go(index, 0)

    def next_image(self) -> None:
        """Save, and open the next image."""
        self._go_step(1)

    def previous_image(self) -> None:
        """Save, and open the previous image."""
        self._go_step(-1)

    def finish_image(self) -> None:
        """Mark this image as done, save, and open the next one that is not."""
        images = self.images
        if images is None or self.current is None:
            self._tell("info", _NO_LIST if images is None else _NOT_LISTED)
            return
        if not self._may_leave() or self._forgets_proposals():
            return
        self.current.state = EntryState.DONE
        self._remember()
        self._changed()
        following = images.next_to_do()
        if following is None:
            self._tell("info", images.done_in_words)
            following = images.at or 0  # it stays, committed and saved
        self._go(following, 1)

    def save(self) -> None:
        """Save the labels of the open image if they have changed."""
        if self._opened is not None and not self._leaving.saving:
            self._leaving.save(self._opened, lambda: None)

    def _go_step(self, by: int) -> None:
        if self.images is None:
            self._tell("info", _NO_LIST)
            return
        index = self.images.step(by, self._wanted)
        if index is not None:
            self._go(index, by)
            return
        text = f"This is the {'last' if by > 0 else 'first'} image."
        if self.images.skip_done and self.images.count(EntryState.DONE) > 0:
            text = f"No image {'after' if by > 0 else 'before'} this one is left to do."
        self._tell("info", text)
        self.save()

    def _go(self, index: int, step: int) -> None:
        images = self.images
        if images is None or not self._may_leave() or self._forgets_proposals():
            return
        images.entries[index].problem = ""
        self._wanted, self._step = index, step
        self._leaving.begin()
        self._proceed()

    def _may_leave(self) -> bool:
        if self._busy():
            self._tell("info", "Wait until what is running has ended, or cancel it.")
            return False
        return True

    def _forgets_proposals(self) -> bool:
        """Whether the image has proposals that are not accepted; said once."""
        opened = self._opened
        if opened is None or self.current is None or not self._proposed():
            return False
        if self._told_of_proposals is opened.entry:
            return False
        self._told_of_proposals = opened.entry
        self._tell(
            "warning",
            "Proposals are not accepted yet. Accept them, or press the key again to go on without.",
        )
        return True

    def _proceed(self) -> None:
        """Do the next steps towards the wanted image, until it is shown or has to be waited for."""
        self._again = True
        if self._proceeding:  # called by what a step has done
            return
        self._proceeding = True
        try:
            while self._again:
                self._again = False
                self._advance()
        finally:
            self._proceeding = False

    def _advance(self) -> None:
        images, index = self.images, self._wanted
        if images is None or index is None or self._leaving.saving or self._closed:
            return
        if self._opened is not None and not self._leaving.is_ready(
            self._opened, self._proceed
        ):
            return
        entry = images.entries[index]
        if entry is self.current:
            self._wanted = None
            self._say("")
            return
        known = self._near.find(entry) or find_open(
            entry, self._subject.memory, self._viewer
        )
        if entry.layer is not None:
            self._show(index, OpenedEntry(entry, entry.layer))
        elif known is not None:
            self._show(index, known)
        else:
            self._say(f"Opening {entry.name}…")
            self._near.read(images, entry)

    def _stays(self, text: str) -> None:
        """Stay at this image: the user has to do something first."""
        self._wanted = None
        self._tell("warning", text)

    def _refused(self, text: str) -> None:
        self.needs_folder = True
        self._stays(f"{text} Nothing is lost: choose another folder for the labels.")

    def _saved(self) -> None:
        self.needs_folder = False
        self._note()
        self._remember()

    def _show(self, index: int, new: OpenedEntry) -> None:
        images, before = self.images, self._opened
        if images is None:
            return
        self._note()
        self._wanted, self._opened, images.at = None, new, index
        self.text, self._told_of_proposals = "", None
        new.file = images.labels_file(new.entry)
        self._near.keep(before)
        exchange(self._viewer, self._subject.memory, self._labelling, before, new)
        if new.labels is not None and new.classes:
            self.classifying.take(new.labels, new.classes, new.entry.renames)
            new.classes = {}
        if new.warning:
            self._tell("warning", new.warning)
            new.warning = ""
        self._note()
        self._remember()
        self._changed()

    # --- what is known of the open image ---------------------------------------------------

    def _subject_changed(self) -> None:
        if self.images is None or self._closed:
            return
        if self._wanted is not None and self._leaving.waits:
            self._post(self._proceed)  # when what has changed is whole
        self._note()

    def _note(self) -> None:
        """Count the objects of the open image, and note whether they are saved."""
        opened, images = self._opened, self.images
        if opened is None or images is None:
            return
        layer = labels_of(opened, self._subject.memory, self._viewer)
        if layer is None:
            return
        entry, saving = opened.entry, self._labelling.saving
        before = (entry.count, entry.state, entry.saved)
        entry.saved = saving.is_saved(layer)
        if entry.saved and not before[2]:
            self.classifying.saved(layer, entry, self._remember)
        if opened.file is not None and opened.old_labels is None:
            self._subject.memory.files[layer] = opened.file  # for the dock's own Save
        now, data = (layer, saving.version(layer)), full_data(layer)
        small = isinstance(data, np.ndarray) and (
            data.size <= _COUNTED_AT_ONCE or entry.count is None
        )
        if now != self._counted and small:
            self._counted = now
            entry.counted(count_objects(data))
        if (entry.count, entry.state, entry.saved) != before:
            self._changed()

    # --- reading ahead -------------------------------------------------------------------

    def beside(self) -> list[tuple[Image, Plane]]:
        """Return the next image, which is not in the viewer, and the plane it would show."""
        return self._near.to_encode(self._next())

    def read_ahead(self) -> None:
        """Read the next image from its file; called when the open one is ready."""
        if self._wanted is None and self.images is not None:
            self._near.prepare(self.images, self._next())

    def _next(self) -> ImageEntry | None:
        images = self.images
        if images is None or images.at is None:
            return None
        index = images.step(1)
        if index is None:
            index = images.next_to_do()
        return None if index is None else images.entries[index]

    def _read(self, opened: OpenedEntry) -> None:
        images = self.images
        if images is None or opened.entry not in images.entries:
            return
        if opened.labels is not None and opened.entry.count is None:
            data = full_data(opened.labels)
            if isinstance(data, np.ndarray):
                opened.entry.counted(count_objects(data))
        if self._wanted is not None:
            self._proceed()
        else:
            self.on_read_ahead()
        self._changed()

    def _not_read(self, entry: ImageEntry, problem: str) -> None:
        images, index = self.images, self._wanted
        if images is None or index is None or images.entries[index] is not entry:
            return  # read ahead: it is said when the user gets there
        entry.problem = problem
        self._wanted = images.step(self._step, index) if self._step else None
        self._tell("warning", problem)
        self._proceed()

    # --- helpers -------------------------------------------------------------------------

    def _remember(self) -> None:
        if self.images is None:
            return
        try:
            self._kept.keep(self.images)
        except TinySAMError as error:
            self.text = f"Where you are is not remembered: {error}"

    def _say(self, text: str) -> None:
        self.text = text
        self._changed()

    def _tell(self, level: str, text: str) -> None:
        self._notify(level, text)
        self._say(text if level != "info" else "")

    def _changed(self) -> None:
        if not self._closed:
            self.changed.emit()
