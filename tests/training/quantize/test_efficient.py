"""An EfficientNet quantized: folded, watched, searched, saved, and run by kernels of integers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from efficient_models import efficient_model
from napari_tinysam import checkpoints
from napari_tinysam.export import export
from napari_tinysam.inference.runtime.openvino.compiled import openvino_core
from napari_tinysam.inference.runtime.openvino.conversion import _write, convert
from napari_tinysam.inference.runtime.openvino.runtime import OpenVinoRuntime
from napari_tinysam.model.encoders.efficientnet import PaddedConv
from napari_tinysam.model.integers import InputQuantization
from napari_tinysam.model.quantized import with_integers
from papers.kernels import integer_share, multiplications
from papers.quantization.explicit import with_products
from tinysam_training.labelled_image import ImageEntry
from tinysam_training.quantize import products
from tinysam_training.quantize.calibration_data import Seen, as_tensor, as_tensors
from tinysam_training.quantize.folding import folded
from tinysam_training.quantize.operations import operations
from tinysam_training.quantize.products import Operation, collect
from tinysam_training.quantize.quantizing import origins_of
from tinysam_training.quantize.run import COMPUTED, Quantized, quantize
from tinysam_training.quantize.search import ScaleSearch
from training.small_runs import discs

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything

SIDE = 128
FEW = ScaleSearch(candidates=4, rounds=1, coarse=2, starts=1)


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    return efficient_model(SIDE)


def shown() -> Seen:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (SIDE - 30, SIDE, 3), np.uint8)
    cells = SIDE // 4
    prompts = {
        "points": rng.uniform(0, SIDE, (2, 1, 2)).astype(np.float32),
        "labels": np.ones((2, 1), np.int32),
        "masks": rng.normal(0, 4, (2, cells, cells)).astype(np.float32),
    }
    return Seen(rgb, [prompts])


def answers(model: SegmentAnything) -> list[torch.Tensor]:
    seen = shown()
    with torch.no_grad():
        features = model.features(model.normalize_and_pad(as_tensor(seen.rgb)))
        given = as_tensors(seen.prompts[0])
        decoded = model.decode(features.embedding, details=features.details, **given)
        maps = model.object_maps(features)
    return [features.embedding, *features.details, maps, *decoded]


def assert_alike(found: SegmentAnything, expected: SegmentAnything) -> None:
    for a, b in zip(answers(found), answers(expected), strict=True):
        assert (a - b).abs().max() <= 2e-5 * b.abs().max()


def test_folding_changes_nothing_but_the_norms(model: SegmentAnything) -> None:
    found = folded(model)
    assert_alike(found, model)
    assert found.state_dict().keys() == model.state_dict().keys()
    norms = [m for m in found.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) > 50
    for norm in norms:
        assert (norm.weight == 1).all()
        assert not norm.running_mean.any()
    assert_alike(folded(found), model)


def test_products_as_modules_answer_alike(model: SegmentAnything) -> None:
    assert_alike(with_products(model), model)


def test_where_inputs_come_from(model: SegmentAnything) -> None:
    found = origins_of(model)
    body = "image_encoder.efficientnet"
    assert found[f"{body}.conv_stem"] == "other"
    assert found[f"{body}.blocks.0.0.conv_dw"] == "relu"
    assert found[f"{body}.blocks.2.1.conv_pw"] == "other"  # a block ends without one
    assert found[f"{body}.blocks.2.1.conv_pwl"] == "relu"
    assert found["image_encoder.neck.2"] == "relu"
    assert found["image_encoder.pyramid.1.from_coarse"] == "relu"
    assert found["image_encoder.pyramid.1.from_fine"] == "other"
    assert found["object_head.layers.3"] == "relu"
    assert found["mask_decoder.details.0"] == "relu"
    assert found["mask_decoder.output_upscaling.3"] == "gelu"


@pytest.fixture(scope="module")
def whole(model: SegmentAnything) -> list[Operation]:
    """All rows of all operations, of one image."""
    limits = ("_KEPT", "_MOST_ROWS", "_LEAST_ROWS")
    with pytest.MonkeyPatch.context() as patch:
        for limit in limits:
            patch.setattr(products, limit, 10**9)
        return collect(model, [shown()])


def test_products_are_what_convolutions_compute(
    model: SegmentAnything, whole: list[Operation]
) -> None:
    outputs: dict[str, torch.Tensor] = {}
    explicit = with_products(model)
    for name, module in operations(explicit):

        def note(_: Any, given: Any, out: torch.Tensor, name: str = name) -> None:
            outputs.setdefault(name, out.clone())  # activations are computed in place

        module.register_forward_hook(note)
    answers(explicit)
    checked = {False: 0, True: 0}
    for operation in whole:
        module = operation.module
        if not isinstance(module, nn.Conv2d):
            continue
        (one,) = operation.products
        out = outputs[operation.name]
        if module.bias is not None:
            out = out - module.bias.view(1, -1, 1, 1)
        found = (one.first @ one.second).flatten().sort().values
        expected = out.flatten().sort().values
        assert found.shape == expected.shape, operation.name
        scale = expected.abs().max()
        assert (found - expected).abs().max() <= 1e-4 * scale, operation.name
        checked[isinstance(module, PaddedConv)] += 1
    assert checked[False] > 60
    assert checked[True] == 5


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_padded_convolution_of_integers_is_what_is_simulated(
    kernel: int, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    from napari_tinysam.model.integers import QuantizedLayer

    torch.manual_seed(0)

    def beside_steps(*size: int) -> torch.Tensor:
        """Up to 0.3 steps off, so that no value lies between two of them."""
        return torch.randint(-100, 101, size) + 0.6 * torch.rand(size) - 0.3

    layer = PaddedConv(16, 16, kernel, stride=2, groups=16)
    layer.weight.data = 0.002 * beside_steps(*layer.weight.shape)
    given = InputQuantization(0.02, 0)
    rounds = QuantizedLayer(layer, torch.full((16,), 0.002), given)
    x = 0.02 * beside_steps(1, 16, 12, 12).abs()
    with torch.no_grad():
        expected = rounds(x)
        assert expected.shape == layer(x).shape
        _write(rounds, {"x": x}, {"x": x.shape}, tmp_path / "layer.xml")
    compiled = openvino_core().compile_model(
        str(tmp_path / "layer.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = torch.from_numpy(compiled([x.numpy()])[0])
    assert (found - expected).abs().max() < 1e-4


# ------------------------------------------------------------ a whole model


@pytest.fixture(scope="module", autouse=True)
def few_rows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_KEPT", 100_000)
        yield


@pytest.fixture(scope="module")
def made() -> Quantized:
    """Of the usual frame, as files have it."""
    (image,) = discs(1)
    entry = ImageEntry(image.name, image.dataset, True, lambda: image, image.name)
    return quantize(efficient_model(1024), [entry], FEW)


def test_encoder_and_head_compute_with_integers(made: Quantized) -> None:
    layers = made.model.quantization
    assert layers is not None
    computed = {name for name, layer in layers.items() if layer.input is not None}
    wanted = {name for name in layers if name.startswith(COMPUTED)}
    assert computed == wanted - set(made.floats)
    assert len(made.floats) < 0.1 * len(wanted)
    for part in ("efficientnet.blocks", "pyramid", "neck", "from_32"):
        assert any(name.startswith(f"image_encoder.{part}") for name in computed)
    assert any(name.startswith("object_head.") for name in computed)
    assert {"mask_decoder.details.0", "mask_decoder.details.1"} <= layers.keys()
    assert 0 < made.loss < 0.2


def test_its_file_is_small_and_gives_it_back(made: Quantized, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    checkpoints.save(made.model, path)
    state = made.model.state_dict()
    floats = sum(t.numel() * t.element_size() for t in state.values())
    assert path.stat().st_size < 0.35 * floats
    kept = load_file(str(path))
    assert not any(name.endswith("running_var") for name in kept)
    assert "image_encoder.efficientnet.bn1.bias" in kept
    loaded = checkpoints.load(path).model
    assert loaded.architecture == "efficientnet_lite0"
    assert loaded.object_head is not None
    assert loaded.quantization is not None
    assert loaded.quantization.keys() == made.model.quantization.keys()  # type: ignore[union-attr]
    for name in loaded.quantization:
        weights = (m.get_submodule(name).weight for m in (made.model, loaded))
        assert torch.equal(*weights), name
    for name, tensor in loaded.state_dict().items():
        if "mlps.0." in name or "num_batches" in name:
            continue
        if name.endswith(("running_var", "running_mean")):
            assert torch.equal(tensor, state[name]), name
        else:
            assert torch.allclose(tensor, state[name], rtol=2e-3, atol=1e-4), name


def test_openvino_computes_it_with_integers(made: Quantized, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    convert(made.model, tmp_path, integers=True)
    runtime = OpenVinoRuntime(tmp_path, precision="f32")
    assert runtime.precision == "int8"
    counted = multiplications(runtime)
    assert integer_share(counted) >= 0.8, counted
    rgb = np.random.default_rng(0).integers(0, 256, (700, 1024, 3), np.uint8)
    found = runtime.encode(rgb)
    simulated, floats = [], []
    for answer, each in (
        (simulated, with_integers(made.model)),
        (floats, made.model),
    ):
        with torch.no_grad():
            features = each.features(each.normalize_and_pad(as_tensor(rgb)))
            answer.append(features.embedding[0].flatten(1).T.numpy())
            answer.append(each.object_maps(features)[0].sigmoid().numpy())
    assert found.maps is not None
    for ours, there, plain in zip(
        (found.shared[0], found.maps), simulated, floats, strict=True
    ):
        scale = np.abs(plain).mean()
        rounding, real = (np.abs(e - plain).mean() / scale for e in (there, ours))
        assert 1e-4 < rounding < 0.5
        assert real == pytest.approx(rounding, rel=0.3)


def test_it_is_exported_with_integers(made: Quantized, tmp_path: Path) -> None:
    import onnx

    for integers in (True, False):
        folder = tmp_path / str(integers)
        export(made.model, folder, integers=integers, frame_size=256)
    graph = onnx.load(tmp_path / "True" / "encoder.onnx").graph
    rounded = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    layers = made.model.quantization or {}
    assert len(rounded) == sum(how.input is not None for how in layers.values())
    for name in ("encoder", "decoder"):
        small, large = (
            (tmp_path / kind / f"{name}.onnx").stat().st_size
            for kind in ("True", "False")
        )
        assert small < 0.4 * large
