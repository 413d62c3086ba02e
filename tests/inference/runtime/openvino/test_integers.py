"""Quantized models on integer kernels: the same answers as simulated, and when they are chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_tinysam import checkpoints, load_model
from napari_tinysam.inference.runtime import choice
from napari_tinysam.inference.runtime.hardware import cpu_name
from napari_tinysam.inference.runtime.openvino import store
from napari_tinysam.inference.runtime.openvino.compiled import openvino_core
from napari_tinysam.inference.runtime.openvino.conversion import _write, convert
from napari_tinysam.inference.runtime.openvino.runtime import OpenVinoRuntime
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
from papers.kernels import integer_share, multiplications
from tinysam_training.quantize.folding import folded
from tinysam_training.quantize.operations import operations

pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")

SIDE = 256


def quantized_model(side: int = SIDE) -> SegmentAnything:
    """Random weights, all layers of encoder and head with integers, ranges as seen on noise."""
    torch.manual_seed(0)
    model = SegmentAnything("tiny_vit_2m", side, object_head=True, details=True)
    model.load_state_dict(random_values(model.state_dict()))
    model = folded(model)
    model.dense_prompts = True
    largest: dict[str, float] = {}
    hooks = []
    for name, layer in operations(model):
        if name.startswith(("image_encoder.", "object_head.")):

            def note(_: Any, given: Any, name: str = name) -> None:
                largest[name] = float(given[0].abs().max())

            hooks.append(layer.register_forward_pre_hook(note))
    with torch.no_grad():
        frame = model.normalize_and_pad(255 * torch.rand(1, 3, side, side))
        model.object_maps(model.features(frame))
    for hook in hooks:
        hook.remove()
    model.quantization = {}
    for name, most in largest.items():
        layer = model.get_submodule(name)
        axis = weight_axis(layer)
        others = [d for d in range(layer.weight.ndim) if d != axis]
        scale = (layer.weight.detach().abs().amax(others) / 127).bfloat16().float()
        steps = to_integers(layer.weight, scale, axis)
        layer.weight.data = steps * along(scale, layer.weight, axis)
        how = InputQuantization(most / 127)
        model.quantization[name] = LayerQuantization(scale, how)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    return quantized_model()


@pytest.fixture(scope="module")
def folder(model: SegmentAnything, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("integers")
    convert(model, found, integers=True)
    return found


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIDE - 40, SIDE, 3), np.uint8)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Linear(40, 24),
        torch.nn.Conv2d(16, 24, 1),
        torch.nn.Conv2d(16, 24, 3, padding=1),
        torch.nn.Conv2d(16, 24, 3, stride=2, padding=1),
        torch.nn.Conv2d(16, 16, 3, padding=1, groups=16),
        torch.nn.ConvTranspose2d(16, 24, 2, stride=2),
    ],
    ids=["linear", "pointwise", "3×3", "strided", "depthwise", "transposed"],
)
@pytest.mark.parametrize("lowest", [-128, -7, 0])
def test_a_layer_of_integers_is_what_is_simulated(
    layer: torch.nn.Module, lowest: int, tmp_path: Path
) -> None:
    """Alone, where nothing before can tip a value to the other side of a step."""
    torch.manual_seed(lowest)

    def beside_steps(*size: int) -> torch.Tensor:
        """Up to 0.3 steps off, so that no value lies between two of them."""
        return torch.randint(-100, 101, size) + 0.6 * torch.rand(size) - 0.3

    axis = weight_axis(layer)
    scale = torch.full((layer.weight.shape[axis],), 0.002)
    layer.weight.data = 0.002 * beside_steps(*layer.weight.shape)
    rounds = QuantizedLayer(layer, scale, InputQuantization(0.02, lowest))
    channels = layer.weight.shape[1 - axis] * getattr(layer, "groups", 1)
    shape = (1, 50, channels) if layer.weight.ndim == 2 else (1, channels, 12, 12)
    x = 0.02 * beside_steps(*shape)
    with torch.no_grad():
        expected = rounds(x)
        plain = layer(x)
        _write(rounds, {"x": x}, {"x": shape}, tmp_path / "layer.xml")
    compiled = openvino_core().compile_model(
        str(tmp_path / "layer.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = torch.from_numpy(compiled([x.numpy()])[0])
    assert (found - expected).abs().max() < 1e-4
    assert (plain - expected).abs().max() > 1e-3


def test_integers_are_as_near_to_floats_as_simulated(
    model: SegmentAnything, folder: Path
) -> None:
    """A whole encoder: OpenVINO's kernels and torch with rounded floats, both beside the floats.

    Sums are added in another order, which tips some values to the other side of a step, and random
    weights make much of that. The rounding is as large in both, and of the same kind.
    """
    runtime = OpenVinoRuntime(folder, precision="f32")
    assert runtime.precision == "int8"
    assert "int8" in runtime.name
    found = runtime.encode(image())
    integers = with_integers(model)
    answers = []
    for each in (integers, model):
        with torch.no_grad():
            rgb = torch.from_numpy(image()).permute(2, 0, 1)[None].float()
            features = each.features(each.normalize_and_pad(rgb))
            maps = each.object_maps(features)[0].sigmoid()
        answers.append((features.embedding[0].flatten(1).T.numpy(), maps.numpy()))
    for ours, simulated, floats in zip(
        (found.shared[0], found.maps), *answers, strict=True
    ):
        scale = np.abs(floats).mean()
        rounding, real = (
            np.abs(each - floats).mean() / scale for each in (simulated, ours)
        )
        assert 0.001 < rounding < 0.5  # it does round
        assert real == pytest.approx(rounding, rel=0.3)


def test_kernels_are_of_integers(model: SegmentAnything, folder: Path) -> None:
    """Of the multiplications in rounded layers, at least four fifths are of 8-bit integers."""
    counted = multiplications(OpenVinoRuntime(folder, precision="f32"))
    assert integer_share(counted) >= 0.8, counted


def test_floats_are_counted_as_such(model: SegmentAnything, tmp_path: Path) -> None:
    convert(model, tmp_path)
    counted = multiplications(OpenVinoRuntime(tmp_path, precision="f32"))
    assert counted.keys() == {"f32"}
    # All of the encoder's and the head's layers, counted by torch.
    expected = 0.0

    def count(layer: Any, given: Any, out: torch.Tensor) -> None:
        nonlocal expected
        weight = layer.weight
        expected += weight[0].numel() * out.numel()

    hooks = [layer.register_forward_hook(count) for _, layer in operations(model)]
    with torch.no_grad():
        model.object_maps(model.features(torch.zeros(1, 3, SIDE, SIDE)))
    for hook in hooks:
        hook.remove()
    assert counted["f32"] == pytest.approx(expected, rel=0.1)


def test_floats_of_a_quantized_model_are_its_own(
    model: SegmentAnything, tmp_path: Path
) -> None:
    convert(model, tmp_path)
    runtime = OpenVinoRuntime(tmp_path, precision="f32")
    assert runtime.precision == "f32"
    with torch.no_grad():
        rgb = torch.from_numpy(image()).permute(2, 0, 1)[None].float()
        expected = model.features(model.normalize_and_pad(rgb)).embedding
    found = runtime.encode(image()).shared[0]
    expected = expected[0].flatten(1).T.numpy()
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_only_quantized_models_have_integers(tmp_path: Path) -> None:
    plain = SegmentAnything("tiny_vit_2m", SIDE)
    with pytest.raises(RuntimeError, match="not a quantized model"):
        convert(plain.eval(), tmp_path, integers=True)


# ------------------------------------------------------------------------ choice


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A quantized model, and a cache of its own."""
    monkeypatch.setenv(store.ENVIRONMENT_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "small.safetensors"
    checkpoints.save(quantized_model(1024), path)
    return path


def measured(monkeypatch: pytest.MonkeyPatch, *, integers_are_faster: bool) -> None:
    monkeypatch.setattr(choice, "_faster", lambda *folders: integers_are_faster)
    monkeypatch.setattr(choice, "may_have_gpu", lambda: False)


@pytest.mark.parametrize("faster", [True, False])
def test_what_is_faster_is_chosen_and_remembered(
    file: Path, monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    measured(monkeypatch, integers_are_faster=faster)
    # Nobody knows yet: torch serves.
    assert "torch" in load_model(file).runtime_name
    located = checkpoints.locate(file)
    folder = choice.prepare(located)
    assert ("int8" in folder.name) == faster
    assert store.noted_choice(located.fingerprint, cpu_name()) is faster
    # The slower one is not kept.
    kept = [p.name for p in store.cache_folder().iterdir() if p.is_dir()]
    assert kept == [folder.name]
    found = load_model(file)
    assert ("int8" in found.runtime_name) == faster
    assert "OpenVINO" in found.runtime_name
    assert choice.is_prepared(f"{located.fingerprint}/cpu")
    # What is asked for by name is given, whatever is faster.
    other = "f32" if faster else "int8"
    asked = load_model(file, runtime="openvino", precision=other)  # type: ignore[arg-type]
    assert other in asked.runtime_name
    assert asked.model_id != found.model_id


def test_another_computer_measures_for_itself(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that several computers share."""
    measured(monkeypatch, integers_are_faster=True)
    choice.prepare(checkpoints.locate(file))
    monkeypatch.setattr(choice, "cpu_name", lambda: "another CPU")
    assert "torch" in load_model(file).runtime_name
    measured(monkeypatch, integers_are_faster=False)
    found = load_model(file, runtime="openvino")
    assert "int8" not in found.runtime_name
    note = store._choice_of(checkpoints.locate(file).fingerprint)
    assert json.loads(note.read_text()) == {cpu_name(): True, "another CPU": False}


@pytest.mark.parametrize("content", ["", "{", "[1]", '"int8"', "{}"])
def test_a_damaged_note_is_no_choice(
    file: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    measured(monkeypatch, integers_are_faster=True)
    fingerprint = checkpoints.locate(file).fingerprint
    note = store._choice_of(fingerprint)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(content)
    assert store.noted_choice(fingerprint, cpu_name()) is None
    assert "torch" in load_model(file).runtime_name
    store.note_choice(fingerprint, cpu_name(), integers=True)
    assert store.noted_choice(fingerprint, cpu_name()) is True


def test_both_are_really_tried(
    folder: Path, model: SegmentAnything, tmp_path: Path
) -> None:
    convert(model, tmp_path)
    assert choice._faster(tmp_path, folder) in (True, False)


def test_floats_have_no_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, integers_are_faster=True)
    path = tmp_path / "floats.safetensors"
    checkpoints.save(SegmentAnything("tiny_vit_2m", 1024), path)
    for runtime in ("auto", "openvino"):
        with pytest.raises(ValueError, match="napari-tinysam quantize"):
            load_model(path, runtime=runtime, precision="int8")  # type: ignore[arg-type]


def test_features_beside_integers_are_kept_exactly(folder: Path) -> None:
    """Their decoder rounds at every step, so that much would come of little."""
    runtime = OpenVinoRuntime(folder)
    features = runtime.encode(image())
    again = runtime.features_of(runtime.arrays_of(features))
    for one, other in zip(again.shared, features.shared, strict=True):
        np.testing.assert_array_equal(one, other)
