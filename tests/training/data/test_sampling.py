"""How often images and windows are drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tinysam_training.data.pool import PooledImage
from tinysam_training.data.sampling import (
    Sources,
    balanced_weights,
    drawn_window,
)
from tinysam_training.recipe import Stage
from training.small_runs import discs


def test_images_are_drawn_by_their_shares() -> None:
    sources = Sources.by_share(discs(3), [6, 3, 1])
    assert sources.weights.sum() == pytest.approx(1)
    rng = np.random.default_rng(0)
    drawn = Counter(sources.draw(rng) for _ in range(4000))
    found = [drawn[i] / 4000 for i in range(3)]
    assert found == pytest.approx([0.6, 0.3, 0.1], abs=0.03)
    assert Sources.even(discs(4)).weights == pytest.approx([0.25] * 4)


def test_windows_are_drawn_by_their_weights() -> None:
    stage = Stage(windows=((64, 4, 3.0), (128, 1, 1.0)))
    rng = np.random.default_rng(0)
    drawn = Counter(drawn_window(stage, rng) for _ in range(4000))
    assert set(drawn) == {(64, 4), (128, 1)}
    assert drawn[64, 4] / 4000 == pytest.approx(0.75, abs=0.03)


def pooled(dataset: str, gray: bool, mean: float) -> PooledImage:
    boxes = np.zeros((0, 5), np.int64)
    return PooledImage(dataset, (8, 8), boxes, True, gray, mean)


def test_rare_looks_of_a_set_are_drawn_more_often() -> None:
    images = [pooled("a", True, 0.1)] * 100 + [pooled("a", True, 0.8)] * 4
    images += [pooled("a", False, 0.8)] + [pooled("b", True, 0.1)] * 5
    shares = np.array([0.7 / 105] * 105 + [0.3 / 5] * 5)
    found = balanced_weights(shares, images)
    assert found.sum() == pytest.approx(1)
    assert found[:105].sum() == pytest.approx(0.7)
    assert found[105:].sum() == pytest.approx(0.3)
    np.testing.assert_allclose(found[105:], 0.3 / 5)
    groups = [found[:100].sum(), found[100:104].sum(), found[104]]
    np.testing.assert_allclose(np.array(groups) / 0.7, np.array([10, 2, 1]) / 13)
    np.testing.assert_allclose(found[:100], found[0])
