"""The cost of rounding: expected layer by layer, measured for a whole model.

The search's error of an operation, Σ (g (o − ô))² with g from drawn answers, is twice the expected
loss of rounding it (near its minimum a KL is half a squared distance in Fisher's metric).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tinysam_training.quantize.calibration_data import as_tensor, as_tensors
from tinysam_training.quantize.task_loss import bernoulli_kl, iou_logits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.quantize.calibration_data import Seen
    from tinysam_training.quantize.quantizing import Collected
    from tinysam_training.quantize.search import Scales


@dataclass(frozen=True)
class Sensitivity:
    """The expected cost of rounding one operation.

    Attributes
    ----------
    name : str
    kind : str
        Of the module: Linear, Conv2d or ConvTranspose2d.
    before : float
        Expected loss of an image with the scales of min and max.
    after : float
        With the scales that the search found.
    """

    name: str
    kind: str
    before: float
    after: float


def sensitivities(found: Collected, scales: Mapping[str, Scales]) -> list[Sensitivity]:
    """Estimate the cost of rounding each operation; the most expensive comes first.

    Parameters
    ----------
    found : Collected
    scales : mapping of str to Scales
    """
    costs = []
    for operation in found.operations:
        if operation.name in scales:
            errors = scales[operation.name].errors
            unit = 0.5 / (operation.share * found.images)
            costs.append(
                Sensitivity(
                    operation.name,
                    type(operation.module).__name__,
                    unit * errors[0],
                    unit * errors[-1],
                )
            )
    return sorted(costs, key=lambda each: each.after, reverse=True)


@torch.no_grad()
def task_loss(
    model: SegmentAnything, reference: SegmentAnything, seen: Sequence[Seen]
) -> float:
    """Measure KL(mask) + KL(IoU), plus the KL of object maps, between a model and a reference.

    Parameters
    ----------
    model, reference : SegmentAnything
    seen : sequence of Seen
        Images.

    Returns
    -------
    float
        Mean per image.
    """
    total = 0.0
    for one in seen:
        frame = model.normalize_and_pad(as_tensor(one.rgb))
        features = [each.features(frame) for each in (model, reference)]
        if model.object_head is not None:
            maps = [
                each.object_maps(f)
                for each, f in zip((model, reference), features, strict=True)
            ]
            total += float(bernoulli_kl(*maps))
        for prompts in one.prompts:
            given = as_tensors(prompts)
            (logits, scores), (true_logits, true_scores) = (
                each.decode(f.embedding, details=f.details, **given)
                for each, f in zip((model, reference), features, strict=True)
            )
            total += float(bernoulli_kl(logits, true_logits))
            total += float(bernoulli_kl(iou_logits(scores), iou_logits(true_scores)))
    return total / max(len(seen), 1)
