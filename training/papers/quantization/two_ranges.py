"""Two ranges for values after softmax and GELU, each with its own steps.

TinySAM (Shu et al., AAAI 2025, section 3.3) takes them from PTQ4ViT (Yuan et al., ECCV 2022). The
official code adds both ranges of the softmax: values above the split come out too large by the
split, and 0 does not stay 0. Here a value belongs to one range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tinysam_training.quantize.quantizers import GELU_DEPTH, Uniform

if TYPE_CHECKING:
    from torch import Tensor

#: Splits of the softmax that are tried: 1, 1/2, …, as in PTQ4ViT.
SPLITS = 20


@dataclass(frozen=True)
class AfterGelu(Uniform):
    """Two ranges; the parameter is the step of positive values, the other step is fixed."""

    def start(self, least: Tensor, largest: Tensor) -> Tensor:
        """See `Uniform.start`."""
        return Uniform(self.bits).start(torch.zeros_like(largest), largest)

    def candidates(
        self,
        least: Tensor,
        largest: Tensor,
        count: int,
        bounds: tuple[float, float],
    ) -> list[Tensor]:
        """See `Uniform.candidates`."""
        nothing = torch.zeros_like(largest)
        return Uniform(self.bits).candidates(nothing, largest, count, bounds)

    def rounded(self, x: Tensor, parameter: Tensor) -> Tensor:
        """See `Uniform.rounded`."""
        steps = 2 ** (self.bits - 1)
        below = GELU_DEPTH / steps
        positive = (x / parameter).round().clamp(0, steps - 1) * parameter
        negative = (x / below).round().clamp(-steps, 0) * below
        return torch.where(x > 0, positive, negative)


@dataclass(frozen=True)
class AfterSoftmax(Uniform):
    """Two ranges of values in 0–1: up to a split, which is the parameter, and up to 1.

    Both have steps from 0, so that each value is at most half a step of its own range away.
    """

    def start(self, least: Tensor, largest: Tensor) -> Tensor:
        """See `Uniform.start`: no split."""
        return torch.ones_like(largest)

    def candidates(
        self,
        least: Tensor,
        largest: Tensor,
        count: int,
        bounds: tuple[float, float],
    ) -> list[Tensor]:
        """See `Uniform.candidates`: halves of halves, whatever the count and the bounds."""
        return [torch.full_like(largest, 2.0**-power) for power in range(SPLITS)]

    def rounded(self, x: Tensor, parameter: Tensor) -> Tensor:
        """See `Uniform.rounded`."""
        steps = 2 ** (self.bits - 1) - 1
        low = (x * steps / parameter).round().clamp(0, steps) * parameter / steps
        high = (x * steps).round().clamp(0, steps) / steps
        return torch.where(x > parameter, high, low)
