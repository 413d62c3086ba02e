"""Find similar, and proposals by class, with mouse and keys in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt

from everything.scene import KindsRuntime
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.ui.canvas.proposal_layer import PROPOSED

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl

Key = Qt.Key

#: In pixels of the frame; the image has 256, so a disc's middle is at a quarter of this.
DISCS = [
    (200.0, 200.0, 60.0),
    (500.0, 200.0, 60.0),
    (800.0, 200.0, 60.0),
    (200.0, 700.0, 60.0),
    (500.0, 700.0, 60.0),
    (800.0, 700.0, 60.0),
]
MIDDLES = [(int(y / 4), int(x / 4)) for x, y, _ in DISCS]


def open_kinds(open_dock: OpenDockFactory) -> OpenDock:
    runtime = KindsRuntime(DISCS, seen=DISCS)
    predictor = Predictor(runtime, name="discs", model_id="discs")
    noise = np.random.default_rng(0).integers(0, 255, (256, 256), np.uint8)
    return open_dock(Image(noise, name="cells"), predictor=predictor)


def commit(dock: OpenDock, number: int) -> None:
    count = len(ids(dock))
    dock.mouse.click(dock.session.image, MIDDLES[number])
    dock.until(lambda: dock.session.can_commit)
    dock.mouse.key(Key.Key_C)
    dock.until(lambda: len(ids(dock)) > count)


def hover(dock: OpenDock, number: int) -> None:
    dock.mouse.move(dock.session.image, MIDDLES[number])


def ids(dock: OpenDock) -> list[int]:
    target = dock.session.target
    return [] if target is None else np.unique(target.data)[1:].tolist()


def colours(dock: OpenDock) -> list[Any]:
    """The colour of each proposed disc, None where none is proposed."""
    layer: Any = dock.viewer.layers[PROPOSED]
    values = [layer.data[place] for place in MIDDLES]
    return [tuple(layer.get_color(int(v))) if v else None for v in values]


def test_a_key_finds_similar_objects_and_a_click_accepts_them(
    open_dock: OpenDockFactory,
) -> None:
    dock = open_kinds(open_dock)
    box = dock.widget.auto
    assert box.similar.isVisible()
    commit(dock, 0)
    hover(dock, 0)
    dock.mouse.key(Key.Key_I)
    dock.until(lambda: dock.session.proposals.count == 2)
    assert box.count.text() == "2 proposals like object 1"
    assert box.likeness.slider.isVisible()
    assert box.pick.isChecked()
    assert not box.of_class.isVisible()
    dock.mouse.click(dock.session.image, MIDDLES[2])
    dock.until(lambda: len(ids(dock)) == 2)
    box.likeness.slider.setValue(0)
    dock.until(lambda: dock.session.proposals.count == 4)
    found = colours(dock)
    assert found[4] != found[1]
    assert found[1] == found[3] == found[5]
    dock.mouse.click(dock.session.image, MIDDLES[1], button=Qt.MouseButton.RightButton)
    dock.until(lambda: dock.session.proposals.count == 3)
    assert len(ids(dock)) == 2
    for _ in range(3):
        dock.mouse.key(Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert ids(dock) == [1]
    assert dock.session.proposals.count == 2


def test_proposals_are_shown_by_class_in_its_colour(
    open_dock: OpenDockFactory,
) -> None:
    dock = open_kinds(open_dock)
    box, classifying = dock.widget.auto, dock.session.classifying
    for name in ("even", "odd"):
        assert classifying.add(name) is not None
    for number in (0, 1):
        commit(dock, number)
        hover(dock, number)
        dock.mouse.key(Key.Key_1 if number == 0 else Key.Key_2)
    dock.mouse.key(Key.Key_A)
    dock.until(lambda: dock.session.proposals.count == 4)
    assert not box.likeness.slider.isVisible()
    assert box.of_class.isVisible()
    found = [box.classes.itemText(at) for at in range(box.classes.count())]
    assert found == ["no class", "every class", "even", "odd"]
    assert box.classes.currentText() == "every class"
    found = colours(dock)
    assert found[2] == found[4] != found[3] == found[5]
    box.classes.activated.emit(3)
    assert dock.session.proposals.count == 2
    assert box.classes.currentText() == "odd"
    before = colours(dock)[3]
    classifying.recolour(classifying.classes[1], "#00ff00")
    assert colours(dock)[3] != before
    dock.qtbot.mouseClick(box.accept, Qt.MouseButton.LeftButton)
    kinds = {c.name for c in classifying.of(dock.session.target).values()}
    assert kinds == {"even", "odd"}
    assert classifying.count(classifying.classes[1]) == 3
