"""Sliders of tracking in a real window: ``python -m benchmarks.track_sliders SIDE FRAMES CELLS``.

Needs a screen (``xvfb-run -a``). A line for each slider says how long its longest turns take: the
window waits for a turn. Times are of the processor, in brackets on the clock. What napari does to
draw a tracks layer is a turn of its own, once the slider rests.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.auto_in_tiles import say


def cells(side: int, frames: int, count: int) -> np.ndarray:
    """Make (frames, side, side) labels of moving discs, some of which divide, in any order."""
    rng = np.random.default_rng(1)
    labels = np.zeros((frames, side, side), np.uint32)
    away = np.hypot(*np.mgrid[-16:17, -16:17])
    places, radii = rng.uniform(30, side - 30, (count, 2)), rng.uniform(8, 13, count)
    for t, frame in enumerate(labels):
        places = (places + rng.normal(0, 1.2, places.shape)).clip(20, side - 20)
        if t % 6 == 3:  # one divides
            mother = rng.integers(len(places))
            apart = np.array([0.75 * radii[mother], 0])
            places = np.concatenate([places, places[mother : mother + 1] + apart])
            places[mother] -= apart
            radii = np.append(radii, 0.68 * radii[mother])
            radii[mother] *= 0.72
        for number, at in enumerate(rng.permutation(len(places)), start=1):
            y, x = places[at].astype(int)
            part = frame[y - 16 : y + 17, x - 16 : x + 17]
            part[(away < radii[at]) & (part == 0)] = number
    return labels


def main() -> None:
    """Track, and move sliders."""
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_tinysam.ui.dock.widget import TinySAMWidget

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", type=int, nargs="?", default=768)
    parser.add_argument("frames", type=int, nargs="?", default=60)
    parser.add_argument("cells", type=int, nargs="?", default=120)
    given = parser.parse_args()
    labels = cells(given.side, given.frames, given.cells)
    viewer = napari.Viewer()
    axes = ("t", "y", "x")
    image = (labels > 0).astype(np.uint8) * 120
    viewer.add_image(image, name="movie", axis_labels=axes)
    viewer.add_labels(labels, name="movie committed_objects", axis_labels=axes)
    dock = TinySAMWidget(viewer)
    viewer.window.add_dock_widget(dock, name="TinySAM")
    session: Any = dock.session
    turns: list[tuple[float, float]] = []
    inference = session._parts.inference
    post = inference.post

    waiting = 0

    def posted(call: Callable[[], None]) -> None:
        nonlocal waiting
        waiting += 1

        def timed() -> None:
            nonlocal waiting
            waiting -= 1
            cpu, clock = time.thread_time(), time.perf_counter()
            call()
            turns.append((time.thread_time() - cpu, time.perf_counter() - clock))

        post(timed)

    inference.post = posted

    def wait(condition: Callable[[], bool], rest: float = 0.5) -> None:
        end = time.monotonic() + rest
        while not condition() or waiting or time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.002)

    wait(lambda: session.status.kind.name == "READY")
    session.track_objects()
    wait(lambda: not session.tracking.running)
    say(session.tracking.note)
    for name, value in (
        ("division", 0.9),
        ("division", 0.35),
        ("least_frames", 8),
        ("least_frames", 1),
        ("overlap", 0.3),
        ("gap", 0),
        ("gap", 1),
    ):
        turns.clear()
        session.tracking.set_settings(**{name: value})
        wait(lambda: not session.tracking.running)
        longest = ", ".join(
            f"{1000 * cpu:3.0f} ms ({1000 * clock:3.0f})"
            for cpu, clock in sorted(turns, reverse=True)[:3]
        )
        say(f"{name:12} {value:5}  {longest}")
    viewer.close()


if __name__ == "__main__":
    main()
