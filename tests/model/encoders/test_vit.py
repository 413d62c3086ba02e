"""SAM ViT-B/L/H against the models that segment-anything builds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry
from torch import nn

from napari_tinysam.checkpoints import load
from napari_tinysam.model import SegmentAnything, to_official
from official_models import random_values
from official_predictions import CLICKS, assert_official, predictor, together

if TYPE_CHECKING:
    from pathlib import Path


def plain_attributes(model: nn.Module) -> dict[str, object]:
    """Every number, text and flag that a module keeps beside its weights."""
    return {
        f"{name}.{key}": value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, bool | int | float | str | tuple)
    }


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_built_like_the_official(name: str) -> None:
    with torch.device("meta"):
        official = sam_model_registry[name]().eval()
        ours = SegmentAnything(name).eval()  # type: ignore[arg-type]
    expected = {key: tuple(value.shape) for key, value in official.state_dict().items()}
    found = to_official(ours.state_dict())
    assert {key: tuple(value.shape) for key, value in found.items()} == expected
    for part in ("image_encoder", "prompt_encoder", "mask_decoder"):
        assert str(getattr(ours, part)) == str(getattr(official, part))
        assert plain_attributes(getattr(ours, part)) == plain_attributes(
            getattr(official, part)
        )


def sparse_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Random weights, but one value a tensor in the blocks that the test leaves out."""
    others = re.compile(r"image_encoder\.blocks\.(?!(0|2)\.)")
    weights = model.state_dict()
    constant = {
        name: torch.tensor(index % 32 / 32).expand(tensor.shape)
        for index, (name, tensor) in enumerate(weights.items())
        if others.match(name)
    }
    varied = {name: tensor for name, tensor in weights.items() if name not in constant}
    return {**random_values(varied), **constant}


def test_a_vit_b_file_gives_the_official_masks(tmp_path: Path) -> None:
    with torch.device("meta"):
        official = sam_model_registry["vit_b"]()
    weights = sparse_weights(official)
    official.to_empty(device="cpu")
    official.load_state_dict(weights, strict=True)
    official.pixel_mean.copy_(torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1))
    official.pixel_std.copy_(torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1))
    path = tmp_path / "vit_b.pth"
    torch.save(weights, path)
    ours = load(path).model
    assert ours.architecture == "vit_b"
    loaded = to_official(ours.state_dict())
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    # A windowed and a global block: twelve at this size would take half a minute.
    for model in (ours, official):
        blocks = model.image_encoder.blocks
        model.image_encoder.blocks = nn.ModuleList([blocks[0], blocks[2]])
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    reference = SamPredictor(official.eval())
    reference.set_image(image)
    own = predictor(ours)
    embedding = own.encode(image)
    np.testing.assert_allclose(
        embedding.features.embedding.numpy(),
        reference.features.numpy(),
        rtol=0,
        atol=1e-5,
    )
    clicks = [CLICKS["a point"], CLICKS["a box with points"]]
    found = own.predict(embedding, together(clicks, 300, 400))
    for index, click in enumerate(clicks):
        assert_official(found, index, reference, click)


def test_new_weights_count_after_the_vit_has_run() -> None:
    def build() -> SegmentAnything:
        model = SegmentAnything.uninitialized("vit_b", image_size=64).eval()
        model.image_encoder.blocks = model.image_encoder.blocks[:3]
        return model

    def run(model: SegmentAnything) -> torch.Tensor:
        with torch.inference_mode():
            return model.image_encoder(image)

    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    model = build()
    weights = random_values(model.state_dict())
    model.load_state_dict(weights)
    before = run(model)
    changed = {
        name: values.flip(0) if "rel_pos" in name else values
        for name, values in weights.items()
    }
    model.load_state_dict(changed)
    assert (run(model) - before).abs().max() > 0.01
    fresh = build()
    fresh.load_state_dict(changed)
    assert torch.equal(run(model), run(fresh))
