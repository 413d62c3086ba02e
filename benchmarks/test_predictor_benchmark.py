"""Timings of the model: contrast, embedding, prompts, masks at full size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_tinysam import Predictor, Prompts
from napari_tinysam.image import to_rgb
from napari_tinysam.masks import Upscaler

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from napari_tinysam import Embedding

SIDES = (2048, 8192)
ROUNDS = 3


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """TinySAM on the fastest device here, with random weights, which do not change times."""
    import torch

    from napari_tinysam.inference.runtime.torch_runtime import (
        TorchRuntime,
        choose_device,
    )
    from napari_tinysam.model import SegmentAnything

    torch.manual_seed(0)
    runtime = TorchRuntime(SegmentAnything("tiny_vit"), choose_device())
    return Predictor(runtime, name="random", model_id="random")


def plane(side: int) -> np.ndarray:
    """(side, side) uint16, as a camera gives it."""
    rng = np.random.default_rng(0)
    return rng.integers(100, 4000, (side, side), dtype=np.uint16)


@pytest.fixture(scope="module")
def embedding(predictor: Predictor) -> Embedding:
    return predictor.encode(plane(SIDES[0]))


@pytest.mark.parametrize("side", SIDES)
def test_convert(benchmark: BenchmarkFixture, side: int) -> None:
    image = plane(side)
    rgb = benchmark.pedantic(to_rgb, (image,), rounds=ROUNDS, warmup_rounds=1)
    assert rgb.shape == (side, side, 3)


@pytest.mark.parametrize("side", SIDES)
def test_embed(benchmark: BenchmarkFixture, predictor: Predictor, side: int) -> None:
    image = plane(side)
    found = benchmark.pedantic(
        predictor.encode, (image,), rounds=ROUNDS, warmup_rounds=1
    )
    assert found.original_size == (side, side)


@pytest.mark.parametrize("count", [1, 8, 64])
@pytest.mark.parametrize("kind", ["point", "box"])
def test_predict(
    benchmark: BenchmarkFixture,
    predictor: Predictor,
    embedding: Embedding,
    kind: str,
    count: int,
) -> None:
    corners = np.random.default_rng(count).uniform(0, 2000, (count, 2))
    if kind == "point":
        prompts = Prompts(points=corners[:, np.newaxis])
    else:
        prompts = Prompts(boxes=np.hstack([corners, corners + 40]))
    masks = benchmark.pedantic(
        predictor.predict, (embedding, prompts), rounds=ROUNDS, warmup_rounds=1
    )
    assert len(masks) == count


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("share", [0.03, 0.5], ids=["nucleus", "half_of_the_image"])
def test_boxed_mask(benchmark: BenchmarkFixture, side: int, share: float) -> None:
    """Time one mask at the size of the image, as each click and hover needs it."""
    upscaler = Upscaler((1024, 1024), (side, side))
    y, x = np.mgrid[:256, :256]
    radius = 256 * share / 2
    logits = (radius - np.hypot(y - 128, x - 128)).astype(np.float32)
    boxed = benchmark(upscaler.boxed, logits)
    assert boxed.mask.shape[0] == pytest.approx(share * side, rel=0.2)


@pytest.mark.parametrize("side", SIDES)
def test_prepare_upscaling(benchmark: BenchmarkFixture, side: int) -> None:
    """Once an embedding, with its first mask."""
    benchmark(Upscaler, (1024, 1024), (side, side))
