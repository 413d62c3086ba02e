"""The first and last position on an axis of a stack; buttons set them to the shown plane."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSpinBox, QWidget
from superqt.utils import signals_blocked

from napari_tinysam.ui.dock.buttons import set_tip
from napari_tinysam.ui.dock.layouts import grid_in

if TYPE_CHECKING:
    from napari_tinysam.ui.session.stacks.part import StackPart
    from napari_tinysam.ui.state.stack_planes import AxisRange

#: Axes with so many positions have the buttons, too.
MANY = 12


class RangeRow(QWidget):
    """The range on one axis.

    Parameters
    ----------
    part : StackPart
        What the choices go to.
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(self, part: StackPart, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._part = part
        self._axis = 0
        self.title, to = QLabel(), QLabel("to")
        self.first, self.last = QSpinBox(), QSpinBox()
        for box in (self.first, self.last):
            box.setKeyboardTracking(False)
            # napari's buttons on both sides make a row wider than the dock.
            box.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
            box.valueChanged.connect(partial(self._choose, box))
        self.buttons = QWidget()
        row = QHBoxLayout(self.buttons)
        row.setContentsMargins(0, 0, 0, 0)
        self.begin = QPushButton("From here")
        self.end = QPushButton("To here")
        self.all = QPushButton("All")
        for button, does, tip in (
            (self.begin, part.begin_here, "Begin with the plane that is shown"),
            (self.end, part.end_here, "End with the plane that is shown"),
            (self.all, part.take_all, "Take all planes"),
        ):
            button.clicked.connect(partial(self._set, does))
            set_tip(button, tip)
            row.addWidget(button)
        grid = grid_in(self)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(3, 1)
        for column, widget in enumerate((self.title, self.first, to, self.last)):
            grid.addWidget(widget, 0, column)
        grid.addWidget(self.buttons, 1, 0, 1, 4)

    def show_range(self, found: AxisRange | None) -> None:
        """Show a range; None hides it."""
        self.setVisible(found is not None)
        if found is None:
            return
        self._axis = found.axis
        self.title.setText(found.name or "Planes")
        tip = f"Positions as on the slider below the image: 0 to {found.end}"
        for box, value in ((self.first, found.first), (self.last, found.last)):
            set_tip(box, tip)
            with signals_blocked(box):
                box.setRange(0, found.end)
                box.setValue(value)
        self.buttons.setVisible(found.end + 1 >= MANY)
        self.all.setEnabled((found.first, found.last) != (0, found.end))

    def _set(self, does: Callable[[int], None], _: bool) -> None:
        does(self._axis)

    def _choose(self, changed: QSpinBox, value: int) -> None:
        """Take a position; the other end of the range follows it."""
        first, last = self.first.value(), self.last.value()
        if first > last:
            first = last = value
        self._part.set_range(self._axis, first, last)
