"""The simulated user: where it clicks, what it sends, and when it stops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analytic_runtime import AnalyticRuntime
from napari_tinysam import Predictor, Prompts
from napari_tinysam.inference.runtime import DecodedPrompts
from napari_tinysam.masks import BoxedMask
from tinysam_training.evaluation.simulated_user import (
    BATCH,
    answer_boxes,
    next_click,
    off_centre_clicks,
    simulate_clicks,
)

NOT_CLICKED = np.zeros((0, 2), np.float32)


def boxed(mask: np.ndarray) -> BoxedMask:
    return BoxedMask.from_full(np.asarray(mask, bool))


def plain_next_click(
    true: np.ndarray, found: np.ndarray, clicked: set[tuple[int, int]]
) -> tuple[float, set[tuple[int, int, int]]]:
    """Depth of the deepest wrong pixel, and all clicks that are as deep: pixel by pixel."""
    best: dict[tuple[int, int, int], float] = {}
    for wrong, label in ((true & ~found, 1), (found & ~true, 0)):
        right = np.argwhere(~np.pad(wrong, 1)) - 1
        for y, x in np.argwhere(wrong):
            if (x, y) not in clicked:
                away = np.hypot(*(right - (y, x)).T).min()
                best[int(x), int(y), label] = float(away)
    deepest = max(best.values(), default=0.0)
    return deepest, {c for c, depth in best.items() if np.isclose(depth, deepest)}


@settings(deadline=None, max_examples=80)
@given(
    arrays(bool, (6, 7)).filter(np.any),
    arrays(bool, (6, 7)),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=5),
)
def test_clicks_are_at_the_deepest_wrong_pixel(
    true: np.ndarray, found: np.ndarray, clicked: list[tuple[int, int]]
) -> None:
    points = np.array(clicked, np.float32).reshape(-1, 2)
    click = next_click(boxed(true), boxed(found), points)
    _, expected = plain_next_click(true, found, set(clicked))
    if click is None:
        assert not expected
    else:
        assert click in expected


def test_the_first_click_is_in_the_middle() -> None:
    true = np.zeros((20, 30), bool)
    true[5:12, 10:17] = True
    nothing = BoxedMask(np.zeros((0, 0), bool), 0, 0, (20, 30))
    assert next_click(boxed(true), nothing, NOT_CLICKED) == (13, 8, 1)


def test_the_image_ends_the_object() -> None:
    """An object cut by the border is not clicked on the border."""
    true = np.zeros((20, 30), bool)
    true[:7, :7] = True
    empty = boxed(np.zeros((20, 30)))
    assert next_click(boxed(true), empty, NOT_CLICKED) == (3, 3, 1)


def test_a_click_beside_the_object_where_that_is_worse() -> None:
    true = np.zeros((20, 30), bool)
    true[5:12, 10:17] = True
    found = true.copy()
    found[5:12, 17:22] = True  # five wide
    found[5:8, 10:13] = False  # three wide
    assert next_click(boxed(true), boxed(found), NOT_CLICKED) == (19, 7, 0)
    assert next_click(boxed(true), boxed(true), NOT_CLICKED) is None


@given(
    mask=arrays(bool, (9, 12), elements=st.booleans(), fill=st.just(True)).filter(
        np.any
    ),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 99),
)
def test_clicks_off_the_centre_stay_on_the_object(
    mask: np.ndarray, share: float, seed: int
) -> None:
    true = boxed(mask)
    rng = np.random.default_rng(seed)
    ((x, y),) = off_centre_clicks([true], share, rng)
    assert mask[int(y), int(x)]
    far = np.hypot(x - true.deepest[0], y - true.deepest[1])
    assert far <= share * true.depth.max() + 1e-6


def test_clicks_off_the_centre_use_the_room() -> None:
    wide = boxed(np.ones((61, 61), bool))
    points = off_centre_clicks([wide] * 50, 1 / 3, np.random.default_rng(0))
    away = np.hypot(*(points - 30).T)
    assert away.min() > 31 / 3 - 2
    assert len(np.unique(points, axis=0)) > 20


def disc(radius: float, centre: tuple[float, float]) -> np.ndarray:
    y, x = np.mgrid[:200, :320]
    return np.asarray(np.hypot(y - centre[1], x - centre[0]) <= radius)


class Recorder(AnalyticRuntime):
    """Remembers the prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []

    def decode(self, features: Any, **prompts: Any) -> DecodedPrompts:
        self.asked.append(prompts)
        return super().decode(features, **prompts)


