"""A push button that shows its key."""

from __future__ import annotations

import sys

from qtpy.QtCore import QRect, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetrics, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QPushButton,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QWidget,
)

_PADDING = 8  # px between the button's edge and its text
_GAP = 8  # px between text and key
_KEY_PADDING = 4  # px left and right of the key inside its frame


def shown_key(key: str, *, mac: bool | None = None) -> str:
    """Write a napari key binding as the keyboard shows it.

    Parameters
    ----------
    key : str
        "S", "Shift-C", "Control-Shift-Z".
    mac : bool, optional
        Whether the keyboard is Apple's, where napari's Control is ⌘. Default: this machine's.

    Returns
    -------
    str
        "S", "⇧C", "Ctrl+⇧Z" (on a Mac "⌘⇧Z").
    """
    if mac is None:
        mac = sys.platform == "darwin"
    *modifiers, last = key.replace("+", "-").split("-")
    control = "⌘" if mac else "Ctrl+"
    alt = "⌥" if mac else "Alt+"
    names = {"Control": control, "Ctrl": control, "Shift": "⇧", "Alt": alt}
    return "".join(names.get(modifier, f"{modifier}+") for modifier in modifiers) + last


class KeyButton(QPushButton):
    """A button with its text on the left and its key, in a small frame, on the right.

    A click leaves the keyboard focus where it is, so that the keys keep working on the canvas. The
    Tab key still reaches it.

    Parameters
    ----------
    text : str
        What it does.
    key : str
        The key that does the same, as `shown_key` writes it; "" for none.
    role : str
        For the style sheet: "" for a plain button, "primary" for the most used, "positive" and
        "negative" for the sign of the next click.
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(
        self,
        text: str,
        key: str = "",
        *,
        role: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self._key = self._own_key = key
        self._brief = ""
        self.setProperty("role", role)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)

    @property
    def key(self) -> str:
        """The key, even where it is not shown."""
        return self._own_key

    def set_key_works(self, works: bool) -> None:
        """Show the key, or hide it while it means something else."""
        key = self._own_key if works else ""
        if key != self._key:
            self._key = key
            self.update()

    def set_texts(self, text: str, brief: str = "") -> None:
        """Set the text, and a short one for where there is little room."""
        self._brief = brief
        self.setText(text)
        self.updateGeometry()
        self.update()

    @property
    def shown_text(self) -> str:
        """The text that fits its current width."""
        text = self.text()
        room = self._room().width()
        if self._brief and self.fontMetrics().horizontalAdvance(text) > room:
            return self._brief
        return text

    def set_role(self, role: str) -> None:
        """Change the colours; see `role`."""
        if self.property("role") == role:
            return
        self.setProperty("role", role)
        style = self.style()
        if style is not None:  # a style sheet reads properties only when it is applied
            style.unpolish(self)
            style.polish(self)
        self.update()

    def sizeHint(self) -> QSize:
        """Return room for text and key."""
        return self._size_for(self.text())

    def minimumSizeHint(self) -> QSize:
        """Return room for the short text: half a text helps nobody."""
        return self._size_for(self._brief or self.text())

    def _size_for(self, written: str) -> QSize:
        text = self.fontMetrics().horizontalAdvance(written)
        key = self._key_width() + (_GAP if text else 0) if self._own_key else 0
        height = max(self.fontMetrics().height() + 10, super().sizeHint().height())
        return QSize(text + key + 2 * _PADDING, height)

    def paintEvent(self, a0: QPaintEvent | None) -> None:
        """Draw the style's button, then text and key on it."""
        option = QStyleOptionButton()
        self.initStyleOption(option)
        text, option.text = self.shown_text, ""
        painter = QStylePainter(self)
        painter.drawControl(QStyle.ControlElement.CE_PushButton, option)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        colour = self.palette().color(self.foregroundRole())
        painter.setPen(colour)
        if self._key:
            inside = self.rect().adjusted(_PADDING, 0, -_PADDING, 0)
            self._draw_key(painter, inside, colour)
            align = Qt.AlignmentFlag.AlignLeft
        else:
            align = Qt.AlignmentFlag.AlignHCenter
        painter.setFont(self.font())
        painter.setPen(colour)
        painter.drawText(self._room(), int(align | Qt.AlignmentFlag.AlignVCenter), text)

    def _room(self) -> QRect:
        """Return where the text goes."""
        room = self.rect().adjusted(_PADDING, 0, -_PADDING, 0)
        if self._key:
            room.setRight(room.right() - self._key_width() - _GAP // 2)
        return room

    def _key_font(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(max(6.0, font.pointSizeF() - 1.5))
        return font

    def _key_width(self) -> int:
        metrics = QFontMetrics(self._key_font())
        width = metrics.horizontalAdvance(self._own_key) + 2 * _KEY_PADDING
        return max(width, metrics.height())

    def _draw_key(self, painter: QPainter, inside: QRect, colour: QColor) -> None:
        font = self._key_font()
        width, height = self._key_width(), QFontMetrics(font).height() + 1
        frame = QRect(0, 0, width, height)
        frame.moveCenter(inside.center())
        frame.moveRight(inside.right())
        ground, edge = QColor(colour), QColor(colour)
        ground.setAlphaF(colour.alphaF() * 0.10)
        edge.setAlphaF(colour.alphaF() * 0.30)
        painter.setPen(edge)
        painter.setBrush(ground)
        painter.drawRoundedRect(frame, 3, 3)
        letters = QColor(colour)
        letters.setAlphaF(colour.alphaF() * 0.85)
        painter.setFont(font)
        painter.setPen(letters)
        painter.drawText(frame, int(Qt.AlignmentFlag.AlignCenter), self._key)
