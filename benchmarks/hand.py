"""A window with the dock, and a hand on mouse and keys that counts what it presses."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget

from benchmarks.auto_in_tiles import say
from napari_tinysam.ui.state.region import Region

_PATIENCE_S = 1200


class Walk:
    """A window with the dock, and an image or none, and a hand on mouse and keys that counts."""

    def __init__(
        self, image: Any = None, name: str = "", axes: tuple[str, ...] = ()
    ) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1400, 900)
        if image is not None:
            self.viewer.add_image(image, name=name, axis_labels=axes)
        _, self.dock = self.viewer.window.add_plugin_dock_widget(
            "napari-tinysam", "TinySAM"
        )
        self.session: Any = self.dock.session
        if image is not None:
            self.wait(lambda: self.session.status.kind.name == "READY")
            self.viewer.fit_to_view()
        self.presses, self._begun = 0, time.monotonic()
        self._canvas = self.viewer.window._qt_viewer.canvas

    def wait(self, condition: Callable[[], Any], rest: float = 0.2) -> None:
        """Run the window until something holds, and a moment longer."""
        begun = time.monotonic()
        while not condition():
            if time.monotonic() - begun > _PATIENCE_S:
                raise TimeoutError(self.session.status)
            QApplication.processEvents()
            time.sleep(0.005)
        end = time.monotonic() + rest
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.005)

    def point(self, frame: int, mask: Any) -> None:
        """Move the mouse to the middle of a mask in the shown plane."""
        self.point_at(frame, *np.argwhere(mask).mean(0))

    def point_at(self, *place: float, move: bool = True) -> None:
        """Move the mouse to a place in the shown image: (y, x), or (plane, y, x)."""
        world = self.session.image.data_to_world(place)
        view = self._canvas.view
        mapped = (view.transform * view.scene.transform).map(
            [world[-1], world[-2], 0, 1]
        )
        self._at = QPoint(round(mapped[0] / mapped[3]), round(mapped[1] / mapped[3]))
        if move:
            none = Qt.MouseButton.NoButton
            self._mouse(QEvent.Type.MouseMove, none, none)
            self.wait(lambda: True)

    def click(self, *, right: bool = False) -> None:
        """Click where the mouse is; with the right button something does not belong to it."""
        none = Qt.MouseButton.NoButton
        button = Qt.MouseButton.RightButton if right else Qt.MouseButton.LeftButton
        self._mouse(QEvent.Type.MouseButtonPress, button, button)
        self._mouse(QEvent.Type.MouseButtonRelease, button, none)
        self.presses += 1

    def box(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag a box with Shift between two places (y, x) of the shown image."""
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        shift = Qt.KeyboardModifier.ShiftModifier
        self.point_at(*start)
        self._mouse(QEvent.Type.MouseButtonPress, left, left, shift)
        first = self._at
        self.point_at(*end, move=False)
        last = self._at
        for step in (1, 2, 3):
            self._at = first + (last - first) * step / 3
            self._mouse(QEvent.Type.MouseMove, none, left, shift)
        self._mouse(QEvent.Type.MouseButtonRelease, left, none, shift)
        self.presses += 1

    def _mouse(
        self,
        kind: Any,
        button: Any,
        buttons: Any,
        keys: Any = Qt.KeyboardModifier.NoModifier,
    ) -> None:
        native = self._canvas.native
        at, there = QPointF(self._at), QPointF(native.mapToGlobal(self._at))
        event = QMouseEvent(kind, at, there, button, buttons, keys)
        QApplication.sendEvent(native, event)

    def key(self, key: str, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
        """Press a key over the canvas."""
        QTest.keyClick(self._canvas.native, getattr(Qt.Key, f"Key_{key}"), modifiers)
        self.presses += 1
        self.wait(lambda: not self.busy)

    def shifted(self, key: str) -> None:
        """Press a key with Shift."""
        self.key(key, Qt.KeyboardModifier.ShiftModifier)

    def press(self, button: QWidget) -> None:
        """Click a button of the dock."""
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.presses += 1
        self.wait(lambda: not self.busy)

    def go_to(self, frame: int) -> None:
        """Show another plane: a click into the slider or the bar."""
        self.viewer.dims.set_point(0, frame)
        self.presses += 1
        self.wait(lambda: True)

    def segment_all(self) -> None:
        """Choose all planes, and press A: they are linked after that."""
        self.session.auto.set_region(Region.ALL_PLANES)
        self.presses += 2  # the list, and its entry
        self.key("A")

    @property
    def busy(self) -> bool:
        """Whether anything runs that the next step needs."""
        session = self.session
        return any(
            part.running
            for part in (
                session.all_planes,
                session.linking,
                session.tracking,
                session.follower,
                session.track_files,
                session.auto,
                session.files,
            )
        )

    def save(self, path: Path) -> None:
        """Save the labels with the dock's button; the dialog is one more key."""
        QFileDialog.getSaveFileName = staticmethod(lambda *_: (str(path), ""))
        self.press(self.dock.output.save)
        self.presses += 1
        self.wait(path.exists)

    def told(self, walk: str, result: str) -> None:
        """Print a line of the table, and begin to count anew."""
        seconds = time.monotonic() - self._begun
        say(f"{walk:30} {self.presses:3} presses {seconds:6.0f} s   {result}")
        self.presses, self._begun = 0, time.monotonic()


def iou(one: Any, other: Any) -> float:
    """Compare two masks."""
    return float((one & other).sum() / (one | other).sum())
