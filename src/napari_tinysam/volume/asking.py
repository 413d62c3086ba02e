"""How the model is asked for an expected shape, and what it answers. numpy only."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import LOGIT, LOGITS
from napari_tinysam.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.masks import BoxedMask

#: Logit of a mask prompt inside the mask; its negative outside.
_SURE = 6.0


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
) -> list[list[tuple[BoxedMask, float]]]:
    """Ask for expected shapes in a plane.

    Parameters
    ----------
    predictor : Predictor
    embedding : Embedding
        Of the plane.
    masks : sequence of BoxedMask
        The shapes, not empty.
    kind : Kind

    Returns
    -------
    list of list of (BoxedMask, float)
        Three masks for each shape, with the scores that the model predicts.
    """
    found = predictor.predict(embedding, prompts_for(embedding, masks, kind))
    return [
        [
            (found.boxed(row, number).without_specks(), float(score))
            for number, score in enumerate(found.scores[row])
        ]
        for row in range(len(masks))
    ]


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
    planes = np.stack([mask_logits(mask, embedding) for mask in masks])
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


def mask_logits(mask: BoxedMask, embedding: Embedding) -> npt.NDArray[np.float32]:
    """Make a mask prompt of a mask.

    Parameters
    ----------
    mask : BoxedMask
        In the image of the embedding.
    embedding : Embedding

    Returns
    -------
    numpy.ndarray
        (256, 256) float32, 6 where the middle of a cell of the frame is on the mask, −6 elsewhere.
    """
    logits = np.full((LOGITS, LOGITS), -_SURE, np.float32)
    places = []
    for side, (inner, outer) in enumerate(
        zip(embedding.input_size, embedding.original_size, strict=True)
    ):
        cells = np.arange(-(-inner // LOGIT))
        pixel = np.floor((cells + 0.5) * LOGIT * outer / inner).astype(int)
        start = (mask.y0, mask.x0)[side]
        places.append((cells, pixel - start))
    (rows, y), (columns, x) = places
    height, width = mask.mask.shape
    here = [(at >= 0) & (at < length) for at, length in ((y, height), (x, width))]
    if here[0].any() and here[1].any():
        part = mask.mask[np.ix_(y[here[0]], x[here[1]])]
        logits[np.ix_(rows[here[0]], columns[here[1]])] = np.where(part, _SURE, -_SURE)
    return logits


def foreground_in(embedding: Embedding, mask: BoxedMask) -> float:
    """Measure how much of a mask the object maps see as foreground.

    Parameters
    ----------
    embedding : Embedding
    mask : BoxedMask

    Returns
    -------
    float
        0–1, the mean inside the mask; 1 without maps, and for masks smaller than a cell.
    """
    if embedding.maps is None or not mask.area:
        return 1.0
    inside = mask_logits(mask, embedding) > 0
    if not inside.any():
        return 1.0
    foreground = embedding.maps[0]
    step = foreground.shape[0] // LOGITS
    coarse = foreground.reshape(LOGITS, step, LOGITS, step).mean(axis=(1, 3))
    return float(coarse[inside].mean())
