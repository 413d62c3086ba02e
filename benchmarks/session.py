"""Time a short session in a real window, and print the figures as JSON.

``python -m benchmarks`` runs it in its own process, to measure the memory of napari, the plugin and
the model.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

ROUNDS = 40
PATIENCE = 120.0


def nuclei(side: int = 1024) -> np.ndarray:
    """(side, side) uint16: synthetic nuclei of a seed that no training uses."""
    from tinysam_training.synthetic import entries

    entry = entries(1, seed=2**31 - 1, kinds=("nuclei",), size=(side, side))[0]
    return entry.read().rgb[..., 0].astype(np.uint16) * 16


def main() -> None:
    """Open napari, the dock and an image; hover and click; print figures in seconds and MB."""
    settings = tempfile.TemporaryDirectory()
    os.environ["NAPARI_CONFIG"] = str(Path(settings.name) / "settings.yaml")
    import napari
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1200, 850)
    plane = nuclei()
    image = viewer.add_image(np.ascontiguousarray(plane[::-1]))
    QTest.qWait(500)

    def until(condition: Callable[[], Any]) -> None:
        end = time.perf_counter() + PATIENCE
        while not condition():
            if time.perf_counter() > end:
                sys.exit("waited too long")
            QTest.qWait(1)

    from canvas_mouse import CanvasMouse
    from napari_tinysam.ui.dock.widget import TinySAMWidget
    from napari_tinysam.ui.session.embedding.loading import load_predictor

    begun = time.perf_counter()
    widget = TinySAMWidget(viewer, load_predictor=_named(load_predictor))
    viewer.window.add_dock_widget(widget, name="TinySAM", area="right")
    QApplication.processEvents()
    opened = time.perf_counter() - begun
    session = widget.session
    until(lambda: session.status.kind.name == "READY")
    first = time.perf_counter() - begun
    viewer.layers.remove(image)
    QTest.qWait(500)
    begun = time.perf_counter()
    image = viewer.add_image(plane)
    until(lambda: session.image is image and session.status.kind.name == "READY")
    next_image = time.perf_counter() - begun
    mouse = CanvasMouse(viewer)
    spots = cycle([(y, x) for y in range(200, 900, 70) for x in range(200, 900, 70)])
    preview = session._parts.masks.preview

    def hover() -> None:
        before = preview.shown
        mouse.move(image, next(spots))
        until(lambda: preview.shown is not before)
        QApplication.processEvents()

    first_hover = _time(hover)
    hovers = _times(hover, lambda: QTest.qWait(30))
    session.set_hover_enabled(False)

    def forget() -> None:
        session.clear()
        QTest.qWait(50)

    def click() -> None:
        mouse.click(image, next(spots))
        until(lambda: session.candidate_scores)
        QApplication.processEvents()

    first_click = _time(click)
    clicks = _times(click, forget)
    # Kilobytes; on macOS bytes.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    found = {
        "open": opened,
        "first": first,
        "next image": next_image,
        "first hover": first_hover,
        "first click": first_click,
        "hover": [float(np.percentile(hovers, p)) for p in (50, 95)],
        "click": [float(np.percentile(clicks, p)) for p in (50, 95)],
        "memory": memory,
    }
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # closing the window is not timed, and there is nothing to save


def _named(load: Callable[..., Any]) -> Callable[..., Any]:
    """Load the model of the command line, whatever the dock's settings are."""
    name = sys.argv[1] if len(sys.argv) > 1 else "default"

    def named(_: str, device: str, progress: Any) -> Any:
        predictor = load(name, device, progress)
        predictor.kept = None  # what earlier runs have left on disk is not timed
        return predictor

    return named


def _time(run: Callable[[], None]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _times(run: Callable[[], None], before: Callable[[], None]) -> list[float]:
    taken = []
    for _ in range(ROUNDS):
        before()
        taken.append(_time(run))
    return taken


if __name__ == "__main__":
    main()
