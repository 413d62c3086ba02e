"""The classes of objects: a row for each, with its digit key, colour, name and count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tinysam.ui.dock.buttons import set_tip

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession
    from napari_tinysam.ui.state.classes import ObjectClass


class _Row(QWidget):
    """One class."""

    def __init__(self, box: ClassesBox, which: ObjectClass, digit: int) -> None:
        super().__init__()
        self.which, self._classifying = which, box.classifying
        self.key = QLabel(str(digit))
        set_tip(
            self.key, f"Press {digit} over an object to give it this class; 0: none"
        )
        self.colour = QPushButton()
        self.colour.setFixedSize(20, 20)
        set_tip(self.colour, "Another colour…")
        self.colour.clicked.connect(self._recolour)
        self.name = QLineEdit(which.name)
        self.name.setAccessibleName(f"Name of class {digit}")
        self.name.editingFinished.connect(self._rename)
        self.name.returnPressed.connect(box.named.emit)
        self.count = QLabel()
        self.count.setMinimumWidth(20)
        set_tip(self.count, "Objects of this image")
        self.gone = QPushButton("×")
        self.gone.setFixedWidth(20)
        set_tip(self.gone, "Remove this class")
        self.gone.clicked.connect(lambda: self._classifying.remove(which))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        for part in (self.key, self.colour):
            row.addWidget(part)
        row.addWidget(self.name, 1)
        row.addWidget(self.count)
        row.addWidget(self.gone)
        self.refresh()

    def refresh(self) -> None:
        self.colour.setStyleSheet(f"background-color: {self.which.colour};")
        if not self.name.hasFocus():
            self.name.setText(self.which.name)
        count = self._classifying.count(self.which)
        self.count.setText(f"{count:,}" if count else "")

    def _rename(self) -> None:
        self._classifying.rename(self.which, self.name.text())
        self.name.setText(self.which.name)

    def _recolour(self) -> None:
        chosen = QColorDialog.getColor(QColor(self.which.colour), self)
        if chosen.isValid():
            self._classifying.recolour(self.which, chosen.name())


class ClassesBox(QWidget):
    """Adds, renames, recolours and removes classes.

    Parameters
    ----------
    session : AnnotationSession
    """

    #: A name was typed: the keys are the canvas's again.
    named = Signal()

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__()
        self._session = session
        self.classifying = session.classifying
        self.rows: list[_Row] = []
        self._new: ObjectClass | None = None
        self.add = QPushButton("Add a class")
        self.add.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        set_tip(
            self.add,
            "Objects can have classes: press a digit over an object. Saved in NAME_classes.csv "
            "and NAME_coco.json",
        )
        self.add.clicked.connect(self._add)
        self.coloured = QCheckBox("Colour by class")
        self.coloured.clicked.connect(self.classifying.set_coloured)
        self._column = QVBoxLayout()
        self._column.setSpacing(4)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(self._column)
        bottom = QHBoxLayout()
        bottom.addWidget(self.add, 1)
        bottom.addWidget(self.coloured)
        column.addLayout(bottom)
        self.classifying.changed.connect(self.refresh)
        session.changed.connect(self._refresh_rows)
        self.refresh()

    def leave_name(self) -> None:
        """Give the keys back to the canvas if no name is typed for a new class after all."""
        window = self.window()
        focused = None if window is None else window.focusWidget()
        for row in self.rows:
            new = row.which is self._new and not row.name.isModified()
            if new and focused is row.name:
                self.named.emit()

    def _add(self) -> None:
        """Add a class, and let the user type its name: its letters are no keys of the canvas."""
        self._new = self.classifying.add()
        if self._new is None:
            self.named.emit()
            return
        row = self.rows[-1]
        row.show()  # before Qt lays it out: what is hidden takes no focus
        row.name.setFocus(Qt.FocusReason.OtherFocusReason)
        row.name.selectAll()

    def close_down(self) -> None:
        """Stop following the session."""
        self.classifying.changed.disconnect(self.refresh)
        self._session.changed.disconnect(self._refresh_rows)

    def refresh(self) -> None:
        """Show the classes as they are now."""
        classes = self.classifying.classes
        if [row.which for row in self.rows] != classes:
            for row in self.rows:
                self._column.removeWidget(row)
                row.hide()  # it may stay a while
                row.deleteLater()
            self.rows = [
                _Row(self, each, at) for at, each in enumerate(classes, start=1)
            ]
            for row in self.rows:
                self._column.addWidget(row)
        self.coloured.setVisible(bool(classes))
        self.coloured.setChecked(self.classifying.coloured)
        self._refresh_rows()

    def _refresh_rows(self) -> None:
        for row in self.rows:
            row.refresh()
