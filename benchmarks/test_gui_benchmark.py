"""The user's waiting times: opening the dock, hover, click, commit, and a blocked window.

A real viewer, and TinySAM with random weights, which do not change times. Needs a screen:
``xvfb-run -a pytest benchmarks/test_gui_benchmark.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.heart import Heart

if TYPE_CHECKING:
    from napari.layers import Image
    from pytest_benchmark.fixture import BenchmarkFixture
    from pytestqt.qtbot import QtBot

# Read when napari is imported: keeps the user's settings out.
_FOLDER = tempfile.TemporaryDirectory()
os.environ["NAPARI_CONFIG"] = str(Path(_FOLDER.name) / "settings.yaml")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

PATIENCE_MS = 300_000


def load_random(name: str, device: str, progress: Any) -> Any:
    """Load random weights as the dock does, in its thread."""
    from napari_tinysam.ui.session.embedding.triton_guard import triton_kept_out

    with triton_kept_out():
        import torch

        from napari_tinysam import Predictor
        from napari_tinysam.inference.runtime.torch_runtime import (
            TorchRuntime,
            choose_device,
        )
        from napari_tinysam.model import SegmentAnything

        torch.manual_seed(0)
        runtime = TorchRuntime(SegmentAnything("tiny_vit"), choose_device())
        return Predictor(runtime, name="random", model_id="random")


class Dock:
    """A viewer with an image, the dock, and a hand on the mouse."""

    def __init__(
        self, viewer: Any, qtbot: QtBot, image: np.ndarray, load: Callable[..., Any]
    ) -> None:
        from canvas_mouse import CanvasMouse
        from napari_tinysam.ui.dock.widget import TinySAMWidget

        self.viewer, self.qtbot = viewer, qtbot
        viewer.window.resize(1200, 850)
        self.image: Image = viewer.add_image(image)
        qtbot.wait(200)
        self.widget = TinySAMWidget(viewer, load_predictor=load)
        viewer.window.add_dock_widget(self.widget, name="TinySAM", area="right")
        self.session = self.widget.session
        self.mouse = CanvasMouse(viewer)

    def until(self, condition: Callable[[], Any]) -> None:
        """Run the event loop until a condition holds, checked every millisecond."""
        from qtpy.QtTest import QTest

        end = time.perf_counter() + PATIENCE_MS / 1000
        while not condition():
            assert time.perf_counter() < end, "waited too long"
            QTest.qWait(1)

    def until_ready(self) -> None:
        self.until(lambda: self.session.status.kind.name == "READY")

    def until_drawn(self) -> None:
        """Let the canvas draw."""
        from qtpy.QtWidgets import QApplication

        QApplication.processEvents()


def plane(side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(100, 4000, (side, side), dtype=np.uint16)


@pytest.fixture
def discs() -> Callable[..., Any]:
    """Load a predictor that takes no time, for timings without the model."""
    from fake_predictor import disc_predictor

    return lambda *_: disc_predictor()[0]


def with_work(run: Callable[[], Any], worked: list[float]) -> Callable[[], None]:
    """Record how long the GUI thread itself computes in each run, in ms."""

    def timed() -> None:
        start = time.thread_time()
        run()
        worked.append(1000 * (time.thread_time() - start))

    return timed


def keep_percentiles(
    benchmark: BenchmarkFixture, worked: list[float] | None = None
) -> None:
    if worked:
        benchmark.extra_info["gui_work_ms"] = round(float(np.median(worked)), 1)
    times = 1000 * np.array(benchmark.stats.stats.data)
    for percent in (50, 95):
        benchmark.extra_info[f"p{percent}_ms"] = round(
            float(np.percentile(times, percent)), 1
        )
    print(dict(benchmark.extra_info))  # noqa: T201 - what the table leaves out


def test_import_of_the_dock(benchmark: BenchmarkFixture) -> None:
    """Time what importing the dock adds to a running napari."""
    code = (
        "import time, napari, napari.layers, qtpy.QtWidgets, napari._qt.qt_main_window\n"
        "start = time.perf_counter(); import napari_tinysam.ui.dock.widget\n"
        "print(time.perf_counter() - start)"
    )
    taken: list[float] = []

    def run() -> None:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        taken.append(1000 * float(done.stdout))

    benchmark.pedantic(run, rounds=3)
    benchmark.extra_info["import_ms"] = round(float(np.median(taken)), 1)
    print(dict(benchmark.extra_info))  # noqa: T201


def test_window_while_loading_and_embedding(
    benchmark: BenchmarkFixture, make_napari_viewer: Any, qtbot: QtBot
) -> None:
    """Longest pause of the window; the benchmark's time is that of the embedding."""
    torch_is_new = "torch" not in sys.modules
    dock = Dock(make_napari_viewer(show=True), qtbot, plane(2048), load_random)
    loading = Heart()
    dock.until(lambda: dock.session.status.kind.name != "LOADING_MODEL")
    loading.stop()
    dock.until_ready()
    hearts = []

    def embed() -> None:
        dock.image.data = pixels.pop()  # embedded again
        hearts.append(Heart())
        dock.until_ready()
        hearts[-1].stop()

    pixels = [plane(2048) for _ in range(3)]
    benchmark.pedantic(embed, rounds=3)
    info = benchmark.extra_info
    if torch_is_new:
        info["longest_pause_loading_ms"] = round(loading.pause, 1)
        info["longest_work_loading_ms"] = round(loading.work, 1)
    info["longest_pause_embedding_ms"] = round(max(h.pause for h in hearts), 1)
    info["longest_work_embedding_ms"] = round(max(h.work for h in hearts), 1)
    keep_percentiles(benchmark)


