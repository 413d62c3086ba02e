"""What the object maps say of a mask: the mean of their foreground at its pixels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.masks import BoxedMask
from napari_tinysam.volume.asking import foreground_in


@given(
    st.integers(8, 300),
    st.integers(8, 300),
    st.integers(0, 2**32),
    st.sampled_from([256, 512]),
)
def test_it_is_the_mean_at_the_pixels_of_the_mask(
    height: int, width: int, seed: int, side: int
) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.random((3, side, side), np.float32)
    inside = np.zeros((height, width), bool)
    y, x = rng.integers(0, height), rng.integers(0, width)
    inside[y : y + 20, x : x + 30] = (
        rng.random(inside[y : y + 20, x : x + 30].shape) > 0.3
    )
    embedding = SimpleNamespace(maps=maps)
    cells = side / max(height, width)
    seen = [
        maps[0, int((row + 0.5) * cells), int((column + 0.5) * cells)]
        for row, column in zip(*np.nonzero(inside), strict=True)
    ]
    found = foreground_in(embedding, BoxedMask.from_full(inside))  # type: ignore[arg-type]
    assert found == pytest.approx(np.mean(seen) if seen else 1.0, rel=1e-5)


def test_without_maps_everything_may_be_foreground() -> None:
    mask = BoxedMask.from_full(np.ones((4, 4), bool))
    assert foreground_in(SimpleNamespace(maps=None), mask) == 1.0  # type: ignore[arg-type]
