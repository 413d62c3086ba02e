"""How the model is asked for an expected shape, and what it answers. numpy only."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding, Masks
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import BoxedMask


#: Borders that are tried where an object is known, in logits. 0 is the model's own.
BORDERS = (0.0, -0.5, 0.5, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0)

Answer = tuple["BoxedMask", float]


class Kind(Enum):
    """How the next plane is asked for an object."""

    POINT = "point"
    BOX = "point and box"
    MASK = "point, box and mask"


def answers_to(
    predictor: Predictor,
    embedding: Embedding,
    masks: Sequence[BoxedMask],
    kind: Kind,
    borders: Sequence[float],
) -> list[list[Answer]]:
    """Ask for expected shapes in a plane.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
        Of the plane.
    masks : sequence of BoxedMask
        The shapes, not empty.
    kind : Kind
    borders : sequence of float
        For each shape, what is added to the logits of its answers: above 0 they are larger.

    Returns
    -------
    list of list of (BoxedMask, float)
        Three masks for each shape, with the scores that the model predicts.
    """
    found = predictor.predict(embedding, prompts_for(embedding, masks, kind))
    return [
        [
            (_moved(found, row, number, border), float(score))
            for number, score in enumerate(found.scores[row])
        ]
        for row, border in enumerate(borders)
    ]


def reproduced(
    predictor: Predictor, embedding: Embedding, masks: Sequence[BoxedMask], kind: Kind
) -> list[npt.NDArray[np.float64]]:
    """Ask for known shapes in the plane where they are known, with their borders moved.

    Returns
    -------
    list of ndarray
        For each shape, (B,) IoU of the surest answer with it, for each of `BORDERS`.
    """
    found = predictor.predict(embedding, prompts_for(embedding, masks, kind))
    return [
        np.array(
            [
                _moved(found, row, int(found.best[row]), border).iou(mask)
                for border in BORDERS
            ]
        )
        for row, mask in enumerate(masks)
    ]


def _moved(found: Masks, row: int, number: int, border: float) -> BoxedMask:
    logits = found.logits[row, number] + np.float32(border)
    return found.upscaler.boxed(logits).without_specks()


def prompts_for(
    embedding: Embedding, masks: Sequence[BoxedMask], kind: Kind
) -> Prompts:
    """Make prompts of expected shapes, not empty, for a plane; see `Kind`."""
    points = np.array([mask.deepest for mask in masks], np.float32)[:, np.newaxis]
    if kind is Kind.POINT:
        return Prompts(points=points)
    margin = 0.05 if kind is Kind.BOX else 0.1
    boxes = np.array([_grown(mask, margin) for mask in masks], np.float32)
    if kind is Kind.BOX:
        return Prompts(points=points, boxes=boxes)
    planes = np.stack([embedding.upscaler.mask_prompt(mask) for mask in masks])
    return Prompts(points=points, boxes=boxes, masks=planes)


def _grown(mask: BoxedMask, share: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = mask.box
    height, width = mask.shape
    across, down = share * (x1 - x0 + 1), share * (y1 - y0 + 1)
    return (
        max(x0 - across, 0),
        max(y0 - down, 0),
        min(x1 + across, width - 1),
        min(y1 + down, height - 1),
    )


def foreground_in(embedding: Embedding, mask: BoxedMask) -> float:
    """Measure how much of a mask the object maps see as foreground.

    Parameters
    ----------
    embedding : Embedding
    mask : BoxedMask

    Returns
    -------
    float
        0–1, the mean inside the mask; 1 without maps.
    """
    if embedding.maps is None or not mask.area:
        return 1.0
    foreground = embedding.maps[0]
    cells = len(foreground) / max(
        mask.shape
    )  # the image lies in the corner of the maps
    rows, columns = (
        ((np.arange(side.start, side.stop) + 0.5) * cells).astype(np.intp)
        for side in mask.slices
    )
    return float(foreground[np.ix_(rows, columns)][mask.mask].mean(dtype=np.float64))
