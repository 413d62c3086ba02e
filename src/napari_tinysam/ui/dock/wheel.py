"""The mouse wheel scrolls the dock, and changes values only where the user put the focus."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QScrollArea,
    QScrollBar,
    QWidget,
)

_WITH_VALUES = (QComboBox, QAbstractSpinBox, QAbstractSlider)


class WheelGuard(QObject):
    """Hands wheel events over combo boxes, spin boxes and sliders without focus to a scroll area.

    Parameters
    ----------
    area : QScrollArea
        Everything inside it now is guarded. It owns the guard.
    """

    def __init__(self, area: QScrollArea) -> None:
        super().__init__(area)
        self._area = area
        inside = area.widget()
        assert inside is not None
        for kind in _WITH_VALUES:
            for widget in inside.findChildren(kind):
                if isinstance(widget, QScrollBar):  # of a list that is open
                    continue
                # Otherwise the wheel itself gives them the focus.
                widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Send a wheel event on."""
        if event is None or event.type() != QEvent.Type.Wheel:
            return False
        if isinstance(watched, QWidget) and watched.hasFocus():
            return False
        QApplication.sendEvent(self._area.viewport(), event)
        return True
