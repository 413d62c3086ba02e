"""Quantized models in files: what is kept, how small they are, and how damage is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_tinysam import checkpoints
from napari_tinysam.errors import CheckpointError
from napari_tinysam.model import SegmentAnything
from napari_tinysam.model.integers import (
    InputQuantization,
    LayerQuantization,
    QuantizedLayer,
    along,
    to_integers,
    weight_axis,
)
from napari_tinysam.model.quantized import with_integers
from official_models import random_values
from tinysam_training.quantize.folding import folded
from tinysam_training.quantize.operations import operations

SCALES, LAYERS = "quantization.weight_scales", "quantization.layers"


def quantized_model() -> SegmentAnything:
    """Random weights; every other layer computes with integers, from min and max."""
    model = SegmentAnything("tiny_vit_2m", 1024, object_head=True, details=True)
    model.load_state_dict(random_values(model.state_dict()))
    model = folded(model)
    model.dense_prompts = True
    layers = {}
    for number, (name, layer) in enumerate(operations(model)):
        if ".output_hypernetworks_mlps.0" in name:
            continue
        axis = weight_axis(layer)
        others = [d for d in range(layer.weight.ndim) if d != axis]
        scale = (layer.weight.detach().abs().amax(others) / 127).bfloat16().float()
        steps = to_integers(layer.weight, scale, axis)
        layer.weight.data = steps * along(scale, layer.weight, axis)
        given = (
            InputQuantization(0.05, (-128, -7, 0)[number % 3]) if number % 2 else None
        )
        layers[name] = LayerQuantization(scale, given)
    model.quantization = layers
    return model


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    return quantized_model()


@pytest.fixture(scope="module")
def file(model: SegmentAnything, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eight") / "small.safetensors"
    checkpoints.save(model, path, {"made_by": "a test"})
    return path


def test_a_file_gives_the_model_back(model: SegmentAnything, file: Path) -> None:
    found = checkpoints.load(file)
    assert found.notes["made_by"] == "a test"
    assert checkpoints.locate(file).quantized
    loaded = found.model
    assert loaded.dense_prompts
    assert loaded.quantization is not None
    assert model.quantization is not None
    assert loaded.quantization.keys() == model.quantization.keys()
    for name, layer in model.quantization.items():
        other = loaded.quantization[name]
        assert torch.equal(other.weight_scale, layer.weight_scale), name
        assert (other.input is None) == (layer.input is None)
        if layer.input is not None:
            assert other.input is not None
            assert other.input.scale == pytest.approx(layer.input.scale)
            assert other.input.lowest == layer.input.lowest
        weights = (m.get_submodule(name).weight for m in (model, loaded))
        assert torch.equal(*weights), name
    # Everything else in half precision, folded norms exactly.
    for name, tensor in model.state_dict().items():
        if "mlps.0." in name or "head." in name.replace("object_head.", ""):
            continue
        if tensor.is_floating_point():
            other = loaded.state_dict()[name]
            assert torch.allclose(other, tensor, rtol=2e-3, atol=1e-4), name
    norm = loaded.get_submodule("image_encoder.body.patch_embed.conv1.bn")
    assert (norm.running_var + norm.eps == 1).all()


def test_it_is_a_quarter_as_large(model: SegmentAnything, file: Path) -> None:
    floats = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    assert file.stat().st_size < 0.35 * floats
    kinds = {tensor.dtype for tensor in load_file(str(file)).values()}
    assert torch.int8 in kinds
    assert torch.float64 not in kinds


def test_saved_again_it_is_the_same(file: Path, tmp_path: Path) -> None:
    loaded = checkpoints.load(file)
    checkpoints.save(loaded.model, tmp_path / "again.safetensors", loaded.notes)
    before, after = (
        load_file(str(path)) for path in (file, tmp_path / "again.safetensors")
    )
    assert before.keys() == after.keys()
    for name, tensor in before.items():  # NaN is NaN here
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=0, equal_nan=True)
    assert _notes(file) == _notes(tmp_path / "again.safetensors")


def test_a_pth_file_holds_floats(file: Path, tmp_path: Path) -> None:
    """Official code reads it, as it reads every other."""
    model = checkpoints.load(file).model
    checkpoints.save(model, tmp_path / "floats.pth")
    again = checkpoints.load(tmp_path / "floats.pth").model
    assert again.quantization is None
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_integers_are_what_the_layer_computes(model: SegmentAnything) -> None:
    integers = with_integers(model)
    layers = dict(model.quantization or {})
    replaced = {
        name
        for name, module in integers.named_modules()
        if isinstance(module, QuantizedLayer)
    }
    assert replaced == {name for name, layer in layers.items() if layer.input}
    for name in sorted(replaced)[::9]:
        quantized = integers.get_submodule(name)
        plain = model.get_submodule(name)
        # Its weights are what 8 bits hold already.
        assert torch.allclose(quantized.weight, plain.weight, atol=1e-6), name
        given = layers[name].input
        assert given is not None
        channels = plain.weight.shape[1 - weight_axis(plain)]
        channels *= getattr(plain, "groups", 1)
        shape = (1, channels, 8, 8) if plain.weight.ndim == 4 else (5, channels)
        x = 3 * torch.randn(shape)
        steps = (x / given.scale).round().clamp(given.lowest, given.lowest + 255)
        with torch.no_grad():
            expected = plain(steps * given.scale)
            assert torch.allclose(quantized(x), expected, atol=1e-3), name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop(SCALES), "do not fit"),
        (lambda t: t.pop(LAYERS), "do not fit"),
        (lambda t: _floats_instead(t), "do not fit"),
        (lambda t: _scaled(t, lambda s: -s), "not positive numbers"),
        (lambda t: _scaled(t, lambda s: s * float("nan")), "not positive numbers"),
        (lambda t: _scaled(t, lambda s: s[:-5]), "do not fit"),
        (lambda t: _scaled(t, lambda s: torch.cat([s, s[:1]])), "do not fit"),
        (lambda t: _scaled(t, lambda s: s[:, None]), "not positive numbers"),
        (lambda t: _scaled(t, lambda s: s[0]), "not positive numbers"),
        (lambda t: _told(t, lambda row: row[:2]), "do not fit"),
        (lambda t: _told(t, lambda row: row * torch.tensor([9, 1, 1])), "dimension"),
        (lambda t: _told(t, lambda row: row * torch.tensor([1, 0, 1])), "the scale of"),
        (
            lambda t: _told(t, lambda row: row + torch.tensor([0, 0, 999])),
            "the scale of",
        ),
        (lambda t: _told(t, lambda row: row / torch.tensor([1, 0, 1])), "the scale of"),
    ],
)
def test_damage_is_refused_in_a_sentence(
    file: Path, tmp_path: Path, change: object, says: str
) -> None:
    tensors = load_file(str(file))
    change(tensors)  # type: ignore[operator]
    damaged = tmp_path / "damaged.safetensors"
    save_file(tensors, str(damaged), _notes(file))
    with pytest.raises(CheckpointError, match=says) as raised:
        checkpoints.load(damaged)
    assert "damaged.safetensors" in str(raised.value)


def test_norms_may_be_missing_only_where_they_are_folded(tmp_path: Path) -> None:
    model = SegmentAnything("tiny_vit_2m", 1024)
    model.load_state_dict(random_values(model.state_dict()))
    checkpoints.save(model, tmp_path / "floats.safetensors")
    tensors = load_file(str(tmp_path / "floats.safetensors"))
    gone = next(name for name in tensors if name.endswith(".bn.running_var"))
    del tensors[gone]
    save_file(tensors, str(tmp_path / "floats.safetensors"))
    with pytest.raises(CheckpointError, match="missing"):
        checkpoints.load(tmp_path / "floats.safetensors")


def _floats_instead(tensors: dict[str, torch.Tensor]) -> None:
    name = next(n for n, t in tensors.items() if t.dtype is torch.int8)
    tensors[name] = tensors[name].float()


def _scaled(
    tensors: dict[str, torch.Tensor], change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    tensors[SCALES] = change(tensors[SCALES].float()).contiguous()


def _told(
    tensors: dict[str, torch.Tensor], change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    tensors[LAYERS] = torch.stack([change(row) for row in tensors[LAYERS]])


def _notes(file: Path) -> dict[str, str]:
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    found: dict[str, str] = header["__metadata__"]
    return found
