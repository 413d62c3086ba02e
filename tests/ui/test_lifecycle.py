"""The dock comes and goes: nothing of it stays behind, and nothing it needs goes too early."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari._qt.dialogs.confirm_close_dialog import ConfirmCloseDialog
from napari.layers import Image
from napari.settings import get_settings
from napari.utils import progress
from qtpy.QtCore import Qt
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QDockWidget

from dock_driver import collect
from napari_tinysam.ui.dock import status_bar
from napari_tinysam.ui.dock.delivery import GuiDelivery
from napari_tinysam.ui.dock.questions import Closing
from napari_tinysam.ui.session.facade import session_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.components import ViewerModel
    from pytestqt.qtbot import QtBot

    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl


def inference_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "tinysam-inference"]


def assert_thread_ends(dock: OpenDock) -> None:
    dock.until(lambda: not inference_threads())


def connections(viewer: ViewerModel) -> dict[str, int]:
    """Count who listens to what in a viewer."""
    layers, dims = viewer.layers.events, viewer.dims.events
    counts = {
        f"layers.{name}": len(getattr(layers, name).callbacks)
        for name in ("inserted", "removed", "reordered")
    }
    for name in ("point", "order", "ndisplay", "ndim"):
        counts[f"dims.{name}"] = len(getattr(dims, name).callbacks)
    for layer in viewer.layers:
        for name in ("name", "data", "contrast_limits", "scale", "affine"):
            if hasattr(layer.events, name):
                counts[f"{layer}.{name}"] = len(getattr(layer.events, name).callbacks)
    counts["mouse_move"] = len(viewer.mouse_move_callbacks)
    counts["mouse_drag"] = len(viewer.mouse_drag_callbacks)
    counts["keys"] = len(viewer.keymap)
    return counts


def dock_of(dock: OpenDock) -> Any:
    """Find napari's frame around the widget."""
    holder = dock.widget.parent()
    while not isinstance(holder, QDockWidget):
        holder = holder.parent()
    return holder


def close_dock(dock: OpenDock) -> None:
    """Press the X of the dock."""
    dock_of(dock).destroyOnClose()


def test_closing_the_dock_leaves_the_viewer_as_it_was(
    open_dock: OpenDockFactory, blobs: np.ndarray, make_napari_viewer: Any
) -> None:
    untouched = make_napari_viewer(show=True)
    untouched.add_layer(Image(blobs, name="cells"))
    before = connections(untouched)
    image = Image(blobs, name="cells")
    dock = open_dock(image)
    dock.mouse.click(image, (60, 60))
    dock.until(lambda: dock.session.candidate_scores)
    assert connections(dock.viewer) != before

    close_dock(dock)

    assert_thread_ends(dock)
    assert connections(dock.viewer) == before
    assert [layer.name for layer in dock.viewer.layers] == ["cells"]
    assert session_of(dock.viewer) is None


def test_a_closed_dock_is_freed(open_dock: OpenDockFactory, blobs: np.ndarray) -> None:
    image = Image(blobs)
    dock = open_dock(image)
    dock.mouse.click(image, (60, 60))
    dock.until(lambda: dock.session.candidate_scores)
    parts = [
        weakref.ref(part)
        for part in (dock.widget, dock.session, dock.widget.prompts, dock.runtime)
    ]

    close_dock(dock)
    assert_thread_ends(dock)
    del dock.widget, dock.runtime
    collect()

    assert [part() for part in parts] == [None] * len(parts)


def test_the_x_in_the_middle_of_an_embedding(
    open_dock: OpenDockFactory, blobs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_bar, "_NAPARI_PATIENCE_MS", 1000)
    gate = threading.Event()
    dock = open_dock(Image(blobs), gate=gate, wait=False)
    dock.until(dock.runtime.encoding.is_set)
    dock.until(lambda: dock.widget.status_bar.bar.isVisible())
    dock.until(lambda: progress._all_instances)

    close_dock(dock)
    assert not progress._all_instances
    gate.set()

    assert_thread_ends(dock)
    dock.qtbot.wait(50)  # what it would deliver


