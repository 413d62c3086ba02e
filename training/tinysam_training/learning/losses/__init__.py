"""Losses: full-stage distillation, masks, predicted IoU, object maps.

No function here takes a mean over a batch. Losses of prompted objects are one value per object,
(N,) or (N, 3); dense losses are a pair of a sum and its divisor. The training loop adds both over
all processes before it divides, so a batch's gradient does not depend on how its images are spread
over devices. Everything is computed in float32 (float64 for float64 input), also under autocast,
and is finite for empty targets, windows that are all padding, saturated logits, and no objects.
"""

from tinysam_training.learning.losses.distillation import (
    embedding_loss,
    hard_mask_weights,
    output_loss,
    token_loss,
)
from tinysam_training.learning.losses.maps import object_head_losses, with_rims
from tinysam_training.learning.losses.masks import (
    MaskLosses,
    actual_iou,
    best_of_three,
    iou_loss,
    mask_losses,
    object_region,
)

__all__ = [
    "MaskLosses",
    "actual_iou",
    "best_of_three",
    "embedding_loss",
    "hard_mask_weights",
    "iou_loss",
    "mask_losses",
    "object_head_losses",
    "object_region",
    "output_loss",
    "token_loss",
    "with_rims",
]
