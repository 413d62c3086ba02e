"""Dense prompts: what is drawn, by both libraries alike, and that it reaches the decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic_runtime import AnalyticRuntime
from napari_tinysam import Predictor, Prompts, checkpoints
from napari_tinysam.dense_prompts import CLICKED, SURE, draw_boxes, draw_prompts
from napari_tinysam.model import SegmentAnything

if TYPE_CHECKING:
    from napari_tinysam.inference.runtime.protocol import DecodedPrompts

SHAPE = (24, 32)


def prompts_of(seed: int, count: int, points: int) -> dict[str, np.ndarray]:
    """Every kind of row: with and without points, box, earlier answer."""
    rng = np.random.default_rng(seed)
    extent = np.array(SHAPE[::-1]) * 4
    corners = np.sort(rng.uniform(0, extent, (count, 2, 2)), axis=1)
    boxes = corners.reshape(count, 4).astype(np.float32)
    boxes[rng.random(count) < 0.5] = np.nan
    masks = rng.normal(0, 9, (count, *SHAPE)).astype(np.float32)
    masks[rng.random(count) < 0.5] = np.nan
    coarse = rng.integers(0, 4, (count, SHAPE[0] // 8, SHAPE[1] // 8))
    return {
        "points": rng.uniform(0, extent - 1, (count, points, 2)).astype(np.float32),
        "labels": rng.integers(-1, 2, (count, points)).astype(np.int32),
        "boxes": boxes,
        "masks": masks,
        "objects": coarse.repeat(8, 1).repeat(8, 2).astype(np.int32),
    }


def drawn(library: Any, given: dict[str, Any]) -> np.ndarray:
    return np.asarray(draw_prompts(library, SHAPE, **given))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(0, 4))
def test_torch_draws_what_numpy_draws(seed: int, count: int, points: int) -> None:
    arrays = prompts_of(seed, count, points)
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    one, two = drawn(np, arrays), drawn(torch, tensors)
    assert one.dtype == two.dtype == np.float32
    np.testing.assert_allclose(one, two, atol=1e-4)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 4),
    shape=st.sampled_from([(24, 32), (150, 120), (256, 256)]),
    seen=st.booleans(),
    whole=st.booleans(),
)
def test_single_clicks_are_drawn_as_all_others(
    seed: int, count: int, shape: tuple[int, int], seen: bool, whole: bool
) -> None:
    """They have a quicker way of their own, which torch has not."""
    rng = np.random.default_rng(seed)
    extent = 4 * np.array(shape[::-1])
    points = rng.uniform(-20, extent + 20, (count, 1, 2)).astype(np.float32)
    arrays = {
        "points": np.round(points) if whole else points,
        "labels": np.ones((count, 1), np.int32),
    }
    if seen:
        arrays["objects"] = rng.integers(0, 3, (count, *shape)).astype(np.int32)
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    one = draw_prompts(np, shape, **arrays)
    two = draw_prompts(torch, shape, **tensors).numpy()
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, two, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(0, 4))
def test_each_object_is_drawn_as_if_alone(seed: int, count: int, points: int) -> None:
    arrays = prompts_of(seed, count, points)
    together = drawn(np, arrays)
    for i in range(count):
        alone = drawn(np, {k: v[i : i + 1] for k, v in arrays.items()})
        np.testing.assert_array_equal(together[i : i + 1], alone)


def draw_one(**prompts: Any) -> np.ndarray:
    whole = ("labels", "objects")
    rows = {
        name: np.asarray(value, np.int32 if name in whole else np.float32)[None]
        for name, value in prompts.items()
    }
    return np.asarray(draw_prompts(np, SHAPE, **rows))[0]


def place(x: float, y: float) -> tuple[int, int]:
    """Index of the logit that a pixel lies in."""
    return int((y + 0.5) // 4), int((x + 0.5) // 4)


def test_a_click_marks_its_place_and_fades() -> None:
    found = draw_one(points=[[62, 40]], labels=[1])
    assert found[place(62, 40)] == CLICKED
    row = found[place(62, 40)[0]]
    assert (np.diff(row[15:]) <= 0).all()
    assert found.min() > -SURE  # nothing is out of reach here


def test_a_box_is_positive_inside_and_negative_outside() -> None:
    x0, y0, x1, y1 = box = (20, 16, 99, 71)
    found = draw_one(boxes=box)
    y, x = 4 * np.indices(SHAPE) + 1.5
    inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    assert (found[inside] > 0).all()
    assert (found[~inside] <= 0).all()
    assert found.max() == SURE
    assert found.min() == -SURE


def test_an_earlier_answer_is_drawn_rather_than_a_box_and_clicks_on_top() -> None:
    before = np.full(SHAPE, 3.0)
    found = draw_one(
        masks=before, boxes=(8, 8, 40, 40), points=[[62, 40], [10, 80]], labels=[0, 1]
    )
    assert found[place(62, 40)] == -CLICKED
    assert found[place(10, 80)] == CLICKED
    untouched = np.abs(found) != CLICKED
    assert (found[untouched] == 3).all()
    assert untouched.sum() > 700


OBJECTS = np.zeros(SHAPE, np.int32)
OBJECTS[:8, :8], OBJECTS[:8, 16:24], OBJECTS[16:, :16] = 1, 2, 3
SPOTS = {1: (10.0, 10.0), 2: (80.0, 10.0), 3: (10.0, 80.0), 0: (100.0, 70.0)}


def seen(*clicks: tuple[int, int]) -> np.ndarray:
    """What is drawn of clicks on objects by number (0 is no object), with their labels."""
    return draw_one(
        points=[SPOTS[spot] for spot, _ in clicks],
        labels=[label for _, label in clicks],
        objects=OBJECTS,
    )


def test_a_click_is_drawn_as_the_object_seen_there() -> None:
    np.testing.assert_array_equal(seen((1, 1)) > 0, OBJECTS == 1)
    both = seen((1, 1), (2, 1)) > 0
    np.testing.assert_array_equal(both, (OBJECTS == 1) | (OBJECTS == 2))
    elsewhere = draw_one(points=[SPOTS[0]], labels=[1])
    np.testing.assert_array_equal(seen((0, 1)), elsewhere)
    np.testing.assert_array_equal(seen((1, 1), (3, -1)), seen((1, 1)))


def test_a_click_on_no_object_adds_a_cone_to_the_objects() -> None:
    found = seen((1, 1), (0, 1)) > 0
    assert found[OBJECTS == 1].all()
    assert found[place(100, 70)]
    assert found[place(100, 50)]
    assert not seen((1, 1))[place(100, 50)] > 0


def test_a_box_is_drawn_as_the_object_that_fills_it_most() -> None:
    # From the middle of object 3 to its right border and beyond.
    box = (24, 60, 75, 95)
    found = draw_one(boxes=box, objects=OBJECTS)
    y, x = 4 * np.indices(SHAPE) + 1.5
    cut = (x >= 24 - 2) & (x <= 75 + 2) & (y >= 60 - 2) & (y <= 95 + 2)
    np.testing.assert_array_equal(found > 0, cut & (OBJECTS == 3))
    assert set(np.unique(found)) == {-SURE, SURE}


def test_a_box_that_no_object_fills_is_drawn_as_such() -> None:
    box = (24, 8, 71, 55)  # object 2 has a corner in it
    with_objects = draw_one(boxes=box, objects=OBJECTS)
    np.testing.assert_array_equal(with_objects, draw_one(boxes=box))


def test_boxes_alone_are_drawn_whatever_else_is_known() -> None:
    boxes = np.array([[20, 16, 99, 71], [np.nan] * 4], np.float32)
    found = draw_boxes(np, SHAPE, boxes)
    np.testing.assert_array_equal(found[0], draw_one(boxes=boxes[0]))
    assert not found[1].any()
    other = draw_boxes(torch, SHAPE, torch.from_numpy(boxes)).numpy()
    np.testing.assert_allclose(found, other, atol=1e-5)
    assert found.dtype == other.dtype == np.float32


def test_a_negative_click_takes_its_side_of_an_object() -> None:
    found = draw_one(points=[[10, 80], [50, 80]], labels=[1, 0], objects=OBJECTS)
    x = 4 * np.arange(SHAPE[1]) + 1.5
    wanted = (OBJECTS == 3) & (np.abs(x - 10) <= np.abs(x - 50))
    np.testing.assert_array_equal(found > 0, wanted)


def test_a_negative_click_elsewhere_leaves_the_object_whole() -> None:
    found = draw_one(points=[[10, 80], [70, 80]], labels=[1, 0], objects=OBJECTS)
    np.testing.assert_array_equal(found > 0, OBJECTS == 3)


def test_a_cone_ends_half_way_to_a_negative_click() -> None:
    found = draw_one(points=[[40, 50], [80, 50]], labels=[1, 0])
    row = found[place(40, 50)[0]]
    assert row[place(52, 50)[1]] > 0
    assert row[place(70, 50)[1]] <= 0


def test_fillers_are_not_clicks() -> None:
    alone = draw_one(points=[[50, 30]], labels=[1])
    filled = draw_one(points=[[50, 30], [0, 0]], labels=[1, -1])
    np.testing.assert_array_equal(alone, filled)


# ------------------------------------------------------------ on the way to the decoder


class Drawing(AnalyticRuntime):
    """Keeps the mask prompts that it is given; the head sees one square."""

    dense_prompts = True

    def __init__(self, *, head: bool = True, finer: int = 1) -> None:
        maps = np.zeros((3, 256, 256), np.float32)
        maps[0, 80:120, 40:100] = 1
        maps[2, 85:115, 45:95] = 1
        maps = maps.repeat(finer, axis=1).repeat(finer, axis=2)
        super().__init__(maps if head else None)
        self.drawn: list[np.ndarray] = []
        self.corners: list[Any] = []

    def decode(self, features: Any, **prompts: Any) -> DecodedPrompts:
        self.drawn.append(prompts["masks"])
        self.corners.append(prompts.get("corners"))
        return super().decode(features, **prompts)


IMAGE = np.zeros((512, 512, 3), np.uint8)


def predictor(runtime: Drawing) -> Predictor:
    return Predictor(runtime, name="drawing", model_id="drawing")


@pytest.mark.parametrize(("head", "finer"), [(True, 1), (True, 2), (False, 1)])
def test_prompts_are_drawn_in_the_frame(head: bool, finer: int) -> None:
    runtime = Drawing(head=head, finer=finer)
    embedding = predictor(runtime).encode(IMAGE)
    # Twice as large in the frame: pixel (140, 200) is logit (70, 100).
    point = Prompts(points=[[[140, 200]]])
    predictor(runtime).without_windows().predict(embedding, point)
    positive = runtime.drawn[0][0] > 0
    assert positive[100, 70]
    if head:
        wanted = np.zeros((256, 256), bool)
        wanted[80:120, 40:100] = True
        np.testing.assert_array_equal(positive, wanted)
        assert embedding.maps is not None
        assert embedding.maps.shape == (3, 256 * finer, 256 * finer)
        assert embedding.regions is not None
        assert embedding.regions.dtype == np.int32
        np.testing.assert_array_equal(embedding.regions > 0, wanted)
    else:
        assert embedding.regions is None
        assert 1500 < positive.sum() < 2100  # a disc of 24 logits around the click
    predictor(runtime).predict(embedding, point)
    own, (y, x) = runtime.drawn[1][0], 4 * runtime.corners[1][0]
    height, width = own.shape
    assert height == width < 256
    # All that is drawn lies in the window, as it does in the frame.
    assert (own > 0).sum() == positive.sum()
    np.testing.assert_array_equal(
        own, runtime.drawn[0][0][y : y + height, x : x + width]
    )


def test_many_objects_are_drawn_a_few_at_a_time() -> None:
    runtime = Drawing()
    points = np.random.default_rng(0).uniform(0, 511, (40, 1, 2)).astype(np.float32)
    own = predictor(runtime).without_windows()
    embedding = own.encode(IMAGE)
    together = own.predict(embedding, Prompts(points=points))
    assert max(len(each) for each in runtime.drawn) <= 16
    assert len(runtime.drawn) == 3
    for i in (0, 17, 39):
        alone = own.predict(embedding, Prompts(points=points[i]))
        np.testing.assert_array_equal(together.logits[i], alone.logits[0])


def test_other_models_get_their_prompts_as_they_are() -> None:
    runtime = Drawing()
    runtime.dense_prompts = False
    own = predictor(runtime)
    embedding = own.encode(IMAGE)
    assert embedding.regions is None
    own.predict(embedding, Prompts(points=[[[140, 200]]]))
    assert runtime.drawn == [None]


@pytest.mark.parametrize("dense", [True, False])
def test_a_file_says_how_its_model_wants_prompts(tmp_path: Any, dense: bool) -> None:
    torch.manual_seed(0)
    model = SegmentAnything("tiny_vit_2m")
    model.dense_prompts = dense
    path = tmp_path / "model.safetensors"
    checkpoints.save(model, path, {"dense_prompts": "of an earlier model"})
    assert checkpoints.load(path).model.dense_prompts is dense
    assert ("dense_prompts" in checkpoints.read_notes(path)) is dense
