"""A viewer with the dock in it, and a predictor that needs no network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from canvas_mouse import CanvasMouse
from dock_driver import OpenDock, OpenDockFactory
from fake_predictor import disc_predictor

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


@pytest.fixture
def open_dock(make_napari_viewer: Any, qtbot: QtBot) -> Iterator[OpenDockFactory]:
    """Open a viewer with layers and the dock; wait until the image is ready unless told not to."""
    from napari_tinysam.ui.dock.widget import TinySAMWidget

    gates = []

    def open_(
        *layers: Any,
        gate: threading.Event | None = None,
        wait: bool = True,
        show: bool = True,
        predictor: Any = None,
        load_predictor: Any = None,
    ) -> OpenDock:
        if gate is not None:
            gates.append(gate)
        viewer = make_napari_viewer(show=show)
        viewer.window.resize(1100, 800)
        for layer in layers:
            viewer.add_layer(layer)
        discs, runtime = disc_predictor(gate)
        predictor = predictor or discs
        load = load_predictor or (lambda *_: predictor)
        widget = TinySAMWidget(viewer, load_predictor=load)
        viewer.window.add_dock_widget(widget, name="TinySAM", area="right")
        viewer.fit_to_view()
        dock = OpenDock(viewer, widget, CanvasMouse(viewer), runtime, qtbot)
        if not show:
            widget._start()  # what showing it does
        if wait:
            dock.until_ready()
        return dock

    yield open_
    for gate in gates:
        gate.set()


@pytest.fixture(autouse=True)
def _no_thread_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a GUI test no inference thread of ours goes on."""
    yield
    if "open_dock" not in request.fixturenames:
        return
    for thread in threading.enumerate():
        if thread.name == "tinysam-inference":
            thread.join(timeout=5)
            assert not thread.is_alive(), "an inference thread outlived its viewer"


@pytest.fixture(autouse=True)
def _choices_are_forgotten() -> Iterator[None]:
    """What one test chooses in the dock, and napari keeps, is not the next one's."""
    from napari_tinysam.ui.dock import section
    from napari_tinysam.ui.state.choices import _settings

    yield
    section._remembered.clear()
    settings = _settings()
    if settings is not None:
        settings.reset()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do at once what is done beside the window's thread."""
    from napari_tinysam.ui.session.aside import Aside

    def run(
        self: Aside,
        job: Callable[[], Any],
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        try:
            result = job()
        except Exception as error:  # noqa: BLE001 - as the thread does
            on_error(error)
        else:
            on_done(result)

    monkeypatch.setattr(Aside, "run", run)


@pytest.fixture
def blobs() -> np.ndarray:
    """(200, 300) uint8 noise: an image that is not square, so that swapped axes show."""
    return np.random.default_rng(0).integers(0, 255, (200, 300), np.uint8)
