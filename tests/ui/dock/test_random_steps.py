"""A movie in a real window, with steps at random: following, tracking, undo, planes, layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Points, Tracks
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from blob_runtime import BlobRuntime
from napari_tinysam.inference.predictor import Predictor
from ui.session.tracks.small_movie import FRAMES, movie

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl

Key, Modifier = Qt.Key, Qt.KeyboardModifier
_SHIFT, _CONTROL, _NONE = (
    Modifier.ShiftModifier,
    Modifier.ControlModifier,
    Modifier.NoModifier,
)

#: y, x: cells, a place where one may be, and the background.
PLACES = [(40, 40), (34, 40), (50, 40), (40, 96), (15, 140), (70, 140)]
KEYS = [
    *((key, _NONE) for key in "GCNEHJYKQDRMX"),
    *((key, _SHIFT) for key in "CXKDG"),
    ("Delete", _NONE),
    ("Delete", _SHIFT),
    *[("Z", _CONTROL)] * 6,
    *[("Z", _CONTROL | _SHIFT)] * 3,
]


class Hand:
    """Does something at random in a window; the same seed does the same, but for its timing."""

    def __init__(self, dock: OpenDock, seed: int) -> None:
        self.dock, self.session = dock, dock.session
        self.rng = np.random.default_rng(seed)
        self.done: list[str] = []

    def any_of(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def step(self) -> None:
        """Do something, and wait a moment, until nothing runs, or not at all."""
        deeds: list[Callable[[], str]] = [
            *[self.press_key] * 6,
            *[self.point] * 2,
            self.click,
            self.move_slider,
            self.track,
            self.change_range,
            self.paint,
            self.remove_a_layer,
            self.cancel,
        ]
        self.done.append(self.any_of(deeds)())
        wait = int(self.rng.integers(3))
        if wait == 2:
            self.until_idle()
        elif wait:
            self.dock.qtbot.wait(int(self.rng.integers(1, 40)))

    def until_idle(self) -> None:
        session = self.session
        parts = (session.tracking, session.linking, session.follower)
        self.dock.until(lambda: not any(each.running for each in parts))
        self.dock.until(lambda: not session.status.busy)
        self.dock.qtbot.wait(20)

    def press_key(self) -> str:
        name, modifiers = self.any_of(KEYS)
        self.point()
        self.dock.mouse.key(getattr(Key, f"Key_{name}"), modifiers)
        return f"{name} {modifiers}"

    def point(self) -> str:
        frame, place = int(self.rng.integers(FRAMES)), self.any_of(PLACES)
        self.dock.viewer.dims.set_point(0, frame)
        self.dock.mouse.move(self.session.image, (frame, *place))
        return f"to {frame} {place}"

    def click(self) -> str:
        frame, place = int(self.dock.viewer.dims.point[0]), self.any_of(PLACES)
        self.dock.mouse.click(self.session.image, (frame, *place))
        return f"click {place}"

    def move_slider(self) -> str:
        name, values = self.any_of(
            [
                ("least_frames", [1, 2, 4]),
                ("division", [0.0, 0.3, 1.0]),
                ("gap", [0, 1, 2]),
                ("way", ["auto", "overlap", "centres"]),
            ]
        )
        value = self.any_of(values)
        self.session.tracking.set_settings(**{name: value})
        return f"{name} {value}"

    def track(self) -> str:
        self.session.track_objects()
        return "track"

    def change_range(self) -> str:
        first, last = self.any_of([(0, FRAMES - 1), (1, 4), (3, 5), (0, 2)])
        self.session.tracking.part.set_range(0, first, last)
        return f"range {first} {last}"

    def paint(self) -> str:
        layer = self.session.target
        t, y = int(self.rng.integers(FRAMES)), int(self.rng.integers(70))
        label = self.any_of([0, *np.unique(layer.data[t]).tolist()])
        rows, columns = np.mgrid[y : y + 8, 36:44]
        where = (np.full(64, t), rows.ravel(), columns.ravel())
        layer.data_setitem(where, label)
        return f"paint {label} in {t}"

    def remove_a_layer(self) -> str:
        ours = [
            layer
            for layer in self.dock.viewer.layers
            if isinstance(layer, Tracks | Points) or layer.name == "current_object"
        ]
        if not ours:
            return "nothing to remove"
        layer = self.any_of(ours)
        self.dock.viewer.layers.remove(layer)
        return f"remove {layer.name}"

    def cancel(self) -> str:
        self.session.cancel()
        return "cancel"


def opened(open_dock: OpenDockFactory) -> OpenDock:
    labels = movie()
    image = Image(
        (labels > 0).astype(np.uint8) * 255, name="cells", axis_labels=("t", "y", "x")
    )
    layer = Labels(
        labels, name="cells committed_objects", axis_labels=image.axis_labels
    )
    predictor = Predictor(BlobRuntime(), name="blobs", model_id="blobs")
    dock = open_dock(image, layer, predictor=predictor)
    dock.session.set_ahead(False)
    assert dock.session.target is layer
    return dock


def errors() -> list[str]:
    return [
        note.message
        for note in notification_manager.records
        if str(note.severity) == "error"
    ]


def do_and_undo(dock: OpenDock, seed: int, steps: int) -> None:
    """Do steps at random; undo gives the labels of the beginning, redo those of the end."""
    notification_manager.records.clear()
    first = np.array(dock.session.target.data)
    hand = Hand(dock, seed)
    for _ in range(steps):
        hand.step()
    hand.until_idle()
    story = "\n".join(hand.done)
    assert errors() == [], story
    last = np.array(dock.session.target.data)
    done = 0
    while dock.session.undo_text:
        dock.session.undo()
        done += 1
    hand.until_idle()
    assert np.array_equal(dock.session.target.data, first), story
    for _ in range(done):
        dock.session.redo()
    hand.until_idle()
    assert np.array_equal(dock.session.target.data, last), story
    assert errors() == [], story


@pytest.mark.parametrize("seed", [1])
def test_steps_at_random_are_undone_and_done_again(
    open_dock: OpenDockFactory, seed: int
) -> None:
    do_and_undo(opened(open_dock), seed, 30)


@pytest.mark.parametrize("seed", [2, 3])
def test_what_goes_away_in_the_middle_of_random_steps(
    open_dock: OpenDockFactory, seed: int
) -> None:
    dock = opened(open_dock)
    hand = Hand(dock, seed)
    for _ in range(6):
        hand.step()
    dock.session.track_objects()
    layer = dock.session.target if seed == 2 else dock.session.image
    dock.viewer.layers.remove(layer)
    dock.qtbot.wait(50)
    assert errors() == [], "\n".join(hand.done)
    dock.viewer.close()
