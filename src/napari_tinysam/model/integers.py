"""Layers that compute with 8-bit integers, and the scales of their weights and inputs.

Rounding happens in float32, to exactly the values that integer kernels compute with:
`torch.fake_quantize_…` become the nodes from which OpenVINO and ONNX Runtime make those kernels.
`tinysam_training.quantize` chooses the scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_tinysam.model.encoders.efficientnet import PaddedConv

#: Range of 8-bit integers.
LOWEST, HIGHEST = -128, 127

#: Layers that have weights to be rounded.
QUANTIZABLE = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class InputQuantization:
    """How a layer's input becomes 8-bit integers, with one scale for the whole tensor.

    Attributes
    ----------
    scale : float
        Size of one step.
    lowest : int
        Steps below 0, from −128 to 0: −128 for the symmetric range, 0 for inputs never below 0.
        255 steps lie between the lowest and the highest value.
    """

    scale: float
    lowest: int = LOWEST

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"A scale is above 0, not {self.scale}.")
        if not LOWEST <= self.lowest <= 0:
            raise ValueError(f"The lowest step is −128 to 0, not {self.lowest}.")

    def rounded(self, x: Tensor) -> Tensor:
        """Round to the steps and clip to the range."""
        # Steps are numbered −128 to 127 whatever the range is: one kind of integers for all.
        return torch.fake_quantize_per_tensor_affine(
            x, self.scale, LOWEST - self.lowest, LOWEST, HIGHEST
        )


@dataclass(frozen=True, eq=False)
class LayerQuantization:
    """How a layer computes.

    Attributes
    ----------
    weight_scale : Tensor
        (C,) float32, size of one step of the weights, for each output channel.
    input : InputQuantization or None
        None: only the weights have 8 bits, and the layer computes with floats.
    """

    weight_scale: Tensor
    input: InputQuantization | None = None


def weight_axis(layer: nn.Module) -> int:
    """Return which dimension of a layer's weights is its output channels."""
    return 1 if isinstance(layer, nn.ConvTranspose2d) else 0


def along(scale: Tensor, weight: Tensor, axis: int) -> Tensor:
    """Reshape (C,) scales so that they broadcast to the weights."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    return scale.view(shape)


def to_integers(weight: Tensor, scale: Tensor, axis: int) -> Tensor:
    """Round weights to 8-bit integers.

    Parameters
    ----------
    weight : Tensor
        Of a layer.
    scale : Tensor
        (C,), of each output channel.
    axis : int
        `weight_axis`.

    Returns
    -------
    Tensor
        int8, of the weights' shape.
    """
    steps = (weight / along(scale, weight, axis)).round()
    return steps.clamp(LOWEST, HIGHEST).to(torch.int8)


class QuantizedLayer(nn.Module):
    """A layer whose input and weights are rounded to 8 bits.

    Parameters
    ----------
    layer : Linear, Conv2d or ConvTranspose2d
        Used, not copied.
    weight_scale : Tensor
        (C,).
    given : InputQuantization
    """

    def __init__(
        self, layer: nn.Module, weight_scale: Tensor, given: InputQuantization
    ) -> None:
        super().__init__()
        self.layer: Any = layer
        self.given = given
        self.axis = weight_axis(layer)
        self.register_buffer("weight_scale", weight_scale)

    @property
    def weight(self) -> Tensor:
        """The rounded weights, which the layer computes with."""
        scale = self.get_buffer("weight_scale")
        zeros = torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
        return torch.fake_quantize_per_channel_affine(
            self.layer.weight, scale, zeros, self.axis, LOWEST, HIGHEST
        )

    @property
    def bias(self) -> Tensor | None:
        """The bias, not rounded."""
        bias: Tensor | None = self.layer.bias
        return bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to the rounded input."""
        return self.applied(self.given.rounded(x))

    def applied(self, rounded: Tensor) -> Tensor:
        """Apply the layer to an input that is rounded already."""
        layer, weight = self.layer, self.weight
        if isinstance(layer, nn.Linear):
            return F.linear(rounded, weight, layer.bias)
        if isinstance(layer, PaddedConv):
            rounded = layer.padded(rounded)  # zero is a step
        if isinstance(layer, nn.Conv2d):
            return F.conv2d(
                rounded,
                weight,
                layer.bias,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
            )
        return F.conv_transpose2d(
            rounded,
            weight,
            layer.bias,
            layer.stride,
            layer.padding,
            layer.output_padding,
            layer.groups,
            layer.dilation,
        )

    def linear_rows(self, rounded: Tensor, rows: Tensor) -> Tensor:
        """Compute some outputs of a linear layer.

        Parameters
        ----------
        rounded : Tensor
            (..., c), `given.rounded` of the input.
        rows : Tensor
            (R,) int64, which outputs.

        Returns
        -------
        Tensor
            (..., R).
        """
        weight = self.rounded_rows(self.layer.weight[rows], rows=rows)
        bias = self.layer.bias
        return F.linear(rounded, weight, None if bias is None else bias[rows])

    def rounded_rows(
        self, weight: Tensor, *, rows: Tensor | None = None, repeated: int = 1
    ) -> Tensor:
        """Round weights that were laid out as rows, one for each output.

        A runtime expects the rounding directly before the product, so it comes last.

        Parameters
        ----------
        weight : Tensor
            (R, c).
        rows : Tensor, optional
            (R,), which outputs of the layer they are; by default all, in order.
        repeated : int
            How many times over.
        """
        scale = self.get_buffer("weight_scale")
        scale = (scale if rows is None else scale[rows]).repeat(repeated)
        zeros = torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
        return torch.fake_quantize_per_channel_affine(
            weight, scale, zeros, 0, LOWEST, HIGHEST
        )


def is_quantized(layers: Mapping[str, LayerQuantization] | None) -> bool:
    """Whether any layer computes with integers."""
    return any(layer.input is not None for layer in (layers or {}).values())
