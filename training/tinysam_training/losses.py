"""Losses: full-stage distillation, masks, predicted IoU, object maps.

No function here takes a mean over a batch. Losses of prompted objects come as one value an object,
(N,) or (N, 3); dense losses come as a pair of a sum and what it has to be divided by. The training
loop adds both up over all processes before it divides, so that a batch's gradient does not depend
on how its images are spread over devices. Everything is computed in float32 (float64 where the
input is), also under autocast, and is finite for empty targets, windows that are all padding,
saturated logits, and no objects at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from tinysam_training.frame import LOGIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    #: A sum, and what to divide it by; both are scalars.
    SumAndCount = tuple[Tensor, Tensor]

#: Where smooth ℓ1 of a distance (0–1) turns from square to linear.
DISTANCE_BETA = 0.2


def total_of(terms: Mapping[str, SumAndCount]) -> Tensor:
    """Σ sum / count over named terms, for a single process.

    Parameters
    ----------
    terms : mapping of str to (sum, count)
        Not empty. A term whose count is 0 contributes 0.
    """
    each = [value / count.clamp(min=1) for value, count in terms.values()]
    return torch.stack(each).sum()


def object_region(targets: Tensor) -> Tensor:
    """Logits that count as the object.

    Parameters
    ----------
    targets : Tensor
        (N, h, w), share of each logit that the object covers, 0–1.

    Returns
    -------
    Tensor
        (N, h, w) bool, covered by more than a half. An object too small for that is where it covers
        most; an object that is nowhere has no logits.
    """
    if targets.numel() == 0:
        return targets > 0
    most = targets.amax((1, 2), keepdim=True)
    return (targets > 0.5) | ((targets == most) & (most > 0) & (most <= 0.5))


# --- Full-stage distillation ----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Stages:
    """What student or teacher says at each stage; None where its loss is switched off.

    Attributes
    ----------
    embedding : Tensor, optional
        (B, 256, g, g), of the image encoder.
    tokens : Tensor, optional
        (N, T, 256), output tokens of the two-way transformer.
    logits : Tensor, optional
        (N, 3, h, w), of the masks.
    iou : Tensor, optional
        (N,), actual IoU of the object's mask with the labels, for the hard mask weights. The paper
        does not say which of the three masks this is; meant here is the best one.
    """

    embedding: Tensor | None = None
    tokens: Tensor | None = None
    logits: Tensor | None = None
    iou: Tensor | None = None


def embedding_loss(
    student: Tensor, teacher: Tensor, valid_cells: Tensor
) -> SumAndCount:
    """L_emb = ‖E_T(I) − E_S(I)‖₁ over the image, never over the padding.

    Parameters
    ----------
    student, teacher : Tensor
        (B, 256, g, g).
    valid_cells : Tensor
        (B, 1, g, g), 0 where a cell shows padding.

    Returns
    -------
    (Tensor, Tensor)
        Sum of the absolute differences, and number of valid values.

    Notes
    -----
    TinySAM (arXiv 2312.13789), section 3.1.
    """
    student, teacher = _exact(student), _exact(teacher).detach()
    valid = valid_cells.to(student.dtype)
    value = ((student - teacher).abs() * valid).sum()
    return value, valid.sum() * student.shape[1]


def token_loss(student_tokens: Tensor, teacher_tokens: Tensor) -> Tensor:
    """L_token = ‖T_T(E_T, q) − T_S(E_S, q)‖₁, mean over tokens and channels.

    Parameters
    ----------
    student_tokens, teacher_tokens : Tensor
        (N, T, 256).

    Returns
    -------
    Tensor
        (N,).

    Notes
    -----
    TinySAM (arXiv 2312.13789), section 3.1.
    """
    difference = _exact(student_tokens) - _exact(teacher_tokens).detach()
    return difference.abs().mean((1, 2))


def output_loss(
    student_logits: Tensor, teacher_logits: Tensor, valid: Tensor
) -> Tensor:
    """L_out = ‖D_T(E_T, q) − D_S(E_S, q)‖₁, mean over the three masks and the valid logits.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor
        (N, 3, h, w).
    valid : Tensor
        (N, h, w), 0 in the padding.

    Returns
    -------
    Tensor
        (N,), 0 where nothing is valid.

    Notes
    -----
    TinySAM (arXiv 2312.13789), section 3.1.
    """
    difference = _exact(student_logits) - _exact(teacher_logits).detach()
    inside = valid[:, None].to(difference.dtype)
    area = inside.sum((1, 2, 3)).clamp(min=1)
    return (difference.abs() * inside).sum((1, 2, 3)) / (area * difference.shape[1])


def hard_mask_weights(
    teacher_iou: Tensor, student_iou: Tensor, eps: float = 1e-6
) -> Tensor:
    """H_i = sigmoid(IoU(M_T, GT) / (IoU(M_S, GT) + ε) − 1).

    0.5 where both masks are equally good, towards 1 where only the student fails, never below
    sigmoid(−1) = 0.269, which is also the value where both fail.

    Parameters
    ----------
    teacher_iou, student_iou : Tensor
        (N,), with the labels, 0–1.
    eps : float
        The paper does not give it.

    Returns
    -------
    Tensor
        (N,), without gradient.

    Notes
    -----
    TinySAM (arXiv 2312.13789), section 3.1, "hard mask weighting". The text there swaps the names
    of M_T and M_S; the formula is as here.
    """
    teacher_iou, student_iou = _exact(teacher_iou), _exact(student_iou)
    return (teacher_iou / (student_iou + eps) - 1).sigmoid().detach()


def full_stage_distillation(
    student: Stages,
    teacher: Stages,
    *,
    valid_cells: Tensor,
    valid: Tensor,
    images: int,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    hard_masks: bool = True,
    eps: float = 1e-6,
    masks: Literal["sum", "mean"] = "sum",
) -> dict[str, SumAndCount]:
    """L_distill = α L_emb + β L_token + γ Σ_i H_i L_out,i, with ℓ1 everywhere.

    Parameters
    ----------
    student, teacher : Stages
        The teacher's gets no gradient.
    valid_cells : Tensor
        (B, 1, g, g), 0 where a cell of the embedding shows padding.
    valid : Tensor
        (N, h, w), 0 in the padding, for each object.
    images : int
        How many images or windows the N objects are of.
    alpha, beta, gamma : float
        A term with weight 0 is not computed, and its stage may be None.
    hard_masks : bool
        Whether H_i weighs the output loss. Else 0.5 does, the weight of equally good masks, so that
        an ablation does not change the size of the term.
    eps : float
        Of the hard mask weights.
    masks : {"sum", "mean"}
        Whether the output term is summed over the masks of an image and divided by the number of
        images, as the paper writes it, or divided by the number of masks. With P objects in every
        image, "sum" is P times as large.

    Returns
    -------
    dict
        ``embedding``, ``token`` and ``output``, as far as they are switched on: the weighted sum
        and what it is to be divided by. `total_of` adds them up.

    Raises
    ------
    ValueError
        If a stage is missing that a term needs.

    Notes
    -----
    TinySAM (arXiv 2312.13789), section 3.1. The paper leaves open α, β, γ, ε, whether ‖·‖₁ is a sum
    or a mean, over which tokens and outputs it goes, how padding counts, and which mask's IoU is in
    H_i. Chosen here: every ‖·‖₁ is a mean over values (over valid ones only), so that a loss does
    not depend on the size of the window; tokens and outputs are all those that are handed in;
    L_token is a mean over the objects; Σ_i goes over the objects of an image.
    """
    terms: dict[str, SumAndCount] = {}
    if alpha:
        ours, theirs = _both(student.embedding, teacher.embedding, "embedding")
        value, count = embedding_loss(ours, theirs, valid_cells)
        terms["embedding"] = alpha * value, count
    if beta:
        ours, theirs = _both(student.tokens, teacher.tokens, "tokens")
        each = token_loss(ours, theirs)
        terms["token"] = beta * each.sum(), each.new_tensor(len(each))
    if gamma:
        ours, theirs = _both(student.logits, teacher.logits, "logits")
        each = output_loss(ours, theirs, valid)
        if hard_masks:
            student_iou, teacher_iou = _both(student.iou, teacher.iou, "iou")
            each = hard_mask_weights(teacher_iou, student_iou, eps) * each
        else:
            each = 0.5 * each
        count = each.new_tensor(images if masks == "sum" else len(each))
        terms["output"] = gamma * each.sum(), count
    return terms


def _both(
    student: Tensor | None, teacher: Tensor | None, name: str
) -> tuple[Tensor, Tensor]:
    if student is None or teacher is None:
        raise ValueError(f"Distillation needs the {name} of student and teacher.")
    return student, teacher


# --- Masks and predicted IoU ----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MaskLosses:
    """Losses of each of the three masks of N objects, not weighted yet.

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
        (N, h, w), 0 in the padding, which no loss and no IoU counts.
    gamma : float
        Exponent of the focal loss: |t − p|^γ · CE(t, p), which for hard targets is the usual
        (1 − p_t)^γ · CE. 0 leaves the plain cross-entropy; otherwise at least 1.
    alpha : float, optional
        Weight of covered against uncovered logits in the focal loss, α t + (1 − α)(1 − t). Left
        out: no weights.

    Returns
    -------
    MaskLosses
        Segment Anything weighs focal to dice 20 : 1. An object without valid logits has losses 0;
        an object that is nowhere has IoU 0 with every mask.

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
    logits, targets = _exact(logits), _exact(targets)
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
        (N, K, h, w), of K masks an object; a mask is where they are above 0.
    targets, valid : Tensor
        (N, h, w), as in `mask_losses`.

    Returns
    -------
    Tensor
        (N, K) float, without gradient; 0 for an object that is nowhere.
    """
    inside = (valid > 0)[:, None]
    found = (logits > 0) & inside
    wanted = object_region(targets)[:, None] & inside
    union = (found | wanted).sum((2, 3)).clamp(min=1)
    return (found & wanted).sum((2, 3)) / union


def best_of_three(each: Tensor, share: float = 0.1, by: Tensor | None = None) -> Tensor:
    """Let the best of an object's masks learn from it, and the others a little.

    Parameters
    ----------
    each : Tensor
        (N, 3), loss of each mask.
    share : float
        Of the mean over all three in the result, so that no mask dies; 0 lets the best one alone
        learn, as Segment Anything does.
    by : Tensor, optional
        (N, 3), figure such as the IoU whose maximum says which mask is the best one; the smallest
        loss says it if left out.

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
        ℓ1 is TinySAM's, the square is Segment Anything's.

    Returns
    -------
    Tensor
        (N,).
    """
    scores, iou = _exact(scores), _exact(iou).detach()
    if kind == "mse":
        each = (scores - iou).square()
    elif kind == "smooth_l1":
        each = F.smooth_l1_loss(scores, iou, beta=DISTANCE_BETA, reduction="none")
    else:
        each = (scores - iou).abs()
    return each.mean(1)


# --- Object maps ----------------------------------------------------------------------


def object_head_losses(
    maps: Tensor, targets: Tensor, weight: Tensor, emphasis: Tensor | None = None
) -> dict[str, SumAndCount]:
    """Losses of the object head's three maps.

    Parameters
    ----------
    maps : Tensor
        (B, 3, h, w) logits of foreground, centre distance and boundary distance
        (`napari_tinysam.model.object_head.OBJECT_MAPS`).
    targets : Tensor
        (B, 3, h, w), 0–1; the foreground may be soft.
    weight : Tensor
        (B, 1, h, w), 0 in the padding and where the annotation says nothing.
    emphasis : Tensor, optional
        (B, 1, h, w), weights of the logits in all but dice, as from `touching_emphasis`.

    Returns
    -------
    dict
        Sums and counts. ``foreground``: cross-entropy. ``dice``: of the foreground, image by image,
        counting only images of which something is known. ``centre``: smooth ℓ1 inside objects; the
        distance outside is a constant that says nothing. ``boundary``: smooth ℓ1 everywhere.
    """
    maps, targets = _exact(maps), _exact(targets)
    known = weight.to(maps.dtype)
    weighted = known if emphasis is None else known * emphasis.to(maps.dtype)
    foreground = targets[:, :1]

    entropy = F.binary_cross_entropy_with_logits(
        maps[:, :1], foreground, reduction="none"
    )
    probability = maps.sigmoid()
    distance = F.smooth_l1_loss(
        probability[:, 1:], targets[:, 1:], beta=DISTANCE_BETA, reduction="none"
    )
    inside = weighted * foreground

    found, wanted = probability[:, :1] * known, foreground * known
    size = found.sum((1, 2, 3)) + wanted.sum((1, 2, 3))  # (B,)
    overlap = (found * wanted).sum((1, 2, 3))
    counts = (known.sum((1, 2, 3)) > 0).to(maps.dtype)
    dice = (1 - (2 * overlap + 1) / (size + 1)) * counts
    return {
        "foreground": ((entropy * weighted).sum(), weighted.sum()),
        "dice": (dice.sum(), counts.sum()),
        "centre": ((distance[:, :1] * inside).sum(), inside.sum()),
        "boundary": ((distance[:, 1:] * weighted).sum(), weighted.sum()),
    }


@torch.no_grad()
def touching_emphasis(labels: Tensor, weight: float = 4.0, reach: int = 1) -> Tensor:
    """Weights that make a map learn the gap or border between neighbouring objects.

    Parameters
    ----------
    labels : Tensor
        (B, S, S) int, objects at the window's pixels, 0 is background. Numbers below 2²⁴.
    weight : float
        Of logits near two different objects; all others have 1.
    reach : int
        How many logits (of 4 pixels) away such objects may be.

    Returns
    -------
    Tensor
        (B, 1, S / 4, S / 4) float32.
    """
    numbers = labels[:, None].float()
    absent = torch.where(numbers > 0, numbers, torch.inf)
    window = 2 * reach + 1

    def largest(values: Tensor) -> Tensor:
        cells = F.max_pool2d(values, LOGIT)
        return F.max_pool2d(cells, window, stride=1, padding=reach)

    two = largest(numbers) > -largest(-absent)
    return torch.where(two, weight, 1.0)


def _exact(values: Tensor) -> Tensor:
    """As float32: sums over many bfloat16 values would lose most of them."""
    return values if values.dtype == torch.float64 else values.float()
