"""A hand on the mouse: real Qt events at the places where data are shown on the canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

_NO_KEYS = Qt.KeyboardModifier.NoModifier


class CanvasMouse:
    """Moves, clicks and drags on the canvas of a viewer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Shown on a screen.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._canvas = viewer.window._qt_viewer.canvas
        self.native = self._canvas.native

    def place(self, layer: Layer, position: Any) -> QPoint:
        """Find where a position in a layer's data is on the canvas, in its pixels."""
        world = np.asarray(layer.data_to_world(position), float)
        offset = self._viewer.dims.ndim - layer.ndim
        y, x = (world[axis - offset] for axis in self._viewer.dims.displayed)
        view = self._canvas.view
        mapped = (view.transform * view.scene.transform).map([x, y, 0, 1])
        return QPoint(round(mapped[0] / mapped[3]), round(mapped[1] / mapped[3]))

    def move(self, layer: Layer, position: Any, keys: Any = _NO_KEYS) -> None:
        """Move the pointer with no button down."""
        self._send(
            QEvent.Type.MouseMove,
            self.place(layer, position),
            Qt.MouseButton.NoButton,
            Qt.MouseButton.NoButton,
            keys,
        )

    def click(
        self,
        layer: Layer,
        position: Any,
        *,
        button: Any = Qt.MouseButton.LeftButton,
        keys: Any = _NO_KEYS,
    ) -> None:
        """Press and release at one place."""
        at = self.place(layer, position)
        self.move(layer, position, keys)
        self._send(QEvent.Type.MouseButtonPress, at, button, button, keys)
        self._send(
            QEvent.Type.MouseButtonRelease, at, button, Qt.MouseButton.NoButton, keys
        )

    def double_click(self, layer: Layer, position: Any) -> None:
        """Press and release twice at one place, quickly."""
        self.click(layer, position)
        self.second_click(layer, position)

    def second_click(self, layer: Layer, position: Any) -> None:
        """Press and release as Qt tells it, quickly after a click at the same place."""
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        at = self.place(layer, position)
        self._send(QEvent.Type.MouseButtonDblClick, at, left, left, _NO_KEYS)
        self._send(QEvent.Type.MouseButtonRelease, at, left, none, _NO_KEYS)

    def drag(
        self,
        layer: Layer,
        start: Any,
        end: Any,
        *,
        keys: Any = _NO_KEYS,
        release: bool = True,
    ) -> None:
        """Press, move in a few steps, and release."""
        left = Qt.MouseButton.LeftButton
        first, last = self.place(layer, start), self.place(layer, end)
        self._send(QEvent.Type.MouseButtonPress, first, left, left, keys)
        for step in range(1, 6):
            at = first + (last - first) * step / 5
            self._send(QEvent.Type.MouseMove, at, Qt.MouseButton.NoButton, left, keys)
        if release:
            self._send(
                QEvent.Type.MouseButtonRelease,
                last,
                left,
                Qt.MouseButton.NoButton,
                keys,
            )

    def key(self, key: Any, modifiers: Any = _NO_KEYS) -> None:
        """Press a key where the keyboard's focus is."""
        target = QApplication.focusWidget() or self._viewer.window._qt_window
        QTest.keyClick(target, key, modifiers)

    def _send(
        self, kind: Any, at: QPoint, button: Any, buttons: Any, keys: Any
    ) -> None:
        event = QMouseEvent(
            kind,
            QPointF(at),
            QPointF(self.native.mapToGlobal(at)),
            button,
            buttons,
            keys,
        )
        QApplication.sendEvent(self.native, event)
