"""Second looks: their geometry, and whose answer is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic_runtime import AnalyticRuntime
from napari_tinysam import Predictor, Prompts, scales
from napari_tinysam.model import SegmentAnything
from tinysam_training.decoding import decode

if TYPE_CHECKING:
    from napari_tinysam.runtime import DecodedPrompts


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(scales.FACTORS))
def test_a_reduced_image_holds_means_of_squares(
    height: int, width: int, factor: int
) -> None:
    rng = np.random.default_rng(height * 41 + width)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    found = scales.reduced(rgb, factor)
    assert found.shape == (-(-height // factor), -(-width // factor), 3)
    assert found.dtype == np.uint8
    for y in range(height // factor):
        for x in range(width // factor):
            square = rgb[factor * y :, factor * x :][:factor, :factor]
            np.testing.assert_array_equal(found[y, x], np.rint(square.mean((0, 1))))
    one = scales.reduced(rgb[..., :1], factor)
    np.testing.assert_array_equal(one, found[..., :1])


@pytest.mark.parametrize("factor", scales.FACTORS)
def test_a_place_is_the_same_in_pixels_and_logits_of_both_sizes(factor: int) -> None:
    """A spot, its coordinates, and its logits meet again after going down and up."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[16:24, 40:48] = 255  # its centre is (43.5, 19.5)
    small = scales.reduced(image, factor)[..., 0].astype(float)
    ys, xs = np.indices(small.shape)
    centre = (small * xs).sum() / small.sum(), (small * ys).sum() / small.sum()
    spot = scales.to_reduced(np.array([[43.5, 19.5]], np.float32), factor)
    np.testing.assert_allclose(spot[0], centre, atol=1e-5)


@pytest.mark.parametrize("factor", scales.FACTORS)
def test_enlarging_keeps_planes_and_undoes_reducing_them(factor: int) -> None:
    y, x = np.indices((64, 64)).astype(np.float32)
    plane = np.stack([3 * x - y, np.full_like(x, 7.0)])
    back = scales.enlarged_logits(scales.reduced_logits(plane, factor), factor)
    assert back.shape == plane.shape
    assert back.dtype == np.float32
    inner = (slice(None), slice(factor, -factor), slice(factor, -factor))
    np.testing.assert_allclose(back[inner], plane[inner], atol=1e-4)