def test_open(
    benchmark: BenchmarkFixture,
    make_napari_viewer: Any,
    qtbot: QtBot,
    discs: Callable[..., Any],
) -> None:
    """From the menu's call to the dock on the screen."""
    from qtpy.QtWidgets import QApplication

    from napari_tinysam.ui.dock.widget import TinySAMWidget

    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 850)
    viewer.add_image(plane(512))
    qtbot.wait(300)
    frames: list[Any] = []

    def close_last() -> None:
        if frames:
            viewer.window.remove_dock_widget(frames.pop())
        qtbot.wait(300)

    def open_dock() -> None:
        widget = TinySAMWidget(viewer, load_predictor=discs)
        frame = viewer.window.add_dock_widget(widget, name="TinySAM", area="right")
        frames.append(frame)
        QApplication.processEvents()  # lays out and paints

    worked: list[float] = []
    run = with_work(open_dock, worked)
    benchmark.pedantic(run, setup=close_last, rounds=10, warmup_rounds=1)
    keep_percentiles(benchmark, worked)


def test_hover_to_preview(
    benchmark: BenchmarkFixture, make_napari_viewer: Any, qtbot: QtBot
) -> None:
    """From the mouse's move to the mask under it, drawn; one prompt on a 1024² plane."""
    dock = Dock(make_napari_viewer(show=True), qtbot, plane(1024), load_random)
    dock.until_ready()
    spots = cycle([(y, x) for y in range(200, 900, 70) for x in range(200, 900, 70)])
    preview = dock.session._parts.masks.preview

    def hover() -> None:
        before = preview.shown
        dock.mouse.move(dock.image, next(spots))
        dock.until(lambda: preview.shown is not before)
        dock.until_drawn()

    worked: list[float] = []
    run = with_work(hover, worked)
    benchmark.pedantic(run, setup=lambda: qtbot.wait(30), rounds=40, warmup_rounds=3)
    keep_percentiles(benchmark, worked)


def test_click_to_mask(
    benchmark: BenchmarkFixture, make_napari_viewer: Any, qtbot: QtBot
) -> None:
    """From the click to its mask, drawn; each click is a new object on a 1024² plane."""
    dock = Dock(make_napari_viewer(show=True), qtbot, plane(1024), load_random)
    dock.until_ready()
    dock.session.set_hover_enabled(False)
    spots = cycle([(y, x) for y in range(200, 900, 70) for x in range(200, 900, 70)])

    def forget() -> None:
        dock.session.clear()
        qtbot.wait(50)

    def click() -> None:
        dock.mouse.click(dock.image, next(spots))
        dock.until(lambda: dock.session.candidate_scores)
        dock.until_drawn()

    worked: list[float] = []
    run = with_work(click, worked)
    benchmark.pedantic(run, setup=forget, rounds=40, warmup_rounds=3)
    keep_percentiles(benchmark, worked)


@pytest.mark.parametrize("side", [2048, 8192])
def test_commit(
    benchmark: BenchmarkFixture,
    make_napari_viewer: Any,
    qtbot: QtBot,
    discs: Callable[..., Any],
    side: int,
) -> None:
    """From the key to the label in the layer, one object of about 1/16 of the side."""
    dock = Dock(make_napari_viewer(show=True), qtbot, plane(side), discs)
    dock.until_ready()
    dock.session.set_hover_enabled(False)
    step = side // 12
    spots = cycle(
        [(y, x) for y in range(step, side, step) for x in range(step, side, step)]
    )

    def click() -> None:
        dock.mouse.click(dock.image, next(spots))
        dock.until(lambda: dock.session.candidate_scores)

    worked: list[float] = []
    run = with_work(dock.session.commit, worked)
    benchmark.pedantic(run, setup=click, rounds=30, warmup_rounds=2)
    assert dock.session.target is not None
    keep_percentiles(benchmark, worked)
