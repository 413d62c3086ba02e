"""A torch model to the graphs that OpenVINO runs. Done once for each model; needs torch.

The encoder, which also prepares all that prompts share; the decoder up to scores and mask kernels,
for any number of prompts; and the upscaling of masks (`napari_tinysam.model.fast.graphs`).
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_tinysam.frame import EMBED_DIM
from napari_tinysam.inference.runtime.openvino.arrays import arrays_of
from napari_tinysam.inference.runtime.openvino.unreported import import_openvino
from napari_tinysam.model.fast.decoder import RestructuredDecoder
from napari_tinysam.model.fast.graphs import (
    AttentionGraph,
    ImageSideGraph,
    MapsGraph,
    UpscalerGraph,
)
from napari_tinysam.model.integers import QuantizedLayer, is_quantized
from napari_tinysam.model.mask_decoder import DetailedMaskDecoder
from napari_tinysam.model.quantized import with_integers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_tinysam.model import SegmentAnything

#: Files of a converted model.
ARRAYS, ABOUT = "arrays.npz", "about.json"
ENCODER, MAPS, DECODER, MASKED_DECODER, UPSCALER = (
    "encoder.xml",
    "maps.xml",
    "decoder.xml",
    "decoder_masked.xml",
    "upscaler.xml",
)

#: OpenVINO's names of types.
_TYPES = {
    torch.uint8: "u8",
    torch.int64: "i64",
    torch.float16: "f16",
    torch.float32: "f32",
}


#: Constants with fewer numbers stay in 32 bits: shapes, steps, a norm's epsilon.
_SMALL = 64

#: Side in pixels of the example for encoders whose graph is the same for all sizes.
_EXAMPLE = 64


def convert(model: SegmentAnything, folder: Path, *, integers: bool = False) -> None:
    """Write all graphs of a model.

    Parameters
    ----------
    model : SegmentAnything
        On the CPU, float32, in eval mode.
    folder : Path
        An empty folder.
    integers : bool
        Whether layers of a quantized model that have input scales compute with integers.

    Raises
    ------
    OSError
        If files cannot be written.
    RuntimeError
        If a graph cannot be converted, the encoder has no graph (plain ViTs), or `integers` is
        asked for and the model is not quantized.
    """
    if not model.encoder_kind.graph:
        raise RuntimeError("only models with a TinyViT or EfficientNet encoder can be")
    if integers:
        if not is_quantized(model.quantization):
            raise RuntimeError("it is not a quantized model")
        model = with_integers(model)
    decoder = RestructuredDecoder(model).eval()
    details = isinstance(model.mask_decoder, DetailedMaskDecoder)
    side = model.image_size
    with torch.no_grad():
        images: list[tuple[nn.Module, int, str]] = [
            (ImageSideGraph(model, decoder), side, ENCODER)
        ]
        if model.sees_halves:
            images.append((MapsGraph(model), side // 2, MAPS))
        for graph, size, name in images:
            # Tracing computes the example, so a small one is faster.
            traced = min(_EXAMPLE, size) if model.encoder_kind.any_size else size
            image = torch.zeros(1, traced, traced, 3, dtype=torch.uint8)
            _write(
                graph,
                {"image": image, "size": torch.tensor([traced, traced])},
                {"image": [1, size, size, 3], "size": [2]},
                folder / name,
            )
        # Numbers of places, windows, prompts and tokens are dynamic.
        cells, whole, half = 4, EMBED_DIM, EMBED_DIM // 2
        example = {
            "embedding": torch.randn(1, cells**2, whole),
            "keys": torch.randn(1, half, cells**2),
            "values": torch.randn(1, half, cells**2),
            "queries": torch.randn(1, half, cells**2),
            "placed": torch.randn(1, 3, half, cells**2),
            "sparse": torch.randn(2, 3, whole),
        }
        shapes = {
            "embedding": [-1, -1, whole],
            **{name: [-1, half, -1] for name in ("keys", "values", "queries")},
            "placed": [-1, 3, half, -1],
            "sparse": [-1, -1, whole],
        }
        if not model.dense_prompts:  # otherwise prompts are always drawn
            _write(AttentionGraph(decoder), example, shapes, folder / DECODER)
        example["masks"] = torch.randn(2, 1, 4 * cells, 4 * cells)
        shapes["masks"] = [-1, 1, -1, -1]
        _write(AttentionGraph(decoder), example, shapes, folder / MASKED_DECODER)
        kernels = EMBED_DIM // 8
        example = {
            "image": torch.randn(2, cells, cells, whole),
            "kernels": torch.randn(2, 3, kernels),
        }
        shapes = {"image": [-1, -1, -1, whole], "kernels": [-1, 3, kernels]}
        if details:
            added = (("half", 4, whole // 4), ("whole", 16, kernels))
            for name, places, width in added:
                example[name] = torch.randn(1, places * cells**2, width).half()
                shapes[name] = [-1, -1, width]
        if decoder.refines:
            for name in ("drawn", "boxes"):
                example[name] = torch.randn(2, 4 * cells, 4 * cells)
                shapes[name] = [-1, -1, -1]
            for name, added in zip(
                ("fine_half", "fine_whole"),
                model.mask_decoder.refiner.projected(_pyramid(model, cells)),
                strict=True,
            ):
                example[name] = added.half()
                shapes[name] = [-1, added.shape[1], -1, -1]
        _write(UpscalerGraph(decoder), example, shapes, folder / UPSCALER)
        weights = {name: each.numpy() for name, each in model.state_dict().items()}
        arrays: dict[str, Any] = dict(arrays_of(weights, side))
        np.savez(folder / ARRAYS, **arrays)
    about = {
        "image_size": side,
        "dense_prompts": model.dense_prompts,
        "object_head": model.object_head is not None,
        "halves": model.sees_halves,
        "details": details,
        "refines": decoder.refines,
        "integers": integers,
    }
    (folder / ABOUT).write_text(json.dumps(about), "utf-8")


def _write(
    module: nn.Module,
    example: Mapping[str, Tensor],
    shapes: Mapping[str, Sequence[int]],
    path: Path,
) -> None:
    """Trace a module and write its graph.

    `openvino.convert_model` takes three times as long, and reports each use to its makers.
    """
    openvino = import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    given = tuple(example.values())
    module = module.eval()
    trained = [each for each in module.parameters() if each.requires_grad]
    module.requires_grad_(False)  # otherwise they are not constants
    try:
        with warnings.catch_warnings():
            # The tracer is deprecated, and warns that it fixes shapes. Tests compare the answers.
            warnings.simplefilter("ignore")
            jit: Any = torch.jit
            # A function: tracing a module takes ten times as long.
            traced = jit.trace(
                lambda *inputs: module(*inputs), given, check_trace=False, strict=False
            )
    finally:
        for each in trained:
            each.requires_grad_(True)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=given)
    graph = frontend.convert(frontend.load(decoder))
    for parameter, (name, tensor) in zip(
        graph.get_parameters(), example.items(), strict=True
    ):
        parameter.set_element_type(getattr(openvino.Type, _TYPES[tensor.dtype]))
        parameter.set_partial_shape(openvino.PartialShape(list(shapes[name])))
    graph.validate_nodes_and_infer_types()
    if _rounds(module):
        _fold_limits(graph)
    else:
        _halve(graph)
    openvino.save_model(graph, str(path), compress_to_fp16=False)


def _rounds(module: nn.Module) -> bool:
    return any(isinstance(part, QuantizedLayer) for part in module.modules())


def _halve(graph: Any) -> None:
    """Store constants in 16 bits where that is exact, as for weights from files of 16 bits."""
    openvino = import_openvino()
    from openvino import opset13

    for node in graph.get_ops():
        if node.get_type_name() != "Constant":
            continue
        if node.get_element_type() != openvino.Type.f32 or node.data.size < _SMALL:
            continue
        with np.errstate(over="ignore"):
            half = node.data.astype(np.float16)
        if np.array_equal(half.astype(np.float32), node.data):
            whole = opset13.convert(opset13.constant(half), "f32")
            node.output(0).replace(whole.output(0))


def _fold_limits(graph: Any) -> None:
    """Fold the limits of each rounding: OpenVINO makes integers only if they are constants."""
    openvino = import_openvino()
    from openvino import opset13, passes

    told = [
        operand.get_source_output()
        for node in graph.get_ordered_ops()
        if node.get_type_name() == "FakeQuantize"
        for operand in node.inputs()
    ]
    constant = [output for output in told if not _depends_on_input(output.get_node())]
    # In a graph of their own: folding the whole graph would fold the rounding of weights too.
    limits = openvino.Model([opset13.result(output) for output in constant], [])
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(limits)


def _depends_on_input(node: Any) -> bool:
    """Whether a node's value depends on the graph's inputs."""
    seen, ahead = set(), [node]
    while ahead:
        node = ahead.pop()
        name = node.get_name()
        if name in seen:
            continue
        seen.add(name)
        if node.get_type_name() == "Parameter":
            return True
        ahead += [operand.get_source_output().get_node() for operand in node.inputs()]
    return False


def _pyramid(model: SegmentAnything, cells: int) -> tuple[Tensor, Tensor]:
    """Return random details at strides 8 and 4, for tracing."""
    first, second, *_ = model.encoder_kind.detail_channels
    return (
        torch.randn(1, first, 2 * cells, 2 * cells),
        torch.randn(1, second, 4 * cells, 4 * cells),
    )
