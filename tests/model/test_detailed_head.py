"""The detailed object head: what it adds to the plain one, and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from napari_tinysam.checkpoints import load, save
from napari_tinysam.model import (
    TINY_VIT_CONFIGS,
    DetailedObjectHead,
    ObjectHead,
    SegmentAnything,
)
from napari_tinysam.model.encoders.kind import ImageFeatures
from official_models import random_values

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS = (64, 32)  # of "tiny_vit_2m" at strides 8 and 4

# Part of the file format, beside what a plain head has.
SHAPES = {
    **{
        f"details.{n}.{name}": shape
        for n, (source, width) in enumerate(((64, 64), (32, 32)))
        for name, shape in {
            "norm.weight": (source,),
            "norm.bias": (source,),
            "conv.weight": (width, source, 1, 1),
            "conv.bias": (width,),
        }.items()
    },
    **{
        f"refining.{n}.{block}.{name}": shape
        for n, width in enumerate((128, 64, 32))
        for block in (0, 1)
        for name, shape in {
            "first.weight": (width, width, 3, 3),
            "first.bias": (width,),
            "norm.weight": (width,),
            "norm.bias": (width,),
            "second.weight": (width, width, 3, 3),
            "second.bias": (width,),
        }.items()
    },
}


def features(height: int = 5, width: int = 7, batch: int = 2) -> ImageFeatures:
    generator = torch.Generator().manual_seed(0)

    def drawn(channels: int, factor: int) -> torch.Tensor:
        return torch.randn(
            batch, channels, factor * height, factor * width, generator=generator
        )

    return ImageFeatures(drawn(256, 1), (drawn(CHANNELS[0], 2), drawn(CHANNELS[1], 4)))


def trained_head() -> DetailedObjectHead:
    head = DetailedObjectHead(CHANNELS)
    head.load_state_dict(random_values(head.state_dict()))
    return head.eval()


def test_a_new_one_answers_as_the_plain_one() -> None:
    plain, detailed = ObjectHead().eval(), DetailedObjectHead(CHANNELS).eval()
    missing, unexpected = detailed.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert set(missing) == set(SHAPES)
    given = features()
    with torch.inference_mode():
        torch.testing.assert_close(
            detailed(*given), plain(given.embedding), rtol=1e-5, atol=1e-6
        )
    assert detailed.detailed
    assert not plain.detailed


def test_it_learns_from_all_that_it_sees() -> None:
    head, given = trained_head(), features()
    tensors = [given.embedding, *given.details]
    for tensor in tensors:
        tensor.requires_grad_()
    maps = head(*given)
    assert maps.shape == (2, 3, 20, 28)
    maps.square().mean().backward()
    for tensor in tensors:
        assert tensor.grad is not None
        assert tensor.grad.any()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_details_tell_of_their_own_place() -> None:
    head, given = trained_head(), features(16, 16, 1)
    with torch.inference_mode():
        before = head(*given)
        given.details[1][:, 0, 30, 40] += 3.0  # row 30, column 40 of the maps
        change = (head(*given) - before).abs().amax(dim=1)[0] > 1e-6
    rows, columns = torch.nonzero(change, as_tuple=True)
    # Five 3 × 3 convolutions follow.
    assert (int(rows.min()), int(rows.max())) == (25, 35)
    assert (int(columns.min()), int(columns.max())) == (35, 45)


def test_it_does_not_guess_details() -> None:
    with pytest.raises(ValueError, match="needs 2 maps of details; got 0"):
        trained_head()(features().embedding)


def test_a_plain_vit_has_none() -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match="vit_b encoder has no details"),
    ):
        SegmentAnything("vit_b", 64, object_head=True, details=True)


@pytest.mark.parametrize("architecture", TINY_VIT_CONFIGS)
def test_the_encoder_gives_what_the_head_needs(architecture: str) -> None:
    model = SegmentAnything(architecture, 64, object_head=True, details=True).eval()  # type: ignore[arg-type]
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        found = model.features(image)
        assert torch.equal(found.embedding, model.image_encoder(image))
        assert [tuple(each.shape[2:]) for each in found.details] == [(8, 12), (16, 24)]
        assert model.object_maps(found).shape == (1, 3, 16, 24)
        # Nobody computes or keeps them for a head that does not look.
        model.object_head = ObjectHead()
        assert model.features(image).details == ()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_it_is_saved_and_read(suffix: str, tmp_path: Path) -> None:
    model = SegmentAnything("tiny_vit_2m", object_head=True, details=True)
    model.object_head = trained_head()
    names = {f"object_head.{name}": shape for name, shape in SHAPES.items()}
    assert (
        names.items()
        <= {
            name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
        }.items()
    )
    path = tmp_path / f"model{suffix}"
    save(model, path)
    found = load(path).model
    assert isinstance(found.object_head, DetailedObjectHead)
    assert not found.object_head.training
    expected = model.state_dict()
    assert found.state_dict().keys() == expected.keys()
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_one_that_fits_another_encoder_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    model = SegmentAnything("tiny_vit_2m")
    model.object_head = DetailedObjectHead((128, 64))  # of the 5M body
    save(model, path)
    assert load(path).model.object_head is None
