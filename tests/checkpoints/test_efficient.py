"""Files of this project's own architecture: recognised, whole, and the same after a round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from efficient_models import efficient_model
from napari_tinysam import checkpoints
from napari_tinysam.errors import CheckpointError
from napari_tinysam.model import Architecture, SegmentAnything, from_official
from napari_tinysam.model.names import to_official

if TYPE_CHECKING:
    from pathlib import Path

LITE: list[Architecture] = ["efficientnet_lite0", "efficientnet_lite2"]


@pytest.mark.parametrize("architecture", LITE)
@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_is_read_as_it_was_written(
    architecture: Architecture, head: bool, suffix: str, tmp_path: Path
) -> None:
    model = efficient_model(1024, architecture=architecture, head=head)
    path = tmp_path / f"model{suffix}"
    checkpoints.save(model, path, {"name": "ours"})
    loaded = checkpoints.load(path)
    assert loaded.model.architecture == architecture
    assert (loaded.model.object_head is not None) == head
    if suffix == ".safetensors":
        assert loaded.notes["name"] == "ours"
        assert loaded.model.dense_prompts
    expected = model.state_dict()
    found = loaded.model.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_half_precision_is_the_nearest_of_each_value(tmp_path: Path) -> None:
    model = efficient_model(1024)
    path = tmp_path / "half.safetensors"
    checkpoints.save(model, path, half=True)
    assert checkpoints.is_half(path)
    found = checkpoints.load(path).model.state_dict()
    for name, tensor in model.state_dict().items():
        nearest = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(found[name], nearest), name


def test_a_decoder_narrower_than_the_official_one_is_for_models_of_ours(
    tmp_path: Path,
) -> None:
    ours = SegmentAnything("efficientnet_lite0", mlp_dim=48)
    theirs = SegmentAnything("tiny_vit_2m", mlp_dim=48)
    for model in (ours, theirs):
        checkpoints.save(model, tmp_path / f"{model.architecture}.safetensors")
    found = checkpoints.load(tmp_path / "efficientnet_lite0.safetensors").model
    for name, tensor in ours.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    with pytest.raises(CheckpointError, match=r"not fitting.*mlp"):
        checkpoints.load(tmp_path / "tiny_vit_2m.safetensors")


@pytest.mark.parametrize("architecture", LITE)
def test_names_are_the_official_ones_already(architecture: Architecture) -> None:
    with torch.device("meta"):
        weights = SegmentAnything(architecture, object_head=True).state_dict()
    assert list(to_official(weights)) == list(weights)
    assert list(from_official(weights)) == list(weights)


def test_an_uninitialized_model_answers_once_it_has_weights() -> None:
    model = efficient_model(64)
    other = SegmentAnything.uninitialized("efficientnet_lite0", 64, object_head=True)
    other.load_state_dict(model.state_dict())
    image = torch.randint(0, 256, (1, 3, 64, 50)).float()
    with torch.no_grad():
        expected, found = (
            each.features(each.normalize_and_pad(image))
            for each in (model, other.eval())
        )
    assert torch.equal(found.embedding, expected.embedding)
    for one, two in zip(found.details, expected.details, strict=True):
        assert torch.equal(one, two)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    weights = efficient_model(1024).state_dict()
    del weights["image_encoder.pyramid.1.from_fine.weight"]
    torch.save(weights, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="not a whole efficientnet_lite0 model"):
        checkpoints.load(tmp_path / "model.pth")


def test_a_head_of_another_make_is_left_out(tmp_path: Path) -> None:
    weights = efficient_model(1024).state_dict()
    weights["object_head.layers.0.weight"] = torch.zeros(4, 16, 3, 3)
    torch.save(weights, tmp_path / "model.pth")
    assert checkpoints.load(tmp_path / "model.pth").model.object_head is None
