"""Models for other programs: an encoder and a decoder as ONNX or OpenVINO files.

Inputs and outputs follow Segment Anything's own ONNX export. The files include what the plugin does
around its network: they normalise the image, embed points and boxes, draw prompts for models with
dense prompts, and add the first guess. Importing this loads no torch.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from napari_tinysam.errors import TinySAMError, sentence
from napari_tinysam.files.atomic import filling
from napari_tinysam.frame import CELL, EMBED_DIM
from napari_tinysam.inference.runtime.openvino.compiled import openvino_core
from napari_tinysam.inference.runtime.openvino.unreported import import_openvino

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from napari_tinysam.export.description import Description
    from napari_tinysam.model import SegmentAnything

Format = Literal["onnx", "openvino"]

#: File formats.
FORMATS: tuple[Format, ...] = get_args(Format)

#: Version of ONNX's operators, the first with layer norms. Programs of 2022 or later read it.
OPSET = 17


def export(
    model: SegmentAnything,
    folder: str | Path,
    *,
    format: Format = "onnx",
    integers: bool = False,
    frame_size: int = 0,
    notes: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write encoder and decoder of a model for other programs.

    Parameters
    ----------
    model : SegmentAnything
        With a TinyViT or EfficientNet encoder; on the CPU, float32, in eval mode. Not changed.
    folder : str or Path
        Where the files go: a new or an empty folder. They appear when all of them are whole.
    format : {"onnx", "openvino"}
        ``encoder.onnx`` and ``decoder.onnx``, or ``encoder.xml`` and ``decoder.xml`` with their
        weights in ``.bin`` files beside them.
    integers : bool
        Whether a quantized model keeps its 8-bit weights and computes with integers. Otherwise
        they become floats.
    frame_size : int
        S, side in pixels of the square in which the encoder gets images, a multiple of 16 (of 32
        for an EfficientNet) up to `SegmentAnything.image_size`, the default.
    notes : mapping of str to str, optional
        About the model, to be written into the files: "name", "licence" and others.

    Returns
    -------
    list of Path
        The files: encoder, decoder, then ``README.md`` and ``about.json``, which describe inputs
        and outputs (as does `docs/export.md`).

    Raises
    ------
    TinySAMError
        If the model is of another kind or not quantized, the package onnx is missing, or the
        folder is not empty or cannot be written.
    ValueError
        If the format is not known or there is no such frame.
    """
    if format not in FORMATS:
        raise ValueError(f"Formats are {' and '.join(FORMATS)}, not {format!r}.")
    side = frame_size or model.image_size
    _check_model(model, integers)
    stride = model.encoder_kind.multiple
    if side % stride or not 0 < side <= model.image_size:
        raise ValueError(
            f"A frame's side is a multiple of {stride} up to {model.image_size}, not {side}."
        )
    place = check_folder(folder)
    check_packages(format)
    try:
        with filling(place) as temporary:
            written = _write(model, temporary, format, integers, side, notes or {})
    except OSError as error:
        raise TinySAMError(sentence(error, f"{folder} cannot be written")) from error
    return [Path(folder).expanduser() / name for name in written]


def check_folder(folder: str | Path) -> Path:
    """Resolve the path of a folder that is new or empty.

    Raises
    ------
    TinySAMError
        If it is not empty, or is a file.
    """
    try:
        place = Path(folder).expanduser().resolve()
        if place.exists() and not place.is_dir():
            raise TinySAMError(f"{folder} is a file; give the name of a folder.")
        if place.is_dir() and any(place.iterdir()):
            raise TinySAMError(
                f"The folder {folder} is not empty; give the name of a new one."
            )
    except (OSError, ValueError, RuntimeError) as error:  # loop, null byte, no rights
        raise TinySAMError(f"{str(folder)!r} cannot be written.") from error
    return place


