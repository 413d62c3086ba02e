"""Identifies the model in a file: official names, tensors, and image encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from napari_tinysam.checkpoints.integers import (
    folded_value,
    taken_apart,
)
from napari_tinysam.checkpoints.sniff import refusal

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from napari_tinysam.model import Architecture
    from napari_tinysam.model.integers import LayerQuantization

#: The object head, which segmentation itself does not need, and the part of it that reads details.
OBJECT_HEAD = "object_head."
DETAILS = "object_head.details."

#: Tensors that segmentation never uses, so files need not have them: the ImageNet classifier in
#: TinyViT files, BatchNorms' counts of batches, and the kernels of SAM's single mask.
UNUSED = re.compile(
    r"image_encoder\.(norm_head|head)\.|.*\.num_batches_tracked$"
    r"|mask_decoder\.output_hypernetworks_mlps\.0\."
)

# Keys under which training scripts put the weights beside other things.
_WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict", "weights")


def official_weights(
    content: object, path: Path
) -> tuple[dict[str, Tensor], dict[str, LayerQuantization]]:
    """Find a model's weights in the content of a file.

    Parameters
    ----------
    content : object
        Wrappers, a common prefix of names, 8-bit integers and object heads of other projects are
        removed.
    path : Path
        For messages.

    Returns
    -------
    weights : dict of str to Tensor
        By official names.
    layers : dict of str to LayerQuantization
        By their names in the file; empty for a model that is not quantized.

    Raises
    ------
    CheckpointError
        If it holds no model, or more than one.
    """
    import torch

    from napari_tinysam.model import from_official, to_official

    state_dict = _unwrapped(content)
    prefixes = {
        name.partition("image_encoder.")[0] for name in _encoder_names(state_dict)
    }
    if not prefixes:
        shown = ", ".join(map(str, list(state_dict)[:3])) or "nothing"
        raise refusal(path, f"holds no Segment Anything model, but {shown}")
    if len(prefixes) > 1:
        shown = ", ".join(repr(prefix) for prefix in sorted(prefixes))
        raise refusal(path, f"holds more than one model (prefixes {shown})")
    prefix = prefixes.pop()
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor)
    }
    try:
        weights, layers = taken_apart(weights)
    except ValueError as error:
        raise refusal(path, f"is a damaged 8-bit model: {error}") from error
    # There and back leaves out the buffers that follow from the architecture.
    weights = to_official(from_official(weights))
    head = {n: t for n, t in weights.items() if n.startswith(OBJECT_HEAD)}
    if head and not _is_object_head(
        head, architecture_of(weights, path), folded=bool(layers)
    ):
        weights = {n: t for n, t in weights.items() if n not in head}
    return weights, layers


def _is_object_head(
    head: Mapping[str, Tensor], architecture: Architecture, *, folded: bool
) -> bool:
    """Whether these are an object head of ours that fits the encoder."""
    import torch

    from napari_tinysam.model import ENCODERS, new_object_head

    details = any(name.startswith(DETAILS) for name in head)
    with torch.device("meta"):
        module = new_object_head(
            ENCODERS[architecture].detail_channels, details=details
        )
        wanted = module.state_dict(prefix=OBJECT_HEAD)
    needed = {name for name in wanted if not UNUSED.match(name)}
    if folded:
        needed = {n for n in needed if folded_value(n, wanted) is None}
    return needed <= head.keys() <= wanted.keys() and all(
        head[name].shape == tensor.shape
        and (UNUSED.match(name) or kind_of_number(head[name]) == "float")
        for name, tensor in wanted.items()
        if name in head
    )


def _unwrapped(content: object) -> Mapping[Any, Any]:
    """Return the first mapping that holds an image encoder, or the content itself."""
    inner = content
    for _ in range(3):
        if not isinstance(inner, Mapping):
            break
        if _encoder_names(inner):
            return inner
        inner = next((inner[key] for key in _WRAPPERS if key in inner), None)
    return (
        content if isinstance(content, Mapping) else {type(content).__name__: content}
    )


def _encoder_names(state_dict: Mapping[Any, Any]) -> list[str]:
    return [
        name
        for name in state_dict
        if isinstance(name, str) and re.search(r"(^|\.)image_encoder\.", name)
    ]


def architecture_of(weights: Mapping[str, Tensor], path: Path) -> Architecture:
    """Return the encoder that most of the weights agree with (`EncoderKind.widths`).

    Whether all of them do is found when they are compared with the whole model.

    Parameters
    ----------
    weights : mapping of str to Tensor
        By official names.
    path : Path
        For messages.

    Raises
    ------
    CheckpointError
        If none agrees.
    """
    from napari_tinysam.model import ENCODERS

    def agreements(name: str) -> int:
        return sum(
            weights[tensor].shape[axis : axis + 1] == (width,)
            for tensor, (axis, width) in ENCODERS[name].widths.items()
            if tensor in weights
        )

    best = max(ENCODERS, key=agreements)
    if not agreements(best):
        raise refusal(path, "holds an image encoder that is not known here")
    return cast("Architecture", best)


def mlp_dim_of(weights: Mapping[str, Tensor], architecture: Architecture) -> int:
    """Return the width of the mask decoder's MLPs for tokens.

    Only decoders with details, this project's own, differ from the official one.

    Parameters
    ----------
    weights : mapping of str to Tensor
        By official names.
    architecture : str
    """
    from napari_tinysam.model import ENCODERS, MLP_DIM

    hidden = weights.get("mask_decoder.transformer.layers.0.mlp.lin1.bias")
    if hidden is None or not hidden.numel() or not ENCODERS[architecture].has_pyramid:
        return MLP_DIM
    return hidden.numel()


def kind_of_number(tensor: Tensor) -> str:
    """Return "float" for all floats, else the type; for comparison with the expected type."""
    import torch

    if tensor.is_meta or tensor.layout is not torch.strided:
        return "without values or sparse"
    return "float" if tensor.is_floating_point() else str(tensor.dtype)
