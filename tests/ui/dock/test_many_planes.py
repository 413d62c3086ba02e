"""All planes, all images and files from the dock, in a real viewer with mouse and keys."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from everything.scene import SceneRuntime
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.ui.state.region import Region

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl

Key = Qt.Key

#: In pixels of the frame of 1024; planes have 128, so a disc's middle is at an eighth of this.
DISCS = [(200.0, 200.0, 90.0), (720.0, 200.0, 80.0), (640.0, 720.0, 100.0)]
MIDDLES = [(25, 25), (25, 90), (90, 80)]  # y, x
PLANES = 6


class SlowRuntime(SceneRuntime):
    """Reads no more planes than it is allowed to, until the gate is opened."""

    def __init__(self, *discs: Any, **options: Any) -> None:
        super().__init__(*discs, **options)
        self.allowed = 10_000
        self.gate = threading.Event()
        self.delay = 0.0

    def encode(self, rgb: np.ndarray) -> Any:
        if self.allowed <= 0:
            assert self.gate.wait(60)
        self.allowed -= 1
        time.sleep(self.delay)
        return super().encode(rgb)


@pytest.fixture
def opened(open_dock: OpenDockFactory) -> Any:
    """Open a dock with a stack in which discs are seen; all planes are chosen."""
    gates = []

    def open_(*layers: Any, region: Region = Region.ALL_PLANES) -> OpenDock:
        runtime = SlowRuntime(DISCS, seen=DISCS)
        gates.append(runtime.gate)
        search = {
            "score_threshold": 0.5,
            "stability_threshold": 0.5,
            "points_per_side": 16,
        }
        notes = {NOTE: json.dumps({"search": search, "labels": {"confidence": 0.6}})}
        predictor = Predictor(runtime, name="discs", model_id="discs", notes=notes)
        noise = np.random.default_rng(0).integers(0, 255, (PLANES, 128, 128), np.uint8)
        dock = open_dock(
            *(layers or (Image(noise, name="cells"),)), predictor=predictor
        )
        dock.runtime = runtime
        dock.session.set_ahead(False)
        choose(dock, region)
        return dock

    yield open_
    for gate in gates:
        gate.set()


def choose(dock: OpenDock, region: Region) -> None:
    """Choose where to look, as a user does."""
    combo = dock.widget.auto.region
    combo.setCurrentIndex(combo.findText(region.value.capitalize()))
    combo.activated.emit(combo.currentIndex())
    assert dock.session.region is region


def press(dock: OpenDock, button: Any) -> None:
    dock.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def counts(dock: OpenDock) -> list[int]:
    """How many discs are labelled on each plane."""
    target = dock.session.target
    if target is None:
        return [0] * PLANES
    return [sum(bool(plane[at]) for at in MIDDLES) for plane in target.data]


def test_key_all_planes_undo_redo(opened: Any) -> None:
    dock = opened()
    box = dock.widget.auto
    assert box.start.text() == "All planes"
    assert box.planes.isVisible()
    dock.mouse.key(Key.Key_A)
    dock.until(lambda: not dock.session.all_planes.running)
    assert counts(dock) == [3] * PLANES
    assert "18 objects in planes 0 to 5 of cells" in box.planes.note.text()
    dock.mouse.key(Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    dock.until(lambda: counts(dock) == [0] * PLANES)
    assert "18 objects" not in box.planes.note.text()
    control_shift = Qt.KeyboardModifier.ControlModifier | (
        Qt.KeyboardModifier.ShiftModifier
    )
    dock.mouse.key(Key.Key_Z, control_shift)
    dock.until(lambda: counts(dock) == [3] * PLANES)


def test_range_and_a_second_run(opened: Any) -> None:
    dock = opened()
    row = dock.widget.auto.planes.rows[0]
    row.first.setValue(4)
    row.last.setValue(2)  # below the first: both
    assert (row.first.value(), row.last.value()) == (2, 2)
    row.last.setValue(3)
    press(dock, dock.widget.auto.start)
    dock.until(lambda: not dock.session.all_planes.running)
    assert counts(dock) == [0, 0, 3, 3, 0, 0]
    row.first.setValue(0)
    row.last.setValue(5)
    press(dock, dock.widget.auto.start)
    dock.until(lambda: not dock.session.all_planes.running)
    assert counts(dock) == [3] * PLANES
    # Nothing is added to planes that are done.
    assert len(np.unique(dock.session.target.data)) == 1 + 3 * PLANES


def test_hover_and_other_planes_while_it_runs(opened: Any) -> None:
    dock = opened()
    dock.viewer.dims.set_point(0, PLANES - 1)
    dock.until_ready()
    dock.runtime.delay = 0.3
    press(dock, dock.widget.auto.start)
    dock.mouse.move(dock.session.image, (PLANES - 1, 25, 25))
    dock.until(dock.shows_preview)
    assert dock.session.all_planes.running
    for plane in (5, 0, 4, 1, 5, 2, 0):  # wildly
        dock.viewer.dims.set_point(0, plane)
        QTest.qWait(5)
    dock.until(lambda: not dock.session.all_planes.running)
    assert counts(dock) == [3] * PLANES
    dock.until_ready()


def test_cancel_in_the_middle(opened: Any) -> None:
    dock = opened()
    dock.runtime.allowed = 2
    press(dock, dock.widget.auto.start)
    dock.until(lambda: sum(counts(dock)) >= 3)
    dock.until(dock.widget.status_bar.cancel.isVisible)
    press(dock, dock.widget.status_bar.cancel)
    assert not dock.session.all_planes.running
    dock.runtime.gate.set()
    dock.until_ready()
    done = sum(map(bool, counts(dock)))
    assert 0 < done < PLANES
    row = dock.widget.auto.planes.rows[0]
    assert (row.first.value(), row.last.value()) == (done, PLANES - 1)
    assert dock.widget.auto.planes.note.text().startswith("Auto-segmentation was can")
    press(dock, dock.widget.auto.start)
    dock.until(lambda: not dock.session.all_planes.running)
    assert counts(dock) == [3] * PLANES


@pytest.mark.parametrize("what", ["dock", "window", "image"])
def test_closing_in_the_middle(opened: Any, what: str) -> None:
    dock = opened()
    dock.runtime.allowed = 2
    press(dock, dock.widget.auto.start)
    dock.until(lambda: sum(counts(dock)) >= 3)
    target = dock.session.target
    if what == "dock":
        dock.viewer.window.remove_dock_widget(dock.widget)
    elif what == "window":
        dock.viewer.close()
    else:
        dock.viewer.layers.remove("cells")
    dock.runtime.gate.set()
    QTest.qWait(100)
    assert not dock.session.all_planes.running
    assert target.data.any()
    assert not target.data[4:].any()


def test_a_stack_of_large_planes_does_not_freeze_the_window(opened: Any) -> None:
    """What is written at once is small: a plane of 4 megapixels goes in several pieces."""
    image = Image(np.zeros((2, 2048, 2048), np.uint8), name="cells")
    dock = opened(image)
    session = dock.session
    filling = session._parts.labelling.filling
    from napari_tinysam.ui.session.labels.filling import packed
    from napari_tinysam.ui.state.stack_planes import planes_in

    labels = np.kron(np.arange(1, 65).reshape(8, 8), np.ones((256, 256), int))
    rows = packed(labels.astype(np.int32))
    assert len(rows) > 1
    filling.begin()
    for plane in planes_in(image, session.shown_plane, {}):
        filling.write(image, plane, 64, rows)
    dock.until(lambda: session.target.data.all())
    session.undo()
    dock.until(lambda: not session.target.data.any())


def test_the_dock_stays_narrow(opened: Any) -> None:
    axes = ("time", "depth", "position", "y", "x")
    image = Image(np.zeros((2, 3, 4, 64, 64), np.uint8), name="m", axis_labels=axes)
    dock = opened(image, region=Region.PLANE)
    inside = dock.widget._scrolling.widget()
    before = inside.minimumSizeHint().width()
    for region in (Region.ALL_PLANES, Region.FILES):
        choose(dock, region)
        QTest.qWait(20)
        # The dock is 300 pixels wide, a scroll bar takes some.
        assert inside.minimumSizeHint().width() <= max(before, 290)
    assert not dock.widget.auto.planes.isVisible()
    assert dock.widget.auto.files.isVisible()


def test_a_folder_from_the_dock(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a process that speaks as the command does, in the middle of which clicks work."""
    dock = opened(region=Region.FILES)
    box = dock.widget.auto.files
    assert not dock.widget.auto.start.isEnabled()  # nothing is chosen
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a", "b"):
        iio.imwrite(images / f"{name}.png", np.zeros((32, 48), np.uint8))
        labels = np.eye(48, dtype=np.uint16)[:32]
        tifffile.imwrite(images / f"{name}_labels.tif", labels)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(images))
    press(dock, box.folder)
    dock.until(lambda: box.chosen.text() == "2 images in “images”")
    go_on = tmp_path / "go on"
    _speak_instead(monkeypatch, tmp_path, images, go_on)
    press(dock, dock.widget.auto.start)
    dock.until(lambda: "1 of 2 images" in box.text.text())
    assert box.bar.isVisible()
    assert not dock.widget.auto.start.isEnabled()
    assert not box.folder.isEnabled()
    dock.mouse.move(dock.session.image, (0, 25, 25))
    dock.until(dock.shows_preview)
    go_on.touch()
    dock.until(lambda: not dock.session.files.running)
    assert "2 images segmented" in box.text.text()
    assert box.result.count() == 2
    box.result.setCurrentIndex(1)
    press(dock, box.open)
    dock.until(lambda: "b_labels" in dock.viewer.layers)
    dock.until(lambda: dock.session.target is dock.viewer.layers["b_labels"])
    assert not dock.viewer.layers["cells"].visible


