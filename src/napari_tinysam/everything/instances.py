"""Instances: objects as the object head sees them, and how the decoder answers prompts at them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_tinysam.everything.proposals import Proposal
from napari_tinysam.labels import object_masks
from napari_tinysam.masks import BoxedMask, stability_scores
from napari_tinysam.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.everything.search import SearchReport
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

#: How the decoder is prompted at an instance.
Guide = Literal["point", "box", "point_and_box"]

#: Weight of the head's score relative to the decoder's. A fit of the true IoU on training images
#: gave 0.97 to 0.55.
_HEAD_WEIGHT = 2.0


@dataclass(frozen=True, eq=False)
class Instance:
    """An object as the head sees it.

    Attributes
    ----------
    label : int
        In the head's segmentation.
    mask : BoxedMask
    point : (float, float)
        The pixel deepest inside, x and y.
    confirmed : float
        0–1, how well the head's maps agree with it.
    """

    label: int
    mask: BoxedMask
    point: tuple[float, float]
    confirmed: float = 1.0


def instances_of(
    labels: npt.NDArray[np.int32], confirmed: npt.NDArray[np.float64] | None = None
) -> list[Instance]:
    """List the instances of a segmentation.

    Parameters
    ----------
    labels : ndarray of int32, (H, W)
    confirmed : ndarray of float64, (N + 1,), optional
        From `napari_tinysam.objects.confirmation.confirmed`.
    """
    return [
        Instance(
            label,
            mask,
            mask.deepest,
            1.0 if confirmed is None else float(confirmed[label]),
        )
        for label, mask in object_masks(labels)
    ]


@dataclass(frozen=True, eq=False)
class InstanceAnswer:
    """One of the decoder's masks for an instance.

    Attributes
    ----------
    mask : BoxedMask
    score, stability : float
    agreement : float
        IoU with the instance.
    """

    mask: BoxedMask
    score: float
    stability: float
    agreement: float


def answers_to(
    predictor: Predictor,
    embedding: Embedding,
    instances: Sequence[Instance],
    guide: Guide,
    report: SearchReport,
) -> list[list[InstanceAnswer]]:
    """Prompt the decoder at instances.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
    instances : sequence of Instance
    guide : str
        See `Guide`.
    report : SearchReport
        Is updated.

    Returns
    -------
    list of list of InstanceAnswer
        Three for each instance.
    """
    begun = time.perf_counter()
    masks = predictor.predict(embedding, _prompts(instances, guide), exact=False)
    report.decoded += len(instances)
    report.spent("decode", begun)
    begun = time.perf_counter()
    height, width = embedding.upscaler.valid_size
    stable = stability_scores(masks.logits[:, :, :height, :width])
    found = []
    for row, instance in enumerate(instances):
        own = []
        for number, score in enumerate(masks.scores[row].tolist()):
            mask = masks.boxed(row, number).without_specks()
            agreement = mask.iou(instance.mask) if mask.area else 0.0
            stability = float(stable[row, number])
            own.append(InstanceAnswer(mask, score, stability, agreement))
        found.append(own)
    report.spent("filter", begun)
    return found


def _prompts(instances: Sequence[Instance], guide: Guide) -> Prompts:
    points = np.array([each.point for each in instances], np.float32)[:, np.newaxis]
    boxes = np.array([each.mask.box for each in instances], np.float32)
    return Prompts(
        points=points if guide != "box" else None,
        boxes=boxes if guide != "point" else None,
    )


def best_answer(
    instance: Instance,
    answers: Sequence[InstanceAnswer],
    *,
    trust: float,
    least_agreement: float,
) -> Proposal:
    """Choose the answer with the largest score · agreement^trust.

    Parameters
    ----------
    instance : Instance
    answers : sequence of InstanceAnswer
        At least one.
    trust : float
    least_agreement : float
        The instance's own outline is proposed if the agreement of the best answer is below this.
    """
    best = max(answers, key=lambda a: max(a.score, 0.0) * a.agreement**trust)
    point, own = instance.point, instance.mask
    expected = max(answer.score * answer.agreement for answer in answers)
    decoder = min(max(expected, 0.0), 1.0)
    score = (_HEAD_WEIGHT * instance.confirmed + decoder) / (_HEAD_WEIGHT + 1)
    if best.mask.area and best.agreement >= least_agreement:
        return Proposal(best.mask, score, point, "prompt", best.stability, own)
    return Proposal(own, score, point, "head", 1.0, own)
