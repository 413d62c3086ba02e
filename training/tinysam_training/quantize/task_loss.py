"""What a rounded model is to keep: the task's loss, and in which direction it is sensitive.

TinySAM, section 3.3: L = KL(ŷ_mask, y_mask) + KL(ŷ_iou, y_iou), between the rounded model's answers
ŷ and the original's y. A mask is a probability at each pixel, so its KL is that of a Bernoulli
variable a pixel; a predicted IoU, which lies in 0–1, is taken as one too. A model with an object
head is to keep its maps as well, whose KL is added.

PTQ4ViT weighs the error of each output o of a layer with the gradient of that loss, Σ (g (o − ô))².
But at ŷ = y every KL has its least value, and the gradient of the loss itself is 0: what remains is
rounding noise. Meant is the loss's second derivative, which for a KL is Fisher's
information, E[g gᵀ] with g = ∂ −log p(y) / ∂o and y drawn from the model's own answers. So answers
are drawn.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

#: Predicted IoUs are taken as probabilities no nearer to 0 and 1 than this.
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
    """Give −log p(y) with y drawn from p itself: the curvature of `bernoulli_kl` by its gradient.

    What is expected of the gradient's square is the second derivative of that mean. For a mean of N
    terms it would be an Nth of it, so the sum is divided by √N.

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