def test_clicks_go_to_the_model_as_the_plugin_sends_them() -> None:
    """All points so far, in their order, no mask; every object of a round in one batch."""
    runtime = Recorder()
    predictor = Predictor(runtime, name="", model_id="")
    embedding = predictor.encode(np.zeros((200, 320), np.uint8))
    # One click draws a disc of 60 / 3.2 pixels: too small for the first, too large for the second.
    truth = [boxed(disc(40, (80, 100))), boxed(disc(9, (240, 100)))]
    trace = simulate_clicks(predictor, embedding, truth, 3)
    assert [len(asked["points"]) for asked in runtime.asked] == [2, 2, 2]
    for turn, asked in enumerate(runtime.asked, start=1):
        assert asked["masks"] is None
        assert asked["boxes"] is None
        assert np.allclose(asked["points"] / 3.2, trace.points[:, :turn])
        assert np.array_equal(asked["labels"], trace.labels[:, :turn])
    assert trace.points[:, 0].tolist() == [[80, 100], [240, 100]]
    assert trace.labels.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert trace.iou.shape == trace.oracle.shape == trace.scores.shape == (2, 3)
    assert (trace.oracle >= trace.iou).all()
    # The model scores its three masks alike every time, the first of them best.
    assert np.allclose(trace.scores, 0.9)
    first = [
        BoxedMask.from_full(disc(60 / 3.2, xy)).iou(mask)
        for xy, mask in zip(((80, 100), (240, 100)), truth, strict=True)
    ]
    assert trace.iou[:, 0] == pytest.approx(first, abs=0.03)
    assert trace.iou[0, 1] > trace.iou[0, 0]
    for masks, turn in ((trace.first, 0), (trace.last, 2)):
        for row in (0, 1):
            iou = masks[row].iou(truth[row])
            assert iou == pytest.approx(trace.iou[row, turn])


def test_the_previous_mask_is_given_back_if_asked_for() -> None:
    runtime = Recorder()
    predictor = Predictor(runtime, name="", model_id="")
    embedding = predictor.encode(np.zeros((200, 320), np.uint8))
    truth = [boxed(disc(40, (80, 100)))]
    simulate_clicks(predictor, embedding, truth, 2, feed_back=True)
    first, second = runtime.asked
    assert first["masks"] is None
    given = predictor.predict(embedding, _prompts(first)).logits[:, 0]
    assert np.array_equal(second["masks"], given)


def _prompts(asked: dict[str, Any]) -> Prompts:
    return Prompts(points=asked["points"] / 3.2, labels=asked["labels"])


def test_a_right_mask_is_left_alone() -> None:
    """No clicks after that, and its figures go on."""
    runtime = Recorder()
    predictor = Predictor(runtime, name="", model_id="")
    embedding = predictor.encode(np.zeros((200, 320), np.uint8))
    middle = Prompts(points=[(80.0, 100.0)])
    right = predictor.predict(embedding, middle).boxed()
    runtime.asked.clear()
    truth = [right, boxed(disc(40, (240, 100)))]
    trace = simulate_clicks(predictor, embedding, truth, 4)
    assert [len(asked["points"]) for asked in runtime.asked] == [2, 1, 1, 1]
    assert trace.labels[0].tolist() == [1, -1, -1, -1]
    assert trace.iou[0].tolist() == [1] * 4
    assert np.allclose(trace.scores[0], 0.9)


class Specked(AnalyticRuntime):
    """Every mask has a stray piece in the corner of the image."""

    def decode(self, features: Any, **prompts: Any) -> DecodedPrompts:
        logits, scores = super().decode(features, **prompts)
        logits[..., :4, :4] = 5
        return DecodedPrompts(logits, scores)


def test_specks_are_dropped_as_the_plugin_drops_them() -> None:
    predictor = Predictor(Specked(), name="", model_id="")
    embedding = predictor.encode(np.zeros((200, 320), np.uint8))
    truth = [boxed(disc(18, (240, 100)))]
    boxes = np.array([[222, 82, 258, 118]], np.float32)
    for drop in (True, False):
        clicked = simulate_clicks(predictor, embedding, truth, 1, drop_specks=drop)
        by_box = answer_boxes(predictor, embedding, boxes, truth, drop_specks=drop)
        for mask in (*clicked.first, *by_box.masks):
            assert (mask.y0 == mask.x0 == 0) != drop


def test_boxes() -> None:
    predictor = Predictor(AnalyticRuntime(), name="", model_id="")
    embedding = predictor.encode(np.zeros((200, 320), np.uint8))
    count = BATCH + 3
    boxes = np.tile(np.array([[20, 30, 100, 90]], np.float32), (count, 1))
    boxes[:, 0] += np.arange(count)
    truth = []
    for x0, y0, x1, y1 in boxes.astype(int):
        mask = np.zeros((200, 320), bool)
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
        truth.append(boxed(mask))
    found = answer_boxes(predictor, embedding, boxes, truth)
    assert len(found.masks) == count
    assert found.iou.min() > 0.9
    assert found.iou[0] > 0.96
    assert (found.oracle >= found.iou).all()
    assert np.allclose(found.scores, 0.9)


@pytest.mark.parametrize("wrong", ["none", "empty", "clicks"])
def test_what_cannot_be_clicked_is_refused(wrong: str) -> None:
    predictor = Predictor(AnalyticRuntime(), name="", model_id="")
    embedding = predictor.encode(np.zeros((200, 320), np.uint8))
    truth = [] if wrong == "none" else [boxed(np.full((200, 320), wrong == "clicks"))]
    with pytest.raises(ValueError, match="objects with pixels"):
        simulate_clicks(predictor, embedding, truth, 0 if wrong == "clicks" else 1)
