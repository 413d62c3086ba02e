"""Which labels layer objects are committed to, what happens at overlaps, and saving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QLabel, QWidget

from napari_tinysam.labels import Overlap
from napari_tinysam.ui.dock.buttons import explain, set_tip
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.layer_combo import LayerCombo
from napari_tinysam.ui.dock.layouts import form_in
from napari_tinysam.ui.dock.questions import ask_for_file
from napari_tinysam.ui.state.choices import keep_choice

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

_OVERLAP_TIPS = {
    Overlap.NEVER: "Objects keep their pixels; a new object with too few left is refused",
    Overlap.FREE: "Objects keep their pixels; a new object gets the rest, however small",
    Overlap.REPLACE: "A new object takes pixels from existing objects",
    Overlap.MERGE: "New pixels join the label that is selected in the labels layer",
}


class OutputBox(QWidget):
    """Labels layer, overlap and the button that saves.

    Parameters
    ----------
    session : AnnotationSession
        What the choices go to.
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        self.labels = LayerCombo(always_none=True)
        self.labels.chosen.connect(session.set_target)
        self.overlap = ChoiceCombo(
            Choice(overlap, overlap.value.capitalize(), tip)
            for overlap, tip in _OVERLAP_TIPS.items()
        )
        self.overlap.chosen.connect(self._choose_overlap)

        form = form_in(self)
        form.addRow("Layer", self.labels)
        form.addRow("Overlap", self.overlap)
        self.save = KeyButton("Save")
        self.save.clicked.connect(self._save)
        self.state = QLabel()
        self.state.setObjectName("TinySAMHint")
        form.addRow(self.save, self.state)
        self.autosave = QCheckBox("Save by itself")
        set_tip(
            self.autosave,
            "Save the labels in their file, some seconds after each change. A file that another "
            "program has changed meanwhile is never replaced",
        )
        self.autosave.clicked.connect(self._choose_autosave)
        self.provenance = QCheckBox("Say how each object came to be")
        set_tip(
            self.provenance,
            "When labels are saved, also write NAME_provenance.json beside them: all prompts and "
            "corrections. 'napari-tinysam replay' makes the labels again from it",
        )
        self.provenance.clicked.connect(self._choose_provenance)
        self.pace = QLabel()
        self.pace.setObjectName("TinySAMHint")
        set_tip(
            self.pace,
            "Objects that you made and that are there, and your time for one: from each step to "
            "the next. Pauses of more than a minute do not count",
        )
        form.addRow(self.autosave)
        form.addRow(self.provenance)
        form.addRow(self.pace)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's overlap, and whether the labels are saved."""
        session = self._session
        target = session.target
        file = None if target is None else session.saving.file_of(target)
        explain(
            self.save,
            target is not None,
            "Save the labels as a TIFF file beside the image"
            if file is None
            else f"Save the labels in {file}",
            "No labels yet: commit an object first.",
        )
        if target is None:
            self.state.setText("")
        elif session.saving.autosave.is_paused(target):
            self.state.setText("Not saved: press Save once")
        elif not session.saving.is_saved(target):
            self.state.setText("Not saved yet")
        else:
            self.state.setText("" if file is None else f"Saved: {file.name}")
        self.overlap.show_choice(session.overlap)
        self.autosave.setChecked(session.saving.autosave.on)
        self.provenance.setChecked(session.saving.with_provenance)
        pace = session.objects.words(target)
        self.pace.setText(pace)
        self.pace.setVisible(bool(pace))

    def refresh_layers(self) -> None:
        """List the labels layers."""
        session = self._session
        new = f"New: {session.new_target_name}".rstrip(": ")
        self.labels.set_layers(session.labels_layers(), session.target, new)

    def _save(self) -> None:
        target = self._session.target
        if target is not None:
            file = ask_for_file(self, self._session, target)
            if file is not None:
                self._session.saving.save(target, file)

    def _choose_autosave(self, on: bool) -> None:
        keep_choice("labels", "autosave", on)
        self._session.saving.autosave.set_on(on)

    def _choose_provenance(self, on: bool) -> None:
        keep_choice("labels", "provenance", on)
        self._session.saving.with_provenance = on

    def _choose_overlap(self, overlap: Overlap) -> None:
        keep_choice("labels", "overlap", overlap.value)
        self._session.set_overlap(overlap)
