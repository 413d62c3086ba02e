"""Where committed objects go, and what happens where they touch others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QWidget

from napari_tinysam.ui._choices import keep_choice
from napari_tinysam.ui._labels import COMMITTED, Overlap
from napari_tinysam.ui._layer_combo import LayerCombo, NarrowCombo

if TYPE_CHECKING:
    from napari_tinysam.ui._session import AnnotationSession

_OVERLAP_TIPS = {
    Overlap.KEEP: "A new object leaves out the pixels of objects that are there",
    Overlap.OVERWRITE: "A new object takes the pixels of objects that are there",
    Overlap.MERGE: "New pixels join the label that is selected in the labels layer",
}


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
        self.labels = LayerCombo(f"new: {COMMITTED}", always_none=True)
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
        self.refresh()

    def refresh(self) -> None:
        """Show the session's overlap."""
        overlap = self._session.overlap
        self.overlap.setCurrentIndex(list(Overlap).index(overlap))
        self.overlap.setToolTip(_OVERLAP_TIPS[overlap])

    def refresh_layers(self) -> None:
        """Offer the labels layers there are."""
        self.labels.set_layers(self._session.labels_layers(), self._session.target)

    def _choose_overlap(self, at: int) -> None:
        overlap = list(Overlap)[at]
        keep_choice("labels", "overlap", overlap.value)
        self._session.set_overlap(overlap)