@pytest.mark.parametrize("busy", [True, False], ids=["embedding", "idle"])
def test_closing_the_viewer(
    open_dock: OpenDockFactory, blobs: np.ndarray, busy: bool
) -> None:
    gate = threading.Event()
    image = Image(blobs)
    dock = open_dock(image, gate=gate, wait=False)
    dock.until(dock.runtime.encoding.is_set)
    if not busy:
        gate.set()
        dock.until_ready()
        dock.mouse.click(image, (60, 60))

    dock.viewer.close()
    gate.set()

    assert_thread_ends(dock)
    assert session_of(dock.viewer) is None
    dock.qtbot.wait(50)


def test_a_hidden_dock_lets_go_and_takes_up_again(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    image = Image(blobs)
    dock = open_dock(image)
    free = len(dock.viewer.keymap)
    holder = dock_of(dock)

    holder.setVisible(False)  # the eye button
    assert not dock.session.active
    assert len(dock.viewer.keymap) < free
    dock.mouse.click(image, (60, 60))
    assert not dock.session.can_clear

    holder.setVisible(True)
    dock.until(lambda: dock.session.active)
    dock.mouse.click(image, (60, 60))
    dock.until(lambda: dock.session.candidate_scores)


def test_a_dock_that_was_switched_off_stays_off(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs))
    dock.qtbot.mouseClick(dock.widget.switch, Qt.MouseButton.LeftButton)
    assert not dock.session.active

    dock.widget.hide()
    dock.widget.show()

    assert not dock.session.active
    assert not dock.widget.switch.isChecked()


