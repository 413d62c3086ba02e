"""From the mouse on the canvas to a label in the right place, in a real viewer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Labels
from qtpy.QtCore import Qt

import napari_tinysam
from fake_predictor import RADII
from napari_tinysam.ui.state.mode import Mode

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl

SHIFT = Qt.KeyboardModifier.ShiftModifier
CONTROL = Qt.KeyboardModifier.ControlModifier
Key = Qt.Key

TURNED: dict[str, Any] = {
    "scale": (0.5, 0.25),
    "translate": (30.0, -12.0),
    "rotate": 30.0,
}


def disc_radius(image: np.ndarray) -> float:
    """Radius, in pixels of an image, of the predictor's best disc."""
    return RADII[1] * max(image.shape[-2:]) / 256


def assert_disc(labels: np.ndarray, label: int, yx: tuple[float, float]) -> None:
    """The label is the predictor's disc around a position, in pixels of the plane."""
    ys, xs = np.nonzero(labels == label)
    assert ys.size, f"label {label} is nowhere"
    radius = disc_radius(labels)
    assert np.allclose((ys.mean(), xs.mean()), yx, atol=1.0)
    assert np.isclose(ys.size, np.pi * radius**2, rtol=0.1)


def click_and_commit(dock: OpenDock, image: Image, position: tuple[float, ...]) -> None:
    dock.mouse.click(image, position)
    dock.until(lambda: dock.session.candidate_scores)
    dock.mouse.key(Key.Key_C)


@pytest.mark.parametrize("transform", [{}, TURNED], ids=["plain", "turned"])
def test_hover_click_commit_undo_redo(
    open_dock: OpenDockFactory, blobs: np.ndarray, transform: dict[str, Any]
) -> None:
    image = Image(blobs, name="cells", **transform)
    dock = open_dock(image)
    at = (120.0, 80.0)

    dock.mouse.move(image, at)
    dock.until(dock.shows_preview)
    assert not dock.session.can_commit

    dock.mouse.click(image, at)
    dock.until(lambda: dock.session.candidate_scores)
    assert dock.session.can_commit
    assert dock.session.candidate == 1
    preview = dock.preview
    vertices = preview.data[0]
    middle = preview.data_to_world((vertices.min(axis=0) + vertices.max(axis=0)) / 2)
    assert np.allclose(image.world_to_data(middle), at, atol=1.5)

    dock.mouse.key(Key.Key_C)
    labels = dock.session.target
    assert np.allclose(labels.data_to_world(at), image.data_to_world(at))
    assert labels.data.shape == blobs.shape
    assert_disc(labels.data, 1, at)
    assert not dock.shows_preview()

    dock.mouse.key(Key.Key_Z, CONTROL)
    assert not labels.data.any()
    dock.until(dock.shows_preview)  # the click is back
    dock.mouse.key(Key.Key_Z, CONTROL)
    assert not dock.session.can_undo
    for _ in range(2):
        dock.mouse.key(Key.Key_Z, CONTROL | SHIFT)
    assert_disc(labels.data, 1, at)


def test_every_kind_of_prompt(open_dock: OpenDockFactory, blobs: np.ndarray) -> None:
    image = Image(blobs)
    dock = open_dock(image)
    draft = lambda: dock.session.drafts.current  # noqa: E731

    dock.mouse.click(image, (60, 60))
    dock.mouse.click(image, (64, 64), keys=CONTROL)
    dock.mouse.click(image, (56, 56), button=Qt.MouseButton.RightButton)
    assert [point.label for point in draft().points] == [1, 0, 0]
    dock.mouse.key(Key.Key_T)
    dock.mouse.click(image, (50, 50))
    assert draft().points[-1].label == 0
    dock.mouse.key(Key.Key_T)

    dock.mouse.drag(image, (100, 100), (150, 180), keys=SHIFT)
    box = draft().box
    assert box is not None
    assert np.allclose(box, (100, 100, 180, 150), atol=2)

    dock.mouse.key(Key.Key_C, SHIFT)
    assert not dock.session.can_clear


