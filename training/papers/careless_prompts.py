"""Prompts of users who take little care: loose boxes, clicks near a border, negative clicks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from napari_tinysam.masks import BoxedMask
from napari_tinysam.prompts import NEGATIVE, POSITIVE, Prompts
from papers.robustness_sheets import STREAM
from tinysam_training.evaluation.boxes import loose_boxes, tight_boxes
from tinysam_training.evaluation.simulated_user import answer_boxes, judged

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import LabelledImage

    BoolArray = npt.NDArray[np.bool_]

#: Largest error of each side of a loose box, as a share of the box's extent.
LOOSE = 0.15

#: Depth of a click near the border, as a share of the deepest pixel's.
NEAR_BORDER = 0.15

#: A neighbour gets a negative click if the first mask covers at least this share of it.
_COVERED = 0.1


def careless_prompts(
    predictor: Predictor, image: LabelledImage, objects: int, seed: int = 0
) -> dict[str, list[float]]:
    """Measure the IoU of clicks near the border and of loose boxes, and of careful prompts.

    Parameters
    ----------
    predictor : Predictor
    image : LabelledImage
    objects : int
        The most objects to prompt.
    seed : int

    Returns
    -------
    dict
        A value for each object: ``centre_click``, ``border_click``, ``tight_box``, ``loose_box``.
    """
    rng = np.random.default_rng([seed, STREAM])
    truth = _objects(image, objects, rng)
    if not truth:
        return {}
    embedding = predictor.encode(image.rgb)
    deep = np.array([_click(mask, 1.0, rng) for mask in truth], np.float32)
    near = np.array([_click(mask, NEAR_BORDER, rng) for mask in truth], np.float32)
    boxes = tight_boxes(truth)
    loose = loose_boxes(boxes, LOOSE, image.rgb.shape[:2], rng)

    def clicked(points: npt.NDArray[np.float32]) -> list[float]:
        labels = np.full((len(points), 1), POSITIVE, np.int32)
        found = predictor.predict(embedding, Prompts(points[:, None], labels))
        return list(judged(found, truth).iou)

    return {
        "centre_click": clicked(deep),
        "border_click": clicked(near),
        "tight_box": list(answer_boxes(predictor, embedding, boxes, truth).iou),
        "loose_box": list(answer_boxes(predictor, embedding, loose, truth).iou),
    }


def negative_clicks(
    predictor: Predictor, image: LabelledImage, objects: int, seed: int = 0
) -> dict[str, list[float]]:
    """Measure what a negative click on a neighbour removes, if the first mask covers some of it.

    Parameters
    ----------
    predictor, image, objects, seed
        See `careless_prompts`; the image has touching objects.

    Returns
    -------
    dict
        A value for each object whose mask ran into its neighbour: ``iou_before``, ``iou_after``
        (with the object), ``covered_before``, ``covered_after`` (share of the neighbour in the
        mask).
    """
    rng = np.random.default_rng([seed, STREAM + 1])
    found: dict[str, list[float]] = {
        "iou_before": [],
        "iou_after": [],
        "covered_before": [],
        "covered_after": [],
    }
    embedding = predictor.encode(image.rgb)
    for mask in _objects(image, objects, rng):
        neighbour = _neighbour(image, mask)
        if neighbour is None:
            continue
        points = [_click(mask, 1.0, rng), _click(neighbour, 1.0, rng)]
        before = _answer(predictor, embedding, points[:1], [POSITIVE], mask)
        covered = _share_covered(neighbour, before[0])
        if covered < _COVERED:
            continue
        after = _answer(predictor, embedding, points, [POSITIVE, NEGATIVE], mask)
        found["iou_before"].append(before[1])
        found["iou_after"].append(after[1])
        found["covered_before"].append(covered)
        found["covered_after"].append(_share_covered(neighbour, after[0]))
    return found


def _objects(
    image: LabelledImage, count: int, rng: np.random.Generator
) -> list[BoxedMask]:
    boxes = image.boxes
    numbers = rng.permutation(len(boxes))[:count]
    return [_mask(image, int(number) + 1) for number in numbers]


def _mask(image: LabelledImage, number: int) -> BoxedMask:
    _, x0, y0, x1, y1 = image.boxes[number - 1]
    inside = image.labels[0, y0:y1, x0:x1] == number
    return BoxedMask(inside, int(y0), int(x0), image.labels.shape[1:])


def _click(
    mask: BoxedMask, depth: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Choose x, y of a pixel of the mask at a depth, 1 for the deepest."""
    depths = ndi.distance_transform_edt(np.pad(mask.mask, 1))[1:-1, 1:-1]
    off = np.where(mask.mask, np.abs(depths - depth * depths.max()), np.inf)
    rows, columns = np.nonzero(off <= off.min() + 1e-6)
    chosen = int(rng.integers(len(rows)))
    return float(columns[chosen] + mask.x0), float(rows[chosen] + mask.y0)


def _neighbour(image: LabelledImage, mask: BoxedMask) -> BoxedMask | None:
    """Return the object that shares most of the outline of another."""
    labels = image.labels[0]
    own = labels[mask.slices][mask.mask][0]
    rows, columns = (
        slice(max(part.start - 1, 0), part.stop + 1) for part in mask.slices
    )
    window = labels[rows, columns]
    rim = ndi.binary_dilation(window == own) & (window > 0) & (window != own)
    if not rim.any():
        return None
    return _mask(image, int(np.bincount(window[rim]).argmax()))


def _answer(
    predictor: Predictor,
    embedding: Embedding,
    points: Sequence[tuple[float, float]],
    labels: Sequence[int],
    truth: BoxedMask,
) -> tuple[BoxedMask, float]:
    prompts = Prompts(
        np.array([points], np.float32), np.array([labels], np.int32)
    )  # fmt: skip
    answer = judged(predictor.predict(embedding, prompts), [truth])
    return answer.masks[0], float(answer.iou[0])


def _share_covered(mask: BoxedMask, by: BoxedMask) -> float:
    """Share of a mask that another one covers."""
    full = by.to_full()
    return float(full[mask.slices][mask.mask].mean())
