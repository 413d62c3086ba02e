"""The task loss that rounding should not raise, and its curvature.

TinySAM, section 3.3: L = KL(ŷ_mask, y_mask) + KL(ŷ_iou, y_iou), between the rounded model's answers
ŷ and the original's y. A mask is a probability at each pixel, so its KL is that of one Bernoulli
variable per pixel. A predicted IoU lies in 0–1 and is treated as a probability as well. For a model
with an object head the KL of its maps is added.

PTQ4ViT weights the error of each output o of a layer by the gradient of that loss, Σ (g (o − ô))².
But at ŷ = y every KL is at its minimum, so the gradient of the loss is 0, up to rounding noise. The
paper must mean the second derivative, which for a KL is the Fisher information, E[g gᵀ] with
g = ∂ −log p(y) / ∂o and y drawn from the model's own answers. So answers are drawn here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

#: Predicted IoUs are clipped to probabilities at least this far from 0 and 1.
_IOU_MARGIN = 0.01


def bernoulli_kl(logits: Tensor, reference: Tensor) -> Tensor:
    """Mean KL(p_ref ‖ p) of independent Bernoulli variables.

    Parameters
    ----------
    logits, reference : Tensor
        Of the same shape: logits of p and of p_ref.

    Returns
    -------
    Tensor
        A scalar, at least 0.
    """
    wanted = reference.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, wanted)
    return cross - F.binary_cross_entropy_with_logits(reference, wanted)


def iou_logits(scores: Tensor) -> Tensor:
    """Logits of predicted IoUs."""
    return scores.clamp(_IOU_MARGIN, 1 - _IOU_MARGIN).logit()


def drawn_nll(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Return −log p(y) with y drawn from p: its gradient gives the curvature of `bernoulli_kl`.

    The expected squared gradient is the second derivative of that mean. With the mean of N terms it
    would be an Nth of that, so the sum is divided by √N.

    Parameters
    ----------
    logits : Tensor
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor
        A scalar.
    """
    chance = torch.rand(logits.shape, generator=generator).to(logits.device)
    drawn = (chance < logits.detach().sigmoid()).to(logits.dtype)
    total = F.binary_cross_entropy_with_logits(logits, drawn, reduction="sum")
    return total / math.sqrt(logits.numel())
