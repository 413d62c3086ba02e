"""Tracking a movie, in a real viewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Tracks
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_tinysam.volume import learned
from ui.session.tracks.small_movie import movie

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl

Key, Modifier = Qt.Key, Qt.KeyboardModifier


def layers(**options: Any) -> tuple[Image, Labels]:
    labels = movie(smaller=6)
    noise = np.random.default_rng(0).integers(0, 255, labels.shape, np.uint8)
    name = "cells committed_objects"
    return Image(noise, name="cells", **options), Labels(labels, name=name, **options)


def tracked(dock: OpenDock) -> bool:
    tracking = dock.session.tracking
    return tracking.movie is not None and not tracking.running


def graph(dock: OpenDock) -> dict[int, list[int]]:
    found = [layer for layer in dock.viewer.layers if isinstance(layer, Tracks)]
    return found[0].graph if found else {}


def over(dock: OpenDock, frame: int, y: float, x: float) -> None:
    dock.viewer.dims.set_point(0, frame)
    dock.until_ready()
    dock.mouse.move(dock.session.image, (frame, y, x))
    dock.until(lambda: dock.session._parts.subject.cursor is not None)


def test_ask_track_confirm_correct_undo(open_dock: OpenDockFactory) -> None:
    dock = open_dock(*layers())
    box = dock.widget.link
    answer = dock.widget.axes.answers[0]
    answer.setCurrentIndex(answer.findText("time (t)"))
    answer.activated.emit(answer.currentIndex())
    assert box.tracks.isVisible()
    assert not box.sliders.isVisible()  # those of depth
    dock.qtbot.mouseClick(box.tracks.track, Qt.MouseButton.LeftButton)
    dock.until(lambda: tracked(dock))
    before = len(graph(dock))
    box.tracks.division.slider.setValue(100)
    dock.until(lambda: tracked(dock) and not graph(dock))
    assert "possible division" in box.tracks.doubt.text()

    over(dock, 3, 50, 40)
    dock.mouse.key(Key.Key_D)
    dock.until(lambda: len(graph(dock)) == 2)
    assert before in (0, 2)
    assert dock.session.undo_text == "division"

    moving = int(dock.session.target.data[3, 40, 96])
    over(dock, 3, 40, 96)
    dock.mouse.key(Key.Key_K, Modifier.ShiftModifier)
    dock.until(lambda: dock.session.undo_text == "cut track" and tracked(dock))
    assert dock.session.target.data[3, 40, 96] != moving
    dock.mouse.key(Key.Key_Z, Modifier.ControlModifier)
    dock.until(lambda: dock.session.target.data[3, 40, 96] == moving)

    dock.mouse.key(Key.Key_K)
    assert "goes on as" in dock.widget.status_bar.hint.text()
    dock.mouse.key(Key.Key_D, Modifier.ShiftModifier)
    assert "goes on as" not in dock.widget.status_bar.hint.text()


def test_export_and_import(
    open_dock: OpenDockFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = open_dock(*layers(axis_labels=("t", "y", "x")))
    files = dock.widget.link.tracks.files
    assert not files.export.isEnabled()
    dock.qtbot.mouseClick(dock.widget.link.tracks.track, Qt.MouseButton.LeftButton)
    dock.until(lambda: tracked(dock))
    monkeypatch.setattr(
        QFileDialog, "getExistingDirectory", lambda *_, **__: str(tmp_path)
    )
    dock.qtbot.mouseClick(files.export, Qt.MouseButton.LeftButton)
    dock.until(lambda: files.export.isEnabled())
    folder = tmp_path / "cells_tracks"
    assert (folder / "res_track.txt").is_file()
    before = dock.session.target.data.copy()
    monkeypatch.setattr(
        QFileDialog, "getExistingDirectory", lambda *_, **__: str(folder)
    )
    dock.qtbot.mouseClick(files.load, Qt.MouseButton.LeftButton)
    dock.until(lambda: dock.session.target.name == "cells_tracks labels")
    dock.until(lambda: tracked(dock))
    assert np.array_equal(dock.session.target.data, before)


def test_frames_are_changed_wildly_and_the_dock_is_closed(
    open_dock: OpenDockFactory,
) -> None:
    dock = open_dock(*layers(axis_labels=("t", "y", "x")))
    labels = dock.session.target
    before = labels.data > 0
    dock.qtbot.mouseClick(dock.widget.link.tracks.track, Qt.MouseButton.LeftButton)
    for t in (5, 0, 3, 1, 4):
        dock.viewer.dims.set_current_step(0, t)
        dock.qtbot.wait(2)
    dock.until(lambda: tracked(dock))
    dock.widget.link.tracks.gap.slider.setValue(3)
    dock.viewer.window.remove_dock_widget(dock.widget)
    dock.qtbot.wait(50)
    assert np.array_equal(labels.data > 0, before)


@pytest.mark.parametrize("there", [True, False])
def test_trackastra_is_offered_where_it_can_be_used(
    open_dock: OpenDockFactory,
    monkeypatch: pytest.MonkeyPatch,
    there: bool,
    tmp_path: Path,
) -> None:
    folder = tmp_path if there else None
    monkeypatch.setattr(learned, "weights_folder", lambda: folder)
    dock = open_dock(*layers(axis_labels=("t", "y", "x")))
    way = dock.widget.link.tracks.way
    at = way.findText("trackastra")
    tip = way.itemData(at, Qt.ItemDataRole.ToolTipRole)
    assert way.model().item(at).isEnabled() is there
    assert ("not installed with its weights" in tip) is not there
