"""Candidates: equal to what the whole logits give; non-maximum suppression."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi
from torchvision.ops import nms

from napari_tinysam.everything.candidates import found_by, suppressed
from napari_tinysam.masks import BoxedMask, Upscaler

SIZES = [(512, 512), (300, 1000), (1024, 640), (90, 64), (2048, 1500)]


def upscaler_of(size: tuple[int, int]) -> Upscaler:
    scale = 1024 / max(size)
    inner = tuple(int(side * scale + 0.5) for side in size)
    return Upscaler((inner[0], inner[1]), size)


def blob(seed: int) -> np.ndarray:
    """(256, 256) logits with an irregular positive part."""
    rng = np.random.default_rng(seed)
    noise = ndi.gaussian_filter(rng.standard_normal((256, 256)), rng.uniform(2, 8))
    y, x = np.mgrid[:256, :256]
    cy, cx = rng.uniform(20, 200, 2)
    away = np.hypot(y - cy, x - cx) / rng.uniform(3, 60)
    return (6 * noise / noise.std() + 4 - 6 * away).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SIZES))
def test_a_candidate_is_what_the_whole_logits_give(
    seed: int, size: tuple[int, int]
) -> None:
    logits, upscaler = blob(seed), upscaler_of(size)
    full = upscaler.full(logits)
    sure = np.abs(full) > 1e-4  # beyond a rounding of the interpolation
    found = found_by(
        logits[None],
        np.array([0.9], np.float32),
        np.array([[3.5, 7.0]]),
        upscaler,
        np.array([0.5], np.float32),
    )
    if not (full > 0).any():
        assert not found
        return
    (candidate,) = found
    mask = candidate.mask.to_full()
    assert (mask == (full > 0))[sure].all()
    whole = BoxedMask.from_full(mask)
    height, width = whole.mask.shape
    assert candidate.box == (
        whole.x0,
        whole.y0,
        whole.x0 + width - 1,
        whole.y0 + height - 1,
    )
    assert candidate.area == mask.sum()
    assert candidate.point == (3.5, 7.0)

    exact = candidate.with_exact_stability().stability
    expected = np.sum(full > 1) / np.sum(full > -1)
    assert exact == pytest.approx(expected, abs=1e-3)

    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (200, 2)) * (size[1], size[0])
    at = full[points[:, 1].astype(int), points[:, 0].astype(int)]
    for above in (0.0, 2.5):
        clear = np.abs(at - above) > 1e-3
        np.testing.assert_array_equal(
            candidate.covers(points, above)[clear], (at > above)[clear]
        )


def test_of_empty_masks_there_is_nothing() -> None:
    upscaler = upscaler_of((100, 100))
    planes = np.full((2, 256, 256), -5.0, np.float32)
    planes[1] = -0.5  # above the lower threshold of the stability, but no mask
    values = np.ones(2, np.float32)
    assert found_by(planes, values, np.zeros((2, 2)), upscaler, values) == []


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 60), st.floats(0.05, 0.95))
def test_suppression_is_that_of_torchvision(
    seed: int, count: int, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 40, (count, 2))
    boxes = np.concatenate([low, low + rng.integers(0, 30, (count, 2))], axis=1)
    scores = rng.choice([0.5, 0.6, 0.9, 0.91], count)
    expected = nms(
        torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.as_tensor(scores, dtype=torch.float32),
        threshold,
    )
    assert suppressed(boxes, scores, threshold).tolist() == expected.tolist()
