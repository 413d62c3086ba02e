"""Rounding of numbers to few bits, and the scales that a search tries.

TinySAM (Shu et al., AAAI 2025, section 3.3) rounds symmetrically and in equal steps,
x_q = clip(round(x / s), −2^(b−1), 2^(b−1) − 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: The least value of GELU, with the sign dropped.
GELU_DEPTH = 0.16997

Range = Literal["signed", "positive", "gelu"]


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
        """Return the step that min and max of each group suggest: the range covers all."""
        return self._span(least, largest) / (self._steps - 0.5)

    def candidates(
        self,
        least: Tensor,
        largest: Tensor,
        count: int,
        bounds: tuple[float, float],
    ) -> list[Tensor]:
        """Return the steps to be tried: shares of the largest value, over the number of steps."""
        span = self._span(least, largest) / self._steps
        shares = torch.linspace(*bounds, count).tolist()
        return [share * span for share in shares]

    def rounded(self, x: Tensor, parameter: Tensor) -> Tensor:
        """Round; `parameter`, the step, can be broadcast to `x`."""
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
