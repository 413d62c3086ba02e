"""The TinyViT encoder against its plain re-statement, and its size."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import timm.models
import timm.models.tiny_vit
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from napari_tinysam.model import SegmentAnything, from_official
from official_models import load_official, official_tiny_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from segment_anything.modeling import Sam


def random_image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, height, width, generator=generator)


def embed(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.image_encoder(image)


def with_attention(model: SegmentAnything, *, fused: bool) -> SegmentAnything:
    """Return a copy that computes attention by torch's fused kernel or step by step."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, timm.models.tiny_vit.Attention):
            module.fused_attn = fused
    return model


# Whole windows only; windows over both edges, not square.
@pytest.mark.parametrize("size", [(224, 224), (128, 160)])
def test_encoder_equals_the_plain_restatement(
    ours: SegmentAnything, official: Sam, size: tuple[int, int]
) -> None:
    image = random_image(*size)
    expected = embed(official, image)
    assert expected.shape == (1, 256, size[0] // 16, size[1] // 16)
    assert expected.std() > 0.5  # or the tolerance would say little
    for fused in (True, False):
        found = embed(with_attention(ours, fused=fused), image)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_batch_is_its_images_one_by_one(ours: SegmentAnything) -> None:
    images = torch.cat([random_image(64, 64, seed) for seed in (1, 2)])
    batch = embed(ours, images)
    single = torch.cat([embed(ours, image[None]) for image in images])
    torch.testing.assert_close(batch, single, rtol=0, atol=1e-5)


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        model = SegmentAnything()
    unused = ("image_encoder.head.", "image_encoder.norm_head.")
    used = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if not name.startswith(unused)
    )
    assert used == pytest.approx(9.808e6, rel=0.01)


def test_encoder_needs_as_many_operations_as_published() -> None:
    with torch.device("meta"):
        model = SegmentAnything().eval()
        image = torch.empty(1, 3, 1024, 1024)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.image_encoder(image)
    multiply_adds = counter.get_total_flops() / 2
    assert multiply_adds == pytest.approx(38.77e9, rel=0.01)


def test_new_weights_count_after_the_model_has_run(
    ours: SegmentAnything, tmp_path: Path
) -> None:
    image = random_image(64, 64)
    model = copy.deepcopy(ours)
    before = embed(model, image)
    expected = embed(load_official(tmp_path, seed=1), image)
    assert (expected - before).abs().max() > 0.1
    model.load_state_dict(from_official(official_tiny_weights(seed=1)))
    assert torch.equal(embed(model, image), expected)


@pytest.mark.parametrize("step", ["eval", "to", "deepcopy", "in place"])
def test_no_attention_bias_outlives_its_weights(
    ours: SegmentAnything, step: str
) -> None:
    image = random_image(64, 64)
    model = copy.deepcopy(ours).eval()
    before = embed(model, image)
    if step == "to":
        model = model.to(torch.float64).to(torch.float32).to("cpu")
    elif step == "deepcopy":
        model = copy.deepcopy(model)
    if step == "in place":
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("attention_biases"):
                    # One entry: a constant added to all would cancel in the softmax.
                    parameter[:, 1] += 1.5
    else:
        state = {
            name: torch.flip(values, (-1,))
            if name.endswith("attention_biases")
            else values
            for name, values in model.state_dict().items()
        }
        model.load_state_dict(state)
    after = embed(model, image)
    assert (after - before).abs().max() > 0.01
    fresh = SegmentAnything.uninitialized()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(after, embed(fresh.eval(), image))


@pytest.fixture
def foreign_tiny_vit() -> Iterator[None]:
    """What `import tinysam` and `import mobile_sam` do to timm's registry."""
    original = timm.models.model_entrypoint("tiny_vit_5m_224")

    def tiny_vit_5m_224(pretrained: bool = False, **kwargs: object) -> nn.Module:
        return nn.Linear(1, 1)

    tiny_vit_5m_224.__module__ = "timm.models.tiny_vit"
    with pytest.warns(UserWarning, match="Overwriting"):
        timm.models.register_model(tiny_vit_5m_224)
    yield
    with pytest.warns(UserWarning, match="Overwriting"):
        timm.models.register_model(original)


@pytest.mark.usefixtures("foreign_tiny_vit")
def test_correct_although_another_package_registered_its_tiny_vit(
    ours: SegmentAnything, official: Sam, tmp_path: Path
) -> None:
    assert isinstance(timm.create_model("tiny_vit_5m_224"), nn.Linear)
    image = random_image(64, 64)
    found = embed(load_official(tmp_path), image)
    assert torch.equal(found, embed(ours, image))
    torch.testing.assert_close(found, embed(official, image), rtol=0, atol=1e-5)


def test_uninitialized_differs_from_a_built_model_in_its_weights_only() -> None:
    built, bare = SegmentAnything(), SegmentAnything.uninitialized()
    weights = set(built.state_dict())
    bare_buffers = dict(bare.named_buffers())
    derived = [name for name, _ in built.named_buffers() if name not in weights]
    assert len(derived) == 2 + 10  # pixel statistics, and one index a window attention
    for name in derived:
        assert torch.equal(built.get_buffer(name), bare_buffers[name]), name
    assert all(parameter.device.type == "cpu" for parameter in bare.parameters())
    assert [p.requires_grad for p in bare.parameters()] == [
        p.requires_grad for p in built.parameters()
    ]
