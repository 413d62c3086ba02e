"""Scales of one operation's operands: searched in turns, each against the other.

TinySAM, section 3.3, after PTQ4ViT: all other operations keep the original's values, and the two
operands get the scales that minimise Σ (g (o − ô))², where o are the operation's outputs and g the
gradients of the task loss (`task_loss`). The search fixes the first operand's scale and finds the
second's, then the reverse, `rounds` times. The current scale is always a candidate, so the error
never grows and never exceeds that of min and max.

Alternation stops when neither operand improves alone, perhaps short of the best pair. So it starts
from several pairs, the best of a coarse grid that includes min and max; the best result counts. A
coarse grid of all candidates is a search by brute force.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tinysam_training.quantize.products import Product
    from tinysam_training.quantize.quantizers import Uniform

#: The values that share a scale: all; those of an output channel; those of a head or group.
Granularity = Literal["layer", "channel", "head"]


@dataclass(frozen=True)
class ScaleSearch:
    """Settings of the search for scales.

    Attributes
    ----------
    candidates : int
        Scales tried in each step.
    bounds : (float, float)
        Least and largest of them, as shares of the largest value over the number of steps.
    rounds : int
        Searches of both operands. 0: the scales of min and max.
    coarse : int
        Number of scales of each operand in the coarse grid of pairs; 0 starts from min and max.
    coarse_bounds : (float, float)
        Least and largest of those.
    starts : int
        Number of pairs to start from; of pairs with the same scale of the first operand only the
        best is used.
    weighted : bool
        Whether errors are weighted by the task loss's gradient.
    """

    candidates: int = 100
    bounds: tuple[float, float] = (0.01, 1.2)
    rounds: int = 3
    coarse: int = 10
    coarse_bounds: tuple[float, float] = (0.3, 1.1)
    starts: int = 2
    weighted: bool = True


@dataclass(frozen=True)
class Operand:
    """How an operand is rounded, and which values share a scale.

    Attributes
    ----------
    quantizer : Uniform
    granularity : {"layer", "channel", "head"}
    taps : int
        Neighbouring columns that are one channel.
    """

    quantizer: Uniform
    granularity: Granularity = "layer"
    taps: int = 1

    def grouped(self, values: Tensor) -> Tensor:
        """Reshape (B, G, R, C) values to (groups, all their values)."""
        if self.granularity == "layer":
            return values.reshape(1, -1)
        heads = values.shape[1]
        if self.granularity == "head":
            return values.transpose(0, 1).reshape(heads, -1)
        # (B, G, R, C · taps) → (G · C, …)
        channels = values.reshape(*values.shape[:3], -1, self.taps)
        count = heads * channels.shape[3]
        return channels.permute(1, 3, 0, 2, 4).reshape(count, -1)

    def spread(self, parameter: Tensor, heads: int) -> Tensor:
        """Shape (groups,) so that it can be broadcast to (B, G, R, C)."""
        if self.granularity == "layer":
            return parameter.view(1, 1, 1, 1)
        if self.granularity == "head":
            return parameter.view(1, heads, 1, 1)
        return parameter.view(1, heads, 1, -1).repeat_interleave(self.taps, dim=3)

    def rounded(self, values: Tensor, parameter: Tensor) -> Tensor:
        """Round (B, G, R, C) values."""
        spread = self.spread(parameter, values.shape[1])
        return self.quantizer.rounded(values, spread)


@dataclass(frozen=True, eq=False)
class Scales:
    """Result of a search.

    Attributes
    ----------
    first, second : Tensor
        (groups,) parameters of the quantizers.
    errors : list of float
        Sums of (g (o − ô))² over the products: with the scales of min and max, with the coarse pair
        that led to the best result, then after each step.
    """

    first: Tensor
    second: Tensor
    errors: list[float]


@torch.no_grad()
def search(
    products: Sequence[Product],
    first: Operand,
    second: Operand,
    settings: ScaleSearch | None = None,
) -> Scales:
    """Search the scales of an operation.

    Parameters
    ----------
    products : sequence of Product
        Samples of it.
    first, second : Operand
    settings : ScaleSearch, optional

    Returns
    -------
    Scales
    """
    settings = settings or ScaleSearch()
    problem = _Problem(products, first, second, settings.weighted)
    ranges = [
        _range(first, [p.first for p in products]),
        _range(second, [p.second for p in products]),
    ]
    found = [
        operand.quantizer.start(*bounds)
        for operand, bounds in zip((first, second), ranges, strict=True)
    ]
    if not settings.rounds:
        return Scales(found[0], found[1], [problem.error(found)])
    starts = [found]
    if settings.coarse:
        tried = [
            operand.quantizer.candidates(
                *bounds, settings.coarse, settings.coarse_bounds
            )
            for operand, bounds in zip((first, second), ranges, strict=True)
        ]
        starts = [
            pair
            for pair in problem.best_pairs(found, *tried)[: settings.starts]
            if problem.error(pair) <= problem.error(found)
        ]
    tried = [
        operand.quantizer.candidates(*bounds, settings.candidates, settings.bounds)
        for operand, bounds in zip((first, second), ranges, strict=True)
    ]
    ends = [problem.in_turns(start, tried, settings.rounds) for start in starts]
    best = min(ends, key=lambda end: end.errors[-1])
    return Scales(best.first, best.second, [problem.error(found), *best.errors])


def _range(operand: Operand, values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    grouped = [operand.grouped(each) for each in values]
    least = torch.stack([each.amin(1) for each in grouped]).amin(0)
    largest = torch.stack([each.amax(1) for each in grouped]).amax(0)
    return least, largest


class _Problem:
    """Errors of an operation under scales."""

    def __init__(
        self,
        products: Sequence[Product],
        first: Operand,
        second: Operand,
        weighted: bool,
    ) -> None:
        self._products = products
        self._operands = (first, second)
        self._outputs = [p.first @ p.second for p in products]
        self._weights = [torch.ones(()) for _ in products]
        self._unit = 1.0
        rms = torch.cat([p.gradient.flatten() for p in products]).square().mean().sqrt()
        if weighted and rms > 0:
            # Single precision holds the squares, whatever the loss is.
            self._weights = [p.gradient / rms for p in products]
            self._unit = float(rms) ** 2

    def errors(self, a: Tensor, b: Tensor, *, over: int | None) -> Tensor:
        """Sum of errors: (1,), or by groups of the operand `over`."""
        return self._errors(self._rounded(0, a), self._rounded(1, b), over)

    def best(self, found: Sequence[Tensor], which: int, tried: list[Tensor]) -> Tensor:
        """Choose an operand's best parameters, the current ones included; group by group."""
        kept = self._rounded(1 - which, found[1 - which])
        best, least = found[which], None
        for parameter in (found[which], *tried):
            pair = [kept, kept]
            pair[which] = self._rounded(which, parameter)
            errors = self._errors(pair[0], pair[1], which)
            if least is None:
                least = errors
                continue
            better = errors < least
            best = torch.where(better, parameter, best)
            least = torch.where(better, errors, least)
        return best

    def error(self, pair: Sequence[Tensor]) -> float:
        """Sum of all errors."""
        return float(self.errors(*pair, over=None).sum())

    def best_pairs(
        self, start: list[Tensor], firsts: list[Tensor], seconds: list[Tensor]
    ) -> list[list[Tensor]]:
        """Find the best second parameter for each first, the start's included; best pair first."""
        pairs = [
            [first, self.best([first, start[1]], 1, seconds)]
            for first in (start[0], *firsts)
        ]
        return sorted(pairs, key=self.error)

    def in_turns(
        self, start: list[Tensor], tried: Sequence[list[Tensor]], rounds: int
    ) -> Scales:
        """Search each operand's parameters against the other's, from one pair."""
        found = list(start)
        errors = [self.error(found)]
        for _ in range(rounds):
            before = [each.clone() for each in found]
            for which in (1, 0):
                found[which] = self.best(found, which, tried[which])
                errors.append(self.error(found))
            if all(torch.equal(a, b) for a, b in zip(before, found, strict=True)):
                break
        return Scales(found[0], found[1], errors)

    def _rounded(self, which: int, parameter: Tensor) -> list[Tensor]:
        operand = self._operands[which]
        return [
            operand.rounded(p.second if which else p.first, parameter)
            for p in self._products
        ]

    def _errors(
        self, first: Sequence[Tensor], second: Sequence[Tensor], over: int | None
    ) -> Tensor:
        sums = []
        for a, b, out, weight in zip(
            first, second, self._outputs, self._weights, strict=True
        ):
            # (B, G, M, N)
            squares = torch.matmul(a, b).sub_(out).mul_(weight).square_()
            sums.append(self._by_group(squares, over))
        return self._unit * torch.stack(sums).sum(0)

    def _by_group(self, squares: Tensor, over: int | None) -> Tensor:
        """Sum over each group of an operand's scales, where outputs distinguish the groups."""
        if over is not None:
            operand = self._operands[over]
            # Columns of the output are those of the second operand; rows are not groups.
            if over == 1 or operand.granularity != "channel":
                return operand.grouped(squares).sum(1, dtype=torch.float64)
        return squares.sum(dtype=torch.float64).view(1)
