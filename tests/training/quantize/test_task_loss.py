"""What a rounded model is to keep, and the curvature of that."""

from __future__ import annotations

import pytest
import torch

from tinysam_training.quantize.task_loss import bernoulli_kl, drawn_nll, iou_logits


def restated(logits: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mean of p log(p / q) + (1 − p) log((1 − p) / (1 − q)) over pixels."""
    p, q = reference.double().sigmoid(), logits.double().sigmoid()
    terms = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    return terms.mean()


def test_it_is_the_mean_kl_of_pixels() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 7, 5, dtype=torch.float64) * 3
    assert torch.allclose(bernoulli_kl(a, b), restated(a, b))
    assert bernoulli_kl(a, b) > 0
    assert abs(float(bernoulli_kl(b, b))) < 1e-12


def test_at_the_original_its_own_gradient_says_nothing() -> None:
    logits = torch.randn(50, requires_grad=True)
    bernoulli_kl(logits, logits.detach()).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-7


def test_drawn_answers_give_its_curvature() -> None:
    """E[g²] beside the second derivative, by finite differences."""
    torch.manual_seed(0)
    reference = torch.randn(4, dtype=torch.float64)
    step = 1e-3
    curvature = torch.stack(
        [
            (
                restated(reference + shift, reference)
                + restated(reference - shift, reference)
            )
            / step**2
            for shift in torch.eye(4, dtype=torch.float64) * step
        ]
    )
    generator = torch.Generator().manual_seed(1)
    squares = torch.zeros(4, dtype=torch.float64)
    draws = 4000
    for _ in range(draws):
        logits = reference.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(drawn_nll(logits, generator), logits)
        squares += gradient.square() / draws
    assert torch.allclose(squares, curvature, rtol=0.1)


def test_predicted_ious_are_probabilities() -> None:
    scores = torch.tensor([-0.2, 0.0, 0.5, 1.0, 1.3])
    logits = iou_logits(scores)
    assert logits.isfinite().all()
    assert float(logits[2]) == 0
    assert float(logits[0]) == float(logits[1]) == pytest.approx(-float(logits[4]))
