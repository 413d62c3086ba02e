"""The object head: its maps, its names, and that a model with it stays a SAM model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from napari_tinysam.checkpoints import load, save
from napari_tinysam.model import (
    OBJECT_MAPS,
    ObjectHead,
    SegmentAnything,
    from_official,
    to_official,
)
from official_models import build_official_tiny, official_tiny_weights, random_values

if TYPE_CHECKING:
    from pathlib import Path

# Part of the file format: files of the first models with a head hold exactly these.
SHAPES = {
    "object_head.layers.0.weight": (128, 256, 3, 3),
    "object_head.layers.0.bias": (128,),
    "object_head.layers.1.weight": (128,),
    "object_head.layers.1.bias": (128,),
    "object_head.layers.3.weight": (128, 64, 2, 2),
    "object_head.layers.3.bias": (64,),
    "object_head.layers.4.weight": (64,),
    "object_head.layers.4.bias": (64,),
    "object_head.layers.6.weight": (64, 64, 3, 3),
    "object_head.layers.6.bias": (64,),
    "object_head.layers.7.weight": (64,),
    "object_head.layers.7.bias": (64,),
    "object_head.layers.9.weight": (64, 32, 2, 2),
    "object_head.layers.9.bias": (32,),
    "object_head.layers.11.weight": (32, 32, 3, 3),
    "object_head.layers.11.bias": (32,),
    "object_head.layers.13.weight": (3, 32, 1, 1),
    "object_head.layers.13.bias": (3,),
}


@pytest.fixture(scope="module")
def with_head(ours: SegmentAnything) -> SegmentAnything:
    """The official random weights and a head with random weights; not to be changed."""
    model = copy.deepcopy(ours)
    head = ObjectHead()
    head.load_state_dict(random_values(head.state_dict()))
    model.object_head = head
    return model.eval()


def test_three_maps_at_a_quarter_of_the_size() -> None:
    assert OBJECT_MAPS == ("foreground", "centre_distance", "boundary_distance")
    embedding = torch.randn(
        2, 256, 5, 7, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    head = ObjectHead()
    maps = head(embedding)
    assert maps.shape == (2, 3, 20, 28)
    maps.square().mean().backward()
    assert embedding.grad is not None
    assert embedding.grad.abs().amin(dim=(1, 2, 3)).shape == (2,)
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_each_value_shows_its_own_place() -> None:
    embedding = torch.zeros(1, 256, 9, 9)
    head = ObjectHead().eval()
    with torch.no_grad():
        before = head(embedding)
        embedding[..., 2, 6] = 1.0  # row 2, column 6
        change = (head(embedding) - before).abs().amax(dim=1)[0]
    rows, columns = torch.nonzero(change, as_tuple=True)
    # Three 3×3 convolutions, over steps of 4, 2 and 1 values: 7 to every side of the cell.
    assert (int(rows.min()), int(rows.max())) == (8 - 7, 11 + 7)
    assert (int(columns.min()), int(columns.max())) == (24 - 7, 27 + 7)


def test_the_names_are_those_of_the_files() -> None:
    with torch.device("meta"):
        found = SegmentAnything(object_head=True).state_dict()
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in found.items()
        if name.startswith("object_head.")
    }
    assert shapes == SHAPES


def test_without_a_head_nothing_changes() -> None:
    with torch.device("meta"):
        plain, headed = SegmentAnything(), SegmentAnything(object_head=True)
    assert plain.object_head is None
    assert isinstance(headed.object_head, ObjectHead)
    names = list(to_official(plain.state_dict()))
    assert sorted(names) == sorted(official_tiny_weights())
    assert set(to_official(headed.state_dict())) == {*names, *SHAPES}


def test_a_head_can_be_assigned_and_removed() -> None:
    with torch.device("meta"):
        model = SegmentAnything(image_size=64)
        head = ObjectHead()
    before = list(model.state_dict())
    model.object_head = head
    assert set(model.state_dict()) == {*before, *SHAPES}
    assert head in list(model.children())
    model.object_head = None
    assert list(model.state_dict()) == before


def test_names_of_the_head_pass_through() -> None:
    weights = {**official_tiny_weights(), **dict.fromkeys(SHAPES, torch.zeros(1))}
    renamed = from_official(weights)
    assert all(renamed[name] is weights[name] for name in SHAPES)
    assert list(to_official(renamed)) == list(weights)


def test_uninitialized_has_the_head_that_was_asked_for() -> None:
    bare = SegmentAnything.uninitialized(image_size=64, object_head=True)
    assert bare.object_head is not None
    assert all(p.device.type == "cpu" for p in bare.object_head.parameters())
    assert SegmentAnything.uninitialized(image_size=64).object_head is None


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_head_is_saved_and_read(
    with_head: SegmentAnything, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"headed{suffix}"
    save(with_head, path)
    found = load(path).model
    expected = with_head.state_dict()
    assert set(found.state_dict()) == set(expected)
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    embedding = torch.randn(1, 256, 4, 4, generator=torch.Generator().manual_seed(1))
    assert found.object_head is not None
    assert with_head.object_head is not None
    with torch.inference_mode():
        maps = found.object_head(embedding)
        assert torch.equal(maps, with_head.object_head(embedding))
    assert not found.object_head.training


@pytest.mark.parametrize("way", ["strict=False", "dropped"])
def test_official_code_opens_a_model_with_a_head_and_finds_the_same(
    with_head: SegmentAnything, way: str, tmp_path: Path
) -> None:
    path = tmp_path / "headed.pth"
    save(with_head, path)
    weights = torch.load(path, map_location="cpu", weights_only=True)
    official = build_official_tiny()
    if way == "dropped":
        weights = {n: t for n, t in weights.items() if not n.startswith("object_head.")}
        official.load_state_dict(weights, strict=True)
    else:
        missing, unexpected = official.load_state_dict(weights, strict=False)
        assert not missing
        assert set(unexpected) == set(SHAPES)
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(1, 3, 64, 96, generator=generator) * 255
    embedding = torch.randn(1, 256, 64, 64, generator=generator)
    points, labels = torch.tensor([[[300.0, 500.0]]]), torch.tensor([[1]])
    with torch.inference_mode():
        normal = (image - official.pixel_mean) / official.pixel_std
        torch.testing.assert_close(
            with_head.image_encoder(normal),
            official.image_encoder(normal),
            rtol=0,
            atol=1e-5,
        )
        sparse, dense = official.prompt_encoder((points, labels), None, None)
        expected = official.mask_decoder(
            image_embeddings=embedding,
            image_pe=official.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        found = with_head.decode(embedding, points=points, labels=labels)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "head",
    [
        {"object_head.layers.0.weight": torch.zeros(3)},  # of another shape, and alone
        {f"object_head.{i}.weight": torch.zeros(3) for i in range(9)},
        {name: torch.zeros(1).expand(shape) for name, shape in SHAPES.items()}
        | {"object_head.layers.14.weight": torch.zeros(1)},
        {name: torch.zeros(2, *shape) for name, shape in SHAPES.items()},
        {name: torch.zeros(shape, dtype=torch.int8) for name, shape in SHAPES.items()},
    ],
    ids=["one tensor", "other names", "one more", "other shapes", "whole numbers"],
)
def test_a_head_of_another_make_is_left_out(
    head: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    body = {
        name: torch.tensor(0, dtype=tensor.dtype).expand(tensor.shape)
        for name, tensor in official_tiny_weights().items()
    }
    path = tmp_path / "other.pth"
    torch.save({**body, **head}, path)
    model = load(path).model
    assert model.object_head is None
    assert set(to_official(model.state_dict())) == set(body)


def test_a_half_precision_head_in_a_wrapped_file_is_read(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = to_official(
            SegmentAnything("tiny_vit_2m", object_head=True).state_dict()
        )
    half = {
        f"module.{name}": torch.tensor(
            i % 8, dtype=torch.float16 if tensor.is_floating_point() else tensor.dtype
        ).expand(tensor.shape)
        for i, (name, tensor) in enumerate(names.items())
    }
    path = tmp_path / "half.pth"
    torch.save({"model": half}, path)
    model = load(path).model
    assert model.architecture == "tiny_vit_2m"
    found = to_official(model.state_dict())
    assert set(found) == set(names)
    for name in SHAPES:
        assert torch.equal(found[name], half[f"module.{name}"].float())


def test_the_head_is_a_part_of_the_model_like_any_other() -> None:
    with torch.device("meta"):
        model = SegmentAnything(image_size=64, object_head=True)
    assert isinstance(model.object_head, nn.Module)
    assert all(p.requires_grad for p in model.object_head.parameters())
    assert not model.eval().object_head.training
