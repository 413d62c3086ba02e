"""Wider encoders that begin with what narrower ones have learnt."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.model import ENCODERS, TINY_VIT_CONFIGS, SegmentAnything
from napari_tinysam.model.encoders.tiny_vit import TinyVitConfig, TinyVitEncoder
from papers.widening import main, widened
from tinysam_training.run.starting import new_model, starting_model


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> str:
    """A body in which every channel of "tiny_vit_2m" is there exactly twice."""
    config = TinyVitConfig((64, 128, 256, 384), (2, 4, 8, 12), (2, 2, 4, 2))
    kind = replace(
        ENCODERS["tiny_vit_2m"],
        build=partial(TinyVitEncoder, config),
        detail_channels=config.detail_channels,
    )
    monkeypatch.setitem(TINY_VIT_CONFIGS, "tiny_vit_twice", config)
    monkeypatch.setitem(ENCODERS, "tiny_vit_twice", kind)
    return "tiny_vit_twice"


def small() -> SegmentAnything:
    torch.manual_seed(0)
    model = new_model("tiny_vit_2m", image_size=64)
    for module in model.modules():  # as after training: no statistics alike
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        elif isinstance(module, torch.nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
    assert model.object_head is not None
    for parameter in model.object_head.parameters():
        if not parameter.any():  # what details add
            parameter.data.normal_(std=0.1)
    return model.eval()


def test_a_wider_encoder_embeds_as_the_narrow_one(twice: str) -> None:
    narrow = small()
    wide = widened(narrow, twice).eval()  # type: ignore[arg-type]
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = narrow.features(image), wide.features(image)
        maps = [narrow.object_maps(expected), wide.object_maps(found)]
    torch.testing.assert_close(
        found.embedding, expected.embedding, rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(maps[1], maps[0], rtol=1e-3, atol=1e-3)
    for name, tensor in narrow.state_dict().items():
        if not name.startswith(("image_encoder.", "object_head.details.")):
            torch.testing.assert_close(wide.state_dict()[name], tensor)


def test_copies_of_a_channel_learn_different_things(twice: str) -> None:
    wide = widened(small(), twice)  # type: ignore[arg-type]
    wide.image_encoder(torch.randn(1, 3, 64, 64)).square().sum().backward()
    gradient = wide.image_encoder.get_parameter("body.stages.1.blocks.0.mlp.fc1.weight")
    assert gradient.grad is not None
    first, second = gradient.grad.chunk(2)
    assert not torch.allclose(first, second, rtol=0.05)


def test_published_widths_keep_most_of_it() -> None:
    """Not all channels are copied equally often there: layer norms see other statistics."""
    torch.manual_seed(0)
    narrow = new_model("tiny_vit", image_size=64).eval()
    wide = widened(narrow, "tiny_vit_21m").eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pair = torch.stack(
            [m.image_encoder(image).flatten() for m in (narrow, wide)]  # type: ignore[operator]
        )
    assert torch.corrcoef(pair)[0, 1] > 0.95


@pytest.mark.parametrize("architecture", ["tiny_vit_2m", "vit_b"])
def test_other_bodies_are_refused(architecture: str) -> None:
    with pytest.raises(DataError, match="cannot be made from a tiny_vit one"):
        widened(SegmentAnything("tiny_vit", 64), architecture)  # type: ignore[arg-type]


def test_the_command_writes_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, wide = tmp_path / "start.safetensors", tmp_path / "wide.safetensors"
    checkpoints.save(new_model("tiny_vit"), start)
    command = ["widening", str(start), "tiny_vit_11m", "-o", str(wide)]
    monkeypatch.setattr("sys.argv", command)
    main()
    assert starting_model(str(wide)).architecture == "tiny_vit_11m"