def test_a_smaller_embedding_is_the_top_left_of_the_frame() -> None:
    """As in training, where a window has the positions of its place in the frame."""
    torch.manual_seed(0)
    model = SegmentAnything("tiny_vit_2m").eval()
    embedding = torch.randn(1, 256, 8, 8)
    points, labels = torch.tensor([[[30.0, 50.0]]]), torch.tensor([[1]])
    box = torch.tensor([[10.0, 20.0, 90.0, 100.0]])
    mask = torch.randn(1, 1, 32, 32)
    for masks in (None, mask):
        with torch.no_grad():
            logits, scores = model.decode(
                embedding, points=points, labels=labels, boxes=box, masks=masks
            )
            expected = decode(
                model,
                embedding,
                torch.zeros(1, 2, dtype=torch.long),
                torch.zeros(1, dtype=torch.long),
                points,
                labels,
                box,
                masks,
            )
        assert logits.shape == (1, 3, 32, 32)
        torch.testing.assert_close(logits, expected.logits, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(scores, expected.scores, rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------ whose answer is kept

IMAGE = np.zeros((400, 512, 3), np.uint8)


class Looking(AnalyticRuntime):
    """Expects of each look's answers what it is told, by the side of the look."""

    dense_prompts = True

    def __init__(self, expected: dict[int, float]) -> None:
        super().__init__(None)
        self.expected = expected
        self.asked: list[tuple[int, int]] = []

    def decode(self, features: Any, **prompts: Any) -> DecodedPrompts:
        found = super().decode(features, **prompts)
        side = features[1]
        self.asked.append((side, len(found.scores)))
        return found._replace(scores=np.full_like(found.scores, self.expected[side]))


class Frugal(Looking):
    """Draws only what it must, and notes how good that had to be."""

    def __init__(self, expected: dict[int, float]) -> None:
        super().__init__(expected)
        self.least: dict[int, float | None] = {}
        self.exact: dict[int, bool] = {}

    def decode(self, features: Any, **prompts: Any) -> DecodedPrompts:
        found = super().decode(features, **prompts)
        least = prompts["least_scores"]
        self.least[features[1]] = None if least is None else float(least.max())
        self.exact[features[1]] = prompts["exact"]
        if least is not None:
            found.logits[found.scores.max(axis=1) <= least] = -np.inf
        return found


@pytest.mark.parametrize("least", [-np.inf, 0.3, 0.55, 0.8])
@pytest.mark.parametrize("looks", [(0.5, 0.6, 0.4), (0.7, 0.4, 0.9), (0.5, 0.54, 0.2)])
def test_only_what_may_be_kept_is_drawn(
    looks: tuple[float, float, float], least: float
) -> None:
    expected = dict(zip((1024, 512, 256), looks, strict=True))
    prompts = Prompts(points=np.array([[[200.0, 150.0]]], np.float32))
    runtimes = Looking(expected), Frugal(expected)
    found = []
    for runtime in runtimes:
        predictor = Predictor(runtime, name="looking", model_id="looking")
        embedding = predictor.encode(IMAGE)
        found.append(predictor.predict(embedding, prompts, least_score=least))
    whole, frugal = found
    if whole.scores.max() > least:
        np.testing.assert_array_equal(frugal.scores, whole.scores)
        np.testing.assert_array_equal(frugal.logits, whole.logits)
    else:
        assert frugal.scores.max() <= least
        assert (frugal.logits == -np.inf).all()
    assert set(runtimes[1].exact.values()) == {True}
    noted = runtimes[1].least
    assert noted[1024] == (None if least == -np.inf else pytest.approx(least))
    assert noted[512] == pytest.approx(max(least, looks[0]))


def test_all_looks_are_as_exact_as_asked() -> None:
    runtime = Frugal({1024: 0.5, 512: 0.6, 256: 0.7})
    predictor = Predictor(runtime, name="looking", model_id="looking")
    prompts = Prompts(points=np.array([[[200.0, 150.0]]], np.float32))
    predictor.predict(predictor.encode(IMAGE), prompts, exact=False)
    assert runtime.exact == {1024: False, 512: False, 256: False}


def answered(
    expected: dict[int, float], prompts: Prompts
) -> tuple[np.ndarray, np.ndarray, Looking]:
    """Logits, scores, and the runtime."""
    runtime = Looking(expected)
    predictor = Predictor(runtime, name="looking", model_id="looking")
    embedding = predictor.encode(IMAGE)
    assert [each.shape[:2] for each in runtime.encoded] == [
        (800, 1024),
        (400, 512),
        (200, 256),
    ]
    assert [look.factor for look in embedding.looks] == [1, 2, 4]
    masks = predictor.predict(embedding, prompts)
    assert masks.logits.shape == (len(prompts), 3, 256, 256)
    return masks.logits, masks.scores, runtime


LARGE, SMALL = [50.0, 50.0, 450.0, 350.0], [100.0, 100.0, 120.0, 130.0]


@pytest.mark.parametrize(
    ("expected", "kept"),
    [
        ({1024: 0.8, 512: 0.7, 256: 0.6}, 0.8),
        ({1024: 0.6, 512: 0.9, 256: 0.7}, 0.9),
        ({1024: 0.6, 512: 0.7, 256: 0.9}, 0.9),
        ({1024: 0.7, 512: 0.71, 256: 0.69}, 0.71),
    ],
)
def test_the_answer_that_promises_most_is_kept(
    expected: dict[int, float], kept: float
) -> None:
    logits, scores, _ = answered(expected, Prompts(boxes=[LARGE]))
    np.testing.assert_allclose(scores, kept, rtol=1e-6)
    # In its place, whatever size it was made at: twice as large in the frame, 4 pixels a logit.
    ys, xs = np.nonzero(logits[0, 0] > 0)
    found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) * 2
    np.testing.assert_allclose(found, LARGE, atol=8)


@pytest.mark.parametrize(("promised", "kept"), [(0.74, 0.7), (0.76, 0.76)])
def test_the_largest_look_has_a_head_start_for_what_is_not_large(
    promised: float, kept: float
) -> None:
    box = [50.0, 50.0, 190.0, 190.0]  # 35 by 35 logits at half the size
    _, scores, runtime = answered({1024: 0.7, 512: promised}, Prompts(boxes=[box]))
    np.testing.assert_allclose(scores, kept, rtol=1e-6)
    assert runtime.asked == [(1024, 1), (512, 1)]


def test_small_boxes_are_not_looked_at_twice() -> None:
    expected = {1024: 0.1, 512: 0.9, 256: 0.9}
    _, scores, runtime = answered(expected, Prompts(boxes=[SMALL, LARGE, SMALL]))
    np.testing.assert_allclose(scores[:, 0], [0.1, 0.9, 0.1], rtol=1e-6)
    assert runtime.asked == [(1024, 3), (512, 1), (256, 1)]


def test_only_so_many_looks_as_are_wanted_are_asked() -> None:
    runtime = Looking({1024: 0.1, 512: 0.5, 256: 0.9})
    predictor = Predictor(runtime, name="looking", model_id="looking")
    embedding = predictor.encode(IMAGE)
    clicks = Prompts(points=np.full((4, 1, 2), 200.0, np.float32))
    masks = predictor.predict(embedding, clicks, looks=np.array([3, 1, 2, 1]))
    assert runtime.asked == [(1024, 4), (512, 2), (256, 1)]
    np.testing.assert_allclose(masks.scores[:, 0], [0.9, 0.1, 0.5, 0.1], rtol=1e-6)


def test_small_answers_of_a_smaller_look_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = {1024: 0.1, 512: 0.9, 256: 0.9}
    click = Prompts(points=[[[200, 200]]])  # a disk of some 20 logits, in every look
    for least, kept in ((400, 0.9), (4000, 0.1)):
        monkeypatch.setattr(scales, "LEAST_AREA", least)
        _, scores, runtime = answered(expected, click)
        assert [side for side, _ in runtime.asked] == [1024, 512, 256]
        np.testing.assert_allclose(scores, kept, rtol=1e-6)


def test_earlier_answers_are_prompts_at_every_size() -> None:
    mask = np.full((1, 256, 256), -8.0, np.float32)
    mask[0, 40:120, 60:180] = 8
    expected = {1024: 0.1, 512: 0.9, 256: 0.5}
    logits, scores, _ = answered(expected, Prompts(masks=mask))
    np.testing.assert_allclose(scores, 0.9, rtol=1e-6)
    np.testing.assert_array_equal(logits[0, 0] > 0, mask[0] > 0)


def test_clicks_on_small_regions_need_no_smaller_look() -> None:
    regions = np.zeros((64, 64), np.int32)
    regions[2:12, 2:12] = 1  # 100 logits
    regions[20:30, 2:14] = 2  # 120
    regions[30:60, 30:60] = 3  # 900
    spots = {1: (5, 5), 2: (25, 5), 3: (40, 40), 0: (0, 60)}

    def small(*clicks: tuple[int, int]) -> bool:
        at = [spots[region] for region, _ in clicks]
        points = np.array([[(4 * x + 1.5, 4 * y + 1.5) for y, x in at]], np.float32)
        labels = np.array([[label for _, label in clicks]], np.int32)
        found = scales.small_objects(regions, points, labels)
        assert found.shape == (1,)
        return bool(found[0])

    assert small((1, 1))
    assert small((1, 1), (1, 1))  # counted once, or they would be 200
    assert not small((1, 1), (2, 1))
    assert not small((3, 1))
    assert not small((0, 1))  # nothing is known there
    assert not small((1, 1), (0, 1))
    assert small((1, 1), (3, 0))  # what a negative click lies on does not count
    assert small((1, 1), (0, 0))
    assert not small((1, 0))
    outside = np.array([[[-9.0, 900.0]]], np.float32)  # clicks beyond the image
    assert not scales.small_objects(regions, outside, np.ones((1, 1), np.int32))[0]


class Seeing(Looking):
    """Its object head sees one disc in the image, of so many pixels of the frame."""

    has_object_head = True

    def __init__(self, radius: float) -> None:
        super().__init__({1024: 0.1, 512: 0.9, 256: 0.9})
        self.radius = radius

    def object_maps(self, features: Any) -> np.ndarray:
        side = features[1]
        ys, xs = (np.mgrid[: side // 4, : side // 4] + 0.5) * (4 * 1024 / side)
        away = np.hypot(ys - 400, xs - 400) / self.radius
        inside = away < 1
        maps = [inside, np.where(inside, away, 1), np.where(inside, 1 - away, 0)]
        return np.asarray(maps, np.float32)


@pytest.mark.parametrize(
    ("radius", "spot", "asked"),
    [
        (40.0, 200.0, [1024]),  # 5,000 pixels: 80 logits at half the size
        (90.0, 200.0, [1024, 512]),  # 400 and 100 logits
        (300.0, 200.0, [1024, 512, 256]),
        (40.0, 20.0, [1024, 512, 256]),  # beside it
    ],
)
def test_clicks_on_what_is_surely_small_are_not_looked_at_twice(
    radius: float, spot: float, asked: list[int]
) -> None:
    runtime = Seeing(radius)
    predictor = Predictor(runtime, name="seeing", model_id="seeing")
    embedding = predictor.encode(IMAGE)
    predictor.predict(embedding, Prompts(points=np.full((1, 1, 2), spot, np.float32)))
    assert [side for side, _ in runtime.asked] == asked
    mask = np.zeros((1, 256, 256), np.float32)
    runtime.asked.clear()
    corrected = Prompts(points=np.full((1, 1, 2), spot, np.float32), masks=mask)
    predictor.predict(embedding, corrected)
    assert [side for side, _ in runtime.asked] == [1024, 512, 256]
