"""Full-stage distillation: L_emb, L_token, L_out and the hard mask weights H_i.

L_distill = α L_emb + β L_token + γ Σ_i H_i L_out,i, with ℓ1 everywhere (TinySAM, arXiv 2312.13789,
section 3.1). `tinysam_training.learning.objective` adds the terms. The paper leaves open α, β, γ,
ε, whether ‖·‖₁ is a sum or a mean, over which tokens and outputs it runs, how padding counts, and
which mask's IoU is in H_i. Here every ‖·‖₁ is a mean over valid values, so that a loss does not
depend on the size of the window; it runs over all given tokens and outputs; L_token is a mean over
the objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinysam_training.learning.losses.precision import exact

if TYPE_CHECKING:
    from torch import Tensor


def embedding_loss(
    student: Tensor, teacher: Tensor, valid_cells: Tensor
) -> tuple[Tensor, Tensor]:
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
    student, teacher = exact(student), exact(teacher).detach()
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
    difference = exact(student_tokens) - exact(teacher_tokens).detach()
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
    difference = exact(student_logits) - exact(teacher_logits).detach()
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
    teacher_iou, student_iou = exact(teacher_iou), exact(student_iou)
    return (teacher_iou / (student_iou + eps) - 1).sigmoid().detach()
