"""Hover, click and commit in a plane of 4,096² pixels, in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Image

from fake_predictor import RADII

if TYPE_CHECKING:
    from dock_driver import OpenDockFactory

pytestmark = pytest.mark.gl


def test_hover_click_and_commit_in_a_large_plane(open_dock: OpenDockFactory) -> None:
    field = np.random.default_rng(0).integers(0, 60, (64, 64), np.uint8)
    field[20:40, 20:40] += 150
    image = Image(np.tile(field, (64, 64)), name="field")
    dock = open_dock(image)
    dock.viewer.scene.camera.center = (0.0, 1100.0, 3000.0)
    dock.viewer.scene.camera.zoom = 1.0
    dock.until(lambda: np.ptp(image.corner_pixels, axis=0).max() < 1500)
    dock.until(lambda: "tiles of" in dock.widget.status_bar.text.text())

    at = (1110.0, 3030.0)
    dock.mouse.move(image, at)
    dock.until(dock.shows_preview)
    dock.mouse.click(image, at)
    dock.until(lambda: dock.session.candidate_scores)
    dock.session.commit()
    labels = dock.session.target.data
    assert labels.shape == (4096, 4096)
    ys, xs = np.nonzero(labels)
    assert np.allclose((ys.mean(), xs.mean()), at, atol=2)
    # The predictor's disc, in a look that is not the whole plane.
    assert ys.size < np.pi * (RADII[1] * 1024 / 256 * 2) ** 2
    dock.session.undo()
    assert not labels.any()
