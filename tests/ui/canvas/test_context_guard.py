"""Layers come and go without ending the process: in one of its own, which may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[2]

# Images are opened and removed in the middle of an object, then all other layers, in any order,
# with and without time to draw in between. Drawing with deleted programs crashed at round 4.
_ROUNDS = """
import random, sys, time
sys.path.insert(0, sys.argv[1])
import napari
import numpy as np
from qtpy.QtWidgets import QApplication
from canvas_mouse import CanvasMouse
from fake_predictor import disc_predictor
from napari_tinysam.ui.dock.widget import TinySAMWidget

def run(seconds):
    end = time.monotonic() + seconds
    QApplication.processEvents()
    while time.monotonic() < end:
        time.sleep(0.004)
        QApplication.processEvents()

chance = random.Random(3)
predictor, _ = disc_predictor()
viewer = napari.Viewer()
viewer.window.resize(1100, 800)
dock = TinySAMWidget(viewer, load_predictor=lambda *_: predictor)
viewer.window.add_dock_widget(dock, area="right")
mouse = CanvasMouse(viewer)
for _ in range(8):
    shape = chance.choice([(200, 300), (300, 200), (10, 200, 300), (200, 300, 3)])
    image = viewer.add_image(np.zeros(shape, np.uint8))
    viewer.fit_to_view()
    run(chance.choice([0, 0.1, 0.5]))
    first = (0,) * (image.ndim - 2)
    for step in range(chance.randint(1, 8)):
        mouse.move(image, (*first, 50 + 3 * step, 60 + 5 * step))
        run(chance.choice([0, 0.03]))
    for step in range(chance.randint(0, 3)):
        mouse.click(image, (*first, 100, 80 + 10 * step))
        run(chance.choice([0, 0.05, 0.3]))
    viewer.layers.remove(image)
    run(chance.choice([0, 0, 0.1]))
    rest = list(viewer.layers)
    chance.shuffle(rest)
    for layer in rest:
        if layer in viewer.layers:
            viewer.layers.remove(layer)
        run(chance.choice([0, 0, 0.05]))
viewer.close()
print("went on")
"""


@pytest.mark.gl
def test_the_image_is_removed_in_the_middle_of_an_object_and_another_opened() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ROUNDS, str(_TESTS)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("went on\n")
