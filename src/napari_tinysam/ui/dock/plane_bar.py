"""A bar along the planes of a stack: what is known of one object in each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_tinysam.ui.dock.style import ACCENT, POSITIVE
from napari_tinysam.ui.state.traces import PlaneState

if TYPE_CHECKING:
    from qtpy.QtGui import QKeyEvent

#: Colours that colour-blind eyes tell apart; anchors have a mark as well.
_COLOURS = {
    PlaneState.ANCHOR: ACCENT,
    PlaneState.FOLLOWED: POSITIVE,
    PlaneState.COPIED: "#8c8c8c",
    PlaneState.WEAK: "#e08a00",
}

_TRACK = (128, 128, 128, 60)
_HEIGHT, _POINTER = 14, 5  # px of the bar, and of the mark above it
_GRAB = 6  # px around an end in which it can be dragged


class PlaneBar(QWidget):
    """Shows the planes that have an object; a click goes to one, the ends can be dragged.

    Parameters
    ----------
    parent : QWidget, optional
        As in Qt.
    """

    #: The user wants to see a plane.
    clicked = Signal(int)
    #: The user dragged the ends: the first and the last plane.
    ends_moved = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._states: dict[int, PlaneState] = {}
        self._length = 0
        self._shown: int | None = None
        self._dragged: str = ""  # "first", "last" or "click"
        self._at = 0  # where the dragged end is
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Planes of the object")

    def sizeHint(self) -> QSize:
        """Return room for the bar and the mark of the shown plane."""
        return QSize(200, _HEIGHT + _POINTER + 2)

    def minimumSizeHint(self) -> QSize:
        """Return the height of the bar; it may be narrow."""
        return QSize(60, self.sizeHint().height())

    def show_planes(
        self, states: Mapping[int, PlaneState], length: int, shown: int | None
    ) -> None:
        """Show an object.

        Parameters
        ----------
        states : mapping of int to PlaneState
            The planes that have it.
        length : int
            How many planes there are.
        shown : int or None
            The plane that the viewer shows.
        """
        new = (dict(states), length, shown)
        if new != (self._states, self._length, self._shown):
            self._states, self._length, self._shown = new
            self.update()

    @property
    def ends(self) -> tuple[int, int] | None:
        """The first and the last plane of the object, as dragged now; None without one."""
        if not self._states:
            return None
        first, last = min(self._states), max(self._states)
        if self._dragged == "first":
            first = min(self._at, last)
        if self._dragged == "last":
            last = max(self._at, first)
        return first, last

    def x_of(self, plane: float) -> float:
        """Return where a plane begins, in px."""
        return plane * self.width() / max(self._length, 1)

    def plane_at(self, x: float) -> int:
        """Return the plane at px from the left."""
        plane = int(x * self._length / max(self.width(), 1))
        return min(max(plane, 0), max(self._length - 1, 0))

    # --- the mouse and the keyboard --------------------------------------------------------

    def mousePressEvent(self, a0: QMouseEvent | None) -> None:
        """Take an end, or go to a plane."""
        if a0 is None or a0.button() != Qt.MouseButton.LeftButton or not self._length:
            return
        x = a0.position().x()
        self._dragged = self._end_at(x) or "click"
        self._at = self.plane_at(x)
        if self._dragged == "click":
            self.clicked.emit(self._at)
        self.update()

    def mouseMoveEvent(self, a0: QMouseEvent | None) -> None:
        """Drag; or say what is below the mouse."""
        if a0 is None or not self._length:
            return
        x = a0.position().x()
        at = self.plane_at(x)
        if self._dragged and at != self._at:
            self._at = at
            if self._dragged == "click":
                self.clicked.emit(at)
            self.update()
        if not self._dragged:
            near = bool(self._end_at(x))
            shape = Qt.CursorShape
            self.setCursor(shape.SplitHCursor if near else shape.PointingHandCursor)
        QToolTip.showText(a0.globalPosition().toPoint(), self.tip(at), self)

    def mouseReleaseEvent(self, a0: QMouseEvent | None) -> None:
        """Put an end where it was dragged to."""
        del a0
        ends, dragged = self.ends, self._dragged
        self._dragged = ""
        self.update()
        if dragged in ("first", "last") and ends is not None:
            if ends != (min(self._states), max(self._states)):
                self.ends_moved.emit(*ends)
            else:
                self.clicked.emit(ends[0] if dragged == "first" else ends[1])

    def leaveEvent(self, a0: QEvent | None) -> None:
        """Leave the mouse as it was."""
        self.unsetCursor()
        super().leaveEvent(a0)

    def keyPressEvent(self, a0: QKeyEvent | None) -> None:
        """Go to the neighbouring planes with the arrow keys."""
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
        step = steps.get(Qt.Key(a0.key())) if a0 is not None else None
        if step is None or self._shown is None:
            super().keyPressEvent(a0)
            return
        self.clicked.emit(min(max(self._shown + step, 0), self._length - 1))

    def tip(self, plane: int) -> str:
        """Say what is known of a plane."""
        state = self._states.get(plane)
        return f"Plane {plane}: {'not there' if state is None else state.value}"

    def _end_at(self, x: float) -> str:
        """Return which end is near: "first", "last" or ""."""
        ends = self.ends
        if ends is None:
            return ""
        away = {
            "first": abs(x - self.x_of(ends[0])),
            "last": abs(x - self.x_of(ends[1] + 1)),
        }
        nearest = min(away, key=lambda end: away[end])
        return nearest if away[nearest] <= _GRAB else ""

    # --- drawing ---------------------------------------------------------------------------

    def paintEvent(self, a0: QPaintEvent | None) -> None:
        """Draw the planes, the ends and the mark of the shown plane."""
        del a0
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        top = _POINTER + 1
        painter.setBrush(QColor(*_TRACK))
        painter.drawRoundedRect(QRectF(0, top, self.width(), _HEIGHT), 2, 2)
        ends = self.ends
        if ends is None:
            self._draw_shown(painter)
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        for plane, state in sorted(self._states.items()):
            if not ends[0] <= plane <= ends[1]:
                continue
            left, right = self.x_of(plane), self.x_of(plane + 1)
            painter.setBrush(QColor(_COLOURS[state]))
            gap = 1 if right - left > 4 else 0
            painter.drawRect(QRectF(left, top, max(right - left - gap, 1), _HEIGHT))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(QColor("white"))
        for plane, state in self._states.items():
            if state is PlaneState.ANCHOR and ends[0] <= plane <= ends[1]:
                middle = QPointF(
                    (self.x_of(plane) + self.x_of(plane + 1)) / 2, top + _HEIGHT / 2
                )
                painter.drawEllipse(middle, 2.5, 2.5)
        colour = self.palette().color(self.foregroundRole())
        painter.setBrush(colour)
        for x in (self.x_of(ends[0]), self.x_of(ends[1] + 1)):
            at = min(max(x - 1, 0), self.width() - 2)
            painter.drawRect(QRectF(at, top - 1, 2, _HEIGHT + 2))
        self._draw_shown(painter)

    def _draw_shown(self, painter: QPainter) -> None:
        if self._shown is None:
            return
        painter.setBrush(self.palette().color(self.foregroundRole()))
        x = (self.x_of(self._shown) + self.x_of(self._shown + 1)) / 2
        mark = [(x - 4, 0.0), (x + 4, 0.0), (x, float(_POINTER))]
        painter.drawPolygon(QPolygonF([QPointF(*corner) for corner in mark]))
