"""A stack and a movie from the opened dock to files, with mouse and keys, in a real window.

    xvfb-run -a python -m benchmarks.walks [FOLDER]

Three walks on synthetic data with the bundled model: one nucleus of a stack is followed, corrected,
ended and saved; all its planes are segmented, linked and saved; the cells of a movie are tracked,
corrected and exported in three forms. Counts what is pressed (clicks and keys) and seconds, and
compares what the files hold with the truth. File dialogs are answered with what they suggest, one
key each; going to a plane is one press.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import tifffile
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget

from benchmarks.auto_in_tiles import say
from napari_tinysam.ui.state.region import Region
from napari_tinysam.volume.ctc import read_ctc
from napari_tinysam.volume.exchange.geff_store import read_geff
from napari_tinysam.volume.exchange.tables import read_csv
from tinysam_training.synthetic.volumes import (
    SyntheticStack,
    synthetic_movie,
    synthetic_volume,
)

_PATIENCE_S = 1200
#: The nucleus of the stack that is followed, and the plane in which it is clicked.
_NUCLEUS, _PLANE = 11, 14


class Walk:
    """A window with an image and the dock, and a hand on mouse and keys that counts."""

    def __init__(self, image: Any, name: str, axes: tuple[str, ...]) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1400, 900)
        self.layer = self.viewer.add_image(image, name=name, axis_labels=axes)
        _, self.dock = self.viewer.window.add_plugin_dock_widget(
            "napari-tinysam", "TinySAM"
        )
        self.session: Any = self.dock.session
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
        y, x = np.argwhere(mask).mean(0)
        world = self.layer.data_to_world((frame, y, x))
        view = self._canvas.view
        mapped = (view.transform * view.scene.transform).map([world[2], world[1], 0, 1])
        self._at = QPoint(round(mapped[0] / mapped[3]), round(mapped[1] / mapped[3]))
        none = Qt.MouseButton.NoButton
        self._mouse(QEvent.Type.MouseMove, none, none)
        self.wait(lambda: True)

    def click(self) -> None:
        """Click where the mouse is."""
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        self._mouse(QEvent.Type.MouseButtonPress, left, left)
        self._mouse(QEvent.Type.MouseButtonRelease, left, none)
        self.presses += 1

    def _mouse(self, kind: Any, button: Any, buttons: Any) -> None:
        native = self._canvas.native
        at, there = QPointF(self._at), QPointF(native.mapToGlobal(self._at))
        none = Qt.KeyboardModifier.NoModifier
        event = QMouseEvent(kind, at, there, button, buttons, none)
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


def stack(folder: Path) -> None:
    """Follow one nucleus; then segment and link all planes."""
    made = synthetic_volume(np.random.default_rng(1002), (30, 256, 256), 12)
    walk = Walk(made.image, "stack", ("z", "y", "x"))
    truth = made.labels == _NUCLEUS
    path = folder / "stack_labels.tif"
    walk.go_to(_PLANE)
    walk.point(_PLANE, truth[_PLANE])
    walk.click()
    walk.wait(lambda: walk.session.can_commit)
    walk.key("G")
    walk.wait(lambda: walk.session.follower.current and not walk.busy)
    walk.key("J")
    weakest = int(walk.viewer.dims.current_step[0])
    walk.point(weakest, walk.session.target.data[weakest] > 0)
    walk.key("E")
    walk.click()
    walk.wait(lambda: walk.session.can_commit)
    walk.key("C")
    last = int(np.flatnonzero(walk.session.target.data.any((1, 2)))[-1])
    walk.go_to(last - 1)
    walk.key("H")
    walk.save(path)
    found = tifffile.imread(path)
    planes = np.flatnonzero(found.any((1, 2)))
    where = f"planes {planes[0]} to {planes[-1]}"
    walk.told("stack: follow one, correct", f"IoU {iou(found > 0, truth):.2f}, {where}")

    walk.segment_all()
    walk.save(path)
    found = tifffile.imread(path)
    ious = []
    for label in np.unique(made.labels)[1:]:
        mask = made.labels == label
        ids = np.bincount(found[mask])
        ids[0] = 0
        ious.append(iou(found == ids.argmax(), mask))
    number = len(np.unique(found)) - 1
    result = f"{number} objects of {len(ious)}, mean IoU {np.mean(ious):.2f}"
    walk.told("stack: all planes, linked", result)
    walk.viewer.close()


def movie(folder: Path) -> None:
    """Segment and track; confirm, cut, link and follow; export."""
    made = synthetic_movie(np.random.default_rng(3), (24, 256, 256), 14)
    walk = Walk(made.image, "movie", ("t", "y", "x"))
    walk.segment_all()
    walk.told("movie: all frames, tracked", walk.session.tracking.note)
    correct(walk, made)
    box = walk.dock.link.tracks.files
    QFileDialog.getExistingDirectory = staticmethod(lambda *_: str(folder))
    named = staticmethod(lambda *given: (str(folder / Path(given[2]).name), ""))
    QFileDialog.getSaveFileName = named
    for at, form in enumerate(("Cell Tracking Challenge", "GEFF", "CSV")):
        box.form.show_choice(form)
        walk.presses += 2 if at else 0  # the list, and its entry
        walk.press(box.export)
        walk.presses += 1  # the dialog
    frames = read_ctc(folder / "movie_tracks")
    places = read_geff(folder / "movie_tracks.geff")
    rows = read_csv(folder / "movie_tracks.csv")
    numbers = {len(frames.tracks), len(places.tracks()), len(rows.tracks())}
    divided = {len(set(each.parents.values())) for each in (places, rows)}
    truth = len(np.unique(made.labels)) - 1, len(set(made.parents.values()))
    result = f"tracks {numbers} of {truth[0]}, divisions {divided} of {truth[1]}"
    walk.told("movie: correct, export", result)
    walk.viewer.close()


def correct(walk: Walk, made: SyntheticStack) -> None:
    """Refuse and confirm a division, cut a track, link it again, follow another anew."""
    labels = made.labels
    child, others = next(iter(made.parents)), set(made.parents)
    born = int(np.flatnonzero((labels == child).any((1, 2)))[0])
    walk.go_to(born)
    walk.point(born, labels[born] == child)
    walk.shifted("D")
    walk.key("D")
    resting = [
        label
        for label in np.unique(labels[0])[1:]
        if (labels == label).any((1, 2)).all() and label not in others
    ]
    cut, again = resting[:2]
    walk.point(born, labels[born] == cut)
    walk.shifted("K")
    walk.go_to(born - 1)
    walk.key("K")
    walk.go_to(born)
    walk.key("K")
    walk.point(born, labels[born] == again)
    walk.shifted("G")
    walk.wait(lambda: not walk.busy)


def main() -> None:
    """Do all three, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="keep the files there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        stack(folder)
        movie(folder)


if __name__ == "__main__":
    main()
