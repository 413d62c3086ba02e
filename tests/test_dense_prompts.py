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
from napari_tinysam.dense_prompts import CLICKED, SURE, draw_prompts, regions_under
from napari_tinysam.model import SegmentAnything

if TYPE_CHECKING:
    from napari_tinysam.runtime.protocol import DecodedPrompts

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


def drawn(library: Any, given: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    objects = given["objects"]
    rest = {name: value for name, value in given.items() if name != "objects"}
    regions = regions_under(library, objects, given["points"], given["labels"])
    return np.asarray(regions), np.asarray(
        draw_prompts(library, SHAPE, regions=regions, **rest)
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(0, 4))
def test_torch_draws_what_numpy_draws(seed: int, count: int, points: int) -> None:
    arrays = prompts_of(seed, count, points)
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    for one, two in zip(drawn(np, arrays), drawn(torch, tensors), strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_allclose(one, two, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(0, 4))
def test_each_object_is_drawn_as_if_alone(seed: int, count: int, points: int) -> None:
    arrays = prompts_of(seed, count, points)
    together = drawn(np, arrays)[1]
    for i in range(count):
        alone = drawn(np, {k: v[i : i + 1] for k, v in arrays.items()})[1]
        np.testing.assert_array_equal(together[i : i + 1], alone)


def draw_one(**prompts: Any) -> np.ndarray:
    rows = {
        name: np.asarray(value, np.int32 if name == "labels" else np.float32)[None]
        for name, value in prompts.items()
    }
    if "regions" in rows:
        rows["regions"] = rows["regions"] > 0
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


def test_a_click_is_drawn_as_the_object_seen_there() -> None:
    region = np.zeros(SHAPE)
    region[4:12, 8:20] = 1
    found = draw_one(points=[[50, 30]], labels=[1], regions=region)
    assert ((found > 0) == (region > 0)).all()
    nothing = draw_one(points=[[50, 30]], labels=[1], regions=np.zeros(SHAPE))
    np.testing.assert_array_equal(nothing, draw_one(points=[[50, 30]], labels=[1]))


def test_fillers_are_not_clicks() -> None:
    alone = draw_one(points=[[50, 30]], labels=[1])
    filled = draw_one(points=[[50, 30], [0, 0]], labels=[1, -1])
    np.testing.assert_array_equal(alone, filled)


def test_regions_belong_to_positive_clicks_and_lose_to_negative_ones() -> None:
    objects = np.zeros((1, *SHAPE), np.int32)
    objects[0, :8, :8], objects[0, :8, 16:24], objects[0, 16:, :8] = 1, 2, 3
    spots = {1: (10.0, 10.0), 2: (80.0, 10.0), 3: (10.0, 80.0), 0: (80.0, 80.0)}

    def under(*clicks: tuple[int, int]) -> set[int]:
        points = np.array([[spots[spot] for spot, _ in clicks]], np.float32)
        labels = np.array([[label for _, label in clicks]], np.int32)
        found = regions_under(np, objects, points, labels)
        return {int(value) for value in np.unique(objects[found])}

    assert under((1, 1)) == {1}
    assert under((1, 1), (2, 1)) == {1, 2}
    assert under((1, 1), (2, 1), (2, 0)) == {1}
    assert under((0, 1)) == set()
    assert under((3, 0)) == set()
    assert under((1, -1), (3, 1)) == {3}


# ------------------------------------------------------------ on the way to the decoder


class Drawing(AnalyticRuntime):
    """Keeps the mask prompts that it is given; the head sees one square."""

    dense_prompts = True

    def __init__(self, *, head: bool = True) -> None:
        maps = np.zeros((3, 256, 256), np.float32)
        maps[0, 80:120, 40:100] = 1
        maps[2, 85:115, 45:95] = 1
        super().__init__(maps if head else None)
        self.drawn: list[np.ndarray] = []

    def decode(self, features: Any, **prompts: Any) -> DecodedPrompts:
        self.drawn.append(prompts["masks"])
        return super().decode(features, **prompts)


IMAGE = np.zeros((512, 512, 3), np.uint8)


def predictor(runtime: Drawing) -> Predictor:
    return Predictor(runtime, name="drawing", model_id="drawing")


@pytest.mark.parametrize("head", [True, False])
def test_prompts_are_drawn_in_the_frame(head: bool) -> None:
    runtime = Drawing(head=head)
    embedding = predictor(runtime).encode(IMAGE)
    # Twice as large in the frame: pixel (140, 200) is logit (70, 100).
    predictor(runtime).predict(embedding, Prompts(points=[[[140, 200]]]))
    positive = runtime.drawn[0][0] > 0
    assert positive[100, 70]
    if head:
        wanted = np.zeros((256, 256), bool)
        wanted[80:120, 40:100] = True
        np.testing.assert_array_equal(positive, wanted)
    else:
        assert embedding.regions is None
        assert 1500 < positive.sum() < 2100  # a disc of 24 logits around the click


def test_many_objects_are_drawn_a_few_at_a_time() -> None:
    runtime = Drawing()
    points = np.random.default_rng(0).uniform(0, 511, (40, 1, 2)).astype(np.float32)
    own = predictor(runtime)
    embedding = own.encode(IMAGE)
    together = own.predict(embedding, Prompts(points=points))
    assert max(len(each) for each in runtime.drawn) <= 16
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
