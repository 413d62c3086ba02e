"""Where committed objects go, and what happens where they touch others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QFormLayout, QLabel, QMessageBox, QWidget

from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.layer_combo import LayerCombo, NarrowCombo
from napari_tinysam.ui.dock.prompt_buttons import explain
from napari_tinysam.ui.session.labels import Overlap
from napari_tinysam.ui.state.choices import keep_choice

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_tinysam.ui.session.facade import AnnotationSession

_OVERLAP_TIPS = {
    Overlap.KEEP: "A new object leaves out the pixels of objects that are there",
    Overlap.OVERWRITE: "A new object takes the pixels of objects that are there",
    Overlap.MERGE: "New pixels join the label that is selected in the labels layer",
}


def asked_for_file(
    parent: QWidget, session: AnnotationSession, layer: Labels
) -> Path | None:
    """Return the file of a labels layer; the user is asked once. None: the user did not want to."""
    known = session.saving.file_of(layer)
    if known is not None and known.parent.is_dir():
        return known
    owner = next(
        (i for i in session.image_layers() if session.state_of(i).target is layer), None
    )
    name, _ = QFileDialog.getSaveFileName(
        parent,
        f"Save {layer.name}",
        str(session.saving.suggestion(layer, owner)),
        "TIFF (*.tif *.tiff)",
    )
    if not name:
        return None
    path = Path(name)
    if path.suffix.lower() not in (".tif", ".tiff"):
        path = Path(f"{name}.tif")
        # Of this name the file dialog has not asked.
        if path.exists() and not _may_replace(parent, path):
            return None
    for image in session.image_layers():
        if _is_same_file(image.source.path, path):
            text = f"{layer.name} was not saved: {path.name} is the image {image.name}."
            session.say("warning", text)
            return None
    return path


def _may_replace(parent: QWidget, path: Path) -> bool:
    buttons = QMessageBox.StandardButton
    answer = QMessageBox.question(
        parent,
        "TinySAM",
        f"{path.name} exists already. Replace it?",
        buttons.Yes | buttons.No,
        buttons.No,
    )
    return answer == buttons.Yes


def _is_same_file(source: str | None, path: Path) -> bool:
    try:
        return source is not None and path.samefile(source)
    except OSError:  # one of them does not exist
        return False


class OutputBox(QWidget):
    """Labels layer and overlap.

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
        self.labels = LayerCombo("new", always_none=True)
        self.labels.chosen.connect(session.set_target)
        self.overlap = NarrowCombo()
        for overlap in Overlap:
            self.overlap.addItem(overlap.value)
            self.overlap.setItemData(
                self.overlap.count() - 1,
                _OVERLAP_TIPS[overlap],
                Qt.ItemDataRole.ToolTipRole,
            )
        self.overlap.activated.connect(self._choose_overlap)

        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(6)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Labels", self.labels)
        form.addRow("Overlap", self.overlap)
        self.save = KeyButton("Save")
        self.save.clicked.connect(self._save)
        self.state = QLabel()
        self.state.setObjectName("TinySAMHint")
        form.addRow(self.save, self.state)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's overlap, and whether the labels are saved."""
        session = self._session
        target = session.target
        file = None if target is None else session.saving.file_of(target)
        explain(
            self.save,
            target is not None,
            "Write the labels into a TIFF file beside the image"
            if file is None
            else f"Write the labels into {file}",
            "There are no labels yet: commit an object first.",
        )
        saved = session.saving.is_saved(target)
        self.state.setText(
            ""
            if target is None or (saved and file is None)
            else f"saved: {file.name}"
            if saved and file is not None
            else "not saved yet"
        )
        overlap = self._session.overlap
        self.overlap.setCurrentIndex(list(Overlap).index(overlap))
        self.overlap.setToolTip(_OVERLAP_TIPS[overlap])

    def refresh_layers(self) -> None:
        """Offer the labels layers there are."""
        session = self._session
        self.labels.set_none_text(f"new: {session.new_target_name}".rstrip(": "))
        self.labels.set_layers(session.labels_layers(), session.target)

    def _save(self) -> None:
        target = self._session.target
        if target is not None:
            file = asked_for_file(self, self._session, target)
            if file is not None:
                self._session.saving.save(target, file)

    def _choose_overlap(self, at: int) -> None:
        overlap = list(Overlap)[at]
        keep_choice("labels", "overlap", overlap.value)
        self._session.set_overlap(overlap)
