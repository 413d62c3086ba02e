"""What the dock shows, what its controls do, and that it opens without the slow libraries."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QFileDialog,
    QScrollArea,
    QSlider,
    QWidget,
)

from fake_predictor import disc_predictor
from napari_tinysam.checkpoints import REGISTRY
from napari_tinysam.labels import Overlap
from napari_tinysam.ui.canvas.keys import KEYS
from napari_tinysam.ui.dock.key_button import KeyButton, shown_key
from napari_tinysam.ui.state.planes import Contrast

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from dock_driver import OpenDock, OpenDockFactory


def press(dock: OpenDock, button: QAbstractButton) -> None:
    dock.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def choose(combo: Any, at: int) -> None:
    """Choose an entry as the user does."""
    combo.setCurrentIndex(at)
    combo.activated.emit(at)


def test_importing_the_dock_imports_nothing_slow() -> None:
    code = (
        "import sys, napari_tinysam.ui.dock.widget\n"
        "slow = {'torch', 'torchvision', 'timm', 'segment_anything', 'openvino'}\n"
        "print(*sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("key", "mac", "shown"),
    [
        ("S", False, "S"),
        ("Shift+C", False, "⇧C"),
        ("Ctrl+Shift+Z", False, "Ctrl+⇧Z"),
        ("Ctrl+Shift+Z", True, "⌘⇧Z"),
        ("Control-Z", True, "⌘Z"),
    ],
)
def test_keys_are_written_as_on_the_keyboard(key: str, mac: bool, shown: str) -> None:
    assert shown_key(key, mac=mac) == shown


def test_every_key_has_a_button(open_dock: OpenDockFactory, blobs: np.ndarray) -> None:
    dock = open_dock(Image(blobs))
    keys = {button.key for button in dock.widget.findChildren(KeyButton)}
    assert {shown_key(action.label) for action in KEYS} <= keys


def test_every_disabled_button_says_why(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs))
    disabled = [
        button
        for button in dock.widget.findChildren(KeyButton)
        if button.isVisible() and not button.isEnabled()
    ]
    assert dock.widget.prompts.commit in disabled
    for button in disabled:
        where = button
        while not where.toolTip():
            where = where.parentWidget()
        last = where.toolTip().splitlines()[-1]
        assert last.endswith("."), f"{button.text()}: {where.toolTip()}"


def test_the_hint_follows_the_work(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(wait=False)
    hint = dock.widget.status_bar.hint.text
    dock.until(lambda: dock.session.status.kind.name == "NO_IMAGE")
    assert "Drop a file" in hint()

    image = dock.viewer.add_image(blobs)
    dock.until_ready()
    assert "click it" in hint()
    dock.mouse.click(image, (60, 60))
    dock.until(lambda: dock.session.candidate_scores)
    assert "C commits it" in hint()
    press(dock, dock.widget.switch)
    assert "Switch on" in hint()
    dock.viewer.dims.ndisplay = 3
    assert dock.session.status.kind.name == "VIEW_3D"
    assert "2D" in hint()


def test_the_hint_says_when_napari_s_own_tools_have_the_mouse(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    image = Image(blobs)
    dock = open_dock(image)
    hint = dock.widget.status_bar.hint.text
    dock.mouse.click(image, (60, 60))
    dock.until(lambda: dock.session.candidate_scores)
    dock.session.commit()
    dock.until(lambda: dock.session.target is not None)
    assert dock.viewer.layers.selection.active is dock.session.target
    dock.mouse.key(Qt.Key.Key_1)  # napari's key on a Labels layer
    assert dock.session.target.mode == "erase"
    assert "erase" in hint()
    dock.session.target.mode = "pan_zoom"
    assert "click it" in hint()


def test_the_hint_tells_of_another_object_only_while_there_is_one(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    image = Image(blobs)
    dock = open_dock(image)
    hint = dock.widget.status_bar.hint.text
    dock.mouse.click(image, (40, 40))
    dock.until(lambda: dock.session.candidate_scores)
    dock.mouse.move(image, (150, 250))
    dock.until(lambda: "another object" in hint())
    dock.session.commit()
    dock.until(lambda: not dock.session.can_clear)
    assert "C commits all" not in hint()


def test_buttons_do_what_keys_do(open_dock: OpenDockFactory, blobs: np.ndarray) -> None:
    image = Image(blobs)
    dock = open_dock(image)
    session, prompts = dock.session, dock.widget.prompts
    dock.mouse.click(image, (60, 60))
    dock.until(lambda: session.candidate_scores)

    press(dock, prompts.sign)
    assert session.sign == 0
    assert "Remove" in prompts.sign.text()
    press(dock, prompts.sign)
    prompts.candidates.slider.setValue(2)
    assert session.candidate == 2
    press(dock, prompts.candidates.next)
    assert session.candidate == 0
    assert "60 %" in prompts.candidates.score.text()
    press(dock, prompts.next)
    assert session.object_count == 1
    press(dock, prompts.clear)
    assert session.object_count == 0
    press(dock, prompts.undo)
    assert session.object_count == 1
    press(dock, prompts.commit)
    assert session.target is not None
    assert session.target.data.any()
    press(dock, prompts.undo)
    assert not session.target.data.any()
    press(dock, prompts.redo)
    assert session.target.data.any()


def test_the_focus_goes_back_to_the_canvas(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs))
    dock.viewer.window.activate()
    overlap = dock.widget.output.overlap
    overlap.setFocus()
    dock.until(overlap.hasFocus)

    choose(overlap, 2)

    assert dock.session.overlap is Overlap.REPLACE
    assert not overlap.hasFocus()
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_T)
    assert dock.session.sign == 0


def test_keys_are_ours_only_while_the_switch_is_on(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs))
    bound = set(dock.viewer.keymap)
    press(dock, dock.widget.switch)
    free = set(dock.viewer.keymap)
    assert len(bound - free) >= len(KEYS)

    dock.mouse.key(Qt.Key.Key_T)
    assert dock.session.sign == 1
    press(dock, dock.widget.switch)
    assert set(dock.viewer.keymap) == bound


def test_no_key_of_napari_is_shadowed(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    """Ours are on the viewer, which napari asks last, and on the active layer while it is ours."""
    dock = open_dock(Image(blobs))
    points = dock.viewer.add_points([[5, 5]], name="mine")
    dock.session.click_at((100, 150))
    dock.until(dock.shows_preview)
    viewer = dock.viewer
    napari_keys = {key for kind in type(viewer).__mro__ for key in _class_keys(kind)}
    assert napari_keys
    assert set(viewer.keymap)
    assert not set(viewer.keymap) & napari_keys
    assert (
        viewer.layers.selection.active is points
    )  # the user's own layer keeps its keys
    assert not any(layer.keymap for layer in viewer.layers)
    image = viewer.layers[0]
    viewer.layers.selection.active = image
    assert image.keymap
    image.mode = "transform"  # the mouse is napari's, and so are the keys
    assert not image.keymap
    image.mode = "pan_zoom"
    assert image.keymap
    dock.session.set_active(False)
    assert not any(layer.keymap for layer in viewer.layers)
    assert not viewer.keymap


def test_keys_that_a_labels_layer_has_stay_its_own_until_an_object_is_edited(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs))
    dock.session.click_at((100, 150))
    dock.until(dock.shows_preview)
    assert dock.session.key_works("merge_objects")
    dock.session.commit()
    labels = dock.viewer.layers.selection.active
    assert labels is dock.session.target  # so that napari's Save saves it
    assert {str(key) for key in labels.keymap} >= {"C", "S", "N", "Delete", "E"}
    assert not {str(key) for key in labels.keymap} & {"X", "M"}
    assert not dock.session.key_works("split_object")
    dock.session.hover_at((100, 150))
    dock.session.edit_object()
    assert {str(key) for key in labels.keymap} >= {"X", "M"}
    assert dock.session.key_works("split_object")


def _class_keys(kind: type) -> set[Any]:
    return set(getattr(kind, "class_keymap", {}))


def test_a_button_adds_the_prompt_layers_and_they_are_read(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs))
    dock.session.toggle_sign()
    press(dock, dock.widget.prompts.layers)
    points, boxes = dock.viewer.layers["point_prompts"], dock.viewer.layers["prompts"]
    boxes.add_rectangles([np.array([[40, 50], [40, 120], [90, 120], [90, 50]])])
    points.add([[60, 60]])
    (draft,) = dock.session.drafts.objects
    assert draft.box == (50, 40, 120, 90)
    assert [point.label for point in draft.points] == [0]  # the sign of the dock
    dock.until(lambda: dock.session.candidate_scores)


def test_channels(open_dock: OpenDockFactory) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 100, 120), np.uint8)
    dock = open_dock(Image(noise, axis_labels=("c", "y", "x")))
    channel = dock.widget.channel
    assert channel.isVisible()
    assert channel.currentText() == "1"  # napari shows the middle of an axis first

    choose(channel, 3)
    assert dock.viewer.dims.current_step[0] == 2
    dock.viewer.dims.set_current_step(0, 0)
    assert channel.currentText() == "0"
    choose(channel, 3)

    assert dock.session.channel == 2
    dock.until_ready()


def test_a_plane_has_no_channels(open_dock: OpenDockFactory, blobs: np.ndarray) -> None:
    dock = open_dock(Image(blobs))
    assert not dock.widget.channel.isVisible()


def test_progress_and_cancel(
    open_dock: OpenDockFactory, blobs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from napari.utils import progress

    from napari_tinysam.ui.dock import status_bar

    monkeypatch.setattr(status_bar, "_NAPARI_PATIENCE_MS", 1000)
    gate = threading.Event()
    dock = open_dock(Image(blobs), gate=gate, wait=False)
    status = dock.widget.status_bar
    dock.until(status.cancel.isVisible)
    dock.until(lambda: len(progress._all_instances) == 1)
    # It creeps: bars without an end move all the time, and the whole window with them.
    assert status.bar.maximum() > 0
    dock.until(lambda: status.bar.value() > 0)
    seen = status.bar.value()
    dock.until(lambda: status.bar.value() > seen)
    assert status.bar.value() < status.bar.maximum()

    press(dock, status.cancel)

    assert dock.session.status.kind.name == "CANCELLED"
    assert not status.bar.isVisible()
    assert not progress._all_instances
    gate.set()


def test_keys_work_while_napari_shows_the_progress(
    open_dock: OpenDockFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """napari's bars run the event loop: within a handler of a key the next key was an error."""
    from napari.utils import progress

    from napari_tinysam.ui.dock import status_bar
    from napari_tinysam.ui.state.status import Status, StatusKind

    dock = open_dock(Image(np.zeros((5, 64, 64), np.uint8)))
    bar = dock.widget.status_bar
    monkeypatch.setattr(status_bar, "_NAPARI_PATIENCE_MS", 1)
    bar.set_status(Status(StatusKind.SEGMENTING, "Begins", 0.1))
    bar._show_progress()
    bar._show_napari_progress()
    dock.until(lambda: progress._all_instances)
    nested: list[bool] = []
    events: list[int] = []

    def on_key(_: object) -> None:
        QTimer.singleShot(0, lambda: events.append(1))
        before = len(events)
        bar.set_status(Status(StatusKind.SEGMENTING, f"Step {len(nested)}", 0.2))
        nested.append(len(events) > before)

    dock.viewer.bind_key("F9", on_key, overwrite=True)
    dock.mouse.key(Qt.Key.Key_F9)
    dock.mouse.key(Qt.Key.Key_F9)
    assert nested == [False, False]
    dock.until(lambda: next(iter(progress._all_instances)).desc.startswith("Step 1"))
    bar.close_progress()