def test_two_objects_in_one_commit(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    image = Image(blobs)
    dock = open_dock(image)

    dock.mouse.click(image, (60, 60))
    dock.until(lambda: dock.session.candidate_scores)
    dock.mouse.key(Key.Key_N)
    dock.mouse.click(image, (140, 220))
    dock.until(lambda: dock.session.candidate_scores)
    assert dock.widget.prompts.commit.text() == "Commit 2 objects"
    dock.mouse.key(Key.Key_C)

    labels = dock.session.target.data
    assert_disc(labels, 1, (60, 60))
    assert_disc(labels, 2, (140, 220))


def test_tab_and_w_go_through_the_candidates(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    image = Image(blobs)
    dock = open_dock(image)
    dock.viewer.window.activate()
    dock.mouse.click(image, (60, 60))
    dock.until(dock.shows_preview)
    assert dock.session.candidate == 1
    dock.mouse.native.setFocus()
    dock.until(dock.mouse.native.hasFocus)

    dock.mouse.key(Key.Key_Tab)
    assert dock.session.candidate == 2
    assert dock.mouse.native.hasFocus()
    dock.mouse.key(Key.Key_W)
    assert dock.session.candidate == 0
    assert dock.widget.prompts.candidates.slider.value() == 0


def test_pan_and_zoom_are_left_to_napari(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    image = Image(blobs)
    dock = open_dock(image)
    centre = dock.viewer.scene.camera.center

    dock.mouse.drag(image, (60, 60), (100, 100))

    dock.until(lambda: dock.viewer.scene.camera.center != centre)
    assert not dock.session.can_clear


def test_two_quick_clicks_edit_an_object_and_do_not_zoom(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    image = Image(blobs)
    dock = open_dock(image)
    zoom = dock.viewer.scene.camera.zoom

    dock.mouse.double_click(image, (100, 150))
    dock.until(dock.shows_preview)
    assert dock.session.object_count == 1
    assert len(dock.session.drafts.current.points) == 1
    assert dock.viewer.scene.camera.zoom == zoom

    dock.session.commit()
    dock.mouse.double_click(image, (100, 150))  # what "click it once more" asks for
    assert dock.session.edited_id == 1
    assert not dock.session.drafts.current.points
    assert dock.viewer.scene.camera.zoom == zoom

    dock.session.set_active(False)
    dock.mouse.double_click(image, (100, 150))
    assert dock.viewer.scene.camera.zoom == 2 * zoom


def test_a_quick_click_on_the_next_plane_is_one(open_dock: OpenDockFactory) -> None:
    image = Image(np.random.default_rng(0).integers(0, 255, (3, 200, 300), np.uint8))
    dock = open_dock(image)
    dock.viewer.dims.set_current_step(0, 0)
    dock.mouse.click(image, (0, 100, 150))
    dock.session.commit()
    dock.viewer.dims.set_current_step(0, 1)
    dock.mouse.second_click(image, (1, 100, 150))
    dock.session.commit()
    dock.until(
        lambda: (
            dock.session.target is not None
            and [int(plane.max()) > 0 for plane in dock.session.target.data]
            == [True, True, False]
        )
    )


def test_a_stack_in_four_dimensions(open_dock: OpenDockFactory) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 2, 120, 160), np.uint8)
    image = Image(stack, scale=(1, 2, 0.5, 0.5), translate=(0, 4, 10, 20))
    dock = open_dock(image)
    dock.viewer.dims.set_current_step((0, 1), (2, 1))
    dock.until_ready()
    at = (2, 1, 40, 100)

    dock.mouse.move(image, at)
    dock.until(dock.shows_preview)
    click_and_commit(dock, image, at)

    labels = dock.session.target
    assert labels.data.shape == stack.shape
    assert np.allclose(labels.scale, image.scale)
    assert_disc(labels.data[2, 1], 1, (40, 100))
    labels.data[2, 1] *= 0  # nothing on any other plane
    assert not labels.data.any()


def test_undo_goes_back_to_the_plane_of_the_step(open_dock: OpenDockFactory) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (20, 100, 100), np.uint8)
    image = Image(stack)
    dock = open_dock(image)
    dock.viewer.dims.set_current_step(0, 3)
    dock.until_ready()
    click_and_commit(dock, image, (3, 50, 50))
    dock.viewer.dims.set_current_step(0, 7)

    dock.mouse.key(Key.Key_Z, CONTROL)

    assert dock.viewer.dims.current_step[0] == 3
    assert not dock.session.target.data.any()


def test_clicks_before_the_embedding_are_answered_after_it(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    gate = threading.Event()
    image = Image(blobs)
    dock = open_dock(image, gate=gate, wait=False)
    dock.until(dock.runtime.encoding.is_set)

    dock.mouse.click(image, (60, 60))
    assert not dock.session.candidate_scores
    gate.set()

    dock.until(lambda: dock.session.candidate_scores)
    assert dock.shows_preview()


def test_a_commit_before_the_masks_takes_only_what_was_there(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    gate = threading.Event()
    image = Image(blobs)
    dock = open_dock(image, gate=gate, wait=False)
    dock.until(dock.runtime.encoding.is_set)

    for at in ((60, 60), (140, 220)):
        dock.mouse.click(image, at)
        dock.mouse.key(Key.Key_C)
    dock.mouse.click(image, (60, 220))
    gate.set()

    dock.until(lambda: dock.session.candidate_scores)
    labels = dock.session.target.data
    assert_disc(labels, 1, (60, 60))
    assert_disc(labels, 2, (140, 220))
    assert labels[60, 220] == 0
    assert dock.session.object_count == 1
    dock.mouse.key(Key.Key_C)
    assert labels[60, 220] == 3


def test_edit_delete_merge_and_split_an_object(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    image = Image(blobs)
    ids = np.zeros(blobs.shape, np.int32)
    ids[20:60, 20:60] = 5
    ids[20:60, 70:110] = 6
    ids[120:160, 20:60] = 7
    labels = Labels(ids, name="by another tool")
    dock = open_dock(image, labels)
    dock.viewer.layers.selection.active = image
    session, edit = dock.session, dock.widget.edit
    assert session.target is labels  # the only one that fits
    dock.widget.output.labels.setCurrentIndex(0)
    dock.widget.output.labels.activated.emit(0)
    assert not edit.edit.isEnabled()
    dock.widget.output.labels.setCurrentIndex(1)
    dock.widget.output.labels.activated.emit(1)
    assert session.target is labels

    dock.qtbot.mouseClick(edit.edit, Qt.MouseButton.LeftButton)
    dock.mouse.click(image, (40, 40))
    assert session.edited_id == 5
    assert edit.delete.isEnabled()

    dock.qtbot.mouseClick(edit.merge, Qt.MouseButton.LeftButton)
    assert edit.merge.isChecked()
    dock.mouse.click(image, (40, 90))
    assert set(np.unique(labels.data)) == {0, 5, 7}

    dock.qtbot.mouseClick(edit.edit, Qt.MouseButton.LeftButton)
    if session.mode is not Mode.EDIT:
        dock.qtbot.mouseClick(edit.edit, Qt.MouseButton.LeftButton)
    dock.mouse.click(image, (40, 40))
    dock.qtbot.mouseClick(edit.split, Qt.MouseButton.LeftButton)
    assert len(np.unique(labels.data)) == 4  # background, two parts, 7

    session.set_edit_mode(True)
    dock.mouse.click(image, (140, 40))
    assert session.edited_id == 7
    dock.qtbot.mouseClick(edit.delete, Qt.MouseButton.LeftButton)
    assert 7 not in labels.data
    dock.mouse.key(Key.Key_Z, CONTROL)
    assert (labels.data[120:160, 20:60] == 7).all()


def test_refining_an_object_keeps_its_id(
    open_dock: OpenDockFactory, blobs: np.ndarray
) -> None:
    image = Image(blobs)
    ids = np.zeros(blobs.shape, np.int32)
    ids[20:60, 20:60] = 5
    dock = open_dock(image, Labels(ids, name="cells"))
    dock.viewer.layers.selection.active = image
    dock.session.set_target(dock.viewer.layers["cells"])
    dock.session.set_edit_mode(True)

    dock.mouse.click(image, (40, 40))
    dock.mouse.click(image, (40, 120))  # what is missing
    dock.until(lambda: dock.session.candidate_scores)
    assert dock.widget.prompts.commit.text() == "Commit object 5"
    dock.mouse.key(Key.Key_C)

    labels = dock.viewer.layers["cells"].data
    assert set(np.unique(labels)) == {0, 5}
    assert labels[40, 120] == 5


def test_the_bundled_model_finds_a_nucleus(make_napari_viewer: Any, qtbot: Any) -> None:
    """The whole way, with the model that comes with the package."""
    from canvas_mouse import CanvasMouse
    from napari_tinysam.ui.contributions.samples import synthetic_nuclei
    from napari_tinysam.ui.dock.widget import TinySAMWidget

    weights = Path(napari_tinysam.__file__).parent / "weights" / "default.safetensors"
    assert weights.is_file()
    movie, known = synthetic_nuclei((1, 12, 256, 256))
    plane, truth = movie[0, 6], known[0, 6]
    label = int(np.bincount(truth[truth > 0]).argmax())
    ys, xs = np.nonzero(truth == label)
    at = (float(ys.mean()), float(xs.mean()))
    viewer = make_napari_viewer(show=True)
    image = viewer.add_image(plane)
    widget = TinySAMWidget(viewer)
    viewer.window.add_dock_widget(widget, area="right")
    session = widget.session
    qtbot.waitUntil(lambda: session.status.kind.name == "READY", timeout=120_000)
    mouse = CanvasMouse(viewer)

    mouse.click(image, at)
    qtbot.waitUntil(lambda: bool(session.candidate_scores), timeout=60_000)
    mouse.key(Key.Key_C)

    found = session.target.data == 1
    union = (found | (truth == label)).sum()
    assert (found & (truth == label)).sum() / union > 0.5
