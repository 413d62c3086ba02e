"""The search for scales: acceptance check 18, beside plain restatements."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from papers.quantization.two_ranges import AfterGelu, AfterSoftmax
from tinysam_training.quantize.products import Product
from tinysam_training.quantize.quantizers import Uniform
from tinysam_training.quantize.search import Operand, Scales, ScaleSearch, search

FEW = ScaleSearch(candidates=12)


def sample(
    *, batch: int = 1, heads: int = 1, rows: int = 30, inner: int = 6, columns: int = 5
) -> Product:
    """Values with outliers, which min and max serve badly."""
    generator = torch.Generator().manual_seed(batch + heads + rows + inner + columns)

    def values(*shape: int) -> torch.Tensor:
        found = torch.randn(shape, generator=generator)
        return found + 6 * found.pow(3) * (
            torch.rand(shape, generator=generator) < 0.02
        )

    return Product(
        values(batch, heads, rows, inner),
        values(batch if heads > 1 else 1, heads, inner, columns),
        values(batch, heads, rows, columns).abs(),
    )


def error(found: Product, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Σ (g (o − ô))², restated; by columns."""
    difference = found.gradient * (found.first @ found.second - a @ b)
    return difference.double().square().sum(dim=(0, 1, 2))


@given(
    st.sampled_from([2, 4, 6, 8]),
    st.sampled_from(["layer", "channel", "head"]),
    st.integers(1, 3),
    st.booleans(),
)
def test_never_worse_than_min_and_max_and_never_growing(
    bits: int, granularity: str, heads: int, weighted: bool
) -> None:
    first = "head" if granularity == "head" else "layer"
    operands = Operand(Uniform(bits), first), Operand(Uniform(bits), granularity)  # type: ignore[arg-type]
    products = [sample(heads=heads, batch=2 if heads > 1 else 1)]
    settings = ScaleSearch(candidates=12, weighted=weighted)
    found = search(products, *operands, settings)
    assert all(
        after <= before * (1 + 1e-9)
        for before, after in zip(found.errors, found.errors[1:], strict=False)
    )
    groups = {"layer": 1, "head": heads, "channel": heads * 5}
    assert len(found.second) == groups[granularity]
    assert len(found.first) == groups[first]
    # The last error is the one of what is returned.
    a = operands[0].rounded(products[0].first, found.first)
    b = operands[1].rounded(products[0].second, found.second)
    if weighted:
        assert found.errors[-1] == pytest.approx(
            float(error(products[0], a, b).sum()), rel=1e-4
        )


def test_without_rounds_it_is_min_and_max() -> None:
    one = sample()
    operands = Operand(Uniform(8)), Operand(Uniform(8), "channel")
    found = search([one], *operands, ScaleSearch(rounds=0))
    assert len(found.errors) == 1
    assert float(found.first) == pytest.approx(float(one.first.abs().max()) / 127.5)
    largest = one.second.abs().amax(dim=(0, 1, 2))
    assert torch.allclose(found.second, largest / 127.5)