def test_the_bar_creeps_more_slowly_where_it_takes_longer(qtbot: QtBot) -> None:
    from napari_tinysam.ui.dock.status_bar import StatusBar
    from napari_tinysam.ui.state.status import Status, StatusKind

    values = []
    for first_time in (False, True):
        bar = StatusBar()
        qtbot.addWidget(bar)
        bar.set_status(Status(StatusKind.LOADING_MODEL, first_time=first_time))
        bar._show_progress()
        for _ in range(40):  # a quarter of a minute
            bar._creep_on()
        values.append(bar.bar.value())
        bar.close_progress()
    usual, first = values
    assert usual > 80
    assert first == 50


def test_quick_work_shows_no_progress(
    open_dock: OpenDockFactory, blobs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_tinysam.ui.dock import status_bar

    made = []
    monkeypatch.setattr(status_bar, "_PATIENCE_MS", 60_000)
    monkeypatch.setattr(status_bar, "progress", lambda **_: made.append(1))
    open_dock(Image(blobs))
    assert not made


def test_settings_go_to_the_session(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs))
    models = dock.widget.models
    assert not models.isVisible()
    dock.widget.settings.expand()
    assert models.isVisible()

    choose(models.contrast, 1)
    assert dock.session.contrast is Contrast.DISPLAYED
    models.hover.click()
    assert not dock.session.hover_enabled
    choose(models.device, models.device.findText("Processor (CPU)"))
    assert dock.session.device == "cpu"
    choose(models.model, list(REGISTRY).index("mobile_sam"))
    assert dock.session.model_name == "mobile_sam"
    dock.until_ready()


