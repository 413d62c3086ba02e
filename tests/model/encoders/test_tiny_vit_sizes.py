"""TinyViT in other sizes than TinySAM's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import timm.models.tiny_vit
import torch

from napari_tinysam.checkpoints import load, save
from napari_tinysam.errors import CheckpointError
from napari_tinysam.model import (
    TINY_VIT_CONFIGS,
    SegmentAnything,
    from_official,
    to_official,
)

if TYPE_CHECKING:
    from pathlib import Path

SIZES = ["tiny_vit", "tiny_vit_2m", "tiny_vit_11m", "tiny_vit_21m"]


def on_meta(size: str, image_size: int = 1024) -> SegmentAnything:
    with torch.device("meta"):
        return SegmentAnything(size, image_size).eval()  # type: ignore[arg-type]


def hollow(size: str) -> dict[str, torch.Tensor]:
    """Official names and shapes with one value a tensor: a file of kilobytes."""
    return {
        name: torch.tensor(index % 32, dtype=tensor.dtype).expand(tensor.shape)
        for index, (name, tensor) in enumerate(
            to_official(on_meta(size).state_dict()).items()
        )
    }


def test_these_are_the_sizes() -> None:
    assert list(TINY_VIT_CONFIGS) == SIZES


# Body and classifier in millions, as the TinyViT paper counts; the second is ours.
@pytest.mark.parametrize(
    ("size", "millions"), list(zip(SIZES, [5.4, 2.1, 11.0, 21.2], strict=True))
)
def test_parameters_are_as_many_as_published(size: str, millions: float) -> None:
    encoder = on_meta(size).image_encoder
    neck = sum(parameter.numel() for parameter in encoder.neck.parameters())
    count = sum(parameter.numel() for parameter in encoder.parameters()) - neck
    assert count / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("size", "published"),
    [
        ("tiny_vit", "tiny_vit_5m_224"),
        ("tiny_vit_11m", "tiny_vit_11m_224"),
        ("tiny_vit_21m", "tiny_vit_21m_224"),
    ],
)
def test_imagenet_weights_of_the_published_sizes_fit(size: str, published: str) -> None:
    with torch.device("meta"):
        imagenet = getattr(timm.models.tiny_vit, published)().state_dict()
    body = on_meta(size).image_encoder.body.state_dict()
    shapes = {
        name: tensor.shape
        for name, tensor in imagenet.items()
        if not name.startswith("head.")
    }
    assert {name: tensor.shape for name, tensor in body.items()} == shapes


@pytest.mark.parametrize("size", SIZES)
def test_attention_heads_have_32_channels(size: str) -> None:
    attentions = [
        module
        for module in on_meta(size).modules()
        if isinstance(module, timm.models.tiny_vit.Attention)
    ]
    assert len(attentions) == sum(TINY_VIT_CONFIGS[size].depths[1:])
    assert {attention.key_dim for attention in attentions} == {32}


@pytest.mark.parametrize("size", SIZES)
def test_embeds_at_stride_16(size: str) -> None:
    with torch.no_grad():
        for image_size, cells in ((256, 16), (1024, 64)):
            image = torch.empty(2, 3, image_size // 2, image_size, device="meta")
            embedding = on_meta(size, image_size).encode(image)
            assert embedding.shape == (2, 256, cells, cells)


@pytest.mark.parametrize("size", SIZES)
def test_the_file_tells_the_size(size: str, tmp_path: Path) -> None:
    weights = hollow(size)
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    model = load(path).model
    assert model.architecture == size
    found = to_official(model.state_dict())
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize("size", SIZES[1:])
def test_sizes_are_told_apart_by_more_than_one_tensor(
    size: str, tmp_path: Path
) -> None:
    weights = hollow(size)
    del weights["image_encoder.layers.2.downsample.conv3.c.weight"]
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match=rf"a whole {size} model; .*missing 1 "):
        load(path)


def test_an_unknown_size_is_refused_with_what_does_not_fit(tmp_path: Path) -> None:
    weights = hollow("tiny_vit")
    for name in list(weights):
        if name.startswith("image_encoder.layers."):
            del weights[name]
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match="not a whole tiny_vit model"):
        load(path)


def test_a_small_model_embeds_the_same_after_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SegmentAnything("tiny_vit_2m", image_size=256, object_head=True).eval()
    path = tmp_path / "small.safetensors"
    save(model, path)
    found = load(path).model
    image = torch.rand(2, 3, 256, 256) * 255
    with torch.inference_mode():
        expected = model.encode(image)
        assert expected.shape == (2, 256, 16, 16)
        assert expected.std() > 0.1
        again = found.image_encoder(found.normalize_and_pad(image)[..., :256, :256])
        torch.testing.assert_close(again, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES[1:])
def test_uninitialized_sets_what_no_file_carries(size: str) -> None:
    bare = SegmentAnything.uninitialized(size, image_size=64)  # type: ignore[arg-type]
    with torch.device("meta"):
        names = to_official(bare.state_dict())
    assert len(from_official(names)) == len(names)
    for name, module in bare.named_modules():
        if isinstance(module, timm.models.tiny_vit.Attention):
            index = module.attention_bias_idxs
            assert index.diagonal().eq(0).all(), name  # a token beside itself
            assert index.max() == module.attention_biases.shape[1] - 1, name
            assert torch.equal(index, index.T), name
