"""What clicks, keys and buttons do, on a ViewerModel: no window, no thread, discs for masks."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Image, Labels

from desk import Desk, open_desk
from fake_inference import ImmediateInference, SteppedInference
from fake_predictor import disc_predictor
from napari_tinysam.errors import DamagedModelError
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.labels import Overlap
from napari_tinysam.prompts import NEGATIVE, POSITIVE
from napari_tinysam.ui.session.embedding import embedder
from napari_tinysam.ui.session.facade import AnnotationSession, StatusKind, session_of
from napari_tinysam.ui.session.hints import hint
from napari_tinysam.ui.session.worker import Lane
from napari_tinysam.ui.state.mode import Mode
from napari_tinysam.ui.state.planes import Contrast


def noise(*shape: int, **options: Any) -> Image:
    return Image(np.random.default_rng(1).random(shape), name="cells", **options)


@pytest.fixture
def desk() -> Desk:
    return open_desk(noise(200, 300))


def test_hovering_shows_a_mask_and_leaves_no_trace(desk: Desk) -> None:
    desk.session.hover_at(desk.world(100, 80))
    assert set(desk.preview_pixels()) == {"hover"}
    assert not desk.session.can_undo
    desk.session.hover_at(desk.world(-40, 80))  # beside the image
    assert not desk.preview_pixels()


def test_hover_can_be_switched_off(desk: Desk) -> None:
    desk.session.set_hover_enabled(False)
    desk.session.hover_at(desk.world(100, 80))
    assert not desk.preview_pixels()


def test_clicking_what_is_hovered_needs_no_second_prediction(desk: Desk) -> None:
    desk.session.hover_at(desk.world(100, 80))
    decoded = []
    desk.runtime.decode = lambda *a, **k: decoded.append(a)  # type: ignore[method-assign]
    desk.click(100, 80)
    assert not decoded
    assert set(desk.preview_pixels()) == {"current"}


def test_click_commit_undo_redo(desk: Desk) -> None:
    desk.click(100, 80)
    assert desk.session.candidate_scores == pytest.approx((0.6, 0.9, 0.7))
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    assert labels.name == "cells committed_objects"
    committed = labels.data.copy()
    assert committed[80, 100] == 1
    assert committed[80, 200] == 0
    assert not desk.preview_pixels()
    desk.session.undo()
    assert not labels.data.any()
    assert desk.session.object_count == 1  # the prompt is back
    assert set(desk.preview_pixels()) == {"current"}
    desk.session.undo()
    assert desk.session.object_count == 0
    assert not desk.session.can_undo
    desk.session.redo()
    desk.session.redo()
    np.testing.assert_array_equal(labels.data, committed)


def test_the_mask_lies_where_it_was_clicked_whatever_the_layer_transform() -> None:
    image = noise(
        200,
        300,
        scale=(0.5, 0.25),
        rotate=30,
        translate=(10, -20),
        shear=[0.2],
        affine=[[0, -1, 3], [1, 0, 4], [0, 0, 1]],
        units=("um", "um"),
    )
    desk = open_desk(image)
    desk.click(220, 60)
    preview = desk.viewer.layers["current_object"]
    vertices = preview.data[0]
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    centre = preview.data_to_world(middle)
    np.testing.assert_allclose(centre, desk.world(220, 60), atol=0.5)
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    for name in ("scale", "translate", "shear"):
        np.testing.assert_allclose(getattr(labels, name), getattr(image, name))
    np.testing.assert_allclose(labels.rotate, image.rotate)
    np.testing.assert_allclose(labels.affine.affine_matrix, image.affine.affine_matrix)
    assert labels.units == image.units
    assert labels.get_value(desk.world(220, 60), world=True) == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_the_plane_that_is_shown_is_the_one_segmented(order: tuple[int, ...]) -> None:
    desk = open_desk(noise(40, 60, 80, scale=(3, 1, 2)))
    desk.viewer.dims.order = order
    hidden, down, across = order
    desk.viewer.dims.set_current_step(hidden, 7)
    desk.click(30, 20)
    preview = desk.viewer.layers["current_object"]
    vertices = preview.data[0]
    assert set(vertices[:, hidden]) == {7}
    assert abs(vertices[:, down].mean() - 20) < 1
    assert abs(vertices[:, across].mean() - 30) < 1
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    where = np.argwhere(labels.data)
    assert set(where[:, hidden]) == {7}
    assert abs(where[:, down].mean() - 20) < 1
    assert abs(where[:, across].mean() - 30) < 1


def test_drafts_stay_on_their_plane_and_undo_goes_back_there() -> None:
    desk = open_desk(noise(2, 3, 60, 80))
    desk.viewer.dims.set_current_step(0, 1)
    desk.viewer.dims.set_current_step(1, 2)
    desk.click(40, 30)
    desk.viewer.dims.set_current_step(1, 0)
    assert desk.session.object_count == 0
    assert not desk.preview_pixels()
    desk.click(20, 20)
    desk.session.commit()
    desk.session.undo()
    desk.session.undo()
    desk.session.undo()  # the point on the other plane
    assert desk.viewer.dims.current_step[:2] == (1, 2)
    assert desk.session.object_count == 0
    desk.session.redo()
    assert desk.session.object_count == 1


def test_embeddings_of_visited_planes_are_kept() -> None:
    desk = open_desk(noise(3, 60, 80))
    for z in (0, 1, 2, 1, 0):
        desk.viewer.dims.set_current_step(0, z)
    # The middle plane was shown first.
    assert len(desk.runtime.encoded) == 3


def test_changed_data_are_embedded_again(desk: Desk) -> None:
    desk.image.data = np.zeros((200, 300))
    assert len(desk.runtime.encoded) == 2


def test_contrast_as_displayed_follows_the_layer(desk: Desk) -> None:
    desk.session.set_contrast(Contrast.DISPLAYED)
    assert len(desk.runtime.encoded) == 2
    desk.image.contrast_limits = (0.2, 0.4)
    assert len(desk.runtime.encoded) == 3
    desk.session.set_contrast(Contrast.PERCENTILES)
    desk.image.contrast_limits = (0.1, 0.9)
    assert len(desk.runtime.encoded) == 3


def test_negative_points_and_the_sign(desk: Desk) -> None:
    desk.click(100, 80)
    before = sum(desk.preview_pixels().values())
    desk.click(104, 80, NEGATIVE)
    assert sum(desk.preview_pixels().values()) < before
    desk.session.toggle_sign()
    assert desk.session.sign == NEGATIVE
    desk.click(96, 80)
    assert [p.label for p in desk.session.drafts.current.points] == [1, 0, 0]
    desk.session.toggle_sign()
    assert desk.session.sign == POSITIVE


def test_a_negative_point_alone_asks_for_nothing(desk: Desk) -> None:
    desk.click(100, 80, NEGATIVE)
    assert not desk.session.can_commit
    desk.session.commit()
    assert desk.session.target is None
    assert desk.told[-1][0] == "info"


def test_box_then_click_refines_the_same_object(desk: Desk) -> None:
    desk.box(120, 90, 60, 50)  # dragged from the lower right
    assert desk.session.drafts.current.box == (60, 50, 120, 90)
    desk.click(90, 70)
    assert desk.session.object_count == 1
    desk.session.commit()
    assert desk.ids == [1]


def test_a_box_is_held_inside_the_image(desk: Desk) -> None:
    desk.box(-50, -20, 1000, 90)
    assert desk.session.drafts.current.box == (0, 0, 299, 90)


def test_next_object_keeps_the_last_one_until_commit(desk: Desk) -> None:
    desk.click(60, 50)
    desk.session.next_object()
    desk.click(200, 120)
    assert desk.session.object_count == 2
    desk.session.commit()
    assert desk.ids == [1, 2]
    desk.session.undo()
    assert desk.ids == []
    assert desk.session.object_count == 2


def test_candidates_go_from_small_to_large_and_can_be_undone(desk: Desk) -> None:
    desk.click(100, 80)
    assert desk.session.candidate == 1
    sizes = []
    for candidate in (0, 1, 2):
        desk.session.set_candidate(candidate)
        sizes.append(sum(desk.preview_pixels().values()))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
    desk.session.cycle_candidate()
    assert desk.session.candidate == 0
    desk.session.undo()
    assert desk.session.candidate == 2
    desk.session.commit()
    assert np.count_nonzero(desk.session.target.data) == sizes[2]  # type: ignore[union-attr]


def test_objects_begin_with_the_mask_that_was_chosen_for_two(desk: Desk) -> None:
    begins = []
    for x in (60, 110, 160):
        desk.click(x, 80)
        begins.append(desk.session.candidate)
        desk.session.set_candidate(2)
        desk.session.commit()
    assert begins == [1, 1, 2]
    largest = np.count_nonzero(desk.session.target.data == 3)  # type: ignore[union-attr]
    # The preview shows what a click gives.
    desk.session.hover_at(desk.world(220, 40))
    assert desk.preview_pixels()["hover"] == largest
    desk.click(220, 40)
    assert desk.session.candidate == 2
    # A second click asks anew, and so does an object after which another mask was taken.
    desk.click(222, 41)
    assert desk.session.candidate == 1
    desk.session.undo()
    assert desk.session.candidate == 2
    desk.session.set_candidate(0)
    desk.session.commit()
    desk.click(40, 40)
    assert desk.session.candidate == 1


def test_another_model_begins_without_habits(desk: Desk) -> None:
    for x in (60, 110):
        desk.click(x, 80)
        desk.session.set_candidate(2)
        desk.session.commit()
    desk.session.set_model("tinysam")
    desk.click(160, 80)
    assert desk.session.candidate == 1


def test_segment_takes_the_mask_under_the_cursor(desk: Desk) -> None:
    desk.session.segment()
    assert desk.told[-1][0] == "info"
    desk.session.hover_at(desk.world(100, 80))
    desk.session.segment()
    assert desk.session.object_count == 1


def test_clear_is_undoable(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.clear()
    assert not desk.preview_pixels()
    assert not desk.session.can_clear
    desk.session.undo()
    assert desk.preview_pixels()


@pytest.mark.parametrize(
    ("overlap", "expected"), [(Overlap.NEVER, 1), (Overlap.REPLACE, 2)]
)
def test_objects_that_are_there(desk: Desk, overlap: Overlap, expected: int) -> None:
    desk.click(100, 80)
    desk.session.commit()
    assert desk.session.target is not None
    desk.session.set_overlap(overlap)
    radius = round(np.sqrt(np.count_nonzero(desk.session.target.data) / np.pi))
    desk.click(100 + radius + 3, 80)
    desk.session.commit()
    assert desk.session.target.data[80, 100 + radius - 2] == expected
    assert desk.ids == [1, 2]


def test_merge_into_the_selected_label(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    desk.session.set_overlap(Overlap.MERGE)
    assert desk.session.target is not None
    desk.session.target.selected_label = 1
    area = np.count_nonzero(desk.session.target.data)
    desk.click(106, 80)
    desk.session.commit()
    assert desk.ids == [1]
    assert np.count_nonzero(desk.session.target.data) > area


def test_nothing_is_lost_when_everything_is_covered(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    desk.box(95, 75, 105, 85)
    desk.session.commit()
    assert desk.ids == [1]
    assert desk.told[-1][0] == "warning"
    assert "object 1 is there already" in desk.told[-1][1]
    assert desk.session.object_count == 1  # the prompts are still there


def test_labels_of_another_tool_are_used_and_kept() -> None:
    others = np.zeros((200, 300), np.uint8)
    others[10:20, 10:20] = 41
    desk = open_desk(noise(200, 300, scale=(2, 2)), Labels(others, name="stardist"))
    desk.session.set_target(desk.viewer.layers["stardist"])
    desk.click(100, 80)
    desk.session.commit()
    assert desk.ids == [41, 42]


def on_disk(kind: str, shape: tuple[int, ...]) -> Any:
    if kind == "numpy":
        return np.zeros(shape, np.uint32)
    chunks = (1,) * (len(shape) - 2) + (64, 64)
    if kind == "dask":
        return dask.array.zeros(shape, dtype=np.uint32, chunks=chunks)
    return zarr.create_array({}, shape=shape, dtype="uint32", chunks=chunks)


@pytest.mark.parametrize("shape", [(200, 300), (3, 200, 300)])
@pytest.mark.parametrize("kind", ["numpy", "zarr", "dask"])
def test_labels_of_any_kind_of_array_take_objects(
    kind: str, shape: tuple[int, ...]
) -> None:
    desk = open_desk(noise(*shape))
    labels = desk.viewer.add_labels(on_disk(kind, shape), name="mine")
    at = tuple(desk.viewer.dims.current_step[:-2])
    labels.paint((*at, 5, 5), 7)
    desk.session.set_target(labels)
    before = np.array(labels.data)
    desk.click(100, 80)
    desk.session.commit()
    first = np.array(labels.data)
    plane = first[at]
    assert plane[80, 100] == 8  # one more than what was painted
    assert (plane == 8).sum() > 100
    assert (first != before).sum() == (plane == 8).sum()
    # What is shown is what is written.
    shown = np.asarray(labels._slice.image.raw)
    np.testing.assert_array_equal(shown, plane)
    desk.click(200, 80)
    desk.session.commit()
    assert np.array(labels.data).max() == 9
    for _ in range(4):
        desk.session.undo()
    np.testing.assert_array_equal(np.array(labels.data), before)
    for _ in range(4):
        desk.session.redo()
    assert set(np.unique(np.array(labels.data))) == {0, 7, 8, 9}


def test_a_full_type_is_refused_not_wrapped() -> None:
    others = np.zeros((200, 300), np.uint8)
    others[0, 0] = 255
    desk = open_desk(noise(200, 300), Labels(others, name="full"))
    desk.session.set_target(desk.viewer.layers["full"])
    desk.click(100, 80)
    desk.session.commit()
    assert desk.told[-1][0] == "warning"
    assert "uint8" in desk.told[-1][1]
    assert desk.ids == [255]


@pytest.mark.parametrize("shape", [(100, 300), (2, 200, 300)])
def test_labels_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    desk = open_desk(noise(200, 300), Labels(np.zeros(shape, int), name="other"))
    desk.session.set_target(desk.viewer.layers["other"])
    desk.click(100, 80)
    desk.session.commit()
    assert desk.told[-1][0] == "warning"
    assert not desk.viewer.layers["other"].data.any()


def test_ids_are_never_given_out_twice(desk: Desk) -> None:
    desk.click(60, 50)
    desk.session.commit()
    desk.click(200, 120)
    desk.session.commit()
    desk.session.set_edit_mode(True)
    desk.click(200, 120)
    desk.session.delete_object()
    desk.session.set_edit_mode(False)
    desk.click(200, 50)
    desk.session.commit()
    assert desk.ids == [1, 3]


def test_ids_follow_what_the_user_paints(desk: Desk) -> None:
    desk.click(60, 50)
    desk.session.commit()
    assert desk.session.target is not None
    desk.session.target.data_setitem((np.array([5]), np.array([5])), 17)
    desk.click(200, 120)
    desk.session.commit()
    assert desk.ids == [1, 17, 18]


@pytest.mark.parametrize("by_brush", [False, True])
def test_painting_is_a_step_like_any_other(desk: Desk, by_brush: bool) -> None:
    desk.click(100, 80)
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    committed = labels.data.copy()
    if by_brush:
        labels.brush_size = 6
        labels.paint((20, 100), 9)
    else:
        labels.data_setitem((np.array([20]), np.array([100])), 9)
    painted = labels.data.copy()
    assert desk.session.undo_text == "painting"
    desk.session.undo()
    np.testing.assert_array_equal(labels.data, committed)
    desk.session.undo()
    assert not labels.data.any()
    desk.session.redo()
    desk.session.redo()
    np.testing.assert_array_equal(labels.data, painted)


def test_a_stroke_of_several_dabs_is_one_step(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    committed = labels.data.copy()
    labels.brush_size = 6
    with labels.block_history():
        for x in (100, 104, 130):
            labels.paint((20, x), 9)
    painted = labels.data.copy()
    desk.session.undo()
    np.testing.assert_array_equal(labels.data, committed)
    desk.session.redo()
    np.testing.assert_array_equal(labels.data, painted)


def test_painting_that_naparis_undo_took_back_is_no_step(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    labels.paint((20, 100), 9)
    labels.undo()  # napari's own
    desk.session.undo()
    assert not labels.data.any()


def test_napari_undo_and_ours_do_not_fight(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    labels.undo()
    assert not labels.data.any()
    desk.session.undo()
    assert not labels.data.any()
    assert desk.session.object_count == 1
    desk.session.redo()
    assert desk.ids == [1]


def committed_desk() -> Desk:
    """Two objects: 1 on the left, 2 on the right."""
    desk = open_desk(noise(200, 300))
    for x in (60, 200):
        desk.click(x, 80)
        desk.session.commit()
    desk.session.set_edit_mode(True)
    return desk


def test_editing_keeps_the_id_and_the_neighbours() -> None:
    desk = committed_desk()
    labels = desk.session.target
    assert labels is not None
    area = np.count_nonzero(labels.data == 1)
    desk.click(60, 80)
    assert desk.session.edited_id == 1
    assert sum(desk.preview_pixels().values()) == area  # the object itself, so far
    desk.click(72, 80)
    desk.session.commit()
    assert desk.ids == [1, 2]
    assert np.count_nonzero(labels.data == 1) > area
    desk.session.undo()
    assert np.count_nonzero(labels.data == 1) == area


def test_editing_can_shrink_an_object() -> None:
    desk = committed_desk()
    labels = desk.session.target
    assert labels is not None
    area = np.count_nonzero(labels.data == 1)
    desk.click(60, 80)
    desk.click(66, 80, NEGATIVE)
    desk.session.commit()
    assert 0 < np.count_nonzero(labels.data == 1) < area


def test_edit_mode_wants_an_object() -> None:
    desk = committed_desk()
    desk.click(130, 150)
    assert not desk.session.can_edit
    assert desk.told[-1][0] == "info"


def test_delete_and_its_undo() -> None:
    desk = committed_desk()
    desk.click(200, 80)
    desk.session.delete_object()
    assert desk.ids == [1]
    desk.session.undo()
    assert desk.ids == [1, 2]


def test_merge_two_objects() -> None:
    desk = committed_desk()
    labels = desk.session.target
    assert labels is not None
    total = np.count_nonzero(labels.data)
    desk.click(60, 80)
    desk.session.merge_objects()
    assert desk.session.mode is Mode.MERGE
    desk.click(200, 80)
    assert desk.ids == [1]
    assert np.count_nonzero(labels.data) == total
    assert desk.session.mode is Mode.EDIT
    desk.session.undo()
    assert desk.ids == [1, 2]


def test_split_pieces_and_by_clicks() -> None:
    desk = committed_desk()
    labels = desk.session.target
    assert labels is not None
    desk.click(60, 80)
    desk.session.split_object()  # one disc
    assert desk.told[-1][0] == "warning"
    desk.click(56, 80)
    desk.click(64, 80)
    desk.session.split_object()
    assert desk.ids == [1, 2, 3]
    assert labels.data[80, 56] != labels.data[80, 64]
    desk.session.undo()
    assert desk.ids == [1, 2]


def test_a_dumbbell_is_split_at_its_waist() -> None:
    ys, xs = np.mgrid[:200, :300]
    two = (np.hypot(ys - 100, xs - 100) < 30) | (np.hypot(ys - 100, xs - 150) < 30)
    desk = open_desk(noise(200, 300), Labels(two.astype(np.uint16), name="touching"))
    desk.session.set_target(desk.viewer.layers["touching"])
    desk.session.set_edit_mode(True)
    desk.click(100, 100)
    desk.session.split_object()
    assert desk.ids == [1, 2]
    data = desk.viewer.layers["touching"].data
    assert data[100, 90] != data[100, 160]
    assert np.count_nonzero(data) == two.sum()


def test_prompt_layers_show_clicks_and_are_read() -> None:
    desk = open_desk(noise(3, 200, 300))
    desk.click(60, 50)
    points = desk.viewer.layers["point_prompts"]
    assert points.data.tolist() == [[1, 50, 60]]
    assert points.features["label"].tolist() == ["positive"]
    desk.session.toggle_sign()
    points.add([[1, 50, 66]])
    assert [p.label for p in desk.session.drafts.current.points] == [1, 0]
    assert [str(symbol) for symbol in points.symbol] == ["cross", "hbar"]
    points.selected_data = {0}
    points.remove_selected()
    assert [p.label for p in desk.session.drafts.current.points] == [0]
    desk.session.undo()
    assert len(points.data) == 2


def test_several_boxes_in_the_shapes_layer_are_several_objects() -> None:
    desk = open_desk(noise(200, 300))
    desk.session.make_prompt_layers()
    boxes = desk.viewer.layers["prompts"]
    for x in (20, 100, 180):
        boxes.add_rectangles([np.array([[40, x], [40, x + 50], [80, x + 50], [80, x]])])
    assert desk.session.object_count == 3
    desk.click(125, 60)  # belongs to the box around it
    assert [len(d.points) for d in desk.session.drafts.objects] == [0, 0, 1]
    desk.session.commit()
    assert desk.ids == [1, 2, 3]
    assert len(boxes.data) == 0
    desk.session.undo()
    assert len(boxes.data) == 3


def test_rgb_and_multiscale() -> None:
    rng = np.random.default_rng(0)
    rgb = Image(rng.integers(0, 255, (60, 80, 3), np.uint8), rgb=True)
    desk = open_desk(rgb)
    desk.click(40, 30)
    desk.session.commit()
    assert desk.session.target is not None
    assert desk.session.target.data.shape == (60, 80)
    pyramid = [rng.random((4096, 4096), np.float32)]
    pyramid += [pyramid[0][:: 2**i, :: 2**i] for i in (1, 2, 3)]
    desk = open_desk(Image(pyramid, multiscale=True))
    assert set(desk.runtime.encoded) == {(1024, 1024, 3)}
    desk.click(3000, 1000)
    desk.session.commit()
    assert desk.session.target is not None
    assert desk.session.target.data.shape == (4096, 4096)
    ys, xs = np.nonzero(desk.session.target.data)
    np.testing.assert_allclose((ys.mean(), xs.mean()), (1000, 3000), atol=8)


def test_a_channel_axis_gives_objects_to_all_channels() -> None:
    desk = open_desk(noise(2, 60, 80, axis_labels=("c", "y", "x")))
    assert desk.session.channel == 0
    desk.click(40, 30)
    desk.session.set_channel(1)
    assert len(desk.runtime.encoded) == 2
    assert desk.session.object_count == 1  # the drafts are the same
    desk.session.commit()
    assert desk.session.target is not None
    assert desk.session.target.data.shape == (60, 80)


def test_3d_view_says_so_and_does_nothing() -> None:
    desk = open_desk(noise(3, 60, 80))
    position = desk.world(40, 30)
    desk.viewer.dims.ndisplay = 3
    assert desk.session.status.kind is StatusKind.VIEW_3D
    desk.session.hover_at(position)
    desk.session.click_at(position)
    assert desk.session.object_count == 0
    desk.viewer.dims.ndisplay = 2
    assert desk.session.status.kind is StatusKind.READY


def test_clicks_before_the_embedding_are_answered_when_it_is_there() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference)
    assert desk.session.status.kind is StatusKind.LOADING_MODEL
    desk.click(100, 80)
    desk.session.commit()  # impatient: it is written as soon as there is a mask
    inference.step()
    assert desk.session.status.kind is StatusKind.EMBEDDING
    inference.run_all()
    assert desk.ids == [1]


def test_an_embedding_that_comes_too_late_is_kept_but_not_shown() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(3, 60, 80), inference=inference)
    inference.step()
    deliver = inference.start()  # of the middle plane
    desk.viewer.dims.set_current_step(0, 0)
    deliver()
    assert desk.session.status.kind is StatusKind.EMBEDDING
    inference.run_all()
    assert desk.session.status.kind is StatusKind.READY
    desk.viewer.dims.set_current_step(0, 1)
    assert desk.session.status.kind is StatusKind.READY
    assert len(desk.runtime.encoded) == 2


def test_cancel_and_go_on_with_a_click() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference)
    inference.step()
    desk.session.cancel()
    assert desk.session.status.kind is StatusKind.CANCELLED
    assert not inference.waiting
    desk.click(100, 80)
    inference.run_all()
    assert set(desk.preview_pixels()) == {"current"}


def test_a_failure_is_one_sentence_and_not_the_end(desk: Desk) -> None:
    desk.runtime.failure = MemoryError()
    desk.image.data = np.zeros((200, 300))
    assert desk.session.status.kind is StatusKind.FAILED
    assert "memory" in desk.told[-1][1]
    desk.runtime.failure = None
    desk.image.data = np.ones((200, 300))
    assert desk.session.status.kind is StatusKind.READY


def test_a_model_that_cannot_be_loaded_is_reported() -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such file")

    desk = open_desk(noise(60, 80), load_predictor=fail)
    assert desk.session.status.kind is StatusKind.FAILED
    assert desk.told == [("error", desk.session.status.text)]


def loader(
    broken: set[tuple[str, str]], asked: list[tuple[str, str]]
) -> Callable[..., Predictor]:
    """Load discs, unless name and device are among the broken ones."""

    def load(name: str, device: str, _: Any) -> Predictor:
        asked.append((name, device))
        if (name, device) in broken:
            raise RuntimeError(f"There is no file {name}.")
        return disc_predictor()[0]

    return load


def test_the_bundled_model_stands_in_for_one_that_cannot_be_loaded() -> None:
    ours = ("/gone/ours.pth", "cpu")
    broken, asked = {ours}, list[tuple[str, str]]()
    desk = open_desk(
        noise(200, 300),
        load_predictor=loader(broken, asked),
        model_name=ours[0],
        device=ours[1],
    )
    session = desk.session
    assert session.status.kind is StatusKind.READY
    assert "bundled model" in session.status.text
    assert asked == [ours, ("default", "auto")]
    ((level, text),) = desk.told  # once, also after more planes and clicks
    assert level == "warning"
    assert "There is no file /gone/ours.pth. The bundled model is used instead." in text
    desk.click(100, 80)
    assert desk.preview_pixels()
    desk.image.data = np.ones((200, 300))
    assert len(asked) == 2
    assert len(desk.told) == 1
    # What was chosen stays so, and can be had again.
    assert (session.model_name, session.device) == ours
    assert session.model_in_use == ("default", "auto")
    begun: list[tuple[str, str]] = []
    session.adapting.begin = lambda *model: begun.append(model)  # type: ignore[method-assign]
    session.adapt()
    assert begun == [("default", "auto")]
    assert text.startswith(session.model_failure)
    broken.clear()
    session.set_model(session.model_name, session.device)
    assert asked[2:] == [ours]
    assert session.model_in_use == ours
    assert session.status.text == session.model_failure == ""


def test_another_device_stands_in_for_one_that_is_not_there() -> None:
    asked: list[tuple[str, str]] = []
    load = loader({("default", "cuda")}, asked)
    desk = open_desk(noise(60, 80), load_predictor=load, device="cuda")
    assert desk.session.status.kind is StatusKind.READY
    assert asked == [("default", "cuda"), ("default", "auto")]
    assert "It runs where it can instead." in desk.told[0][1]


def test_without_the_bundled_model_there_is_no_other_try() -> None:
    asked: list[tuple[str, str]] = []
    broken = {("default", "auto"), ("ours", "auto")}
    desk = open_desk(
        noise(60, 80), load_predictor=loader(broken, asked), model_name="ours"
    )
    assert desk.session.status.kind is StatusKind.FAILED
    assert [level for level, _ in desk.told] == ["warning", "error"]
    assert len(asked) == 2


def two_models() -> Callable[..., Predictor]:
    """Load a model whose second mask is best, or, called "other", one whose last is."""

    def load(name: str, *_: Any) -> Predictor:
        predictor, runtime = disc_predictor()
        decode = runtime.decode

        def other(*arguments: Any, **options: Any) -> Any:
            found = decode(*arguments, **options)
            return found._replace(scores=found.scores[:, ::-1] / 2)

        if name == "other":
            runtime.decode = other  # type: ignore[method-assign]
        predictor.model_id = name
        return predictor

    return load


@pytest.mark.parametrize("how", ["click", "hover"])
def test_what_the_old_model_decodes_is_dropped_when_the_model_is_changed(
    how: str,
) -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference, load_predictor=two_models())
    inference.run_all()
    session = desk.session
    if how == "click":
        desk.click(100, 80)
    else:
        session.hover_at(desk.world(100, 80))
    deliver = inference.start()
    session.set_model("other")
    deliver()
    assert set(desk.preview_pixels()) <= {"waiting"}
    if how == "hover":
        desk.click(100, 80)
    assert session.candidate_scores == ()
    inference.run_all()
    assert session.candidate_scores == pytest.approx((0.35, 0.45, 0.3))


def test_masks_of_the_old_model_are_forgotten() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference, load_predictor=two_models())
    inference.run_all()
    desk.click(100, 80)
    inference.run_all()
    assert desk.session.candidate_scores == pytest.approx((0.6, 0.9, 0.7))
    desk.session.set_model("other")
    desk.session.commit()  # waits for the new model
    assert desk.ids == []
    inference.run_all()
    assert desk.ids == [1]
    desk.session.undo()
    assert desk.session.candidate_scores == pytest.approx((0.35, 0.45, 0.3))


def test_an_error_of_the_old_model_is_not_the_new_one_s() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference, load_predictor=two_models())
    inference.run_all()
    desk.click(100, 80)
    _, _, on_error = inference.waiting.pop(Lane.PROMPT)
    desk.session.set_model("other")
    on_error(RuntimeError("old"))
    inference.run_all()
    assert not desk.told
    assert desk.session.candidate_scores


def test_keys_and_mouse_are_ours_only_while_active(desk: Desk) -> None:
    plain = ViewerModel()
    assert desk.viewer.keymap
    assert desk.viewer.mouse_drag_callbacks != plain.mouse_drag_callbacks
    desk.session.set_active(False)
    assert desk.viewer.keymap == plain.keymap
    assert desk.viewer.mouse_drag_callbacks == plain.mouse_drag_callbacks
    assert desk.viewer.mouse_move_callbacks == plain.mouse_move_callbacks


def test_keys_that_were_there_come_back() -> None:
    viewer = ViewerModel()
    before = viewer.bind_key("S", lambda v: None)
    session = AnnotationSession(
        viewer, ImmediateInference(), load_predictor=lambda *_: disc_predictor()[0]
    )
    kept = dict(viewer.keymap)
    session.set_active(True)
    assert dict(viewer.keymap) != kept
    session.set_active(False)
    assert dict(viewer.keymap) == kept
    assert before is None


def test_removing_renaming_and_choosing_layers(desk: Desk) -> None:
    changes = []
    desk.session.layers_changed.connect(lambda: changes.append(1))
    desk.image.name = "renamed"
    assert changes
    first = desk.image
    second = desk.viewer.add_image(np.zeros((50, 50)), name="second")
    desk.session.set_image(first)
    desk.click(100, 80)
    desk.session.commit()
    desk.viewer.layers.remove(desk.session.target)
    assert desk.session.target is None
    desk.session.undo()  # its layer is gone
    assert desk.told[-1][0] == "warning"
    desk.viewer.layers.remove("renamed")
    assert desk.session.image is second
    desk.viewer.layers.remove(second)
    assert desk.session.image is None
    assert desk.session.status.kind is StatusKind.NO_IMAGE
    for method in ("segment", "commit", "next_object", "clear", "undo", "redo"):
        getattr(desk.session, method)()
    for method in ("delete_object", "merge_objects", "split_object", "cancel"):
        getattr(desk.session, method)()


def test_the_user_may_delete_our_layers(desk: Desk) -> None:
    desk.click(100, 80)
    desk.viewer.layers.remove("current_object")
    desk.viewer.layers.remove("point_prompts")
    desk.click(104, 80)
    assert desk.preview_pixels()
    assert len(desk.viewer.layers["point_prompts"].data) == 2


def test_closing_leaves_the_labels_and_nothing_else(desk: Desk) -> None:
    desk.click(60, 50)
    desk.session.commit()
    desk.click(100, 80)
    assert session_of(desk.viewer) is desk.session
    desk.session.close()
    desk.session.close()
    assert [layer.name for layer in desk.viewer.layers] == [
        "cells",
        "cells committed_objects",
    ]
    assert session_of(desk.viewer) is None
    assert desk.inference.closed


def test_a_closed_session_is_forgotten() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((60, 80)))
    session = AnnotationSession(
        viewer, ImmediateInference(), load_predictor=lambda *_: disc_predictor()[0]
    )
    session.set_active(True)
    session.click_at((30, 40))
    session.commit()
    session.close()
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None


def test_a_result_after_closing_is_dropped() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(60, 80), inference=inference)
    inference.step()
    deliver = inference.start()
    desk.session.close()
    deliver()
    assert [layer.name for layer in desk.viewer.layers] == ["cells"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (8, 8)])
def test_tiny_images_are_no_trouble(shape: tuple[int, int]) -> None:
    desk = open_desk(noise(*shape))
    desk.session.hover_at(desk.world(0, 0))
    desk.click(0, 0)
    desk.session.set_candidate(2)
    desk.box(0, 0, shape[1] - 1, shape[0] - 1)
    desk.session.commit()
    desk.session.undo()
    assert desk.session.status.kind is StatusKind.READY
    assert not [text for level, text in desk.told if level == "error"]


def test_a_model_converted_meanwhile_takes_over_with_the_next_plane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared: list[bool] = []
    asked: list[str] = []

    def is_prepared(model_id: str) -> bool:
        asked.append(model_id)
        return bool(prepared) and model_id.endswith("/cpu")

    monkeypatch.setattr(
        "napari_tinysam.inference.runtime.choice.is_prepared", is_prepared
    )
    loaded: list[Predictor] = []

    def load(*_: Any) -> Predictor:
        _, runtime = disc_predictor()
        kind = "openvino" if prepared else "cpu"
        loaded.append(Predictor(runtime, name="discs", model_id=f"discs/{kind}"))
        return loaded[-1]

    stack = Image(np.random.default_rng(0).random((3, 80, 90)))
    desk = open_desk(stack, load_predictor=load)
    desk.click(30, 30)
    assert len(loaded) == 1
    prepared.append(True)
    desk.click(40, 40)  # the plane that is there stays as it is
    assert len(loaded) == 1
    desk.viewer.dims.set_current_step(0, 2)
    assert len(loaded) == 2
    assert desk.session._parts.embedder.predictor is loaded[1]
    before = desk.session.object_count
    desk.click(30, 30)
    assert desk.session.object_count >= max(1, before)
    # Once is enough, even if the faster one had not opened.
    loaded[1].model_id = "discs/cpu"
    desk.viewer.dims.set_current_step(0, 0)
    assert len(loaded) == 2


def test_the_first_start_says_what_happens_until_the_faster_form_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choice = "napari_tinysam.inference.runtime.choice"
    made: list[bool] = []  # whether the faster form is there
    ended: list[Callable[[], None]] = []

    def prepare(name: str, model_id: str, on_end: Callable[[], None]) -> bool:
        if not made:
            ended.append(on_end)
        return not made

    monkeypatch.setattr(f"{choice}.needs_preparing", lambda *_: not made)
    monkeypatch.setattr(f"{choice}.prepare_in_background", prepare)
    monkeypatch.setattr(f"{choice}.is_prepared", lambda _: bool(made))
    inference = SteppedInference()
    stack = noise(3, 60, 80)
    desk = open_desk(stack, inference=inference)
    told: list[tuple[str, bool, str]] = []
    session = desk.session
    session.status_changed.connect(
        lambda status: told.append((status.text, status.first_time, hint(session)))
    )
    inference.run_all()
    texts, first, hints = zip(*told, strict=True)
    assert texts == (
        "Reading the model, for the first time…",
        "Reading the image, slowly this time…",
        "Ready. Preparing a faster form…",
    )
    assert first == (True, True, False)
    assert "half a minute, only this first time" in hints[0]
    assert "faster form" in hints[1]
    assert "click it" in hints[2]

    told.clear()
    made.append(True)
    ended.pop()()  # the process beside napari
    assert session.status.text == "Ready. The next image is faster"
    desk.viewer.dims.set_current_step(0, 0)
    inference.run_all()
    assert [text for text, _, _ in told[1:]] == [
        "Changing to the faster form of the model…",
        "Reading the image…",
        "",
    ]
    assert not any(first for _, first, _ in told)
    assert not ended


def test_a_faster_form_that_cannot_be_made_is_not_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[Callable[[], None]] = []
    monkeypatch.setattr(
        "napari_tinysam.inference.runtime.choice.prepare_in_background",
        lambda name, model_id, on_end: ended.append(on_end) or True,
    )
    desk = open_desk(noise(60, 80))
    assert "faster" in desk.session.status.text
    desk.session.set_model("other")  # prepares a form of its own
    ended[0]()
    assert "Preparing" in desk.session.status.text
    ended[1]()
    assert desk.session.status.text == ""
    # What ends while something else is shown changes nothing.
    desk.viewer.dims.ndisplay = 3
    ended[1]()
    assert desk.session.status.kind is StatusKind.VIEW_3D


def test_a_download_that_is_complete_is_loaded() -> None:
    told: list[tuple[StatusKind, str]] = []

    def load(name: str, device: str, progress: Callable[[int, int], None]) -> Any:
        for done in (1, 2):
            progress(done * 10**6, 2 * 10**6)
        return disc_predictor()[0]

    inference = SteppedInference()
    desk = open_desk(noise(60, 80), inference=inference, load_predictor=load)
    desk.session.status_changed.connect(
        lambda status: told.append((status.kind, status.text))
    )
    inference.run_all()
    assert told[0] == (StatusKind.DOWNLOADING, "Downloading default: 1 of 2 MB")
    assert told[1] == (StatusKind.LOADING_MODEL, "Loading the model…")


@pytest.mark.parametrize("mended", [True, False])
def test_a_model_found_damaged_while_it_embeds_is_loaded_once_more(
    mended: bool,
) -> None:
    loaded: list[Predictor] = []

    def load(*_: Any) -> Predictor:
        predictor, runtime = disc_predictor()
        if not loaded or not mended:
            runtime.failure = DamagedModelError("Something is damaged.")
        loaded.append(predictor)
        return predictor

    desk = open_desk(
        Image(np.random.default_rng(0).random((80, 90))), load_predictor=load
    )
    assert len(loaded) == 2
    errors = [text for level, text in desk.told if level == "error"]
    if mended:
        desk.click(30, 30)
        assert desk.session.candidate_scores
        assert not errors
    else:
        assert desk.session.status.kind is StatusKind.FAILED
        assert len(errors) == 1
        assert "Something is damaged" in errors[0]


def test_imports_for_later_begin_when_the_image_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = threading.Event()
    monkeypatch.setattr(embedder, "import_ahead", begun.set)
    inference = SteppedInference()
    predictor, _ = disc_predictor()
    viewer = ViewerModel()
    viewer.add_layer(noise(60, 80))
    session = AnnotationSession(viewer, inference, load_predictor=lambda *_: predictor)
    session.set_active(True)
    while session.status.kind is not StatusKind.READY:
        assert not begun.is_set()
        inference.step()
    assert begun.wait(10)
    session.close()


def test_what_is_imported_for_later_is_really_imported() -> None:
    """Some packages import their parts only when they are used."""
    code = (
        "import sys\n"
        "from napari_tinysam.inference import load\n"
        "from napari_tinysam.ui.session.embedding import loading\n"
        "load._import_ahead(); loading.import_ahead()\n"
        "for name in sys.argv[1:]: assert name in sys.modules, name\n"
    )
    needed = ("skimage.segmentation._watershed", "skimage.color.colorconv", "pandas")
    subprocess.run([sys.executable, "-c", code, *needed], check=True)


def test_a_mask_without_pixels_is_not_said_to_be_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = desk.runtime.decode

    def nothing(*arguments: Any, **options: Any) -> Any:
        found = decode(*arguments, **options)
        return found._replace(logits=np.full_like(found.logits, -10))

    desk.click(100, 80)
    assert "C commits it" in hint(desk.session)
    desk.session.next_object()
    monkeypatch.setattr(desk.runtime, "decode", nothing)
    desk.click(200, 120)
    assert "no object here" in hint(desk.session)
    desk.session.undo()
    assert "no object here" not in hint(desk.session)