def test_closing_the_dock_ends_the_batch(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = opened(region=Region.FILES)
    iio.imwrite(tmp_path / "a.png", np.zeros((32, 48), np.uint8))
    _speak_instead(monkeypatch, tmp_path, tmp_path, tmp_path / "never")
    files = dock.session.files
    files.choose([tmp_path])
    dock.session.auto_segment()
    dock.until(lambda: files.results)
    process = files._batch._process
    dock.viewer.window.remove_dock_widget(dock.widget)
    end = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)


def _speak_instead(
    monkeypatch: pytest.MonkeyPatch, folder: Path, images: Path, go_on: Path
) -> None:
    """Replace the command: it says one file, waits for a file to appear, and says another."""
    script = folder / "speak.py"
    script.write_text(
        "import json, pathlib, sys, time\n"
        f"images = pathlib.Path({str(images)!r})\n"
        "def say(name):\n"
        "    known = {'image': str(images / f'{name}.png'), 'state': 'written',\n"
        "             'labels': str(images / f'{name}_labels.tif'), 'objects': 5,\n"
        "             'reason': '', 'total': 2, 'seconds_left': 1.0}\n"
        "    print(json.dumps({'event': 'file', **known}), file=sys.stderr, flush=True)\n"
        "say('a')\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)\n"
        "say('b')\n"
    )
    from napari_tinysam.ui.session.auto import files_run

    monkeypatch.setattr(
        files_run, "_command", lambda *_: [files_run.sys.executable, str(script)]
    )
