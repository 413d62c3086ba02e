"""Copies of quantized models whose layers really round, for conversion and for tests."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from napari_tinysam.model.integers import (
    HIGHEST,
    LOWEST,
    QuantizedLayer,
    weight_axis,
)

if TYPE_CHECKING:
    from napari_tinysam.model.sam import SegmentAnything


def with_integers(model: SegmentAnything) -> SegmentAnything:
    """Make a copy of a quantized model whose layers round as `SegmentAnything.quantization` says.

    Parameters
    ----------
    model : SegmentAnything
        Its norms are folded into the layers after them (`tinysam_training.quantize.folding`).

    Returns
    -------
    SegmentAnything
        Layers without `InputQuantization` stay as they are.
    """
    copied = copy.deepcopy(model)
    for name, layer in (model.quantization or {}).items():
        if layer.input is not None:
            replaced = QuantizedLayer(
                copied.get_submodule(name), layer.weight_scale, layer.input
            )
            copied.set_submodule(name, replaced)
    return copied


def in_eight_bits(model: SegmentAnything) -> SegmentAnything:
    """Make a copy of a quantized model that rounds all its 8-bit weights, and inputs of layers.

    Parameters
    ----------
    model : SegmentAnything
        With `quantization`.

    Returns
    -------
    SegmentAnything
        As from `with_integers`. Weights of layers that compute with floats are rounded too, to the
        values that they have, so that files keep them as 8 bits.
    """
    copied = copy.deepcopy(with_integers(model))
    for name, how in (model.quantization or {}).items():
        if how.input is None:
            layer = copied.get_submodule(name)
            rounding = _Rounding(how.weight_scale, weight_axis(layer))
            parametrize.register_parametrization(layer, "weight", rounding)
    return copied


class _Rounding(nn.Module):
    """Weights to 8 bits."""

    def __init__(self, scale: Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("scale", scale)
        self.register_buffer("zeros", torch.zeros(scale.numel(), dtype=torch.int32))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.fake_quantize_per_channel_affine(
            weight,
            self.get_buffer("scale"),
            self.get_buffer("zeros"),
            self.axis,
            LOWEST,
            HIGHEST,
        )
