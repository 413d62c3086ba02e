"""The part of the dock that scrolls: its boxes one below the other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

from napari_tinysam.ui.dock.wheel import WheelGuard

if TYPE_CHECKING:
    from napari_tinysam.ui.dock.section import Section

#: px that stay in the lowest dock.
_LEAST = 44


class ScrollingColumn(QScrollArea):
    """Widgets in a column; a section that is opened is scrolled to.

    Parameters
    ----------
    parent : QWidget
        As in Qt.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        inside = QWidget()
        self.column = QVBoxLayout(inside)
        self.column.setContentsMargins(8, 2, 8, 8)
        self.column.setSpacing(8)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setMinimumHeight(_LEAST)
        self.setWidget(inside)
        self._opened: Section | None = None
        # It ends with the dock, which may be closed meanwhile.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._scroll_to_opened)

    def add_sections(self, *sections: Section) -> None:
        """Put sections below what is there, and end the column."""
        for section in sections:
            self.column.addWidget(section)
            section.toggled.connect(partial(self.reveal, section))
        self.column.addStretch(1)
        self._guard = WheelGuard(self)

    def reveal(self, section: Section, expanded: bool) -> None:
        """Scroll to a section that was opened."""
        if expanded:
            self._opened = section
            self._soon.start(0)  # once the layout knows how tall it is

    def keep_in_view(self, section: Section) -> None:
        """Scroll to what has been added to a section, if its title is in view."""
        bar = self.verticalScrollBar()
        if bar is None or not section.isVisible():
            return
        if bar.value() <= section.y() < bar.value() + bar.pageStep():
            self.reveal(section, True)

    def _scroll_to_opened(self) -> None:
        inside, bar, section = self.widget(), self.verticalScrollBar(), self._opened
        if inside is None or bar is None or section is None or not self.isEnabled():
            return
        inside.adjustSize()
        top, height = section.y(), section.height()
        room = bar.pageStep()
        if top < bar.value() or top + height > bar.value() + room:
            # All of it, or its title and what fits below.
            bar.setValue(top if height > room else top + height - room)
