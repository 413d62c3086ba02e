"""Rounding of numbers to few bits, and the scales that a search tries.

TinySAM (Shu et al., AAAI 2025, section 3.3) rounds symmetrically and in equal steps,
x_q = clip(round(x / s), −2^(b−1), 2^(b−1) − 1), but after softmax and GELU, where values crowd in
two ranges, each of which gets its own steps (as in PTQ4ViT, Yuan et al., ECCV 2022). The official
code adds both ranges of the softmax: values above the split come out too large by the split, and
0 does not stay 0. Here a value belongs to one range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: The least value of GELU, with the sign dropped.
GELU_DEPTH = 0.16997

#: Splits of the softmax that are tried: 1, 1/2, …, as in PTQ4ViT.
SPLITS = 20

Range = Literal["signed", "positive", "gelu"]


class Quantizer(Protocol):
    """Rounds one operand of an operation, with one parameter for each group of values."""

    def start(self, least: Tensor, largest: Tensor) -> Tensor:
        """Return the numbers that min and max of each group suggest."""
        ...

    def candidates(
        self,
        least: Tensor,
        largest: Tensor,
        count: int,
        bounds: tuple[float, float],
    ) -> list[Tensor]:
        """Return the numbers to be tried, each of the shape of `largest`."""
        ...

    def rounded(self, x: Tensor, parameter: Tensor) -> Tensor:
        """Round; `parameter` can be broadcast to `x`."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Equal steps from a lowest to a highest value; the parameter is the step.

    Attributes
    ----------
    bits : int
    range : {"signed", "positive", "gelu"}
        "signed" is the paper's: as many steps below 0 as above. "positive" starts at 0, for inputs
        behind a ReLU; "gelu" starts at the least value of GELU. Integer kernels run all three.
    """

    bits: int = 8
    range: Range = "signed"

    def start(self, least: Tensor, largest: Tensor) -> Tensor:
        """See `Quantizer.start`: the range that covers all."""
        return self._span(least, largest) / (self._steps - 0.5)

    def candidates(
        self,
        least: Tensor,
        largest: Tensor,
        count: int,
        bounds: tuple[float, float],
    ) -> list[Tensor]:
        """See `Quantizer.candidates`: shares of the largest value, over the number of steps."""
        span = self._span(least, largest) / self._steps
        shares = torch.linspace(*bounds, count).tolist()
        return [share * span for share in shares]

    def rounded(self, x: Tensor, parameter: Tensor) -> Tensor:
        """See `Quantizer.rounded`."""
        steps = (x / parameter).round()
        lowest = self.lowest(parameter)
        return steps.clamp(lowest, lowest + (2**self.bits - 1)) * parameter

    def lowest(self, step: Tensor) -> Tensor:
        """Return the number of steps below 0, negative, of the shape of `step`."""
        most = 2 ** (self.bits - 1)
        if self.range == "signed":
            return torch.full_like(step, -most)
        if self.range == "positive":
            return torch.zeros_like(step)
        return -(GELU_DEPTH / step).round().clamp(1, most)

    @property
    def _steps(self) -> int:
        return 1 << (self.bits - (self.range == "signed"))

    def _span(self, least: Tensor, largest: Tensor) -> Tensor:
        """Return what the steps must cover: above 0, but for GELU."""
        if self.range == "signed":
            span = torch.maximum(largest, -least)
        else:
            span = largest + (GELU_DEPTH if self.range == "gelu" else 0.0)
        return span.clamp(min=torch.finfo(span.dtype).tiny ** 0.5)


@dataclass(frozen=True)
class AfterGelu:
    """Two ranges; the parameter is the step of positive values, the other step is fixed."""

    bits: int = 8

    def start(self, least: Tensor, largest: Tensor) -> Tensor:
        """See `Quantizer.start`."""
        return Uniform(self.bits).start(torch.zeros_like(largest), largest)

    def candidates(
        self,
        least: Tensor,
        largest: Tensor,
        count: int,
        bounds: tuple[float, float],
    ) -> list[Tensor]:
        """See `Quantizer.candidates`."""
        nothing = torch.zeros_like(largest)
        return Uniform(self.bits).candidates(nothing, largest, count, bounds)

    def rounded(self, x: Tensor, parameter: Tensor) -> Tensor:
        """See `Quantizer.rounded`."""
        steps = 2 ** (self.bits - 1)
        below = GELU_DEPTH / steps
        positive = (x / parameter).round().clamp(0, steps - 1) * parameter
        negative = (x / below).round().clamp(-steps, 0) * below
        return torch.where(x > 0, positive, negative)


@dataclass(frozen=True)
class AfterSoftmax:
    """Two ranges of values in 0–1: up to a split, which is the parameter, and up to 1.

    Both have steps from 0, so that each value is at most half a step of its own range away.
    """

    bits: int = 8

    def start(self, least: Tensor, largest: Tensor) -> Tensor:
        """See `Quantizer.start`: no split."""
        return torch.ones_like(largest)

    def candidates(
        self,
        least: Tensor,
        largest: Tensor,
        count: int,
        bounds: tuple[float, float],
    ) -> list[Tensor]:
        """See `Quantizer.candidates`: halves of halves, whatever the count and the bounds."""
        return [torch.full_like(largest, 2.0**-power) for power in range(SPLITS)]

    def rounded(self, x: Tensor, parameter: Tensor) -> Tensor:
        """See `Quantizer.rounded`."""
        steps = 2 ** (self.bits - 1) - 1
        low = (x * steps / parameter).round().clamp(0, steps) * parameter / steps
        high = (x * steps).round().clamp(0, steps) / steps
        return torch.where(x > parameter, high, low)
