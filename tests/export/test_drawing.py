"""The drawing inside the decoder's graph is that of `draw_prompts`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from export.small_exports import SIDE, small_model
from napari_tinysam.dense_prompts import draw_prompts
from napari_tinysam.model.fast.graphs import PromptGraph

LOGITS = SIDE // 4


@cache
def graph() -> PromptGraph:
    return PromptGraph(small_model(), SIDE).eval()


@settings(max_examples=150)
@given(
    seed=st.integers(0, 100_000),
    count=st.integers(1, 4),
    points=st.integers(1, 4),
    boxed=st.sampled_from([0.0, 0.5, 1.0]),
    masked=st.sampled_from([0.0, 0.5]),
    seen=st.booleans(),
    whole=st.booleans(),
)
def test_it_draws_alike(
    seed: int,
    count: int,
    points: int,
    boxed: float,
    masked: float,
    seen: bool,
    whole: bool,
) -> None:
    """Rows of all kinds: labels −1, no points at all, beyond the frame, several at one place."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-10, SIDE + 10, (count, points, 2)).astype(np.float32)
    if whole:  # on the borders of logits, and often the same
        places = np.round(places / 16) * 16
    labels = rng.integers(-1, 2, (count, points))
    corners = np.sort(rng.uniform(-5, SIDE, (count, 2, 2)), axis=1).astype(np.float32)
    has_box = rng.random(count) < boxed
    has_mask = rng.random(count) < masked
    masks = rng.normal(0, 9, (count, LOGITS, LOGITS)).astype(np.float32)
    coarse = rng.integers(0, 4, (8, 8)).astype(np.int32)
    regions = np.kron(coarse, np.ones((LOGITS // 8, LOGITS // 8), np.int32))
    expected = draw_prompts(
        np,
        (LOGITS, LOGITS),
        points=places,
        labels=labels,
        boxes=np.where(has_box[:, None], corners.reshape(count, 4), np.nan),
        masks=np.where(has_mask[:, None, None], masks, np.nan),
        objects=np.broadcast_to(regions, masks.shape) if seen else None,
    )
    of_corners = np.where(has_box[:, None], [2, 3], -1)
    arrays: tuple[Any, ...] = (
        np.concatenate([places, corners], axis=1),
        np.concatenate([labels, of_corners], axis=1),
        masks,
        has_mask,
    )
    tensors = [torch.from_numpy(each) for each in arrays]
    of_objects = torch.from_numpy(regions) if seen else None
    found = graph().drawn(*tensors, of_objects).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=1e-4)