def brute_force(one: Product, bits: int, settings: ScaleSearch) -> float:
    """Try every pair of scales of a layer with few channels; the best that there is."""
    steps = 2 ** (bits - 1)
    shares = torch.linspace(*settings.bounds, settings.candidates).tolist()

    def tried(largest: torch.Tensor) -> list[torch.Tensor]:
        # Min and max put the largest value right between two steps: a float's last bit decides.
        return [
            *(share * (largest / steps) for share in shares),
            largest / (steps - 0.5),
        ]

    def rounded(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return (x / step).round().clamp(-steps, steps - 1) * step

    best = float("inf")
    for first in tried(one.first.abs().max()):
        a = rounded(one.first, first)
        by_column = torch.stack(
            [
                error(one, a, rounded(one.second, second))
                for second in tried(one.second.abs().amax(dim=(0, 1, 2)))
            ]
        )
        best = min(best, float(by_column.amin(dim=0).sum()))
    return best


def test_two_layers_get_what_brute_force_finds() -> None:
    """Two linear layers, calibrated with the original's values between them."""
    every = ScaleSearch(
        candidates=30, rounds=1, coarse=30, coarse_bounds=(0.01, 1.2), starts=1
    )
    for seed in range(3):
        assert max(gaps_of_two_layers(seed, every)) <= 1e-4


def test_turns_come_near_to_brute_force() -> None:
    """They may end beside the best pair; or at a better one, with scales between those tried."""
    turns = ScaleSearch(candidates=30, rounds=3)
    gaps = [gap for seed in range(6) for gap in gaps_of_two_layers(seed, turns)]
    assert sum(gaps) / len(gaps) <= 0.05
    # From min and max alone they come less near.
    alone = ScaleSearch(candidates=30, rounds=3, coarse=0)
    others = [gap for seed in range(6) for gap in gaps_of_two_layers(seed, alone)]
    assert sum(gaps) < sum(others)


def gaps_of_two_layers(seed: int, settings: ScaleSearch) -> list[float]:
    """How much of what brute force gains over min and max a search does not, for each layer."""
    torch.manual_seed(seed)
    weights = torch.randn(6, 8), torch.randn(8, 3)
    x = torch.randn(1, 1, 60, 6)
    hidden = (x @ weights[0]).relu()
    gaps = []
    for given_x, weight in ((x, weights[0]), (hidden, weights[1])):
        one = Product(
            given_x,
            weight[None, None],
            torch.rand(1, 1, 60, weight.shape[1]) + 0.1,
        )
        for bits in (4, 8):
            operands = Operand(Uniform(bits)), Operand(Uniform(bits), "channel")
            start = search([one], *operands, ScaleSearch(rounds=0)).errors[0]
            found = search([one], *operands, settings)
            best = brute_force(one, bits, settings)
            assert best < start
            gaps.append((found.errors[-1] - best) / (start - best))
    return gaps


def test_each_step_is_the_best_of_its_candidates() -> None:
    """One turn, restated: weights for the input's min and max, then the input for those."""
    one = sample(inner=3, columns=2)
    operands = Operand(Uniform(4)), Operand(Uniform(4))
    settings = ScaleSearch(candidates=15, rounds=1, coarse=0)
    found = search([one], *operands, settings)
    starts = search([one], *operands, ScaleSearch(rounds=0))

    def total(a: float, b: float) -> float:
        def rounded(x: torch.Tensor, step: float) -> torch.Tensor:
            return (x / step).round().clamp(-8, 7) * step

        return float(error(one, rounded(one.first, a), rounded(one.second, b)).sum())

    shares = torch.linspace(0.01, 1.2, 15).tolist()
    a, b = float(starts.first), float(starts.second)
    tried = [b, *(s * float(one.second.abs().max()) / 8 for s in shares)]
    b = min(tried, key=lambda step: total(a, step))
    tried = [a, *(s * float(one.first.abs().max()) / 8 for s in shares)]
    a = min(tried, key=lambda step: total(step, b))
    assert float(found.second) == pytest.approx(b, rel=1e-5)
    assert float(found.first) == pytest.approx(a, rel=1e-5)


def test_gradients_decide_what_counts() -> None:
    """Only the first column matters, and its weights are small: the scale serves them."""
    torch.manual_seed(0)
    first = torch.randn(1, 1, 50, 4)
    second = torch.tensor([0.1, 10.0]) * torch.randn(1, 1, 4, 2)
    gradient = torch.zeros(1, 1, 50, 2)
    gradient[..., 0] = 1
    operands = Operand(Uniform(8)), Operand(Uniform(4))
    found = search([Product(first, second, gradient)], *operands, FEW)
    plain = search(
        [Product(first, second, gradient)],
        *operands,
        ScaleSearch(candidates=12, weighted=False),
    )
    assert float(found.second) < 0.3 * float(plain.second)


def test_a_softmax_gets_its_split() -> None:
    shares = torch.randn(2, 3, 20, 200).mul(3).softmax(dim=-1)
    values = torch.randn(2, 3, 200, 8)
    one = Product(shares, values, torch.ones(2, 3, 20, 8))
    operands = Operand(AfterSoftmax(8), "head"), Operand(Uniform(8), "head")
    found = search([one], *operands, FEW)
    assert found.errors[-1] < 0.5 * found.errors[0]
    assert (found.first < 1).all()


def test_two_ranges_serve_gelu_better_than_one() -> None:
    one = sample(rows=200, inner=16)
    after = Product(torch.nn.functional.gelu(one.first), one.second, one.gradient)
    errors = []
    for quantizer in (Uniform(4), AfterGelu(4), Uniform(4, "gelu")):
        operands = Operand(quantizer), Operand(Uniform(8), "channel")
        errors.append(search([after], *operands, FEW).errors[-1])
    assert errors[1] < errors[0]
    assert errors[2] < errors[0]


def test_products_of_several_sizes_share_their_scales() -> None:
    parts = [sample(rows=10, inner=4), sample(rows=20, inner=7)]
    operands = Operand(Uniform(6)), Operand(Uniform(6))
    found: Scales = search(parts, *operands, FEW)
    largest = max(float(part.first.abs().max()) for part in parts)
    start = search(parts, *operands, ScaleSearch(rounds=0))
    assert float(start.first) == pytest.approx(largest / 31.5)
    total = sum(
        float(
            error(
                part,
                operands[0].rounded(part.first, found.first),
                operands[1].rounded(part.second, found.second),
            ).sum()
        )
        for part in parts
    )
    assert found.errors[-1] == pytest.approx(total, rel=1e-4)


def test_taps_of_a_channel_share_a_scale() -> None:
    one = sample(columns=8)
    found = search([one], Operand(Uniform(8)), Operand(Uniform(8), "channel", 4), FEW)
    assert found.second.shape == (2,)
    spread = Operand(Uniform(8), "channel", 4).spread(found.second, 1)
    assert spread.shape == (1, 1, 1, 8)
    for columns, scale in product(range(4), range(2)):
        assert spread[..., 4 * scale + columns] == found.second[scale]
