"""Losses of the object head's maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from tinysam_training.learning.losses.precision import SMOOTH_BETA, exact

if TYPE_CHECKING:
    from torch import Tensor


def object_head_losses(
    maps: Tensor, targets: Tensor, weight: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Losses of the object head's three maps.

    Parameters
    ----------
    maps : Tensor
        (B, 3, h, w) logits of foreground, centre distance and boundary distance
        (`napari_tinysam.model.object_head.OBJECT_MAPS`).
    targets : Tensor
        (B, 3, h, w), 0–1; the foreground may be soft.
    weight : Tensor
        (B, 1, h, w), 0 in the padding and where nothing is annotated.

    Returns
    -------
    dict
        Sums and counts. ``foreground``: cross-entropy. ``dice``: of the foreground, per image,
        only for images with annotated pixels. ``centre``: smooth ℓ1 inside objects; outside the
        distance is a constant without information. ``boundary``: smooth ℓ1 everywhere.
    """
    maps, targets = exact(maps), exact(targets)
    known = weight.to(maps.dtype)
    foreground = targets[:, :1]

    entropy = F.binary_cross_entropy_with_logits(
        maps[:, :1], foreground, reduction="none"
    )
    probability = maps.sigmoid()
    distance = F.smooth_l1_loss(
        probability[:, 1:], targets[:, 1:], beta=SMOOTH_BETA, reduction="none"
    )
    inside = known * foreground

    found, wanted = probability[:, :1] * known, foreground * known
    size = found.sum((1, 2, 3)) + wanted.sum((1, 2, 3))  # (B,)
    overlap = (found * wanted).sum((1, 2, 3))
    counts = (known.sum((1, 2, 3)) > 0).to(maps.dtype)
    dice = (1 - (2 * overlap + 1) / (size + 1)) * counts
    return {
        "foreground": ((entropy * known).sum(), known.sum()),
        "dice": (dice.sum(), counts.sum()),
        "centre": ((distance[:, :1] * inside).sum(), inside.sum()),
        "boundary": ((distance[:, 1:] * known).sum(), known.sum()),
    }
