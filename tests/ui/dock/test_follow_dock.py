"""Following from the dock, in a real viewer with mouse and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.ui.dock.plane_bar import PlaneBar
from napari_tinysam.ui.state.stack_planes import AxisKind
from napari_tinysam.ui.state.traces import PlaneState
from volume.stack_of_discs import StackRuntime

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl

Key = Qt.Key

#: Radii in pixels of the frame; planes have 128 pixels, so 8 of the frame are one of the plane.
BALL = [0, 0, 60, 90, 110, 120, 110, 90, 60, 0, 0, 0]
X, Y = 400.0, 480.0


@pytest.fixture
def opened(open_dock: OpenDockFactory) -> OpenDock:
    planes = [[(X, Y, float(radius))] if radius else [] for radius in BALL]
    pixels = np.empty((len(planes), 128, 128, 3), np.uint8)
    pixels[:] = np.arange(len(planes), dtype=np.uint8)[:, None, None, None]
    predictor = Predictor(StackRuntime(planes), name="stack", model_id="stack")
    image = Image(pixels, rgb=True, name="cells")
    dock = open_dock(image, predictor=predictor)
    dock.session.set_ahead(False)
    show(dock, 5)
    return dock


def show(dock: OpenDock, plane: int) -> None:
    dock.viewer.dims.set_point(0, plane)
    dock.until_ready()
    dock.until(lambda: dock.session._parts.embedder.embedding is not None)


def shown(dock: OpenDock) -> list[int]:
    target = dock.session.target
    if target is None:
        return []
    return np.flatnonzero(np.asarray(target.data).any(axis=(1, 2))).tolist()


def follow(dock: OpenDock) -> None:
    """Click the ball and press G; the axis is told in the dock."""
    dock.mouse.click(dock.session.image, (5, Y / 8, X / 8))
    dock.until(lambda: dock.session.candidate is not None)
    dock.mouse.key(Key.Key_G)
    dock.until(lambda: dock.session.follower.asks_for_kind)
    answer = dock.widget.axes.answers[0]
    assert answer.isVisible()
    assert shown(dock) == []
    answer.chosen.emit(AxisKind.DEPTH)
    dock.until(lambda: len(shown(dock)) == 7)
    dock.until(lambda: not dock.session.follower.running)


def test_a_click_a_key_and_the_bar(opened: OpenDock) -> None:
    dock, box = opened, opened.widget.through
    assert not box.bar.isVisible()
    follow(dock)
    assert shown(dock) == [2, 3, 4, 5, 6, 7, 8]
    assert box.bar.isVisible()
    assert box.title.text() == "Object 1: planes 2 to 8"
    assert box.bar.ends == (2, 8)
    # A click in the bar goes there.
    press(box.bar, box.bar.x_of(6.5))
    dock.until(lambda: dock.session.follower.shown == 6)
    # H: it ends here.
    dock.mouse.key(Key.Key_H)
    dock.until(lambda: shown(dock) == [2, 3, 4, 5, 6])
    # The left end is dragged to the right, and out again.
    drag(box.bar, box.bar.x_of(2), box.bar.x_of(4.5))
    dock.until(lambda: shown(dock) == [4, 5, 6])
    drag(box.bar, box.bar.x_of(4), box.bar.x_of(2.5))
    dock.until(lambda: shown(dock) == [2, 3, 4, 5, 6])
    dock.until(lambda: not dock.session.follower.running)
    # Y: this plane is right.
    show(dock, 3)
    dock.mouse.key(Key.Key_Y)
    assert dock.session.follower.states[3] is PlaneState.ANCHOR
    # Each was a step.
    for _ in range(4):
        dock.mouse.key(Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert shown(dock) == [2, 3, 4, 5, 6, 7, 8]
    dock.mouse.key(Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert shown(dock) == [5]
    assert not box.bar.isVisible()


def test_a_single_plane_has_nothing_of_it(open_dock: OpenDockFactory) -> None:
    dock = open_dock(Image(np.zeros((64, 64), np.uint8)))
    assert not dock.widget.through_section.isVisible()
    assert not dock.widget.edit.whole.isVisible()


def test_the_dock_is_closed_while_an_object_is_followed(opened: OpenDock) -> None:
    dock = opened
    dock.session.set_axis_kind(0, AxisKind.DEPTH)
    dock.mouse.click(dock.session.image, (5, Y / 8, X / 8))
    dock.until(lambda: dock.session.candidate is not None)
    dock.mouse.key(Key.Key_G)
    dock.until(lambda: len(shown(dock)) > 1)
    target = dock.session.target
    dock.widget.teardown()
    there = np.asarray(target.data).copy()
    QTest.qWait(100)
    np.testing.assert_array_equal(np.asarray(target.data), there)


def test_the_bar_alone(qtbot: QtBot) -> None:
    bar = PlaneBar()
    qtbot.addWidget(bar)
    bar.resize(300, 22)
    bar.show()
    states = {
        3: PlaneState.FOLLOWED,
        4: PlaneState.ANCHOR,
        5: PlaneState.WEAK,
        6: PlaneState.COPIED,
    }
    bar.show_planes(states, 10, 4)
    assert bar.tip(5) == "Plane 5: weak"
    assert bar.tip(9) == "Plane 9: not there"
    picture = bar.grab().toImage()
    colours = {
        picture.pixelColor(int(bar.x_of(plane) + 6), 14).name() for plane in states
    }
    assert len(colours) == 4, "four kinds of planes, four colours"
    went: list[int] = []
    moved: list[tuple[int, int]] = []
    bar.clicked.connect(went.append)
    bar.ends_moved.connect(lambda first, last: moved.append((first, last)))
    press(bar, bar.x_of(8.5))
    assert went == [8]
    QTest.keyClick(bar, Key.Key_Right)
    assert went == [8, 5]
    drag(bar, bar.x_of(7), bar.x_of(1.5))
    assert moved == [(3, 3)], "an end is never dragged past the other"
    empty = PlaneBar()
    qtbot.addWidget(empty)
    press(empty, 5)
    assert empty.ends is None


def press(bar: PlaneBar, x: float) -> None:
    QTest.mouseClick(bar, Qt.MouseButton.LeftButton, pos=QPoint(round(x), 12))


def drag(bar: PlaneBar, start: float, end: float) -> None:
    left = Qt.MouseButton.LeftButton
    QTest.mousePress(bar, left, pos=QPoint(round(start), 12))
    for step in range(1, 5):
        x = start + (end - start) * step / 4
        QTest.mouseMove(bar, QPoint(round(x), 12))
    QTest.mouseRelease(bar, left, pos=QPoint(round(end), 12))
