"""Masks that fill their box are believed more than others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytic_runtime import SCORES, AnalyticRuntime
from napari_tinysam import Predictor, Prompts
from napari_tinysam.frame import FRAME, LOGIT
from napari_tinysam.inference.box_fit import ENOUGH, LOSS, box_fit

#: Of planes of 64 × 64 logits, in pixels of the frame.
SIDE = 64 * LOGIT


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """A plane whose mask has these first and last cells."""
    plane = np.full((64, 64), -3, np.float32)
    plane[y0 : y1 + 1, x0 : x1 + 1] = 3
    return plane


@st.composite
def cells(draw: Any) -> tuple[int, int, int, int]:
    x, y = (sorted(draw(st.tuples(*[st.integers(0, 63)] * 2))) for _ in range(2))
    return x[0], y[0], x[1], y[1]


@given(st.tuples(cells(), cells(), cells()), cells())
def test_it_is_the_overlap_of_the_boxes_counted_in_pixels(
    masks: tuple[tuple[int, ...], ...], box: tuple[int, ...]
) -> None:
    pixels = np.zeros((4, SIDE, SIDE), bool)
    for plane, (x0, y0, x1, y1) in zip(pixels, [*masks, box], strict=True):
        plane[LOGIT * y0 : LOGIT * (y1 + 1), LOGIT * x0 : LOGIT * (x1 + 1)] = True
    ious = [(m & pixels[3]).sum() / (m | pixels[3]).sum() for m in pixels[:3]]
    expected = [1 - LOSS + LOSS * min(iou / ENOUGH, 1) for iou in ious]
    x0, y0, x1, y1 = box
    drawn = np.array([x0, y0, x1 + 1, y1 + 1]) * LOGIT - [0, 0, 1, 1]
    found = box_fit(np.stack([rectangle(*mask) for mask in masks]), drawn)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_of_an_empty_mask_nothing_is_believed_that_is_not_seen() -> None:
    planes = np.stack([np.full((64, 64), -1, np.float32)] * 3)
    np.testing.assert_allclose(box_fit(planes, np.array([8, 8, 20, 20])), 1 - LOSS)


class Nested(AnalyticRuntime):
    """Sees a nucleus first, then its cell, then the neighbours too."""

    dense_prompts = True

    def decode(self, features: Any, **given: Any) -> Any:
        found = super().decode(features, **given)
        wide = np.array([-120, 0, 100], np.float32) / LOGIT  # in signed distances
        moved = found.logits[:, :1] + wide[None, :, None, None]
        return found._replace(logits=np.ascontiguousarray(moved))


def answered(runtime: AnalyticRuntime, prompts: Prompts) -> np.ndarray:
    predictor = Predictor(runtime, name="nested", model_id="nested")
    embedding = predictor.encode(np.zeros((FRAME, FRAME, 3), np.uint8))
    return predictor.predict(embedding, prompts).scores[0]


def test_a_box_around_a_cell_gives_the_cell_and_not_its_nucleus() -> None:
    scores = answered(Nested(), Prompts(boxes=[[300, 300, 700, 700]]))
    assert scores.argmax() == 1
    assert scores[1] == np.float32(SCORES[1])


def test_clicks_and_official_models_score_as_they_do() -> None:
    raw = np.float32(SCORES)
    click = Prompts(points=[[[500, 500]]])
    np.testing.assert_array_equal(answered(Nested(), click), raw)
    nested = Nested()
    nested.dense_prompts = False
    box = Prompts(boxes=[[300, 300, 700, 700]])
    np.testing.assert_array_equal(answered(nested, box), raw)


@pytest.mark.parametrize("also", ["points", "masks"])
def test_who_gives_more_than_a_box_knows_more_than_that(also: str) -> None:
    """As following does, whose boxes are those of the plane before."""
    shape = np.full((1, 256, 256), -5, np.float32)
    shape[:, 80:170, 80:170] = 5
    more: Any = {also: [[[500, 500]]] if also == "points" else shape}
    prompts = Prompts(boxes=[[300, 300, 700, 700]], **more)
    np.testing.assert_array_equal(answered(Nested(), prompts), np.float32(SCORES))
