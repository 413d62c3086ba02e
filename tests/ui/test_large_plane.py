"""Hover, click and commit in a plane of 4,096² pixels, in a real viewer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtWidgets import QDockWidget

from fake_predictor import RADII

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl


def test_hover_click_and_commit_in_a_large_plane(open_dock: OpenDockFactory) -> None:
    image = field(64)
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


def field(tiles: int = 50) -> Image:
    small = np.random.default_rng(0).integers(0, 60, (64, 64), np.uint8)
    small[20:40, 20:40] += 150
    return Image(np.tile(small, (tiles, tiles)), name="field")


@pytest.fixture
def reading(open_dock: OpenDockFactory) -> tuple[OpenDock, threading.Event]:
    """A dock with a click that waits for a part of the image, and the gate that holds it back."""
    gate = threading.Event()
    gate.set()
    image = field()
    dock = open_dock(image, gate=gate)
    dock.viewer.scene.camera.center = (0.0, 700.0, 700.0)
    dock.viewer.scene.camera.zoom = 1.0
    dock.until(lambda: np.ptp(image.corner_pixels, axis=0).max() < 1500)
    gate.clear()
    dock.viewer.scene.camera.center = (0.0, 2300.0, 2300.0)
    dock.until(lambda: image.corner_pixels[0].min() > 1400)
    dock.mouse.click(image, (2310.0, 2300.0))
    dock.until(dock.shows_something)
    assert not dock.shows_preview()
    return dock, gate


def settled(dock: OpenDock) -> None:
    """Let all that was asked for come in."""
    dock.until(lambda: not dock.session._parts.inference._waiting)
    dock.qtbot.wait(100)


def test_the_dock_says_what_a_click_waits_for(
    reading: tuple[OpenDock, threading.Event],
) -> None:
    dock, gate = reading
    assert (
        dock.widget.status_bar.text.text() == "Reading 512 × 512 pixels of the image…"
    )
    assert not dock.session.candidate_scores
    gate.set()
    dock.until(lambda: dock.session.candidate_scores)
    dock.until(lambda: dock.widget.status_bar.text.text().startswith("Ready"))


def test_zooming_wildly_while_it_is_read_changes_no_mask(
    reading: tuple[OpenDock, threading.Event],
) -> None:
    dock, gate = reading
    rng = np.random.default_rng(0)
    for _ in range(25):
        dock.viewer.scene.camera.zoom = float(10 ** rng.uniform(-1.5, 1.5))
        dock.viewer.scene.camera.center = (0.0, *rng.uniform(0, 3200, 2))
        dock.qtbot.wait(5)
    gate.set()
    dock.until(lambda: dock.session.candidate_scores)
    (mask,) = dock.session._parts.masks.known()
    assert mask.holds(2300, 2310)
    assert max(mask.mask.shape) < 64  # as it was asked: in a look of 512 pixels
    settled(dock)
    (later,) = dock.session._parts.masks.known()
    assert later.box == mask.box
    np.testing.assert_array_equal(later.mask, mask.mask)


def test_the_image_is_removed_while_it_is_read(
    reading: tuple[OpenDock, threading.Event],
) -> None:
    dock, gate = reading
    dock.viewer.layers.remove("field")
    gate.set()
    settled(dock)
    assert dock.session.status.kind.name == "NO_IMAGE"
    assert not dock.shows_something()


def test_another_image_is_chosen_while_it_is_read(
    reading: tuple[OpenDock, threading.Event], blobs: np.ndarray
) -> None:
    dock, gate = reading
    dock.viewer.add_image(blobs, name="small")
    assert not dock.shows_something()
    gate.set()
    dock.until_ready()
    settled(dock)
    assert not dock.shows_something()
    assert not dock.session.can_commit
    dock.viewer.layers.selection.active = dock.viewer.layers["field"]
    dock.until(lambda: dock.session.candidate_scores)  # the click is not lost
    assert dock.session._parts.masks.known()[0].holds(2300, 2310)


def test_the_dock_is_closed_while_it_is_read(
    reading: tuple[OpenDock, threading.Event],
) -> None:
    dock, gate = reading
    holder = dock.widget.parent()
    while not isinstance(holder, QDockWidget):
        holder = holder.parent()
    holder.destroyOnClose()
    gate.set()
    dock.qtbot.wait(200)
    assert [layer.name for layer in dock.viewer.layers] == ["field"]
