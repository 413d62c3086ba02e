"""Auto-segment in a large plane, in a real viewer: tile by tile, those on the screen first."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtWidgets import QDockWidget

from everything.plane_of_discs import BrightRuntime, field
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.ui.canvas.proposal_layer import PROPOSED
from napari_tinysam.ui.state.region import Region

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl


class Gated(BrightRuntime):
    """Encodes only while the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def encode(self, rgb: np.ndarray) -> Any:
        assert self.gate.wait(timeout=60)
        return super().encode(rgb)


def open_field(open_dock: OpenDockFactory) -> tuple[OpenDock, Image, Gated]:
    """Open nine tiles of discs, zoomed in to the last corner."""
    pixels, _ = field((2700, 2600), 100, 20)
    image, runtime = Image(pixels, name="field"), Gated()
    predictor = Predictor(runtime, name="bright", model_id="bright")
    dock = open_dock(image, predictor=predictor)
    dock.viewer.scene.camera.center = (0.0, 2300.0, 2200.0)
    dock.viewer.scene.camera.zoom = 1.0
    dock.until(lambda: image.corner_pixels[0, 0] > 1500)
    return dock, image, runtime


def values(dock: OpenDock) -> np.ndarray:
    """What the layer of proposals shows at full resolution."""
    if PROPOSED not in dock.viewer.layers:
        return np.zeros((2700, 2600), np.int32)
    return np.asarray(dock.viewer.layers[PROPOSED].data[0])


def first_shown(dock: OpenDock, runtime: Gated) -> list[np.ndarray]:
    """Keep what is shown of a search first, and let it encode no further."""
    kept: list[np.ndarray] = []
    proposals = dock.session.proposals
    show = proposals.show_found

    def show_found(*found: Any) -> None:
        show(*found)
        if not kept:
            runtime.gate.clear()
            kept.append(values(dock))

    proposals.show_found = show_found
    return kept


def test_tiles_on_the_screen_are_first_and_cancel_keeps_them(
    open_dock: OpenDockFactory,
) -> None:
    dock, image, runtime = open_field(open_dock)
    first = first_shown(dock, runtime)
    dock.session.auto_segment()
    dock.until(lambda: first)
    rows, columns = np.nonzero(first[0])
    assert rows.min() > 1300
    assert columns.min() > 1200
    dock.session.cancel()
    runtime.gate.set()
    dock.until(lambda: not dock.session.auto.running)
    count = dock.session.proposals.count
    assert 50 < count < 26 * 25
    assert len(np.unique(values(dock))) == count + 1

    at = tuple(np.argwhere(values(dock))[0])
    dock.session.proposals.accept_all()
    labels = dock.session.target.data
    assert len(np.unique(labels)) == count + 1
    assert labels[at]
    assert not values(dock).any()
    dock.session.undo()
    assert not labels.any()
    assert len(np.unique(values(dock))) == count + 1
    # Zooming out shows all of it, painted more coarsely.
    dock.viewer.fit_to_view()
    dock.until(lambda: image.corner_pixels[0, 0] < 100)
    dock.session.proposals.discard()
    assert not values(dock).any()


def test_only_the_view_of_a_large_plane_is_searched(open_dock: OpenDockFactory) -> None:
    dock, image, _ = open_field(open_dock)
    top, left = image.corner_pixels[0]
    dock.session.auto.set_region(Region.VIEW)
    dock.session.auto_segment()
    dock.until(lambda: dock.session.proposals.count > 0)
    dock.session.auto.set_region(Region.PLANE)
    rows, columns = np.nonzero(values(dock))
    assert rows.min() > top - 50
    assert columns.min() > left - 50


@pytest.mark.parametrize("how", ["image", "dock"])
def test_the_image_or_the_dock_goes_in_the_middle(
    open_dock: OpenDockFactory, how: str
) -> None:
    dock, image, runtime = open_field(open_dock)
    first = first_shown(dock, runtime)
    dock.session.auto_segment()
    dock.until(lambda: first)
    session = dock.session
    if how == "image":
        dock.viewer.layers.remove(image)
    else:
        frame = dock.widget.parent()
        while not isinstance(frame, QDockWidget):
            frame = frame.parent()
        frame.destroyOnClose()  # its X
    runtime.gate.set()
    dock.until(lambda: not session.auto.running)
    dock.until(lambda: PROPOSED not in dock.viewer.layers)
