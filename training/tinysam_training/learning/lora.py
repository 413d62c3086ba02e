"""Low-rank additions to layers (LoRA, Hu et al., ICLR 2022), merged away when saving.

A transformer gets them at its linear layers. An EfficientNet has none: there 1 × 1 and ordinary
3 × 3 convolutions get them. What is depthwise stays as it is: it has few weights, and no rank to
speak of.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_tinysam.model import EfficientNetEncoder


class LowRankLinear(nn.Module):
    """A frozen linear layer plus a trainable product of two thin matrices.

    Parameters
    ----------
    linear : nn.Linear
        Taken over and frozen.
    rank : int
        Of the addition.
    alpha : float, optional
        The addition is scaled by ``alpha / rank``; twice the rank by default.
    """

    def __init__(
        self, linear: nn.Linear, rank: int, alpha: float | None = None
    ) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scale = (2 * rank if alpha is None else alpha) / rank
        weight = linear.weight
        self.down = nn.Parameter(weight.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # `up` is 0: no change yet

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        added = F.linear(F.linear(x, self.down), self.up)
        result: Tensor = self.linear(x) + self.scale * added
        return result

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return one linear layer that does the same."""
        self.linear.weight += self.scale * (self.up @ self.down)
        return self.linear


class LowRankConv(nn.Module):
    """A frozen convolution plus a trainable one to few channels and from there by 1 × 1.

    Parameters
    ----------
    conv : nn.Conv2d
        Without groups. Taken over and frozen.
    rank : int
        Channels between the two.
    alpha : float, optional
        As for `LowRankLinear`.
    """

    def __init__(self, conv: nn.Conv2d, rank: int, alpha: float | None = None) -> None:
        super().__init__()
        if conv.groups != 1:
            raise ValueError("A convolution with groups gets no low-rank addition.")
        self.conv = conv.requires_grad_(False)
        self.scale = (2 * rank if alpha is None else alpha) / rank
        weight = conv.weight  # (out, in, k, k)
        self.down = nn.Parameter(weight.new_empty(rank, *weight.shape[1:]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank, 1, 1))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) → (B, out, …)."""
        conv = self.conv
        few = F.conv2d(x, self.down, None, conv.stride, conv.padding, conv.dilation)
        result: Tensor = conv(x) + self.scale * F.conv2d(few, self.up)
        return result

    @torch.no_grad()
    def merged(self) -> nn.Conv2d:
        """Return one convolution that does the same."""
        down = self.down.flatten(1)  # (r, in k k)
        added = self.up.flatten(1) @ down
        self.conv.weight += self.scale * added.view_as(self.conv.weight)
        return self.conv


def add_low_rank(module: nn.Module, rank: int) -> int:
    """Freeze a module and give its layers low-rank additions, in place.

    Layers that have one keep it. All linear layers get one; of an `EfficientNetEncoder` all
    convolutions without groups for which the addition has fewer weights than they.

    Parameters
    ----------
    module : nn.Module
        Such as the image encoder.
    rank : int

    Returns
    -------
    int
        How many layers got one.
    """
    known = (LowRankLinear, LowRankConv)
    additions = [m for m in module.modules() if isinstance(m, known)]
    module.requires_grad_(False)
    for addition in additions:
        addition.down.requires_grad_(True)
        addition.up.requires_grad_(True)
    convolutions = isinstance(module, EfficientNetEncoder)
    found: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in module.modules():
        if isinstance(parent, known):
            continue
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                found.append((parent, name, LowRankLinear(child, rank)))
            elif (
                convolutions and type(child) is nn.Conv2d and _gains_by_it(child, rank)
            ):
                found.append((parent, name, LowRankConv(child, rank)))
    for parent, name, replaced in found:
        setattr(parent, name, replaced)
    return len(found)


def _gains_by_it(conv: nn.Conv2d, rank: int) -> bool:
    """Whether an addition is possible, and smaller than what it is added to."""
    weight = conv.weight
    return (
        conv.groups == 1
        and rank * (weight[0].numel() + len(weight)) < weight.numel()
        and conv.padding_mode == "zeros"
    )


def merge_low_rank(module: nn.Module) -> nn.Module:
    """Undo `add_low_rank`, keeping what was learnt; in place, and returned."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, (LowRankLinear, LowRankConv)):
                setattr(parent, name, child.merged())
    return module