def test_floating_and_docking_change_nothing(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    image = Image(blobs)
    dock = open_dock(image)
    holder = dock_of(dock)

    for floating in (True, False):
        holder.setFloating(floating)
        dock.until(lambda: dock.session.active)
    dock.mouse.click(image, (60, 60))

    dock.until(lambda: dock.session.candidate_scores)


def test_the_image_is_removed(open_dock: OpenDockFactory, blobs: np.ndarray) -> None:
    image = Image(blobs, name="cells")
    dock = open_dock(image)
    dock.mouse.click(image, (60, 60))
    dock.until(lambda: dock.session.candidate_scores)

    dock.viewer.layers.remove(image)

    assert dock.session.image is None
    assert dock.widget.image.currentText() == "No image"
    assert not dock.widget.prompts.commit.isEnabled()
    assert "Open an image" in dock.widget.prompts.commit.toolTip()
    dock.viewer.add_image(blobs, name="more cells")
    dock.until_ready()
    assert dock.widget.image.currentText() == "more cells"


def test_the_image_is_removed_while_it_is_embedded(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    gate = threading.Event()
    image = Image(blobs)
    dock = open_dock(image, gate=gate, wait=False)
    dock.until(dock.runtime.encoding.is_set)

    dock.viewer.layers.remove(image)
    gate.set()

    dock.until(lambda: dock.session.status.kind.name == "NO_IMAGE")


def test_layers_are_renamed(open_dock: OpenDockFactory, blobs: np.ndarray) -> None:
    image = Image(blobs, name="cells")
    dock = open_dock(image)
    dock.viewer.add_labels(np.zeros(blobs.shape, int), name="mine")
    dock.session.set_target(None)

    image.name = "membranes"
    dock.viewer.layers["mine"].name = "yours"

    assert dock.widget.image.currentText() == "membranes"
    labels = dock.widget.output.labels
    texts = [labels.itemText(i) for i in range(labels.count())]
    assert texts == ["New: membranes committed_objects", "yours"]


def test_two_viewers_at_once(open_dock: OpenDockFactory, blobs: np.ndarray) -> None:
    # Not on the screen: vispy cannot draw two viewers of one process with software OpenGL.
    images = Image(blobs, name="one"), Image(blobs, name="two")
    first, second = (open_dock(image, show=False) for image in images)
    assert session_of(first.viewer) is first.session
    assert session_of(second.viewer) is second.session

    for dock, at in ((first, (60, 60)), (second, (140, 220))):
        dock.session.click_at(at)
        dock.until(lambda dock=dock: dock.session.candidate_scores)
    first.session.commit()
    assert second.session.target is None

    first.viewer.close()
    second.session.commit()
    assert second.session.target.data[140, 220] == 1
    assert session_of(first.viewer) is None


def test_teardown_twice(open_dock: OpenDockFactory, blobs: np.ndarray) -> None:
    dock = open_dock(Image(blobs))
    dock.widget.teardown()
    dock.widget.teardown()
    dock.widget.close()
    assert_thread_ends(dock)
    assert not dock.widget.isEnabled()


def test_closing_before_the_start(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs), wait=False)
    close_dock(dock)
    dock.qtbot.wait(100)
    assert not inference_threads()


def test_a_failed_model_is_reported_and_asked_for_again(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    dock = open_dock(Image(blobs), wait=False)
    dock.runtime.failure = RuntimeError("the disk is full")
    dock.until(lambda: dock.session.status.kind.name == "FAILED")
    assert "the disk is full" in dock.widget.status_bar.text.text()

    dock.runtime.failure = None
    dock.session.segment()

    dock.until_ready()


def test_delivery_runs_on_the_gui_thread_and_stops_when_closed(qtbot: QtBot) -> None:
    deliver, ran = GuiDelivery(), []

    def post() -> None:
        deliver(lambda: ran.append(threading.current_thread()))

    worker = threading.Thread(target=post)
    worker.start()
    worker.join()
    qtbot.waitUntil(lambda: len(ran) == 1)
    assert ran == [threading.main_thread()]

    post()
    assert len(ran) == 1  # never inside the caller
    deliver.close()
    deliver.close()
    post()
    qtbot.wait(50)
    assert len(ran) == 1


def asked_in_the_loop(
    dock: OpenDock, call: Callable[[], object], press: str
) -> list[str]:
    """Run what asks, in the event loop as all that users do; press a button of the question."""
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication, QMessageBox

    asked: list[str] = []

    def answer() -> None:
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox):
            asked.append(box.text())
            (button,) = (b for b in box.buttons() if press in b.text().replace("&", ""))
            button.click()

    def begin() -> None:
        QTimer.singleShot(200, answer)
        call()

    QTimer.singleShot(0, begin)
    dock.qtbot.wait(800)
    return asked


def test_closing_the_window_asks_about_what_is_not_saved(
    open_dock: OpenDockFactory,
    blobs: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qtpy.QtWidgets import QFileDialog

    dock = open_dock(Image(blobs, name="cells"))
    window = dock.viewer.window._qt_window
    may: list[Closing] = []
    ask = lambda: may.append(dock.widget._may_close())  # noqa: E731
    assert asked_in_the_loop(dock, ask, "") == []
    dock.session.click_at((100, 150))
    dock.until(dock.shows_preview)
    asked = asked_in_the_loop(dock, window.close, "Cancel")
    assert asked == ["1 object is not committed."]
    dock.session.commit()
    dock.session.click_at((20, 30))
    asked = asked_in_the_loop(dock, window.close, "Cancel")
    assert asked == ["1 object is not committed.\nNot saved: cells committed_objects."]
    dock.session.clear()
    assert window.isVisible()
    assert not dock.widget._closed
    path = tmp_path / "cells_labels.tif"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    labels = dock.session.target.data.copy()
    asked = asked_in_the_loop(dock, ask, "Save")
    assert asked == ["Not saved: cells committed_objects."]
    assert may == [Closing.GO, Closing.WANTED]
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    assert dock.session.unsaved_layers() == []


class ByMouse(QCloseEvent):
    """As the window's system sends it when the cross of a window is clicked."""

    def spontaneous(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["Cancel", "Close without saving"])
def test_who_answers_about_labels_is_not_asked_by_napari_too(
    open_dock: OpenDockFactory,
    blobs: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    dock = open_dock(Image(blobs, name="cells"))
    window, asked_by_napari = dock.viewer.window._qt_window, []
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    monkeypatch.setattr(
        ConfirmCloseDialog, "exec_", lambda dialog: asked_by_napari.append(dialog)
    )
    monkeypatch.setattr(get_settings().application, "confirm_close_window", True)
    cross = lambda: QApplication.sendEvent(window, ByMouse())  # noqa: E731
    asked_in_the_loop(dock, cross, "")
    assert len(asked_by_napari) == 1  # nothing is unsaved: napari asks as ever
    assert window.isVisible()
    dock.session.click_at((100, 150))
    dock.until(dock.shows_preview)
    dock.session.commit()
    asked = asked_in_the_loop(dock, cross, answer)
    assert asked == ["Not saved: cells committed_objects."]
    assert len(asked_by_napari) == 1
    stays = answer == "Cancel"
    assert window.isVisible() == stays
    assert dock.widget._closed != stays


def test_the_save_button_asks_once(
    open_dock: OpenDockFactory,
    blobs: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qtpy.QtWidgets import QFileDialog

    asked = []

    def ask(*args: object) -> tuple[str, str]:
        asked.append(args)
        return str(tmp_path / "mine"), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    dock = open_dock(Image(blobs, name="cells"))
    save, state = dock.widget.output.save, dock.widget.output.state
    assert not save.isEnabled()
    for number, at in enumerate([(100, 150), (50, 50)], start=1):
        dock.session.click_at(at)
        dock.until(dock.shows_preview)
        dock.session.commit()
        assert state.text() == "Not saved yet"
        save.click()
        dock.until(lambda: state.text() == "Saved: mine.tif")
        saved = tifffile.imread(tmp_path / "mine.tif")
        assert np.unique(saved).tolist() == list(range(number + 1))
    assert len(asked) == 1


@pytest.mark.parametrize("at_once", [False, True])
def test_images_go_in_the_middle_of_an_object_and_come_again(
    open_dock: OpenDockFactory, blobs: np.ndarray, at_once: bool
) -> None:
    dock = open_dock(Image(blobs, name="one"))
    viewer, session = dock.viewer, dock.session
    session.click_at((100, 150))
    dock.until(dock.shows_preview)
    session.hover_at((30, 40))
    if at_once:
        viewer.layers.select_all()
        viewer.layers.remove_selected()
    else:
        viewer.layers.remove("one")
        dock.qtbot.wait(100)
        for layer in list(viewer.layers):
            viewer.layers.remove(layer)
    dock.until(lambda: not viewer.layers)
    for shape in ((60, 80), (3, 50, 40)):
        viewer.add_image(np.random.default_rng(1).random(shape), name="next")
        dock.until_ready()
        at = (*[1] * (len(shape) - 2), 20, 20)
        session.hover_at(at)
        dock.until(dock.shows_preview)
        dock.qtbot.wait(100)  # it is drawn
    assert not session.can_undo


def test_saving_replaces_no_file_unasked_and_never_the_image(
    open_dock: OpenDockFactory,
    blobs: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from qtpy.QtWidgets import QFileDialog

    tifffile.imwrite(tmp_path / "cells.tif", blobs)
    tifffile.imwrite(tmp_path / "other.tif", blobs)
    dock = open_dock(wait=False)
    dock.viewer.open(tmp_path / "cells.tif", plugin="napari")
    dock.until_ready()
    dock.session.click_at((100, 150))
    dock.until(dock.shows_preview)
    dock.session.commit()
    target = dock.session.target
    chosen = [""]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (chosen[0], ""))
    save = dock.widget.output.save.click

    chosen[0] = str(tmp_path / "cells.tif")
    save()
    assert not dock.session.saving.is_saved(target)
    # The file dialog asked about "other", which is not there.
    chosen[0] = str(tmp_path / "other")
    asked = asked_in_the_loop(dock, save, "No")
    assert asked == ["other.tif already exists. Replace it?"]
    assert not dock.session.saving.is_saved(target)
    for name in ("cells", "other"):
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{name}.tif"), blobs)
    asked = asked_in_the_loop(dock, save, "Yes")
    dock.until(lambda: dock.session.saving.is_saved(target))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "other.tif"), target.data)


def test_closing_the_dock_says_what_is_not_saved(
    open_dock: OpenDockFactory, blobs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = open_dock(Image(blobs, name="cells"))
    told: list[str] = []
    monkeypatch.setattr(dock.session, "say", lambda level, text: told.append(text))
    dock.session.click_at((100, 150))
    dock.until(dock.shows_preview)
    dock.session.commit()
    dock_of(dock).destroyOnClose()
    dock.until(lambda: told)
    assert "Not saved: cells committed_objects." in told[0]
    collect()
