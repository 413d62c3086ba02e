"""Mask arithmetic against torch's interpolation and against plain counting."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_tinysam.masks import (
    BoxedMask,
    Upscaler,
    stability_scores,
    upscale_weights,
)

quick = settings(deadline=None, max_examples=30)

FRAME = 1024


def resized(height: int, width: int) -> tuple[int, int]:
    """Size of an image inside the frame (Segment Anything, `get_preprocess_shape`)."""
    scale = FRAME / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def upscaler(height: int, width: int) -> Upscaler:
    return Upscaler(resized(height, width), (height, width), FRAME)


def official(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Segment Anything's `postprocess_masks`: up, cut, resize."""
    rows, columns = resized(height, width)
    frame = F.interpolate(
        torch.from_numpy(logits)[None, None],
        (FRAME, FRAME),
        mode="bilinear",
        align_corners=False,
    )[..., :rows, :columns]
    full = F.interpolate(frame, (height, width), mode="bilinear", align_corners=False)
    return full[0, 0].numpy()


@cache
def blobs(seed: int) -> np.ndarray:
    """(256, 256) logits as a decoder gives them: smooth, and sharp at borders."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(0, 8, (1, 1, 12, 12)).astype(np.float32))
    smooth = F.interpolate(coarse, (256, 256), mode="bicubic")[0, 0].numpy()
    return smooth + rng.normal(0, 1, (256, 256)).astype(np.float32)


sizes = st.tuples(st.integers(1, 700), st.integers(1, 700))


@quick
@given(sizes, st.integers(0, 5))
def test_full_size_equals_the_official_order(size: tuple[int, int], seed: int) -> None:
    logits = blobs(seed)
    expected = official(logits, *size)
    found = upscaler(*size).full(logits)
    assert found.shape == size
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(logits).max()


@pytest.mark.parametrize("size", [(1500, 1024), (40, 3000), (2200, 7), (1024, 1024)])
def test_full_size_of_larger_images(size: tuple[int, int]) -> None:
    logits = blobs(7)
    difference = upscaler(*size).full(logits) - official(logits, *size)
    assert np.abs(difference).max() <= 1e-5 * np.abs(logits).max()


def test_stacks_of_logits_are_upscaled_at_once() -> None:
    logits = np.stack([blobs(1), blobs(2)])[None]
    up = upscaler(50, 70)
    full = up.full(logits)
    assert full.shape == (1, 2, 50, 70)
    assert np.allclose(full[0, 1], up.full(blobs(2)), atol=1e-4)


@quick
@given(
    size=sizes,
    centre=st.tuples(st.floats(-20, 276), st.floats(-20, 276)),
    radius=st.floats(0.2, 90),
    seed=st.integers(0, 3),
)
def test_boxed_is_the_full_mask_cut_out(
    size: tuple[int, int], centre: tuple[float, float], radius: float, seed: int
) -> None:
    y, x = np.mgrid[:256, :256]
    logits = (radius - np.hypot(y - centre[0], x - centre[1])).astype(np.float32)
    logits += np.random.default_rng(seed).normal(0, 1, logits.shape).astype(np.float32)
    up = upscaler(*size)
    full, boxed = up.full(logits), up.boxed(logits)
    rounding = np.abs(full) < 1e-4 * np.abs(logits).max()  # sums in another order
    assert boxed.shape == size
    assert np.array_equal(boxed.to_full()[~rounding], (full > 0)[~rounding])


@quick
@given(sizes)
def test_empty_and_filled_masks(size: tuple[int, int]) -> None:
    up = upscaler(*size)
    nothing = up.boxed(np.full((256, 256), -3, np.float32))
    assert nothing.area == 0
    assert nothing.to_full().shape == size
    everything = up.boxed(np.full((256, 256), 3, np.float32))
    assert everything.to_full().all()
    assert everything.slices == (slice(0, size[0]), slice(0, size[1]))


def test_logits_beside_the_image_are_not_in_the_mask() -> None:
    up = upscaler(100, 300)  # covers the upper third of the frame
    logits = np.full((256, 256), -5, np.float32)
    logits[up.valid_size[0] + 1 :] = 5
    assert up.boxed(logits).area == 0
    assert up.valid_size == (86, 256)


@quick
@given(
    st.integers(1, FRAME), st.integers(1, 3000), st.sampled_from([256, 512, 1024, 2048])
)
def test_weights_interpolate(inner: int, outer: int, frame: int) -> None:
    weights = upscale_weights(min(inner, frame), outer, frame)
    assert weights.shape == (outer, 256)
    assert (weights >= 0).all()
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert np.count_nonzero(weights, axis=1).max() <= 4


# ------------------------------------------------------------ stability


def test_stability_is_the_overlap_of_two_thresholds() -> None:
    logits = np.full((2, 3, 10, 10), -5, np.float32)
    logits[0, 0, :4] = 5  # sharp
    logits[0, 1, :4], logits[0, 1, :2] = 0.5, 5  # half of it near the threshold
    logits[1, 2] = 0.5  # all of it
    found = stability_scores(logits)
    assert found.shape == (2, 3)
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 0.5, 0], [0, 0, 0]]


@quick
@given(st.integers(0, 3), st.floats(0.1, 5))
def test_stability_equals_the_official_score(seed: int, offset: float) -> None:
    from segment_anything.utils.amg import calculate_stability_score

    logits = np.stack([blobs(seed), blobs(seed + 10) * 0.2])
    expected = calculate_stability_score(torch.from_numpy(logits), 0.0, offset)
    assert np.allclose(stability_scores(logits, offset), expected.numpy(), atol=1e-6)


# ------------------------------------------------------------ boxed masks


@quick
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.randoms(use_true_random=False),
    st.floats(0, 0.4),
)
def test_cutting_out_loses_nothing(size: tuple[int, int], random, share: float) -> None:
    mask = np.array(
        [[random.random() < share for _ in range(size[1])] for _ in range(size[0])]
    )
    boxed = BoxedMask.from_full(mask)
    assert np.array_equal(boxed.to_full(), mask)
    assert boxed.area == mask.sum()
    if mask.any():  # as small as can be
        for side in (
            boxed.mask[0],
            boxed.mask[-1],
            boxed.mask[:, 0],
            boxed.mask[:, -1],
        ):
            assert side.any()
        ys, xs = np.nonzero(mask)
        assert boxed.box == (xs.min(), ys.min(), xs.max(), ys.max())
    else:
        assert boxed.mask.size == 0
    wider = BoxedMask(mask, 2, 3, (20, 20))
    assert np.array_equal(wider.trimmed().to_full(), wider.to_full())


def test_a_boxed_mask_is_a_copy() -> None:
    mask = np.ones((5, 5), bool)
    boxed = BoxedMask.from_full(mask)
    mask[:] = False
    assert boxed.area == 25


@quick
@given(arrays(bool, (5, 6)), arrays(bool, (5, 6)))
def test_iou_of_boxed_masks_is_that_of_the_whole(a: np.ndarray, b: np.ndarray) -> None:
    one, other = BoxedMask.from_full(a), BoxedMask.from_full(b)
    union = np.count_nonzero(a | b)
    shared = np.count_nonzero(a & b)
    assert one.shared_area(other) == shared
    assert one.iou(other) == (shared / union if union else 1)
    assert one.lies_in(b) == (2 * shared > np.count_nonzero(a))


def test_iou() -> None:
    a, b = np.zeros((2, 4, 4), bool)
    assert BoxedMask.from_full(a).iou(BoxedMask.from_full(b)) == 1
    a[:2], b[1:3] = True, True
    one, other = BoxedMask.from_full(a), BoxedMask.from_full(b)
    assert one.iou(other) == pytest.approx(4 / 12)
    assert one.iou(BoxedMask.from_full(~a)) == 0
    with pytest.raises(ValueError, match="one image"):
        one.iou(BoxedMask.from_full(np.ones((2, 3), bool)))


def test_specks_go_and_parts_stay() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:30, 10:30] = True  # 400 pixels
    mask[40:50, 10:20] = True  # 100: a part
    mask[5, 70] = mask[55, 75] = True  # specks
    cleaned = BoxedMask.from_full(mask).without_specks()
    assert cleaned.area == 500
    assert cleaned.shape == (60, 80)
    full = cleaned.to_full()
    assert full[20, 20]
    assert full[45, 15]
    assert not full[5, 70]
    empty = BoxedMask.from_full(np.zeros((6, 8), bool))
    assert empty.without_specks().area == 0


@given(x=st.floats(20, 1000), y=st.floats(20, 1000), radius=st.floats(20, 200))
@settings(max_examples=30, deadline=None)
def test_a_mask_prompt_shows_its_mask(x: float, y: float, radius: float) -> None:
    """A disc of the frame, in an image of half the frame's size."""
    rows, columns = np.mgrid[:512, :512] * 2 + 0.5
    mask = BoxedMask.from_full(np.hypot(columns - x, rows - y) <= radius)
    upscaler = Upscaler((1024, 1024), (512, 512), 1024)
    logits = upscaler.mask_prompt(mask)
    assert logits.shape == (256, 256)
    assert logits.dtype == np.float32
    assert np.abs(logits).max() <= 8.0001
    assert upscaler.boxed(logits).iou(mask) > 0.8


@given(
    mask=st.integers(0, 2**32).map(
        lambda seed: np.random.default_rng(seed).random((7, 9)) < 0.4
    ),
    y0=st.integers(-12, 25),
    x0=st.integers(-12, 25),
)
def test_clipped_masks_and_centres(mask: np.ndarray, y0: int, x0: int) -> None:
    """Against the pixels, listed one by one."""
    moved = BoxedMask(mask, y0, x0, (20, 22))
    pixels = [(y + y0, x + x0) for y, x in np.argwhere(mask).tolist()]
    inside = [(y, x) for y, x in pixels if 0 <= y < 20 and 0 <= x < 22]
    clipped = moved.clipped()
    assert [tuple(pixel) for pixel in np.argwhere(clipped.to_full())] == inside
    if pixels:
        mean = np.mean(pixels, axis=0)
        np.testing.assert_allclose(moved.centre, mean[::-1])
