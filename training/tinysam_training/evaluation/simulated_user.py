"""A simulated user who draws boxes, or clicks: deep inside an object, then where its mask is wrong.

The protocol of clicks is that of interactive segmentation ("NoC"; Sofiiuk et al., "Reviving
Iterative Training with Mask Guidance", 2022, section 4): the first click is at the deepest pixel of
the object, each further one at the deepest pixel of the missed area (positive) or the excess area
(negative), whichever is deeper. The model gets the points as the plugin sends them: all points of
the object together, in their order, without the previous mask. The mask with the best predicted
score, without stray specks, is judged and corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from napari_tinysam.frame import LOGITS
from napari_tinysam.masks import BoxedMask, bounding_slices
from napari_tinysam.prompts import IGNORED, NEGATIVE, POSITIVE, Prompts

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding, Masks
    from napari_tinysam.inference.predictor import Predictor

#: Objects decoded at once: three masks of 256 KB each stay in memory until they are judged.
BATCH = 64


@dataclass(frozen=True, eq=False)
class Answer:
    """The model's masks for N objects with one prompt each, compared with the truth.

    Parameters
    ----------
    masks : list of BoxedMask
        N masks with the best predicted score.
    iou : numpy.ndarray
        (N,) float64, of those masks.
    oracle : numpy.ndarray
        (N,) float64, of the best of the three masks: the limit for choosing among them.
    scores : numpy.ndarray
        (N,) float64, the IoU that the model predicts for `masks`.
    """

    masks: list[BoxedMask]
    iou: npt.NDArray[np.float64]
    oracle: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClickTrace:
    """N objects and their masks from clicks.

    Parameters
    ----------
    points : numpy.ndarray
        (N, C, 2) float32, (x, y) in pixels of the image.
    labels : numpy.ndarray
        (N, C) int32: 1 on the object, 0 beside it, −1 where the mask was already right and no click
        was made.
    iou, oracle, scores : numpy.ndarray
        (N, C) float64, as in `Answer`, after each click; values of the last click are repeated.
    first, last : list of BoxedMask
        N masks after the first and after the last click.
    """

    points: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    iou: npt.NDArray[np.float64]
    oracle: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    first: list[BoxedMask]
    last: list[BoxedMask]


def answer_boxes(
    predictor: Predictor,
    embedding: Embedding,
    boxes: npt.NDArray[np.float32],
    truth: Sequence[BoxedMask],
    *,
    drop_specks: bool = True,
) -> Answer:
    """Draw a box around each of N objects and judge the masks at the image's own resolution.

    Parameters
    ----------
    predictor : Predictor
        The model.
    embedding : Embedding
        The image.
    boxes : numpy.ndarray
        (N, 4) float32, (x0, y0, x1, y1) in pixels of the image; N at least 1.
    truth : sequence of BoxedMask
        The N true masks.
    drop_specks : bool
        Leave out stray pixels, as the plugin and the command line do.
    """
    return _answer(predictor, embedding, partial(_boxed, boxes), truth, drop_specks)


def answer_clicks(
    predictor: Predictor,
    embedding: Embedding,
    points: npt.NDArray[np.float32],
    truth: Sequence[BoxedMask],
    *,
    drop_specks: bool = True,
) -> Answer:
    """Click once on each of N objects and judge the masks at the image's own resolution.

    Parameters
    ----------
    predictor, embedding, truth, drop_specks
        As for `answer_boxes`.
    points : numpy.ndarray
        (N, 2) float32, (x, y) in pixels of the image; N at least 1.
    """
    return _answer(predictor, embedding, partial(_clicked, points), truth, drop_specks)


def off_centre_clicks(
    truth: Sequence[BoxedMask], share: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Click on objects beside their deepest pixel, in a direction of chance.

    Parameters
    ----------
    truth : sequence of BoxedMask
        N objects, none of them empty.
    share : float
        How far from there, as a share of the depth of that pixel: 0–1, below 1. So the click is on
        the object.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        (N, 2) float32, (x, y) in pixels of the image.
    """
    deepest = np.array([mask.deepest for mask in truth], np.float32)
    radii = np.array([mask.depth.max() for mask in truth])
    angles = rng.uniform(0, 2 * np.pi, len(truth))
    off = share * radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # Whole pixels, as the mouse gives them, and never further away.
    return np.asarray(deepest + np.trunc(off), np.float32)


def _boxed(boxes: npt.NDArray[np.float32], part: slice) -> Prompts:
    return Prompts(boxes=boxes[part])


def _clicked(points: npt.NDArray[np.float32], part: slice) -> Prompts:
    some = points[part, None]
    return Prompts(some, np.full((len(some), 1), POSITIVE, np.int32))


