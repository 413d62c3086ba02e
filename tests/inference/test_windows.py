"""Windows of the frame: where they lie, what they hold, and when a larger one is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytic_runtime import DISK, AnalyticRuntime
from napari_tinysam import Masks, Predictor, Prompts
from napari_tinysam.frame import CELL, FRAME
from napari_tinysam.inference.looks import Look
from napari_tinysam.inference.predictor import OUTSIDE
from napari_tinysam.inference.windows import (
    SIDES,
    boxes_of_masks,
    boxes_of_regions,
    in_logits,
    reaches_border,
    wanted_boxes,
    window_around,
    with_room,
)

places = st.floats(0, FRAME - 1)
boxes = st.tuples(places, places, places, places).map(
    lambda b: np.array(
        [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])], np.float32
    )
)


# ------------------------------------------------------------ where they lie


@given(boxes)
def test_a_window_is_a_square_of_cells_in_the_frame(box: np.ndarray) -> None:
    window = window_around(box)
    height, width = window.size
    assert height == width
    assert height in SIDES
    assert window.y0 % CELL == window.x0 % CELL == 0
    assert min(window.y0, window.x0) >= 0
    assert max(window.y1, window.x1) <= FRAME


@given(boxes)
def test_a_window_holds_the_box_and_no_smaller_one_would(box: np.ndarray) -> None:
    window = window_around(box)
    x0, y0, x1, y1 = box
    assert window.x0 <= x0
    assert window.y0 <= y0
    assert x1 <= window.x1 - 1
    assert y1 <= window.y1 - 1
    smaller = [side for side in SIDES if side < window.size[0]]
    # Its place is rounded to a cell, so one that barely fits is not used.
    extent = max(x1 - x0, y1 - y0) + 1
    assert all(side < extent + CELL + 1 for side in smaller)


@given(boxes, st.sampled_from(SIDES))
def test_a_larger_window_can_be_asked_for(box: np.ndarray, least: int) -> None:
    assert window_around(box, least).size[0] == max(least, window_around(box).size[0])


@pytest.mark.parametrize("box", [[np.nan] * 4, [np.inf, np.inf, -np.inf, -np.inf]])
def test_where_nothing_is_known_the_whole_frame_is_read(box: list[float]) -> None:
    assert window_around(np.array(box)) == Look(0, 0, FRAME, FRAME)


def test_a_box_may_reach_out_of_the_frame() -> None:
    window = window_around(np.array([-60.0, 900, 100, 1100]))
    assert window == Look(768, 0, 1024, 256)


# ------------------------------------------------------------ what they must hold


@given(st.integers(0, 1000), st.integers(1, 4))
def test_all_points_lie_clear_of_the_border(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    middle = rng.uniform(0, FRAME, 2)
    points = (middle + rng.uniform(-200, 200, (3, count, 2))).clip(0, FRAME - 1)
    labels = rng.integers(0, 2, (3, count)).astype(np.int32)
    given = points.astype(np.float32), labels, None, None
    for own, box in zip(points, wanted_boxes(*given, None, None), strict=True):
        window = window_around(box)
        for x, y in own:
            assert window.clearance((x, y, x, y), (FRAME, FRAME)) >= CELL


def test_a_click_on_an_object_asks_for_all_of_it() -> None:
    regions = np.zeros((256, 256), np.int32)
    regions[100:150, 10:40] = 3  # pixels 400 to 599, and 40 to 159
    own = boxes_of_regions(regions)
    np.testing.assert_array_equal(own[3], [40, 400, 159, 599])
    assert np.isnan(own[[0, 1, 2]]).all()
    point = np.array([[[60, 420]]], np.float32)
    on = wanted_boxes(point, np.array([[1]], np.int32), None, None, regions, own)
    np.testing.assert_array_equal(on, with_room(own[3:4]))
    # A negative click does not mean this object.
    off = wanted_boxes(point, np.array([[0]], np.int32), None, None, regions, own)
    assert (off[0, 2:] < 500).all()


def test_an_earlier_answer_counts() -> None:
    masks = np.full((2, 256, 256), -1, np.float32)
    masks[0, 20:30, 50:60] = 1
    found = boxes_of_masks(masks)
    np.testing.assert_array_equal(found[0], [200, 80, 239, 119])
    assert np.isnan(found[1]).all()
    wanted = wanted_boxes(None, None, None, masks, None, None)
    assert window_around(wanted[0]).size == (256, 256)
    assert window_around(wanted[1]).size == (FRAME, FRAME)  # it says nothing


def test_a_large_box_is_decoded_in_the_whole_frame() -> None:
    small, large = with_room(
        np.array([[500, 500, 560, 560], [100, 100, 800, 800]], np.float32)
    )
    assert window_around(small).size == (256, 256)
    assert window_around(large).size == (FRAME, FRAME)


# ------------------------------------------------------------ borders


@pytest.mark.parametrize("window", [Look(0, 256, 256, 512), Look(768, 0, 1024, 256)])
def test_only_sides_inside_the_frame_are_borders(window: Look) -> None:
    for place, expected in (
        (np.s_[:1, 20:40], window.y0 > 0),
        (np.s_[63:, 20:40], window.y1 < FRAME),
        (np.s_[20:40, :1], window.x0 > 0),
        (np.s_[20:40, 63:], window.x1 < FRAME),
        (np.s_[20:40, 20:40], False),
    ):
        logits = np.full((3, 64, 64), -5, np.float32)
        logits[1][place] = 5
        assert reaches_border(logits, window) is expected


# ------------------------------------------------------------ predictions


class Noting(AnalyticRuntime):
    """Notes the sides of windows, in pixels; draws from points and boxes if there are any."""

    dense_prompts = True

    def __init__(self, growth: float = 0.0) -> None:
        super().__init__()
        self.sides: list[int] = []
        self.growth = growth

    def decode(self, features: Any, **given: Any) -> Any:
        side = 4 * given["masks"].shape[1]
        assert (given["corners"] is None) == (side == FRAME)
        if given["points"] is not None or given["boxes"] is not None:
            given["masks"] = np.full_like(given["masks"], -1e3)
        found = super().decode(features, **given)
        self.sides += [side] * len(found.scores)
        return found._replace(logits=found.logits + np.float32(self.growth))


def predictors(growth: float = 0.0) -> tuple[Noting, Predictor, Predictor]:
    runtime = Noting(growth)
    windowed = Predictor(runtime, name="noting", model_id="noting")
    return runtime, windowed, windowed.without_windows()


def answers(prompts: Prompts, growth: float = 0.0) -> tuple[list[int], Masks, Masks]:
    """Sides of windows, and both answers, on an image as large as the frame."""
    runtime, windowed, whole = predictors(growth)
    embedding = windowed.encode(np.zeros((FRAME, FRAME, 3), np.uint8))
    found = windowed.predict(embedding, prompts)
    sides, runtime.sides = runtime.sides, []
    expected = whole.predict(embedding, prompts)
    assert set(runtime.sides) == {FRAME}
    return sides, found, expected


@given(st.integers(0, 500), st.sampled_from(["click", "clicks", "box", "both"]))
def test_masks_are_those_of_the_whole_frame(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 900, (4, 2)).astype(np.float32)
    sides = rng.uniform(10, 600, (4, 2)) ** rng.uniform(0.5, 1, (4, 1))
    points, labels = corner[:, np.newaxis], None
    if kind == "clicks":
        points = np.stack([corner, corner + rng.uniform(20, 300, (4, 2))], axis=1)
        labels = np.array([[1, 0], [1, 1], [0, 1], [1, 0]])
    ends = np.minimum(corner + sides, FRAME - 1)
    prompts = Prompts(
        points=points.astype(np.float32) if kind != "box" else None,
        labels=labels,
        boxes=np.hstack([corner, ends]) if kind in ("box", "both") else None,
    )
    _, found, expected = answers(prompts)
    np.testing.assert_allclose(found.scores, expected.scores)
    np.testing.assert_array_equal(found.logits > 0, expected.logits > 0)
    inside = found.logits != OUTSIDE
    np.testing.assert_allclose(found.logits[inside], expected.logits[inside], atol=1e-3)


def test_objects_of_all_sizes_in_one_batch() -> None:
    boxes = [(500, 500, 540, 530), (10, 10, 990, 990), (300, 300, 600, 500)]
    sides, found, expected = answers(Prompts(boxes=[*boxes, *boxes]))
    assert sides == [256, 256, 512, 512, FRAME, FRAME]
    np.testing.assert_array_equal(found.logits > 0, expected.logits > 0)
    assert (found.logits[0, 0] > OUTSIDE).sum() < 65 * 65
    assert (found.logits[0, :, :50] == OUTSIDE).all()


def test_an_answer_that_reaches_the_border_gets_a_larger_window() -> None:
    click = Prompts(points=[[[500, 500]]])
    assert answers(click)[0] == [256]
    # A disk of more than 128 pixels, and of more than 256.
    grown, larger = (200 - DISK) / 4, (400 - DISK) / 4
    sides, found, expected = answers(click, grown)
    assert sides == [256, 512]
    np.testing.assert_array_equal(found.logits > 0, expected.logits > 0)
    sides, found, expected = answers(click, larger)
    assert sides == [256, 512, FRAME]
    np.testing.assert_array_equal(found.logits, expected.logits)


def test_an_object_at_the_border_of_the_frame_needs_no_larger_window() -> None:
    sides, found, expected = answers(Prompts(points=[[[3, 1020]]]))
    assert sides == [256]
    np.testing.assert_array_equal(found.logits > 0, expected.logits > 0)


def test_an_answer_is_a_prompt_again() -> None:
    _, windowed, _ = predictors()
    embedding = windowed.encode(np.zeros((512, 400, 3), np.uint8))
    first = windowed.predict(embedding, Prompts(boxes=[[100, 200, 160, 240]]))
    second = windowed.predict(embedding, Prompts(masks=first.logits[:, 0]))
    assert first.boxed(0, 0).iou(second.boxed(0, 0)) > 0.95


def test_an_empty_answer_is_a_prompt_too() -> None:
    nothing = Prompts(masks=np.full((1, 256, 256), -9, np.float32))
    sides, found, expected = answers(nothing)
    assert sides == [FRAME]
    np.testing.assert_array_equal(found.logits, expected.logits)


def test_other_models_read_the_whole_frame() -> None:
    class Official(AnalyticRuntime):
        def decode(self, features: Any, **given: Any) -> Any:
            assert given.get("corners") is None
            return super().decode(features, **given)

    runtime = Official()
    predictor = Predictor(runtime, name="official", model_id="official")
    embedding = predictor.encode(np.zeros((64, 64, 3), np.uint8))
    found = predictor.predict(embedding, Prompts(points=[[[9, 9]]]))
    assert (found.logits != OUTSIDE).all()


@given(boxes)
def test_a_window_in_logits(box: np.ndarray) -> None:
    window = window_around(box)
    planes, rows, columns = in_logits(window)
    assert np.zeros((3, 256, 256))[planes, rows, columns].shape == (
        3,
        window.size[0] // 4,
        window.size[1] // 4,
    )
    assert 4 * rows.start == window.y0
    assert 4 * columns.start == window.x0
