"""Upscaling as products of matrices: a place becomes four places, in reading order."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from napari_tinysam.model.integers import QuantizedLayer


def places_within(x: Tensor, steps: int) -> Tensor:
    """(1, C, h, w) to (1, h w, C), in the order in which `steps` times `split_places` gives places.

    Each step splits a place into four, in reading order: one bit of row and one of column.
    """
    _, channels, height, width = x.shape
    twos = (2,) * steps
    sizes = (channels, height // 2**steps, *twos, width // 2**steps, *twos)
    # Axes 1 and 2 + steps are the coarsest row and column; then come row and column of each step.
    pairs = [axis for n in range(1 + steps) for axis in (1 + n, 2 + steps + n)]
    return x[0].reshape(sizes).permute(*pairs, 0).reshape(1, -1, channels)


def split_places(layer: Any, places: Tensor, norm: Any = None) -> Tensor:
    """Transposed convolution of stride 2 with a kernel of 2: (N, P, c) → (N, 4 P, C).

    A place becomes its four pixels, in reading order. If a norm is given, its weight and bias are
    not applied to the places yet, and go into those of the layer.
    """
    quantized = layer if isinstance(layer, QuantizedLayer) else None
    if quantized is not None:
        if norm is not None:
            places, norm = places * norm.weight + norm.bias, None
        layer, places = quantized.layer, quantized.given.rounded(places)
    channels, wider = layer.weight.shape[:2]  # (c, C, 2, 2)
    weight = layer.weight.permute(2, 3, 1, 0).reshape(4 * wider, channels)
    bias = layer.bias.repeat(4)
    if quantized is not None:
        weight = quantized.rounded_rows(weight, repeated=4)
    if norm is not None:
        bias = bias + weight @ norm.bias
        weight = weight * norm.weight
    found: Tensor = F.linear(places, weight, bias)
    return found.view(found.shape[0], -1, wider)
