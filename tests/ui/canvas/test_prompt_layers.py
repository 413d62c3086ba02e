"""How prompts look: signs differ in shape, and nothing grows or shrinks with the zoom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from desk import Desk, open_desk
from napari_tinysam.prompts import NEGATIVE


@pytest.fixture
def desk() -> Desk:
    desk = open_desk(Image(np.zeros((200, 300)), scale=(0.5, 0.5), name="cells"))
    desk.click(100, 80)
    desk.click(140, 80, NEGATIVE)
    return desk


def signs(points: Any) -> list[str]:
    return [str(symbol) for symbol in points.symbol]


def test_signs_differ_in_shape_and_in_brightness(desk: Desk) -> None:
    points = desk.viewer.layers["point_prompts"]
    assert signs(points) == ["cross", "hbar"]
    light = points.face_color[:, :3] @ (0.2126, 0.7152, 0.0722)
    assert abs(light[0] - light[1]) > 0.1  # in gray too
    assert (points.border_color[:, :3] < 0.1).all()  # seen on bright images
    assert (points.border_width > 0).all()


def test_a_point_that_the_user_adds_looks_like_its_sign(desk: Desk) -> None:
    points = desk.viewer.layers["point_prompts"]
    points.add([[80, 105]])
    desk.session.toggle_sign()
    points.add([[80, 150]])
    assert signs(points) == ["cross", "hbar", "cross", "hbar"]
    np.testing.assert_array_equal(points.face_color[0], points.face_color[2])
    np.testing.assert_array_equal(points.face_color[1], points.face_color[3])
    assert set(points.size) == {points.size[0]}


def test_a_point_whose_sign_the_user_turns_round_changes_its_look(desk: Desk) -> None:
    points = desk.viewer.layers["point_prompts"]
    points.features = {"label": np.array(["positive", "positive"], dtype=object)}
    assert signs(points) == ["cross", "cross"]
    assert [p.label for p in desk.session.drafts.current.points] == [1, 1]


def test_switching_the_sign_changes_no_point(desk: Desk) -> None:
    points = desk.viewer.layers["point_prompts"]
    points.selected_data = {0}
    desk.session.toggle_sign()
    assert signs(points) == ["cross", "hbar"]
    assert points.features["label"].tolist() == ["positive", "negative"]


def test_prompts_are_as_large_on_the_screen_at_every_zoom(desk: Desk) -> None:
    desk.session.next_object()
    desk.box(20, 20, 60, 60)
    points = desk.viewer.layers["point_prompts"]
    boxes = desk.viewer.layers["prompts"]
    for zoom in (0.05, 1.0, 30.0):
        desk.viewer.scene.camera.zoom = zoom
        np.testing.assert_allclose(points.size * 0.5 * zoom, 16)
        np.testing.assert_allclose(np.multiply(boxes.edge_width, 0.5 * zoom), 2)
    desk.click(80, 80)
    desk.box(100, 20, 160, 60)
    np.testing.assert_allclose(points.size * 0.5 * 30, 16)
    np.testing.assert_allclose(np.multiply(boxes.edge_width, 0.5 * 30), 2)


def test_a_row_is_a_prompt_however_near_another_one_is() -> None:
    desk = open_desk(Image(np.zeros((200, 300)), name="cells"))
    desk.click(100.1234567, 80.7654321)
    points = desk.viewer.layers["point_prompts"]
    first = desk.session.drafts.current.points[0]
    points.add([[80.7654321, 100.1234]])
    kept, added = desk.session.drafts.current.points
    assert kept is first
    assert added.x == 100.1234
    points.selected_data = {0}
    points.remove_selected()
    assert desk.session.drafts.current.points == (added,)


def test_moving_a_point_leaves_the_others_as_they_are(desk: Desk) -> None:
    points = desk.viewer.layers["point_prompts"]
    positive, negative = desk.session.drafts.current.points
    points.mode = "select"
    for place in ((80, 140), (85, 140)):  # pressed, dragged
        points._move([1], np.array(place))
    assert desk.session.drafts.current.points[0] is positive
    assert desk.session.drafts.current.points[1].label == negative.label
    assert desk.session.drafts.current.points[1].y > negative.y
    desk.session.undo()
    assert desk.session.drafts.current.points == (positive, negative)
    np.testing.assert_array_equal(points.data, [[80, 100], [80, 140]])


def test_a_box_that_is_moved_keeps_its_points(desk: Desk) -> None:
    desk.session.next_object()
    desk.box(20, 20, 60, 60)
    desk.click(40, 40)
    boxes = desk.viewer.layers["prompts"]
    boxes.data = [boxes.data[0] + (0, 10)]
    assert desk.session.drafts.current.box is not None
    assert [d.box for d in desk.session.drafts.filled][-1] == (30, 20, 70, 60)


def test_a_slip_of_the_mouse_is_no_box(desk: Desk) -> None:
    desk.session.make_prompt_layers()
    before = desk.session.drafts
    boxes = desk.viewer.layers["prompts"]
    boxes.add_rectangles([[10, 10], [11, 11]])
    assert desk.session.drafts == before
    desk.session.next_object()
    desk.box(20, 20, 60, 60)
    assert len(boxes.data) == 1
