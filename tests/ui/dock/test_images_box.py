"""A folder of images, annotated one after the other in a real viewer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QEvent, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_tinysam.ui.dock.images_list import in_words
from napari_tinysam.ui.state.image_list import EntryState

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cells"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name in "abc":
        tifffile.imwrite(folder / f"{name}.tif", noise.integers(0, 255, (60, 80), "u1"))
    return folder


def open_folder(dock: OpenDock, folder: Path) -> Any:
    listed = dock.session.listed
    listed.open_paths([folder])
    dock.until(lambda: listed.current is not None)
    dock.until_ready()
    return listed


def press(dock: OpenDock, key: Qt.Key) -> None:
    canvas = dock.viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, key)


def rows(dock: OpenDock) -> list[str]:
    model = dock.widget.images.model
    texts = [model.data(model.index(row)) for row in range(model.rowCount())]
    return [text.replace("\n", ": ") for text in texts]


def test_a_folder_is_annotated_with_clicks_and_one_key(
    open_dock: OpenDockFactory, folder: Path
) -> None:
    dock = open_dock(wait=False)
    listed = open_folder(dock, folder)
    assert rows(dock) == ["a: ○ new", "b: ○ new", "c: ○ new"]
    assert not dock.widget.images.view.isHidden()
    dock.until(lambda: listed.thumbnails.of(folder / "c.tif") is not None)
    dock.mouse.click(dock.session.image, (30, 40))
    dock.until(lambda: dock.session.can_commit)
    press(dock, Qt.Key.Key_O)  # the object is committed with it
    dock.until(lambda: listed.current.name == "b")
    dock.until_ready()
    assert rows(dock) == ["a: ● done · 1 object", "b: ○ new", "c: ○ new"]
    assert tifffile.imread(folder / "a_labels.tif").max() == 1
    assert [layer.name for layer in dock.viewer.layers if "a" in layer.name] == []
    press(dock, Qt.Key.Key_PageDown)
    dock.until(lambda: listed.current.name == "c")
    press(dock, Qt.Key.Key_Comma)
    dock.until(lambda: listed.current.name == "b")
    assert dock.widget.images.title.text() == "cells: image 2 of 3, 1 done"


def test_the_list_is_filtered_and_marked(
    open_dock: OpenDockFactory, folder: Path
) -> None:
    dock = open_dock(wait=False)
    listed = open_folder(dock, folder)
    box = dock.widget.images
    listed.set_state(listed.images.entries[2], EntryState.DONE)
    box.shown.chosen.emit("Done")
    # The open image stays in sight.
    assert rows(dock) == ["a: ○ new", "c: ● done"]
    box.shown.chosen.emit("New")
    assert rows(dock) == ["a: ○ new", "b: ○ new"]
    box.view.chosen.emit(box.model.rows[1])
    dock.until(lambda: listed.current.name == "b")
    box.close_list.click()
    assert listed.images is None
    assert box.view.isHidden()
    assert box.offer.text() == "Go on with “cells” (1 of 3 done)"
    assert "b" in dock.viewer.layers
    box.offer.click()
    dock.until(lambda: listed.current is not None)
    assert listed.current.name == "b"
    assert [layer.name for layer in dock.viewer.layers].count("b") == 1


def test_the_list_says_why_an_image_was_not_opened(
    open_dock: OpenDockFactory, folder: Path
) -> None:
    dock = open_dock(wait=False)
    (folder / "c.tif").write_bytes(b"II*\0 no image")
    listed = open_folder(dock, folder)
    listed.go_to(2)
    dock.until(lambda: bool(listed.images.entries[2].problem))
    # Not the path, which would push the reason out of the row; the tip has it all.
    assert in_words(listed.images.entries[2]) == "⚠ holds no image."
    model = dock.widget.images.model
    tip = model.data(model.index(2), Qt.ItemDataRole.ToolTipRole)
    assert str(folder / "c.tif") in tip
    assert "holds no image." in tip


def test_what_is_not_saved_is_said_before_what_a_row_has_no_room_for(
    open_dock: OpenDockFactory, folder: Path
) -> None:
    dock = open_dock(wait=False)
    entry = open_folder(dock, folder).images.entries[0]
    entry.name, entry.saved, entry.count = "a long name " * 9, False, 2
    entry.state = EntryState.STARTED
    model = dock.widget.images.model
    second = model.data(model.index(0), Qt.ItemDataRole.DisplayRole).splitlines()[1]
    assert second == "◐ 2 objects · not saved"


def test_problems_are_said_in_the_window(
    open_dock: OpenDockFactory, folder: Path, tmp_path: Path
) -> None:
    dock = open_dock(wait=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    dock.session.listed.open_paths([empty])
    text = dock.widget.images.text
    dock.until(lambda: text.text() == f"There are no images in the folder {empty}.")
    listed = open_folder(dock, folder)
    assert text.isHidden()
    (folder / "c.tif").unlink()
    listed.go_to(2)
    dock.until(lambda: text.text() == "c.tif is not there any more.")
    assert in_words(listed.images.entries[2]) == "⚠ is not there any more."
    assert listed.current.name == "a"


def test_settings_and_zoom_stay_from_image_to_image(
    open_dock: OpenDockFactory, folder: Path
) -> None:
    dock = open_dock(wait=False)
    listed = open_folder(dock, folder)
    dock.session.image.colormap = "magma"
    dock.viewer.scene.camera.zoom *= 2
    zoom, center = dock.viewer.scene.camera.zoom, dock.viewer.scene.camera.center
    dock.session.set_hover_enabled(False)
    dock.session.next_image()
    dock.until(lambda: listed.current.name == "b")
    dock.until_ready()
    assert dock.session.image.colormap.name == "magma"
    assert dock.viewer.scene.camera.zoom == zoom
    assert dock.viewer.scene.camera.center == center
    assert not dock.session.hover_enabled
    assert dock.session.active


def test_a_digit_gives_the_object_under_the_mouse_a_class(
    open_dock: OpenDockFactory, folder: Path
) -> None:
    dock = open_dock(wait=False)
    open_folder(dock, folder)
    box = dock.widget.images.classes
    box.add.click()
    box.add.click()
    name = box.rows[1].name
    name.setText("dead")
    name.editingFinished.emit()
    assert [each.name for each in dock.session.classifying.classes] == [
        "class 1",
        "dead",
    ]
    dock.mouse.click(dock.session.image, (30, 40))
    dock.until(lambda: dock.session.can_commit)
    press(dock, Qt.Key.Key_C)
    dock.until(lambda: dock.session.target is not None)
    labels = dock.session.target
    assert dock.viewer.layers.selection.active is labels
    dock.mouse.move(dock.session.image, (30, 40))
    press(dock, Qt.Key.Key_2)  # napari's own 2 would begin to paint
    assert str(labels.mode) == "pan_zoom"
    assert box.rows[1].count.text() == "1"
    assert box.rows[0].count.text() == ""


def test_a_new_class_can_be_named_at_once(
    open_dock: OpenDockFactory, folder: Path
) -> None:
    dock = open_dock(wait=False)
    listed = open_folder(dock, folder)
    window = dock.viewer.window._qt_window
    window.activateWindow()
    box = dock.widget.images.classes
    box.add.click()
    assert window.focusWidget() is box.rows[0].name
    QTest.keyClicks(box.rows[0].name, "odd")  # O is a key of the list on the canvas
    enter = QEvent(QEvent.Type.Enter)
    QApplication.sendEvent(window.centralWidget(), enter)
    assert window.focusWidget() is box.rows[0].name  # the name is not finished
    QTest.keyClick(box.rows[0].name, Qt.Key.Key_Return)
    assert [each.name for each in dock.session.classifying.classes] == ["odd"]
    assert window.focusWidget() is not box.rows[0].name
    assert listed.images.at == 0

    box.add.click()
    assert window.focusWidget() is box.rows[1].name
    QApplication.sendEvent(window.centralWidget(), enter)
    assert window.focusWidget() is not box.rows[1].name


def test_all_images_of_the_list_can_be_segmented_from_the_auto_box(
    open_dock: OpenDockFactory, folder: Path
) -> None:
    theirs = np.zeros((60, 80), np.uint16)
    theirs[5:20, 5:20] = 1
    tifffile.imwrite(folder / "c_cp_masks.tif", theirs)
    dock = open_dock(wait=False)
    box, files = dock.widget.auto, dock.session.files
    listed = open_folder(dock, folder)
    box.region.setCurrentText("All images of the list")
    box.region.activated.emit(box.region.currentIndex())
    dock.until(box.rest.isVisible)
    assert "1 image that is not done" in box.rest.text.text()
    assert "have labels already: c_cp_masks.tif." in box.rest.text.text()
    ended = threading.Event()

    class Batch:
        lines = ()

        def __init__(self, command: list[str]) -> None:
            assert command[-1] == str(folder / "b.tif")

        def wait(self) -> int:
            ended.wait(30)
            tifffile.imwrite(folder / "b_labels.tif", theirs)
            return 0

        def stop(self) -> None:
            ended.set()

    files._start = Batch  # type: ignore[assignment]
    box.start.click()
    dock.until(lambda: box.rest.cancel.isVisible())
    assert not box.rest.text.isVisible()
    ended.set()
    dock.until(lambda: not files.running)
    assert listed.images.entries[1].labels == folder / "b_labels.tif"
    assert not box.rest.cancel.isVisible()
    listed.leave_list()
    dock.until(lambda: not box.rest.isVisible())
    assert box.region.findText("All images of the list") == -1
