"""Tracks to and from files of other programs: a form, and two buttons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_tinysam.ui.dock.buttons import explain
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.layouts import grid_in
from napari_tinysam.ui.session.tracks.files import CSV, CTC, FORMS, GEFF, TRACKMATE

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

_TIPS = {
    CTC: "A folder with a labelled file for each frame, and a text with the tracks",
    GEFF: "A folder that napari's tracking plugins and others read",
    TRACKMATE: "A file that TrackMate in Fiji opens",
    CSV: "A table with a row for each object of each frame",
}


class TrackFilesBox(QWidget):
    """Writes and reads tracks.

    Parameters
    ----------
    session : AnnotationSession
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        self.form = ChoiceCombo([Choice(form, form, _TIPS[form]) for form in FORMS])
        self.export, self.load = KeyButton("Export…"), KeyButton("Import…")
        self.export.clicked.connect(self._export)
        self.load.clicked.connect(self._import)
        grid = grid_in(self)
        grid.addWidget(self.form, 0, 0, 1, 2)
        for column, part in enumerate((self.export, self.load)):
            grid.addWidget(part, 1, column)
            grid.setColumnStretch(column, 1)
        self.refresh()

    def refresh(self) -> None:
        """Show what can be done."""
        session = self._session
        busy = "A file is being written or read." if session.track_files.running else ""
        tracked = session.tracking.movie is not None
        explain(
            self.export,
            tracked and not busy,
            "Write the tracks in this form",
            busy or "Track the objects first.",
        )
        explain(
            self.load,
            not busy,
            "Read tracks of this movie. A folder of the challenge becomes labels with tracks, "
            "GEFF and tables become a tracks layer",
            busy,
        )

    def _form(self) -> str:
        return list(FORMS)[max(self.form.currentIndex(), 0)]

    def _export(self) -> None:
        files, form = self._session.track_files, self._form()
        suggested = files.suggestion(form)
        if FORMS[form] and form != GEFF:
            name, _ = QFileDialog.getSaveFileName(
                self, f"Export tracks: {form}", str(suggested), f"*{FORMS[form]}"
            )
            path = Path(name) if name else None
            if path is not None and path.suffix.lower() != FORMS[form]:
                path = path.with_name(f"{path.name}{FORMS[form]}")
        else:
            name = QFileDialog.getExistingDirectory(
                self, f"Export tracks: where to make the folder {suggested.name}"
            )
            path = Path(name) / suggested.name if name else None
        if path is not None:
            files.write(form, path)

    def _import(self) -> None:
        form = self._form()
        if form in (CTC, GEFF):
            name = QFileDialog.getExistingDirectory(self, f"Import tracks: {form}")
        else:
            name, _ = QFileDialog.getOpenFileName(
                self, "Import tracks", "", "Tables (*.csv *.tsv *.txt)"
            )
        if name:
            self._session.track_files.read(Path(name))
