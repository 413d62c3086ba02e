"""Auto-segment with mouse and keys in a real viewer."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt

from everything.scene import SceneRuntime
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.ui.canvas.proposal_layer import PROPOSED
from napari_tinysam.ui.state.mode import Mode

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl

Key = Qt.Key

#: In pixels of the frame of 1024; the image has 256, so a disc's middle is at a quarter of this.
DISCS = [
    (200.0, 200.0, 90.0),
    (440.0, 320.0, 60.0),
    (720.0, 200.0, 80.0),
    (640.0, 720.0, 100.0),
]
MIDDLES = [(50, 50), (80, 110), (50, 180), (180, 160)]  # y, x


class HeldRuntime(SceneRuntime):
    """Decodes only after the gate was opened; before that, as many batches as it is told."""

    free = 10_000
    gate = threading.Event()

    def decode(self, *arguments: Any, **options: Any) -> Any:
        if self.free <= 0:
            assert self.gate.wait(30)
        self.free -= 1
        return super().decode(*arguments, **options)


def open_scene(
    open_dock: OpenDockFactory, seen: Any = DISCS, **options: Any
) -> tuple[OpenDock, Image, HeldRuntime]:
    runtime = HeldRuntime(DISCS, seen=seen)
    runtime.gate = threading.Event()
    settings = {
        "score_threshold": 0.5,
        "stability_threshold": 0.5,
        "points_per_side": 16,
    }
    notes = {NOTE: json.dumps({"search": settings, "labels": {"confidence": 0.6}})}
    predictor = Predictor(runtime, name="discs", model_id="discs", notes=notes)
    noise = np.random.default_rng(0).integers(0, 255, (256, 256), np.uint8)
    image = Image(noise, name="cells", **options)
    return open_dock(image, predictor=predictor), image, runtime


def press(dock: OpenDock, button: Any) -> None:
    dock.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def shown(dock: OpenDock) -> list[int]:
    """Which discs have a proposal."""
    if PROPOSED not in dock.viewer.layers:
        return []
    data = dock.viewer.layers[PROPOSED].data
    return [n for n, place in enumerate(MIDDLES) if data[place]]


def test_button_sliders_accept_undo(open_dock: OpenDockFactory) -> None:
    dock, _, runtime = open_scene(open_dock)
    box = dock.widget.auto
    assert not box.accept.isVisible()
    press(dock, box.start)
    dock.until(lambda: dock.session.proposals.count == 4)
    dock.until(box.accept.isVisible)
    assert box.count.text() == "4 proposals"
    decoded = len(runtime.points)

    # The smallest disc has a diameter of 30 pixels of the image.
    low, high = box.diameter.slider.value()
    box.diameter.slider.setValue((34, high))
    assert shown(dock) == [0, 2, 3]
    assert box.count.text() == "3 proposals"
    box.diameter.slider.setValue((low, high))
    box.confidence.slider.setValue(97)  # scores are 0.963 to 0.971
    assert 0 < len(shown(dock)) < 4
    box.confidence.slider.setValue(60)
    assert shown(dock) == [0, 1, 2, 3]
    assert len(runtime.points) == decoded

    press(dock, box.accept)
    labels = dock.session.target.data
    assert len(np.unique(labels)) == 5
    assert shown(dock) == []
    assert box.count.text() == "No more proposals with these settings"
    dock.mouse.key(Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not labels.any()
    assert shown(dock) == [0, 1, 2, 3]
    assert box.count.text() == "4 proposals"
    assert box.accept.isEnabled()


def test_sizes_are_in_the_units_of_the_image(open_dock: OpenDockFactory) -> None:
    dock, image, _ = open_scene(open_dock, scale=(0.5, 0.5), units=("um", "um"))
    box = dock.widget.auto
    press(dock, box.start)
    dock.until(lambda: dock.session.proposals.count == 4)
    # The largest disc has a diameter of 50 pixels, the smallest one of 30.
    assert box.diameter.value.text() == "0.0–25.5 µm"
    assert "in µm" in box.diameter.slider.toolTip()
    box.diameter.slider.setValue((34, 51))
    assert box.diameter.value.text() == "17.0–25.5 µm"
    assert shown(dock) == [0, 2, 3]
    image.units = ("pixel", "pixel")
    dock.widget._refresh()
    assert box.diameter.value.text() == "34–51 px"


def test_proposals_open_the_section_that_they_are_decided_in(
    open_dock: OpenDockFactory,
) -> None:
    dock, _, _ = open_scene(open_dock)
    widget = dock.widget
    widget.auto_section.collapse()
    press(dock, widget.auto.start)
    dock.until(widget.auto.accept.isVisible)
    widget.auto_section.collapse()  # the user may; it stays so
    widget.auto.confidence.slider.setValue(97)
    assert not widget.auto_section.expanded


def test_what_helps_is_said_under_a_poor_result(open_dock: OpenDockFactory) -> None:
    dock, _, runtime = open_scene(open_dock)
    box = dock.widget.auto
    press(dock, box.start)
    dock.until(lambda: dock.session.proposals.count == 4)
    assert not box.advice.isVisible()
    press(dock, box.discard)

    runtime.discs = runtime.seen = []
    dock.session.image.events.data()  # read again
    dock.until_ready()
    press(dock, box.start)
    dock.until(lambda: not dock.session.auto.running)
    dock.until(box.advice.isVisible)
    assert box.advice.text().startswith("Found little")
    assert dock.widget.minimumSizeHint().width() <= 262
    dock.session.undo()
    assert not box.advice.isVisible()


def test_the_key_starts_it_and_clicks_go_on_meanwhile(
    open_dock: OpenDockFactory,
) -> None:
    dock, image, runtime = open_scene(open_dock, seen=None)
    runtime.free = 0
    dock.mouse.key(Key.Key_A)
    dock.until(lambda: dock.session.status.kind.name == "SEGMENTING")
    dock.until(dock.widget.status_bar.cancel.isVisible)
    dock.mouse.click(image, MIDDLES[3])
    runtime.free = 10_000
    runtime.gate.set()
    dock.until(lambda: dock.session.candidate_scores)
    dock.until(lambda: not dock.session.auto.running)
    assert shown(dock) == [0, 1, 2, 3]


def test_cancel_half_way_keeps_what_was_found(open_dock: OpenDockFactory) -> None:
    dock, _, runtime = open_scene(open_dock, seen=None)
    runtime.free = 5
    press(dock, dock.widget.auto.start)
    dock.until(lambda: len(shown(dock)) > 0)
    dock.until(dock.widget.status_bar.cancel.isVisible)
    press(dock, dock.widget.status_bar.cancel)
    runtime.free = 10_000
    runtime.gate.set()
    dock.until(lambda: not dock.session.auto.running)
    dock.until_ready()
    assert 0 < dock.session.proposals.count < 4
    assert len(runtime.points) < 256


def test_pick_with_the_mouse(open_dock: OpenDockFactory) -> None:
    dock, image, runtime = open_scene(open_dock)
    press(dock, dock.widget.auto.start)
    dock.until(lambda: dock.session.proposals.count == 4)
    dock.until(dock.widget.auto.pick.isVisible)
    decoded = len(runtime.points)
    press(dock, dock.widget.auto.pick)
    assert dock.session.mode is Mode.PICK
    dock.mouse.move(image, MIDDLES[0])
    dock.until(dock.shows_preview)
    dock.mouse.click(image, MIDDLES[0])
    labels = dock.session.target.data
    assert np.unique(labels).tolist() == [0, 1]
    assert shown(dock) == [1, 2, 3]
    dock.mouse.click(image, MIDDLES[2], button=Qt.MouseButton.RightButton)
    assert shown(dock) == [1, 3]
    assert len(runtime.points) == decoded
    # The rest by a second run, which leaves the committed one alone.
    press(dock, dock.widget.auto.start)
    dock.until(lambda: not dock.session.auto.running)
    assert shown(dock) == [1, 2, 3]
    assert np.unique(labels).tolist() == [0, 1]


def test_closing_in_the_middle(open_dock: OpenDockFactory) -> None:
    dock, _, runtime = open_scene(open_dock, seen=None)
    runtime.free = 2
    press(dock, dock.widget.auto.start)
    dock.until(lambda: runtime.free <= 0)
    dock.viewer.close()
    runtime.free = 10_000
    runtime.gate.set()
