"""A small curve of a training: its loss, and the figure on held-out images."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_tinysam.ui.dock.style import ACCENT, NEGATIVE

_HEIGHT = 64  # px
_EDGE = 4

Points = Sequence[tuple[float, float]]


class CurveView(QWidget):
    """The loss as a line, held-out figures as dots on a line; both in their own range.

    Parameters
    ----------
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._losses: Points = ()
        self._scores: Points = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Return the size it asks for."""
        return QSize(120, _HEIGHT)

    def show_curve(self, losses: Points, scores: Points) -> None:
        """Show (progress from 0 to 1, value) of both."""
        self._losses, self._scores = tuple(losses), tuple(scores)
        words = []
        if self._losses:
            words.append(
                f"Orange: the loss, {self._losses[-1][1]:.2f} now (less is better)."
            )
        if self._scores:
            first, last = self._scores[0][1], self._scores[-1][1]
            words.append(
                f"Blue: on held-out images, {first:.3f} at first, {last:.3f} now (more is better)."
            )
        self.setToolTip("\n".join(words))
        self.setAccessibleDescription(" ".join(words))
        self.update()

    def paintEvent(self, a0: QPaintEvent | None) -> None:
        """Draw both lines."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), QColor(128, 128, 128, 28))
        inside = QRectF(self.rect()).adjusted(_EDGE, _EDGE, -_EDGE, -_EDGE)
        self._draw(painter, inside, self._losses, QColor(NEGATIVE), dots=False)
        self._draw(painter, inside, self._scores, QColor(ACCENT), dots=True)
        painter.end()

    def _draw(
        self,
        painter: QPainter,
        inside: QRectF,
        points: Points,
        color: QColor,
        *,
        dots: bool,
    ) -> None:
        if not points:
            return
        values = [value for _, value in points]
        low, high = min(values), max(values)
        room = high - low or 1.0
        places = [
            QPointF(
                inside.left() + min(max(at, 0.0), 1.0) * inside.width(),
                inside.bottom() - (value - low) / room * inside.height(),
            )
            for at, value in points
        ]
        painter.setPen(QPen(color, 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF(places))
        if dots:
            painter.setBrush(color)
            for place in places:
                painter.drawEllipse(place, 2.5, 2.5)
