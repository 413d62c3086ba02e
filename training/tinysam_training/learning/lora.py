"""Low-rank additions to layers (LoRA, Hu et al., ICLR 2022), merged when saving.

All linear layers of a transformer get one. An EfficientNet has no linear layers; its 1 × 1 and
ordinary 3 × 3 convolutions get additions. Depthwise convolutions get none: they have few weights.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import (
    is_parametrized,
    register_parametrization,
    type_before_parametrizations,
)

from napari_tinysam.model import EfficientNetEncoder


class LowRank(nn.Module):
    """A weight plus a trainable product of two thin matrices.

    Parameters
    ----------
    weight : Tensor
        (out, in, ...), of a linear layer or of a convolution without groups.
    rank : int
        Of the addition.
    alpha : float, optional
        The addition is scaled by ``alpha / rank``; twice the rank by default.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float | None = None) -> None:
        super().__init__()
        self.scale = (2 * rank if alpha is None else alpha) / rank
        self.down = nn.Parameter(weight.new_empty(rank, *weight.shape[1:]))
        self.up = nn.Parameter(weight.new_zeros(len(weight), rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # `up` is 0: no change yet

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in, ...) → (out, in, ...)."""
        added = self.up @ self.down.flatten(1)
        return weight + self.scale * added.view_as(weight)


def add_low_rank(module: nn.Module, rank: int) -> int:
    """Freeze a module and give its layers low-rank additions, in place.

    Existing additions stay. All linear layers get one. In an `EfficientNetEncoder`, convolutions
    without groups get one if they have more weights than the addition.

    Parameters
    ----------
    module : nn.Module
        Such as the image encoder.
    rank : int

    Returns
    -------
    int
        Number of layers that got one.
    """
    module.requires_grad_(False)
    convolutions = isinstance(module, EfficientNetEncoder)
    count = 0
    for layer in list(module.modules()):
        if isinstance(layer, LowRank):
            layer.requires_grad_(True)
        elif type(layer) is nn.Linear or (
            convolutions and type(layer) is nn.Conv2d and _gains_by_it(layer, rank)
        ):
            weight = layer.weight
            register_parametrization(layer, "weight", LowRank(weight, rank))
            count += 1
    return count


def _gains_by_it(conv: nn.Conv2d, rank: int) -> bool:
    """Whether an addition is possible, and smaller than the weight."""
    weight = conv.weight
    return (
        conv.groups == 1
        and rank * (weight[0].numel() + len(weight)) < weight.numel()
        and conv.padding_mode == "zeros"
    )


@torch.no_grad()
def merge_low_rank(module: nn.Module) -> nn.Module:
    """Merge the additions into their layers, in place; return the module."""
    for layer in list(module.modules()):
        if not is_parametrized(layer, "weight"):
            continue
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        weight, bias = layer.weight.clone(), layer.bias
        # `remove_parametrizations` would change the class, which copies of the layer share.
        layer.__class__ = type_before_parametrizations(layer)
        del layer.parametrizations, layer.bias
        layer.weight = nn.Parameter(weight, requires_grad=False)
        # After the weight, as in official files.
        layer.register_parameter("bias", cast("nn.Parameter | None", bias))
    return module
