"""Low-rank additions to linear layers (LoRA, Hu et al., ICLR 2022), merged away when saving."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


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
        added = nn.functional.linear(nn.functional.linear(x, self.down), self.up)
        result: Tensor = self.linear(x) + self.scale * added
        return result

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return one linear layer that does the same."""
        self.linear.weight += self.scale * (self.up @ self.down)
        return self.linear


def add_low_rank(module: nn.Module, rank: int) -> int:
    """Freeze a module and give all its linear layers low-rank additions, in place.

    Layers that have one keep it.

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
    additions = [m for m in module.modules() if isinstance(m, LowRankLinear)]
    module.requires_grad_(False)
    for addition in additions:
        addition.down.requires_grad_(True)
        addition.up.requires_grad_(True)
    found = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear and not isinstance(parent, LowRankLinear)
    ]
    for parent, name, child in found:
        setattr(parent, name, LowRankLinear(child, rank))
    return len(found)


def merge_low_rank(module: nn.Module) -> nn.Module:
    """Undo `add_low_rank`, keeping what was learnt; in place, and returned."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LowRankLinear):
                setattr(parent, name, child.merged())
    return module
