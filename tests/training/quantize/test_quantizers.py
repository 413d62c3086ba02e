"""Rounding to few bits: acceptance check 17, and where the official softmax quantizer is wrong."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from papers.quantization.two_ranges import SPLITS, AfterGelu, AfterSoftmax
from tinysam_training.quantize.quantizers import GELU_DEPTH, Uniform

BITS = st.integers(2, 10)
STEPS = st.floats(1e-3, 10)
VALUES = st.lists(
    st.floats(-50, 50, allow_nan=False, width=32), min_size=1, max_size=40
)


def rounded(quantizer: Uniform, values: list[float], parameter: float) -> torch.Tensor:
    return quantizer.rounded(
        torch.tensor(values, dtype=torch.float64),
        torch.tensor(parameter, dtype=torch.float64),
    )


@given(VALUES, BITS, STEPS, st.sampled_from(["signed", "positive", "gelu"]))
def test_equal_steps(values: list[float], bits: int, step: float, kind: str) -> None:
    quantizer = Uniform(bits, kind)  # type: ignore[arg-type]
    x = torch.tensor(values, dtype=torch.float64)
    found = rounded(quantizer, values, step)
    lowest = float(quantizer.lowest(torch.tensor(step, dtype=torch.float64)))
    ends = lowest * step, (lowest + 2**bits - 1) * step
    inside = (x >= ends[0]) & (x <= ends[1])
    tolerance = 1e-9 * max(1.0, step)
    # At most half a step away, and at the ends beyond them.
    assert ((found - x).abs()[inside] <= step / 2 + tolerance).all()
    assert torch.allclose(found[~inside], x[~inside].clamp(*ends), atol=tolerance)
    again = rounded(quantizer, found.tolist(), step)
    assert torch.allclose(again, found, atol=tolerance)
    # No more than so many values, all of them whole steps.
    steps = found / step
    assert torch.allclose(steps, steps.round(), atol=1e-6)
    if kind == "signed":
        assert ends[0] == -(2 ** (bits - 1)) * step
    if kind == "positive":
        assert ends[0] == 0


@given(BITS, st.integers(0, SPLITS - 1))
def test_after_softmax_values_belong_to_one_range(bits: int, power: int) -> None:
    quantizer, split = AfterSoftmax(bits), 2.0**-power
    steps = 2 ** (bits - 1) - 1
    x = torch.linspace(0, 1, 4001, dtype=torch.float64)
    found = rounded(quantizer, x.tolist(), split)
    assert found[0] == 0
    low = x <= split
    assert ((found - x).abs()[low] <= split / steps / 2 + 1e-12).all()
    # Just above the split a coarse step may lie below it.
    assert ((found - x).abs()[~low] <= 1 / steps / 2 + 1e-12).all()


def test_the_official_softmax_quantizer_counts_twice() -> None:
    """What `InferQuantMatMulPost` does, restated, beside ours, with a split of 1/16."""
    split, steps = 1 / 16, 127
    x = torch.tensor([0.0, 0.3, 0.9], dtype=torch.float64)
    high = (x.clamp(split, 1) * steps).round() / steps
    low = (x.clamp(0, split) / split * steps).round() * split / steps
    official = high + low
    assert official[0] > 0.06
    assert (official - x)[1:].min() > 0.05
    ours = AfterSoftmax(8).rounded(x, torch.tensor(split, dtype=torch.float64))
    assert (ours - x).abs().max() < 0.005
    assert ours[0] == 0


@pytest.mark.parametrize("quantizer", [AfterGelu(8), Uniform(8, "gelu")])
def test_gelu_keeps_its_negative_values(quantizer: Uniform) -> None:
    x = F.gelu(torch.linspace(-6, 6, 5001, dtype=torch.float64))
    assert x.min() > -GELU_DEPTH - 1e-4
    step = quantizer.start(x.min().view(1), x.max().view(1))
    found = quantizer.rounded(x, step)
    finest = GELU_DEPTH / 128 if isinstance(quantizer, AfterGelu) else float(step)
    assert (found - x).abs()[x < 0].max() <= finest / 2 + 1e-4
    assert (found - x).abs().max() <= float(step) / 2 + 1e-6
    assert (quantizer.rounded(found, step) - found).abs().max() < 1e-12


def test_a_fitted_range_is_twice_as_fine() -> None:
    ends = torch.tensor([0.0]), torch.tensor([8.0])
    signed, positive = (
        float(Uniform(8, kind).start(*ends))  # type: ignore[arg-type]
        for kind in ("signed", "positive")
    )
    assert positive == pytest.approx(signed / 2, rel=0.01)


@pytest.mark.parametrize(
    "quantizer",
    [Uniform(8), Uniform(6, "positive"), Uniform(8, "gelu"), AfterGelu(8)],
)
def test_candidates_are_shares_of_the_largest(quantizer: Uniform) -> None:
    least, largest = torch.tensor([0.0, 0.0]), torch.tensor([2.0, 6.0])
    tried = quantizer.candidates(least, largest, 100, (0.01, 1.2))
    assert len(tried) == 100
    assert torch.allclose(tried[-1] / tried[0], torch.full((2,), 120.0), rtol=1e-4)
    start = quantizer.start(least, largest)
    assert (tried[0] < start).all()
    assert (tried[-1] > start).all()


def test_nothing_but_zeros_can_be_rounded() -> None:
    nothing = torch.zeros(3)
    step = Uniform(8).start(nothing[:1], nothing[:1])
    assert torch.equal(Uniform(8).rounded(nothing, step), nothing)
