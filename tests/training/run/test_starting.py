"""What a run begins with: which object head a model gets, and what that knows already."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.model import DetailedObjectHead, ObjectHead, SegmentAnything
from tinysam_training.run.starting import new_model, starting_model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tinysam.model import Architecture


def written(path: Path, **options: Any) -> SegmentAnything:
    torch.manual_seed(0)
    model = SegmentAnything("tiny_vit_2m", **options)
    for parameter in model.parameters():
        if not parameter.any():  # as if it had been trained
            parameter.data.normal_(std=0.05)
    checkpoints.save(model, path)
    return model.eval()


def maps(model: SegmentAnything) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        frame = torch.randn(1, 3, 64, 64, generator=generator)
        return model.object_maps(model.features(frame))


def test_a_plain_head_becomes_a_detailed_one_that_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    plain = written(path, object_head=True)
    model = starting_model(str(path), details=True)
    assert isinstance(model.object_head, DetailedObjectHead)
    torch.testing.assert_close(maps(model), maps(plain), rtol=1e-5, atol=1e-5)
    again = starting_model(str(path))
    assert type(again.object_head) is ObjectHead  # nobody asked for another


def test_a_detailed_head_stays_as_it_was_trained(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    trained = written(path, object_head=True, details=True)
    for details in (None, True):
        model = starting_model(str(path), details=details)
        assert torch.equal(maps(model), maps(trained))
    plain = starting_model(str(path), details=False)
    assert trained.object_head is not None
    assert plain.object_head is not None
    for name, tensor in plain.object_head.state_dict().items():
        assert torch.equal(tensor, trained.object_head.state_dict()[name])


@pytest.mark.parametrize("details", [None, True, False])
def test_a_start_without_a_head_gets_one(tmp_path: Path, details: bool | None) -> None:
    path = tmp_path / "start.safetensors"
    written(path)
    head = starting_model(str(path), details=details).object_head
    assert head is not None
    assert head.detailed is (details is not False)
    assert starting_model(str(path), object_head=False).object_head is None


def test_details_that_are_not_there_are_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with torch.device("meta"):
        plain = SegmentAnything("vit_b", 64)
    start = SimpleNamespace(model=plain)
    monkeypatch.setattr(checkpoints, "load", lambda _: start)
    with pytest.raises(DataError, match="vit_b encoder has no finer features"):
        starting_model("sam_vit_b", details=True)


def test_new_models_see_details_where_there_are_any() -> None:
    with torch.device("meta"):
        detailed, plain = new_model("tiny_vit_2m"), new_model("vit_b")
        kept = new_model("tiny_vit_2m", details=False)
    for model, wanted in ((detailed, True), (plain, False), (kept, False)):
        assert model.object_head is not None
        assert model.object_head.detailed is wanted


def test_a_decoder_of_another_size_brings_what_fits(tmp_path: Path) -> None:
    path = tmp_path / "decoder.safetensors"
    other = SegmentAnything("tiny_vit_11m", object_head=True, details=True)
    checkpoints.save(other, path)
    torch.manual_seed(1)
    model = starting_model("random", architecture="tiny_vit_2m", decoder=str(path))
    assert model.object_head is not None
    assert other.object_head is not None
    found, given = (m.object_head.state_dict() for m in (model, other))
    for name in ("layers.0.weight", "refining.0.0.first.weight", "layers.13.bias"):
        assert torch.equal(found[name], given[name])
    assert found["details.0.norm.weight"].shape == (64,)  # its own encoder's
    assert found["details.0.conv.weight"].shape == (64, 64, 1, 1)


@pytest.mark.parametrize("architecture", ["tiny_vit_2m", "efficientnet_lite0"])
def test_a_narrower_decoder_answers_alike_in_another_model(
    architecture: Architecture, tmp_path: Path
) -> None:
    path = tmp_path / "narrow.safetensors"
    other = SegmentAnything("efficientnet_lite0", mlp_dim=48).eval()
    checkpoints.save(other, path)
    model = starting_model("random", architecture=architecture, decoder=str(path))
    tokens = torch.randn(3, 5, 256)
    pairs = zip(
        model.mask_decoder.transformer.layers,
        other.mask_decoder.transformer.layers,
        strict=True,
    )
    with torch.no_grad():
        for layer, known in pairs:
            torch.testing.assert_close(layer.mlp(tokens), known.mlp(tokens))
    saved = tmp_path / "saved.safetensors"
    checkpoints.save(model, saved)
    found = checkpoints.load(saved).model.state_dict()
    assert all(torch.equal(found[n], t) for n, t in model.state_dict().items())
