"""Files of 8-bit integers: small, of integers indeed, and as near to floats as is simulated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from export.small_exports import (
    SIDE,
    Exported,
    assert_alike,
    decoded,
    encoded,
    picture,
    quantized_model,
    small_model,
)
from napari_tinysam.errors import TinySAMError
from napari_tinysam.export import export
from napari_tinysam.model.integers import to_integers, weight_axis
from napari_tinysam.model.quantized import in_eight_bits, with_integers

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    return quantized_model()


@pytest.fixture(scope="module")
def folder(model: SegmentAnything, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In it `floats` and `integers`."""
    found = tmp_path_factory.mktemp("integers")
    export(model, found / "floats")
    export(model, found / "integers", integers=True)
    return found


@pytest.fixture(scope="module")
def openvino_folder(
    model: SegmentAnything, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")
    found = tmp_path_factory.mktemp("openvino") / "out"
    export(model, found, format="openvino", integers=True)
    return found


def initializers(graph: Any) -> dict[str, np.ndarray]:
    return {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_files_are_small(folder: Path, name: str) -> None:
    small, large = (
        (folder / kind / f"{name}.onnx").stat().st_size
        for kind in ("integers", "floats")
    )
    assert small < 0.35 * large


def test_openvino_keeps_integers(folder: Path, openvino_folder: Path) -> None:
    for name in ("encoder", "decoder"):
        large = (folder / "floats" / f"{name}.onnx").stat().st_size
        assert (openvino_folder / f"{name}.bin").stat().st_size < 0.35 * large


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_weights_are_kept_as_the_integers_that_they_are(
    model: SegmentAnything, folder: Path, name: str
) -> None:
    """All that are quantized and used, value by value, in whatever layout."""
    graph = onnx.load(folder / "integers" / f"{name}.onnx").graph
    kept = initializers(graph)
    small = [array for array in kept.values() if array.dtype == np.int8]
    large = [array for array in kept.values() if array.dtype == np.float32]
    assert sum(a.size for a in small) > 8 * sum(a.size for a in large if a.ndim > 1)
    sorts = {np.sort(array, axis=None).tobytes() for array in small}
    of_encoder = ("image_encoder.", "object_head.")
    assert model.quantization is not None
    for layer, how in model.quantization.items():
        if layer.startswith(of_encoder) != (name == "encoder"):
            continue
        # Attentions take their projection apart, and nobody asks for SAM's single mask.
        if "qkv" in layer or "output_hypernetworks_mlps.0." in layer:
            continue
        module = model.get_submodule(layer)
        steps = to_integers(
            module.weight.detach(), how.weight_scale, weight_axis(module)
        )
        assert np.sort(steps.numpy(), axis=None).tobytes() in sorts, layer


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_nodes_say_what_is_rounded(
    model: SegmentAnything, folder: Path, name: str
) -> None:
    graph = onnx.load(folder / "integers" / f"{name}.onnx").graph
    kept = initializers(graph)
    made_by = {output: node for node in graph.node for output in node.output}
    rounded = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    back = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    # Weights are integers already: only what comes in is rounded, and only in the encoder.
    assert all(node.input[0] not in kept for node in rounded)
    assert model.quantization is not None
    layers = sum(how.input is not None for how in model.quantization.values())
    assert len(rounded) == (layers if name == "encoder" else 0)
    of_weights = [node for node in back if node.input[0] in kept]
    assert len(back) == len(of_weights) + len(rounded)
    assert all(kept[node.input[0]].dtype == np.int8 for node in of_weights)
    # Between integers and the product nothing happens: runtimes look for that.
    if name == "encoder":
        products = [n for n in graph.node if n.op_type in ("Conv", "ConvTranspose")]
        from_integers = [
            node
            for node in products
            if all(
                made_by[source].op_type == "DequantizeLinear"
                for source in node.input[:2]
            )
        ]
        assert len(from_integers) == len(products)
    floats = onnx.load(folder / "floats" / f"{name}.onnx").graph
    assert not any("Quantize" in node.op_type for node in floats.node)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_they_are_as_near_to_floats_as_simulated(
    model: SegmentAnything, folder: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """A whole encoder, and torch with rounded floats, both beside the floats.

    Sums are added in another order, which tips some values to the other side of a step, and random
    weights make much of that. The rounding is as large in both, and of the same kind.
    """
    if kind == "openvino":
        files = Exported(request.getfixturevalue("openvino_folder"))
    else:
        files = Exported(folder / "integers")
    found = files.encode(picture())
    simulated = encoded(with_integers(model), picture())
    floats = encoded(model, picture())
    for name, there, plain in zip(found, simulated, floats, strict=True):
        assert there is not None
        assert plain is not None
        scale = plain.abs().mean()
        rounding = float((there - plain).abs().mean() / scale)
        real = float(np.abs(found[name] - plain.numpy()).mean() / scale)
        assert 0.001 < rounding < 0.5  # it does round
        assert real == pytest.approx(rounding, rel=0.3)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_the_decoder_computes_with_floats(
    model: SegmentAnything, folder: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """Its weights have values of 8 bits, so nothing is lost."""
    embedding, _ = encoded(model, picture())
    points = np.array([[[30, 40], [90, 20]], [[100, 60], [5, 5]]], np.float32)
    labels = np.array([[1, 0], [1, 1]])
    regions = np.zeros((SIDE // 4, SIDE // 4), np.int32)
    regions[4:12, 4:12] = 1
    inputs = {
        "embedding": embedding.numpy(),
        "points": points,
        "labels": labels,
        "mask_prompt": np.zeros((2, 1, SIDE // 4, SIDE // 4), np.float32),
        "has_mask": np.zeros(2, np.float32),
        "regions": regions,
    }
    expected = decoded(model, embedding, points=points, labels=labels, regions=regions)
    if kind == "onnx":
        found = Exported(folder / "integers").decode(inputs)
    else:
        from napari_tinysam.inference.runtime.openvino.compiled import openvino_core

        # As the page that is exported with them says.
        page = request.getfixturevalue("openvino_folder") / "README.md"
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        }
        for name, value in options.items():
            assert f'"{name}": "{value}"' in page.read_text("utf-8")
        compiled = openvino_core().compile_model(
            page.with_name("decoder.xml"), "CPU", options
        )
        answer = compiled(inputs)
        found = answer["masks"], answer["scores"]
    for ours, theirs in zip(found, expected, strict=True):
        assert_alike(ours, theirs)


def test_models_without_dense_prompts_have_integers_too(tmp_path: Path) -> None:
    model = quantized_model(dense=False)
    export(model, tmp_path / "out", integers=True)
    files = Exported(tmp_path / "out")
    embedding, _ = encoded(model, picture())
    masks = np.random.default_rng(0).normal(0, 8, (1, SIDE // 4, SIDE // 4))
    masks = masks.astype(np.float32)
    boxes = np.array([[20, 30, 70, 90]], np.float32)
    found = files.decode(
        {
            "embedding": embedding.numpy(),
            "points": boxes.reshape(1, 2, 2),
            "labels": np.array([[2, 3]]),
            "mask_prompt": masks[:, None],
            "has_mask": np.ones(1, np.float32),
        }
    )
    expected = decoded(model, embedding, boxes=boxes, masks=masks)
    for ours, theirs in zip(found, expected, strict=True):
        assert_alike(ours, theirs)


def test_rounding_of_weights_alone_changes_nothing(model: SegmentAnything) -> None:
    rounded = in_eight_bits(model)
    embedding, _ = encoded(model, picture())
    boxes = np.array([[20, 30, 70, 90]], np.float32)
    one, two = (decoded(each, embedding, boxes=boxes) for each in (model, rounded))
    for ours, theirs in zip(one, two, strict=True):
        assert_alike(ours, theirs, 1e-5)


def test_floats_have_no_integers(tmp_path: Path) -> None:
    with pytest.raises(TinySAMError, match="not quantized; 'napari-tinysam quantize'"):
        export(small_model(), tmp_path / "out", integers=True)
    assert not (tmp_path / "out").exists()
