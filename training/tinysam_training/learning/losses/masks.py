"""Focal, dice and IoU losses of prompted objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from tinysam_training.learning.losses.precision import SMOOTH_BETA, exact

if TYPE_CHECKING:
    from torch import Tensor


def object_region(targets: Tensor) -> Tensor:
    """Logits that count as the object.

    Parameters
    ----------
    targets : Tensor
        (N, h, w), share of each logit that the object covers, 0–1.

    Returns
    -------
    Tensor
        (N, h, w) bool, covered by more than a half. For an object too small for that, the logits
        that it covers most; an absent object has no logits.
    """
    if targets.numel() == 0:
        return targets > 0
    most = targets.amax((1, 2), keepdim=True)
    return (targets > 0.5) | ((targets == most) & (most > 0) & (most <= 0.5))


@dataclass(frozen=True, eq=False)
class MaskLosses:
    """Unweighted losses of each of the three masks of N objects.

    Attributes
    ----------
    focal, dice : Tensor
        (N, 3).
    iou : Tensor
        (N, 3), actual IoU of the thresholded masks at the resolution of the logits, without
        gradient.
    """

    focal: Tensor
    dice: Tensor
    iou: Tensor


def mask_losses(
    logits: Tensor,
    targets: Tensor,
    valid: Tensor,
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> MaskLosses:
    """Focal and dice loss of masks against soft targets.

    Parameters
    ----------
    logits : Tensor
        (N, 3, h, w).
    targets : Tensor
        (N, h, w), share t of each logit that the object covers, 0–1.
    valid : Tensor
        (N, h, w), 0 in the padding, which losses and IoU ignore.
    gamma : float
        Exponent of the focal loss: |t − p|^γ · CE(t, p), which for hard targets is the usual
        (1 − p_t)^γ · CE. 0 leaves the plain cross-entropy; otherwise at least 1.
    alpha : float, optional
        Weight of covered against uncovered logits in the focal loss, α t + (1 − α)(1 − t). Left
        out: no weights.

    Returns
    -------
    MaskLosses
        Segment Anything weights focal to dice 20 : 1. An object without valid logits has losses 0;
        an absent object has IoU 0 with every mask.

    Raises
    ------
    ValueError
        If `gamma` is between 0 and 1, where the gradient is not bounded, or negative.

    Notes
    -----
    Focal loss: Lin et al., ICCV 2017, eq. 4 and 5; for soft targets: Li et al., NeurIPS 2020
    ("Generalized Focal Loss"), eq. 2. Dice with 1 added above and below, as in MaskFormer.
    """
    if gamma != 0 and gamma < 1:
        raise ValueError(f"The focal loss's gamma is 0 or at least 1, not {gamma}.")
    logits, targets = exact(logits), exact(targets)
    inside = valid[:, None].to(logits.dtype)  # (N, 1, h, w)
    target = targets[:, None].expand_as(logits)
    probability = logits.sigmoid()

    focal = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if gamma:
        focal = focal * (target - probability).abs().pow(gamma)
    if alpha is not None:
        focal = focal * (alpha * target + (1 - alpha) * (1 - target))
    focal = (focal * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)

    probability, target = probability * inside, target * inside
    overlap = (probability * target).sum((2, 3))
    size = probability.sum((2, 3)) + target.sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (size + 1)
    return MaskLosses(focal, dice, actual_iou(logits, targets, valid))


@torch.no_grad()
def actual_iou(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """IoU of thresholded masks with their objects, at the resolution of the logits.

    Parameters
    ----------
    logits : Tensor
        (N, K, h, w), of K masks per object; a mask is where they are above 0.
    targets, valid : Tensor
        (N, h, w), as in `mask_losses`.

    Returns
    -------
    Tensor
        (N, K) float, without gradient; 0 for an absent object.
    """
    inside = (valid > 0)[:, None]
    found = (logits > 0) & inside
    wanted = object_region(targets)[:, None] & inside
    union = (found | wanted).sum((2, 3)).clamp(min=1)
    return (found & wanted).sum((2, 3)) / union


def best_of_three(each: Tensor, share: float = 0.1, by: Tensor | None = None) -> Tensor:
    """Combine the losses of an object's masks: mostly the best one's, the others' a little.

    Parameters
    ----------
    each : Tensor
        (N, 3), loss of each mask.
    share : float
        Share of the mean over all three in the result, so that no mask dies; with 0 only the best
        one learns, as in Segment Anything.
    by : Tensor, optional
        (N, 3), a figure such as the IoU; its maximum selects the best mask. Left out: the smallest
        loss does.

    Returns
    -------
    Tensor
        (N,).
    """
    criterion = -each if by is None else by
    best = each.gather(1, criterion.argmax(1, keepdim=True))[:, 0]
    return (1 - share) * best + share * each.mean(1) if share else best


def iou_loss(
    scores: Tensor, iou: Tensor, kind: Literal["l1", "smooth_l1", "mse"] = "l1"
) -> Tensor:
    """L_iou: distance of predicted from actual IoU, mean over the three masks.

    Parameters
    ----------
    scores : Tensor
        (N, 3), predicted IoU.
    iou : Tensor
        (N, 3), actual IoU; gets no gradient.
    kind : {"l1", "smooth_l1", "mse"}
        TinySAM uses ℓ1, Segment Anything the square.

    Returns
    -------
    Tensor
        (N,).
    """
    scores, iou = exact(scores), exact(iou).detach()
    if kind == "mse":
        each = (scores - iou).square()
    elif kind == "smooth_l1":
        each = F.smooth_l1_loss(scores, iou, beta=SMOOTH_BETA, reduction="none")
    else:
        each = (scores - iou).abs()
    return each.mean(1)
