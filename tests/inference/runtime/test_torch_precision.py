"""torch in float32 and bfloat16: what is asked for, what is chosen, and how near it is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from efficient_models import efficient_model
from napari_tinysam import checkpoints, load_model
from napari_tinysam.inference.runtime import choice, torch_runtime
from napari_tinysam.inference.runtime.openvino import store
from napari_tinysam.inference.runtime.torch_runtime import (
    TorchRuntime,
    computes_bfloat16,
)
from napari_tinysam.model import SegmentAnything
from official_models import random_values

CPU = torch.device("cpu")
SIDE = 256


def model() -> SegmentAnything:
    found = SegmentAnything("tiny_vit_2m", SIDE, object_head=True, details=True)
    found.load_state_dict(random_values(found.state_dict()))
    return found.eval()


@pytest.fixture(scope="module")
def efficient() -> SegmentAnything:
    return efficient_model(SIDE)


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (200, SIDE, 3), np.uint8)


def answers(runtime: TorchRuntime) -> list[np.ndarray]:
    features = runtime.encode(image())
    points = np.array([[[40, 50]], [[200, 100]]], np.float32)
    labels = np.ones((2, 1), np.int32)
    found = runtime.decode(
        features, points=points, labels=labels, boxes=None, masks=None
    )
    maps = runtime.object_maps(features)
    assert maps is not None
    embedding = features.embedding
    assert embedding.dtype == torch.float32
    return [embedding.numpy(), maps, found.logits, found.scores]


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"fast": True}, 2e-5),
        ({"bfloat16": True}, 0.1),
        ({"fast": True, "bfloat16": True}, 0.1),
    ],
)
def test_other_orders_and_precisions_are_near(
    options: dict[str, Any], tolerance: float
) -> None:
    exact = answers(TorchRuntime(model(), CPU))
    other = answers(TorchRuntime(model(), CPU, **options))
    for found, expected in zip(other, exact, strict=True):
        assert found.dtype == np.float32
        off = np.abs(found - expected).mean()
        assert off <= tolerance * np.abs(expected).mean()
    if "bfloat16" in options:  # it does compute with less
        assert np.abs(other[0] - exact[0]).max() > 1e-3


def test_those_of_an_efficientnet_are_near_too(efficient: SegmentAnything) -> None:
    exact = answers(TorchRuntime(copy.deepcopy(efficient), CPU))
    for options, tolerance in (({"fast": True}, 1e-3), ({"bfloat16": True}, 0.15)):
        other = answers(TorchRuntime(copy.deepcopy(efficient), CPU, **options))
        for found, expected in zip(other, exact, strict=True):
            assert found.dtype == np.float32
            off = np.abs(found - expected).mean()
            assert off <= tolerance * np.abs(expected).mean()


def test_finer_features_in_half_precision_change_next_to_nothing(
    efficient: SegmentAnything,
) -> None:
    runtime = TorchRuntime(copy.deepcopy(efficient), CPU)
    logits = answers(runtime)[2]
    with torch.no_grad():
        pixels = torch.from_numpy(image()).permute(2, 0, 1)[None].float()
        features = efficient.features(efficient.normalize_and_pad(pixels))
        expected, _ = efficient.decode(
            features.embedding,
            points=torch.tensor([[[40.0, 50]], [[200, 100]]]),
            labels=torch.ones(2, 1),
            details=features.details,
        )
    off = np.abs(logits - expected.numpy()).max()
    assert 0 < off <= 5e-4 * expected.abs().max()
    assert ((logits > 0) == (expected.numpy() > 0)).mean() > 0.999


def test_only_searches_are_decoded_in_bfloat16() -> None:
    runtime = TorchRuntime(model(), CPU, bfloat16=True)
    features = runtime.encode(image())
    given: dict[str, Any] = {
        "points": np.array([[[40, 50]], [[200, 100]]], np.float32),
        "labels": np.ones((2, 1), np.int32),
        "boxes": None,
        "masks": None,
    }
    reference = TorchRuntime(model(), CPU).decode(features, **given, exact=False)
    rough = runtime.decode(features, **given, exact=False)  # leaves nothing rounded
    exact = runtime.decode(features, **given)
    np.testing.assert_array_equal(exact.logits, reference.logits)
    assert rough.logits.dtype == rough.scores.dtype == np.float32
    off = np.abs(rough.logits - exact.logits).mean()
    assert 1e-3 < off / np.abs(exact.logits).mean() < 0.1


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that OpenVINO has not converted."""
    monkeypatch.setenv(store.ENVIRONMENT_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "may_have_gpu", lambda: False)
    path = tmp_path / "small.safetensors"
    checkpoints.save(SegmentAnything("tiny_vit_2m", 1024), path)
    return path


@pytest.mark.parametrize("able", [True, False])
def test_it_takes_what_the_device_is_fast_at(
    file: Path, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    names = frozenset({"avx2", "avx512_bf16"} if able else {"avx2"})
    monkeypatch.setattr(torch_runtime, "_cpu_capabilities", lambda: names)
    assert computes_bfloat16(CPU) is able
    assert not computes_bfloat16(torch.device("mps"))
    chosen = load_model(file)
    assert ("bf16" in chosen.runtime_name) is able
    assert "torch on cpu" in chosen.runtime_name
    # What is asked for is given.
    short = load_model(file, precision="bf16")
    assert "bf16" in short.runtime_name
    exact = load_model(file, precision="f32")
    assert "bf16" not in exact.runtime_name
    assert exact.model_id != short.model_id
    assert chosen.model_id == (short if able else exact).model_id
    # By its name it is the reference.
    named = load_model(file, runtime="torch")
    assert named.runtime_name == "torch on cpu"
    assert named.model_id == exact.model_id
    assert "bf16" in load_model(file, runtime="torch", precision="bf16").runtime_name


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
def test_older_gpus_only_emulate_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert computes_bfloat16(torch.device("cuda")) is (capability[0] >= 8)


def test_either_is_followed_by_what_was_prepared(file: Path) -> None:
    located = checkpoints.locate(file)
    ids = [load_model(file, precision=each).model_id for each in ("f32", "bf16")]  # type: ignore[arg-type]
    assert not any(choice.is_prepared(each) for each in ids)
    choice.prepare(located)
    assert all(choice.is_prepared(each) for each in ids)


def test_what_torch_says_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"avx512_bf16": True, "amx_bf16": False, "cpu_name": "a CPU", "cores": 2}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: said, raising=False)
    assert torch_runtime._cpu_capabilities() == {"avx512_bf16"}
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # of an older torch
    assert torch_runtime._cpu_capabilities() == frozenset()
