"""Leaving an image of a list: its objects are committed and its labels are saved."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tinysam.errors import sentence
from napari_tinysam.files.atomic import unfinished
from napari_tinysam.ui.session.images.files import OpenedEntry, kept_aside
from napari_tinysam.ui.session.images.layers import labels_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_tinysam.ui.session.aside import Aside
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.subject import Subject

Say = Callable[[str], None]


class Leaving:
    """Commits and saves what belongs to an image.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    subject : Subject
    labelling : Labeller
    aside : Aside
        Copies images for training, see `copy_image`.
    on_waiting : callable
        Called with a sentence about what is waited for.
    on_kept : callable
        Called with a sentence when the image has to stay: the user has to do something.
    on_refused : callable
        Called with a sentence when labels cannot be written where they belong.
    on_told : callable
        Called with a sentence that the user should know.
    on_saved : callable
        Called when labels have been saved.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        labelling: Labeller,
        aside: Aside,
        *,
        on_waiting: Say,
        on_kept: Say,
        on_refused: Say,
        on_told: Say,
        on_saved: Callable[[], None],
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._labelling = labelling
        self._aside = aside
        self._on_waiting = on_waiting
        self._on_kept = on_kept
        self._on_refused = on_refused
        self._on_told = on_told
        self._on_saved = on_saved
        self._committed: OpenedEntry | None = None
        self.saving = False

    def begin(self) -> None:
        """Forget what was done for an earlier leave: objects may be committed again."""
        self._committed = None

    @property
    def waits(self) -> bool:
        """Whether objects were committed that may wait for their masks."""
        return self._committed is not None and not self.saving

    def is_ready(self, opened: OpenedEntry, then: Callable[[], None]) -> bool:
        """Whether an image can leave; if not, see to it, and call `then` when it may be."""
        image = opened.image
        if image not in self._viewer.layers:
            return True
        state = self._subject.memory.state_of(image)
        if state.draft_count:
            if self._committed is not opened and image is self._subject.image:
                self._committed = opened
                self._labelling.commit()
            if self._labelling.pending.of_image(image):
                self._on_waiting("Waiting for the masks of the last objects…")
                return False
        if count := state.draft_count:
            what = "1 object is" if count == 1 else f"{count} objects are"
            self._on_kept(
                f"{what} not committed on {opened.entry.name}. Commit (C) or clear (Shift+C) first."
            )
            return False
        return self.save(opened, then)

    def save(self, opened: OpenedEntry, then: Callable[[], None]) -> bool:
        """Save the labels of an image; return whether they were saved already.

        Parameters
        ----------
        opened : OpenedEntry
        then : callable
            Called when they have been saved.
        """
        layer = labels_of(opened, self._subject.memory, self._viewer)
        saving = self._labelling.saving
        if layer is None or saving.is_saved(layer):
            return True
        entry, file = opened.entry, opened.file or saving.file_of(layer)
        if file is None:
            if entry.layer is not None:
                return True  # it stays in the viewer
            self._on_refused("Nobody has said where the labels go.")
            return False
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            changed = file == saving.file_of(layer) and saving.changed_elsewhere(layer)
            foreign = changed or self._is_foreign(file, layer)
            known = file == opened.old_labels  # it was said when the image was opened
            if foreign:
                aside = file.replace(kept_aside(file))
        except OSError as error:
            self._on_refused(sentence(error, f"{file.name} cannot be written"))
            return False
        if changed:
            self._on_told(
                f"Another program has changed {file.name}; its version is kept as {aside.name}."
            )
        elif foreign and not known:
            self._on_told(f"There was another {file.name}; it is kept as {aside.name}.")
        if known:
            opened.old_labels = None
        self.saving = True

        def saved(done: bool) -> None:
            self.saving = False
            if not done:
                self._on_refused(f"The labels of {entry.name} are not saved.")
                return
            entry.labels = file
            if entry.path is not None:
                self._copy_image(entry.path, file.parent, entry.name)
            self._on_saved()
            then()

        saving.save(layer, file, saved)
        return False

    def _is_foreign(self, file: Path, layer: Labels) -> bool:
        """Whether there is a file in the place of labels that were neither read nor written there.

        They do not fit the image, are in a folder that was just chosen, or came meanwhile.
        """
        read = layer in self._subject.memory.marks or layer.source.path == str(file)
        return not read and file.exists()

    def _copy_image(self, image: Path, folder: Path, name: str) -> None:
        """Copy an image to its labels: training finds both in one folder."""
        suffix = ".ome.tif" if image.name.lower().endswith(".ome.tif") else image.suffix
        copy = folder / f"{name}{suffix}"
        if not image.is_file() or folder == image.parent or copy.exists():
            return

        def job() -> None:
            with unfinished(copy) as temporary:
                shutil.copyfile(image, temporary)

        def failed(error: Exception) -> None:
            self._on_told(sentence(error, f"{image.name} was not copied to {folder}"))

        self._aside.run(job, lambda _: None, failed)
