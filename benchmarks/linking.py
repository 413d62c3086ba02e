"""Linking planes in the dock: ``python -m benchmarks.linking SIDE PLANES OBJECTS``.

Discs of up to 25 pixels, each through a few planes and numbered plane by plane, are linked, and
linked otherwise by a slider. The lines say how long that takes, and how long the window is kept
from the user at once. There is no window: drawing comes on top.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from benchmarks.auto_in_tiles import say
from fake_inference import SteppedInference


class Turns(SteppedInference):
    """Does jobs and the session's turns one after the other, and times the turns.

    Attributes
    ----------
    longest, jobs : float
        Seconds of the longest turn, and of all jobs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.posted: deque[Callable[[], None]] = deque()
        self.longest = self.jobs = 0.0

    def post(self, call: Callable[[], None]) -> None:
        """Run something in a turn of its own."""
        self.posted.append(call)

    def run_all(self) -> None:
        """Do everything that was asked."""
        while self.posted or self.waiting:
            if self.posted:
                self.turn(self.posted.popleft())
                continue
            begun = time.perf_counter()
            deliver = self.start()
            self.jobs += time.perf_counter() - begun
            self.turn(deliver)

    def turn(self, call: Callable[[], Any]) -> None:
        """Do what the user waits for."""
        begun = time.perf_counter()
        call()
        self.longest = max(self.longest, time.perf_counter() - begun)

    def timed(self, name: str, call: Callable[[], Any]) -> None:
        """Ask for something, do all that follows, and say how long it took."""
        self.longest = self.jobs = 0.0
        begun = time.perf_counter()
        self.turn(call)
        self.run_all()
        say(
            f"{name:12} {time.perf_counter() - begun:6.2f} s, "
            f"{self.jobs:6.2f} s of that in the background, "
            f"longest turn {1000 * self.longest:4.0f} ms"
        )


def discs(side: int, planes: int, count: int) -> np.ndarray:
    """Make (planes, side, side) labels of which each plane has its own."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-13:14, -13:14]
    away = np.hypot(y, x)
    labels = np.zeros((planes, side, side), np.uint32)
    number = 0
    for _ in range(count):
        top, left = rng.integers(0, side - 27, 2)
        middle, half = rng.integers(planes), rng.integers(1, 8)
        for z in range(max(0, middle - half), min(planes, middle + half + 1)):
            radius = 13 * np.sqrt(1 - ((z - middle) / (half + 1)) ** 2)
            part = labels[z, top : top + 27, left : left + 27]
            number += 1
            part[(away < radius) & (part == 0)] = number
    return labels


def main() -> None:
    """Link, move a slider, undo."""
    from napari.layers import Image, Labels

    from desk import open_desk

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", type=int, nargs="?", default=1024)
    parser.add_argument("planes", type=int, nargs="?", default=60)
    parser.add_argument("objects", type=int, nargs="?", default=1500)
    given = parser.parse_args()
    labels = discs(given.side, given.planes, given.objects)
    turns = Turns()
    axes = ("z", "y", "x")
    desk = open_desk(
        Image(np.zeros(labels.shape, np.uint8), name="nuclei", axis_labels=axes),
        Labels(labels, name="nuclei committed_objects", axis_labels=axes),
        inference=turns,
    )
    turns.run_all()
    linking = desk.session.linking
    say(f"{labels.max():,} objects of single planes, {labels.nbytes / 1e6:,.0f} MB")
    turns.timed("link", desk.session.link_planes)
    say(linking.note)
    for least in (5, 8, 2):
        turns.timed(
            f"at least {least}", lambda n=least: linking.set_settings(least_planes=n)
        )
    turns.timed("undo sliders", desk.session.undo)
    turns.timed("undo links", desk.session.undo)


if __name__ == "__main__":
    main()
