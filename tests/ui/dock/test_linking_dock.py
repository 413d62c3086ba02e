"""Linking through planes, in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Labels
from qtpy.QtCore import Qt

from napari_tinysam.ui.state.region import Region
from napari_tinysam.ui.state.stack_planes import AxisKind

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl

PLANES = 6
#: Ids of the discs of `stack` in each plane, before they are linked.
IDS = list(range(1, 1 + PLANES))


def stack(**options: Any) -> tuple[Image, Labels]:
    """Make a stack with a disc through all planes, and one in two planes."""
    y, x = np.mgrid[:128, :128]
    labels = np.zeros((PLANES, 128, 128), np.uint32)
    for z in range(PLANES):
        labels[z][np.hypot(y - 40, x - 40 - z) < 15] = 1 + z
        if z < 2:
            labels[z][np.hypot(y - 90, x - 90) < 12] = 11 + z
    noise = np.random.default_rng(0).integers(0, 255, labels.shape, np.uint8)
    name = "cells committed_objects"
    return Image(noise, name="cells", **options), Labels(labels, name=name, **options)


def press(dock: OpenDock, button: Any) -> None:
    dock.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def through(dock: OpenDock) -> list[int]:
    """Ids of the long disc."""
    return dock.session.target.data[:, 40, 45].tolist()


def linked(dock: OpenDock) -> bool:
    linking = dock.session.linking
    return linking.linked and not linking.running


def choose(combo: Any, text: str) -> None:
    combo.setCurrentIndex(combo.findText(text))
    combo.activated.emit(combo.currentIndex())


def test_ask_link_slide_undo(open_dock: OpenDockFactory) -> None:
    dock = open_dock(*stack())
    box = dock.widget.link
    assert box.isVisible()
    assert not box.link.isEnabled()  # nobody has said what the planes are
    choose(dock.widget.axes.answers[0], "depth (z)")
    assert dock.session._parts.subject.state.kind == {0: AxisKind.DEPTH}
    press(dock, box.link)
    dock.until(lambda: linked(dock))
    assert through(dock) == [1] * PLANES
    assert box.note.text() == "2 objects through the planes."

    before = dock.session.undo_text
    for least in range(2, PLANES + 1):  # the slider is dragged
        box.least.slider.setValue(least)
    dock.until(lambda: linked(dock) and dock.session.target.data[0, 90, 90] == 0)
    dock.viewer.dims.set_current_step(0, 1)
    assert dock.viewer.layers[1].get_value((1, 90, 90)) == 0
    box.least.slider.setValue(1)
    dock.until(lambda: linked(dock) and dock.session.target.data[0, 90, 90] == 11)
    dock.mouse.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    dock.until(lambda: dock.session.undo_text == before)
    assert box.least.slider.value() == 2
    dock.mouse.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    dock.until(lambda: through(dock) == IDS)
    assert not box.note.isVisible()


def test_planes_are_changed_wildly_and_the_dock_is_closed(
    open_dock: OpenDockFactory,
) -> None:
    image, labels = stack(axis_labels=("z", "y", "x"))
    dock = open_dock(image, labels)
    before = labels.data.copy()
    press(dock, dock.widget.link.link)
    for z in (5, 0, 3, 1, 4):
        dock.viewer.dims.set_current_step(0, z)
        dock.qtbot.wait(2)
    dock.until(lambda: linked(dock))
    assert through(dock) == [1] * PLANES
    press(dock, dock.widget.link.link)
    dock.widget.link.gap.slider.setValue(3)
    dock.viewer.window.remove_dock_widget(dock.widget)
    dock.qtbot.wait(50)
    assert ((labels.data > 0) == (before > 0)).all()


def test_all_planes_then_link(open_dock: OpenDockFactory) -> None:
    image, _ = stack()
    dock = open_dock(image)
    planes = dock.widget.auto.planes
    dock.session.auto.set_region(Region.ALL_PLANES)
    assert planes.then.currentText() == "not"
    choose(planes.then, "as depth (z)")
    assert dock.session.then_link
    dock.session.auto.set_region(Region.PLANE)
    assert not planes.then.isVisible()


def test_one_plane_shows_nothing_of_this(open_dock: OpenDockFactory) -> None:
    dock = open_dock(Image(np.zeros((64, 64), np.uint8), name="cells"))
    assert not dock.widget.link_section.isVisible()