def _answer(
    predictor: Predictor,
    embedding: Embedding,
    prompts: Callable[[slice], Prompts],
    truth: Sequence[BoxedMask],
    drop_specks: bool,
) -> Answer:
    parts = []
    for start in range(0, len(truth), BATCH):
        part = slice(start, start + BATCH)
        found = predictor.predict(embedding, prompts(part))
        parts.append(judged(found, truth[part], drop_specks))
    return Answer(
        masks=[mask for part in parts for mask in part.masks],
        iou=np.concatenate([part.iou for part in parts]),
        oracle=np.concatenate([part.oracle for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def judged(
    found: Masks, truth: Sequence[BoxedMask], drop_specks: bool = True
) -> Answer:
    """Compare the masks of N prompts with N objects at the image's own resolution.

    Parameters
    ----------
    found : Masks
        From `Predictor.predict`.
    truth : sequence of BoxedMask
        The N true masks.
    drop_specks : bool
        Leave out stray pixels, as the plugin and the command line do.
    """
    masks = []
    candidates = found.scores.shape[-1]
    iou = np.zeros((len(truth), candidates))
    for row, true in enumerate(truth):
        for candidate in range(candidates):
            boxed = found.boxed(row, candidate)
            if drop_specks:
                boxed = boxed.without_specks()
            iou[row, candidate] = boxed.iou(true)
            if candidate == found.best[row]:
                masks.append(boxed)
    rows = np.arange(len(truth))
    return Answer(
        masks=masks,
        iou=iou[rows, found.best],
        oracle=iou.max(axis=1),
        scores=found.scores[rows, found.best].astype(np.float64),
    )


def simulate_clicks(
    predictor: Predictor,
    embedding: Embedding,
    truth: Sequence[BoxedMask],
    clicks: int = 9,
    *,
    feed_back: bool = False,
    drop_specks: bool = True,
) -> ClickTrace:
    """Click on N objects independently, in one batch per round.

    Parameters
    ----------
    predictor : Predictor
        The model.
    embedding : Embedding
        The image.
    truth : sequence of BoxedMask
        The true masks, at least one, none of them empty.
    clicks : int
        Rounds, at least one.
    feed_back : bool
        Give the model its previous mask along with the points, as Segment Anything's own evaluation
        does. The plugin does not.
    drop_specks : bool
        Judge, and correct, the mask without stray specks, as the plugin shows it.

    Returns
    -------
    ClickTrace
        The clicks and the resulting masks.

    Raises
    ------
    ValueError
        If there are no objects, one is empty, or there are no clicks.
    """
    if not len(truth) or not all(mask.area for mask in truth) or clicks < 1:
        raise ValueError("Clicks need at least one round and objects with pixels.")
    parts = [
        _simulate(
            predictor,
            embedding,
            truth[start : start + BATCH],
            clicks,
            feed_back=feed_back,
            drop_specks=drop_specks,
        )
        for start in range(0, len(truth), BATCH)
    ]
    return ClickTrace(
        points=np.concatenate([part.points for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        iou=np.concatenate([part.iou for part in parts]),
        oracle=np.concatenate([part.oracle for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        first=[mask for part in parts for mask in part.first],
        last=[mask for part in parts for mask in part.last],
    )


def _simulate(
    predictor: Predictor,
    embedding: Embedding,
    truth: Sequence[BoxedMask],
    clicks: int,
    *,
    feed_back: bool,
    drop_specks: bool,
) -> ClickTrace:
    count = len(truth)
    points = np.zeros((count, clicks, 2), np.float32)
    labels = np.full((count, clicks), IGNORED, np.int32)
    iou, oracle, scores = np.zeros((3, count, clicks))
    empty = np.zeros((0, 0), bool)
    last = [BoxedMask(empty, 0, 0, mask.shape) for mask in truth]
    first = last
    previous = np.zeros((count if feed_back else 0, LOGITS, LOGITS), np.float32)
    for turn in range(clicks):
        asked = []
        for row, true in enumerate(truth):
            if turn and labels[row, turn - 1] == IGNORED:
                continue  # was already right
            click = next_click(true, last[row], points[row, :turn])
            if click is not None:
                points[row, turn], labels[row, turn] = click[:2], click[2]
                asked.append(row)
        if turn:
            for values in (iou, oracle, scores):
                values[:, turn] = values[:, turn - 1]
        if asked:
            prompts = Prompts(
                points=points[asked, : turn + 1],
                labels=labels[asked, : turn + 1],
                masks=previous[asked] if feed_back and turn else None,
            )
            found = predictor.predict(embedding, prompts)
            answer = judged(found, [truth[row] for row in asked], drop_specks)
            iou[asked, turn], oracle[asked, turn] = answer.iou, answer.oracle
            scores[asked, turn] = answer.scores
            if feed_back:
                previous[asked] = found.logits[np.arange(len(asked)), found.best]
            last = list(last)
            for row, mask in zip(asked, answer.masks, strict=True):
                last[row] = mask
        if turn == 0:
            first = last
    return ClickTrace(points, labels, iou, oracle, scores, first=first, last=last)


def next_click(
    true: BoxedMask, found: BoxedMask, clicked: npt.NDArray[np.float32]
) -> tuple[int, int, int] | None:
    """Choose where a user would click next.

    Parameters
    ----------
    true, found : BoxedMask
        The object, and its current mask.
    clicked : numpy.ndarray
        (P, 2) earlier clicks, (x, y) in pixels of the image. These pixels are not clicked again,
        since the model ignored the first click.

    Returns
    -------
    (int, int, int) or None
        x, y in pixels of the image, and 1 (missed) or 0 (excess); None where nothing is wrong.
    """
    rows, columns = bounding_slices((true, found))
    y0, x0 = rows.start, columns.start
    size = (rows.stop - y0, columns.stop - x0)
    ours, theirs = (mask.moved(-y0, -x0, size).to_full() for mask in (true, found))
    best: tuple[float, int, int, int] | None = None
    for wrong, label in ((ours & ~theirs, POSITIVE), (theirs & ~ours, NEGATIVE)):
        # Outside the image nothing belongs to the object, so its edge pixels are at a border.
        depth = ndi.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]
        for x, y in clicked.astype(int) - (x0, y0):
            if 0 <= y < depth.shape[0] and 0 <= x < depth.shape[1]:
                depth[y, x] = 0
        if not depth.any():
            continue
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        deepest = float(depth[row, column])
        if best is None or deepest > best[0]:
            best = (deepest, int(column) + x0, int(row) + y0, label)
    return None if best is None else best[1:]
