"""What hovering, clicks and boxes do, on a ViewerModel: discs for masks."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from desk import Desk, noise, open_desk
from napari_tinysam.prompts import NEGATIVE, POSITIVE
from napari_tinysam.ui.session.facade import StatusKind
from napari_tinysam.ui.state.planes import Contrast


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