def check_packages(format: Format) -> None:
    """Check that the packages that write a format are installed.

    Raises
    ------
    TinySAMError
        If one is missing; the message says how to install it.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise TinySAMError(
            'Exporting needs the package onnx: pip install "napari-tinysam[export]".'
        ) from error
    if format == "openvino":
        try:
            import_openvino()
        except ImportError as error:
            raise TinySAMError(
                "OpenVINO is not installed; it has no package for some computers. "
                "It also reads the files of --format onnx."
            ) from error


def _check_model(model: SegmentAnything, integers: bool) -> None:
    from napari_tinysam.model.integers import is_quantized

    if not model.encoder_kind.graph:
        raise TinySAMError(
            "Only models with a TinyViT or EfficientNet encoder can be exported, not "
            f"{model.architecture}."
        )
    if integers and not is_quantized(model.quantization):
        raise TinySAMError(
            "This model is not quantized; 'napari-tinysam quantize' makes one that is."
        )


def _write(
    model: SegmentAnything,
    folder: Path,
    format: Format,
    integers: bool,
    side: int,
    notes: Mapping[str, str],
) -> list[str]:
    """Write all files into a folder; return their names."""
    import torch

    from napari_tinysam.export.description import Description
    from napari_tinysam.model import DetailedMaskDecoder
    from napari_tinysam.model.fast.graphs import (
        EmbeddingGraph,
        PromptGraph,
        detail_channels,
    )
    from napari_tinysam.model.quantized import in_eight_bits

    about = Description(
        format=format,
        frame_size=side,
        object_head=model.object_head is not None,
        dense_prompts=model.dense_prompts,
        integers=integers,
        details=isinstance(model.mask_decoder, DetailedMaskDecoder),
        detail_channels=detail_channels(model),
        map_stride=model.map_stride,
        notes=notes,
    )
    if integers:
        model = in_eight_bits(model)
    logits = side // 4
    image = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    prompts: dict[str, Tensor] = {
        "embedding": torch.randn(1, EMBED_DIM, side // CELL, side // CELL),
        "points": torch.rand(2, 4, 2) * side,
        # All kinds of points, so that the tracer takes nothing for constant.
        "labels": torch.tensor([[1, 0, 2, 3], [1, -1, 2, 3]]),
        "mask_prompt": torch.randn(2, 1, logits, logits),
        "has_mask": torch.tensor([0.0, 1.0]),
    }
    if about.details:
        eighth, quarter = about.detail_channels
        prompts["details_8"] = torch.randn(1, eighth, side // 8, side // 8)
        prompts["details_4"] = torch.randn(1, quarter, logits, logits)
    if about.reads_regions:
        prompts["regions"] = torch.ones(logits, logits, dtype=torch.int32)
    graphs: dict[str, tuple[nn.Module, dict[str, Tensor]]] = {
        "encoder": (
            EmbeddingGraph(model),
            {"image": image, "size": torch.tensor([side, side])},
        ),
        "decoder": (PromptGraph(model, side), prompts),
    }
    for name, (graph, example) in graphs.items():
        _write_graph(_to_onnx(graph, example, name, about), folder / name, format)
    (folder / "README.md").write_text(about.page(), "utf-8")
    (folder / "about.json").write_text(about.json(), "utf-8")
    return [*about.files, "README.md", "about.json"]


def _to_onnx(
    graph: nn.Module, example: Mapping[str, Tensor], name: str, about: Description
) -> Any:
    """Trace a module; returns an `onnx.ModelProto`."""
    import onnx
    import torch

    from napari_tinysam.export.integers import store_integers

    inputs, outputs = about.inputs(name), about.outputs(name)
    # Dimensions with a letter may be any number.
    dynamic = {
        each.name: {i: str(n) for i, n in enumerate(each.shape) if isinstance(n, str)}
        for each in (*inputs, *outputs)
    }
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer is deprecated, and warns that it fixes shapes. Tests compare the answers. Its
        # successor needs one more package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            tuple(example.values()),
            cast("Any", file),
            input_names=[each.name for each in inputs],
            output_names=[each.name for each in outputs],
            dynamic_axes={name: axes for name, axes in dynamic.items() if axes},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_model_from_string(file.getvalue())
    for port, value in zip(outputs, model.graph.output, strict=True):
        # After an interpolation the exporter does not know the size.
        for dimension, n in zip(
            value.type.tensor_type.shape.dim, port.shape, strict=True
        ):
            if isinstance(n, int):
                dimension.dim_value = n
    if about.integers:
        store_integers(model)
    model.doc_string = f"{about.title}: {name}"
    onnx.checker.check_model(model)
    return model


def _write_graph(model: Any, path: Path, format: Format) -> None:
    """Write a graph, adding the suffix of the format."""
    if format == "onnx":
        path.with_suffix(".onnx").write_bytes(model.SerializeToString())
        return
    openvino = import_openvino()
    graph = openvino_core().read_model(model.SerializeToString(), b"")
    openvino.save_model(graph, str(path.with_suffix(".xml")), compress_to_fp16=False)
