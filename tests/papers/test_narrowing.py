"""Mask decoders with fewer hidden units, which answer as before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_anything.modeling.common import MLPBlock
from torch import Tensor, nn

from efficient_models import efficient_model
from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from papers import narrowing
from papers.narrowing import main, mlp_width, narrowed, without_hidden_units
from tinysam_training.labelled_image import ImageEntry, LabelledImage
from tinysam_training.run.starting import new_model
from training.small_runs import discs, write_pairs

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything


def mlp(units: int, seed: int, channels: int = 5) -> MLPBlock:
    torch.manual_seed(seed)
    return MLPBlock(channels, units, nn.ReLU)


def answered(block: MLPBlock, weights: dict[str, Tensor], seen: Tensor) -> Tensor:
    narrow = MLPBlock(block.lin1.in_features, len(weights["lin1.bias"]), nn.ReLU)
    narrow.load_state_dict(weights)
    return narrow(seen)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), units=st.integers(3, 9))
def test_the_unit_that_goes_is_the_one_least_missed(seed: int, units: int) -> None:
    """By fitting the rest without each unit in turn, with numpy's least squares."""
    block = mlp(units, seed)
    seen = torch.randn(400, 5)
    with torch.no_grad():
        expected = block(seen)
        found = answered(block, without_hidden_units(block, seen, units - 1), seen)
        hidden = block.act(block.lin1(seen)).double().numpy()
    least = np.inf
    for gone in range(units):
        rest = np.delete(hidden, gone, axis=1)
        rest = np.hstack([rest, np.ones((len(rest), 1))])
        solved = np.linalg.lstsq(rest, expected.double().numpy(), rcond=None)[0]
        least = min(least, np.square(rest @ solved - expected.numpy()).mean())
    error = float((found - expected).square().mean())
    assert error == pytest.approx(least, rel=0.02, abs=1e-6)


def test_units_that_repeat_others_or_never_fire_cost_nothing() -> None:
    few, many = mlp(4, 1), mlp(4 * 5, 2)
    with torch.no_grad():
        many.lin1.weight[:16] = few.lin1.weight.repeat(4, 1)
        many.lin1.bias[:16] = few.lin1.bias.repeat(4)
        many.lin1.bias[16:] = -100.0
    seen = torch.randn(300, 5)
    weights = without_hidden_units(many, seen, 4)
    with torch.no_grad():
        expected = many(seen)
        error = answered(many, weights, seen) - expected
    assert error.abs().max() < 2e-3 * expected.std()


@pytest.fixture
def redundant(monkeypatch: pytest.MonkeyPatch) -> SegmentAnything:
    """A model in whose decoder 16 units of each layer are there many times."""
    model = efficient_model(1024)
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in model.mask_decoder.transformer.layers:
            first = layer.mlp.lin1
            first.weight.copy_(first.weight[:16].repeat(128, 1))
            first.bias.copy_(first.bias[:16].repeat(128))
    tokens = torch.randn(500, 256, generator=rng)
    monkeypatch.setattr(narrowing, "tokens_seen", lambda *_: (tokens, tokens))
    return model


def test_a_narrower_decoder_answers_alike_and_comes_back_from_its_file(
    redundant: SegmentAnything, tmp_path: Path
) -> None:
    narrow = narrowed(redundant, [], 16)
    assert (mlp_width(redundant), mlp_width(narrow)) == (2048, 16)
    path = tmp_path / "narrow.safetensors"
    checkpoints.save(narrow, path)
    loaded = checkpoints.load(path).model
    assert loaded.dense_prompts
    embedding = torch.randn(1, 256, 8, 8)
    channels = redundant.encoder_kind.detail_channels
    details = tuple(
        torch.randn(1, count, 8 * 2**n, 8 * 2**n)
        for n, count in enumerate(channels, start=1)
    )
    clicks = {
        "points": torch.tensor([[[40.0, 60.0]], [[100.0, 20.0]]]),
        "labels": torch.ones(2, 1),
    }
    with torch.no_grad():
        expected, scores = redundant.decode(embedding, details=details, **clicks)
        found, found_scores = loaded.decode(embedding, details=details, **clicks)
    assert (found - expected).abs().max() < 0.01 * expected.std()
    torch.testing.assert_close(found_scores, scores, rtol=0.01, atol=0.01)


def test_a_decoder_too_wide_a_wish_and_official_ones_are_refused() -> None:
    with pytest.raises(DataError, match="2048 hidden units cannot be made one of 2048"):
        narrowed(efficient_model(64), [], 2048)
    with pytest.raises(DataError, match="official programs"):
        narrowed(new_model("tiny_vit_2m", image_size=64), [], 16)


def test_the_command_looks_at_prompts_on_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide, narrow = tmp_path / "wide.safetensors", tmp_path / "narrow.safetensors"
    checkpoints.save(efficient_model(1024), wide, {"name": "ours"}, half=True)
    write_pairs(tmp_path / "data" / "train", 1)
    asked = [str(wide), str(tmp_path / "data"), "-o", str(narrow), "--width", "64"]
    monkeypatch.setattr(sys, "argv", ["narrowing", *asked])
    main()
    assert "64 instead of 2048" in capsys.readouterr().err
    loaded = checkpoints.load(narrow)
    assert mlp_width(loaded.model) == 64
    assert loaded.notes["name"] == "ours"
    assert narrow.stat().st_size < wide.stat().st_size - 2 * 2 * 2 * 256 * 1984 + 5000


def test_images_without_objects_show_nothing() -> None:
    (image,) = discs(1)
    empty = LabelledImage.from_arrays(
        "empty", "none", image.rgb, np.zeros(image.rgb.shape[:2], np.int32)
    )
    entry = ImageEntry("empty", "none", True, lambda: empty, "0")
    with pytest.raises(DataError, match="no object"):
        narrowing.tokens_seen(efficient_model(1024), [entry])
