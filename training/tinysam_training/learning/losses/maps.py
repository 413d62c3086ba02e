"""Losses of the object head's maps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tinysam_training.learning.losses.precision import SMOOTH_BETA, exact

#: How far the rim of an object reaches to each side of its border, in pixels of the maps.
REACH = 2


def with_rims(targets: Tensor, weight: Tensor, rim: float) -> Tensor:
    """Let pixels along borders weigh more.

    Parameters
    ----------
    targets, weight : Tensor
        As for `object_head_losses`.
    rim : float
        How much more they weigh: 1 + rim instead of 1. 0: `weight` as it is.

    Returns
    -------
    Tensor
        (B, 1, h, w).
    """
    if not rim:
        return weight
    foreground = targets[:, :1].float()
    side = 2 * REACH + 1
    grown = F.max_pool2d(foreground, side, 1, REACH)
    shrunk = -F.max_pool2d(-foreground, side, 1, REACH)
    return weight.float() * (1 + rim * (grown - shrunk))


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
        (B, 1, h, w), 0 in the padding and where nothing is annotated, else 1 or what `with_rims`
        gives.

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