def test_models_say_whether_they_are_here(
    open_dock: OpenDockFactory,
    blobs: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NAPARI_TINYSAM_WEIGHTS", str(tmp_path))
    (tmp_path / REGISTRY["mobile_sam"].filename).touch()
    dock = open_dock(Image(blobs))
    dock.widget.settings.expand()
    model = dock.widget.models.model
    texts = [model.itemText(i) for i in range(model.count())]
    assert "bundled" in texts[0]
    assert any("MobileSAM" in text and "downloaded" in text for text in texts)
    assert "TinySAM, download 41 MB" in texts
    assert "SAM ViT-B, download 375 MB" in texts
    for checkpoint in REGISTRY.values():  # how much there is to wait for
        assert checkpoint.url is None or checkpoint.size is not None
    assert texts[-1] == "Choose file…"


def test_a_model_from_a_file(
    open_dock: OpenDockFactory, blobs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = open_dock(Image(blobs))
    model = dock.widget.models.model
    monkeypatch.setattr(
        QFileDialog, "getOpenFileName", lambda *_: ("/here/ours.safetensors", "")
    )
    choose(model, model.count() - 1)
    assert dock.session.model_name == "/here/ours.safetensors"
    assert model.currentText() == "ours.safetensors"

    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    choose(model, model.count() - 1)  # changed one's mind
    assert dock.session.model_name == "/here/ours.safetensors"
    assert model.currentText() == "ours.safetensors"


def test_a_model_that_is_gone_can_be_tried_again_and_stays_chosen(
    open_dock: OpenDockFactory,
    blobs: np.ndarray,
    plugin_settings: None,
    npe2pm: Any,
    tmp_path: Path,
) -> None:
    from napari.settings import get_plugin_settings
    from npe2 import PluginManifest

    if "napari-tinysam" not in npe2pm:
        npe2pm.register(PluginManifest.from_distribution("napari-tinysam"))
    ours = tmp_path / "ours.safetensors"
    kept = get_plugin_settings("napari-tinysam")
    kept.model.name = str(ours)

    def load(name: str, *_: Any) -> Any:
        if name == str(ours) and not ours.exists():
            raise RuntimeError(f"There is no file {name}.")
        return disc_predictor()[0]

    dock = open_dock(Image(blobs), load_predictor=load)
    models = dock.widget.models
    dock.widget.settings.expand()
    dock.until(models.retry.isVisible)
    assert "bundled model" in dock.widget.status_bar.text.text()
    assert "There is no file" in models.failure.text()
    assert models.model.currentText() == "ours.safetensors"
    press(dock, models.retry)  # in vain
    dock.until(lambda: dock.session.model_failure)
    dock.until_ready()
    assert kept.model.name == str(ours)

    ours.touch()
    press(dock, models.retry)
    dock.until(lambda: not models.retry.isVisible())
    dock.until_ready()
    assert dock.widget.status_bar.text.text() == "Ready"
    assert dock.session.model_name == str(ours)


def test_choices_are_kept(
    open_dock: OpenDockFactory,
    blobs: np.ndarray,
    plugin_settings: None,
    npe2pm: Any,
) -> None:
    from napari.settings import get_plugin_settings
    from npe2 import PluginManifest

    if "napari-tinysam" not in npe2pm:
        npe2pm.register(PluginManifest.from_distribution("napari-tinysam"))
    dock = open_dock(Image(blobs))
    dock.widget.models.hover.click()
    choose(dock.widget.models.device, 1)
    choose(dock.widget.output.overlap, 2)
    kept = get_plugin_settings("napari-tinysam")
    assert kept.preview.enabled is False
    assert kept.model.device == "cpu"

    again = open_dock(Image(blobs))
    assert not again.session.hover_enabled
    assert again.session.device == "cpu"
    assert again.session.overlap is Overlap.REPLACE


def test_the_commit_button_counts_in_few_letters_where_there_is_little_room(
    qtbot: QtBot,
) -> None:
    button = KeyButton("Commit", "C", role="primary")
    qtbot.addWidget(button)
    button.set_texts("Commit 12 objects", "Commit (12)")
    button.resize(button.sizeHint())
    assert button.shown_text == "Commit 12 objects"
    button.resize(button.minimumSizeHint())
    assert button.shown_text == "Commit (12)"
    assert button.minimumSizeHint().width() < button.sizeHint().width()


def test_a_narrow_dock_scrolls_instead_of_widening(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(
        Image(blobs, name="a name as long as file names are in labs.ome.tif")
    )
    dock.widget.settings.expand()
    assert dock.widget.minimumSizeHint().width() <= 260
    assert dock.widget.width() <= 320


def seen(widget: QWidget) -> bool:
    """Whether all of a widget is on the screen, and nothing is scrolled over it."""
    return widget.visibleRegion().boundingRect() == widget.rect()


def test_beside_a_second_dock_the_main_buttons_stay_in_sight(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs))
    window = dock.viewer.window._qt_window
    window.resize(1366, 768)
    widget = dock.widget
    status = widget.status_bar
    dock.until(lambda: widget.height() > 600)
    assert seen(status.hint)
    other = QWidget()
    other.setMinimumHeight(440)
    second = dock.viewer.window.add_dock_widget(other, area="right")
    dock.until(lambda: widget.height() < 320)
    assert window.height() <= 768
    for part in (widget.switch, status.text, widget.prompts.commit, widget.auto.start):
        dock.until(partial(seen, part))
    # What the hint says is not lost, and a long status moves nothing.
    assert not status.hint.isVisible()
    assert "click it" in status.toolTip()
    height = widget.minimumSizeHint().height()
    status.text.setText("a status that is as long as such sentences become " * 3)
    assert widget.minimumSizeHint().height() == height
    assert widget.minimumSizeHint().width() <= 260

    press(dock, widget.settings.button)
    dock.until(lambda: seen(widget.settings.button))
    dock.until(lambda: seen(widget.models.model))
    second.hide()
    dock.until(lambda: seen(status.hint))


def test_sections_fold_and_a_dock_that_is_opened_again_has_them_so(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs))
    widget = dock.widget
    assert widget.prompts.isVisible()
    assert not widget.models.isVisible()
    press(dock, widget.clicks_section.button)
    press(dock, widget.settings.button)
    assert not widget.prompts.isVisible()
    assert widget.prompts.commit.isVisible()
    assert widget.models.isVisible()
    assert widget.models.model.isVisible()

    again = open_dock(Image(blobs)).widget
    assert not again.clicks_section.expanded
    assert not again.prompts.isVisible()
    assert again.auto.isVisible()
    assert again.models.isVisible()
    again.clicks_section.expand()
    again.settings.collapse()
    assert again.prompts.isVisible()
    assert not again.models.isVisible()


def turn_wheel(over: QWidget) -> None:
    """One notch towards the user, with the cursor over a widget."""
    centre = QPointF(over.rect().center())
    event = QWheelEvent(
        centre,
        QPointF(over.mapToGlobal(over.rect().center())),
        QPoint(0, 0),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(over, event)


def test_the_wheel_scrolls_the_dock_and_changes_no_value(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs, name="cells"))
    widget = dock.widget
    widget.settings.expand()
    inner = widget.findChild(QScrollArea)
    assert inner is not None
    bar = inner.verticalScrollBar()
    inner.setFixedHeight(200)
    dock.qtbot.waitUntil(lambda: bar.maximum() > 100)
    watched: list[Any] = [
        *(w for w in widget.findChildren(QComboBox) if w.count() > 1),
        *(w for w in widget.findChildren(QSlider) if w.isEnabled()),
    ]
    assert len(watched) >= 4

    def values() -> list[int]:
        return [
            w.currentIndex() if isinstance(w, QComboBox) else w.value() for w in watched
        ]

    before = values()
    for each in watched:
        bar.setValue(bar.minimum())
        turn_wheel(each)
        turn_wheel(each)
        assert bar.value() > bar.minimum()
    assert values() == before
    assert not any(each.hasFocus() for each in watched)
    combo = widget.output.overlap
    combo.setFocus()
    if combo.hasFocus():  # windows of tests are not always in front
        turn_wheel(combo)
        assert combo.currentIndex() == 1


def test_it_is_the_plugin_s_widget(
    make_napari_viewer: Any, qtbot: QtBot, npe2pm: Any, blobs: np.ndarray
) -> None:
    """Opened from the menu it gets napari's proxy of the viewer."""
    from npe2 import PluginManifest

    from napari_tinysam.ui.dock.widget import TinySAMWidget
    from napari_tinysam.ui.session.facade import session_of

    if "napari-tinysam" not in npe2pm:
        npe2pm.register(PluginManifest.from_distribution("napari-tinysam"))
    viewer = make_napari_viewer()
    viewer.add_image(blobs)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tinysam", "TinySAM")
    assert isinstance(widget, TinySAMWidget)
    assert session_of(viewer) is widget.session


def test_nothing_below_moves_when_the_hint_changes(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs))
    bar = dock.widget.status_bar
    tops = set()
    for text in ("Short.", "A click adds this to the object. C commits it."):
        bar.set_hint(text)
        dock.qtbot.wait(50)
        tops.add(dock.widget.prompts.commit.mapTo(dock.widget, QPoint()).y())
        assert bar.hint.height() >= bar.hint.heightForWidth(bar.hint.width())
    assert len(tops) == 1
