"""Candidates of a search: masks in a form small enough to keep thousands of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import LOGITS
from napari_tinysam.masks import MASK_THRESHOLD, STABILITY_OFFSET, BoxedMask, Upscaler

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

#: Rows and columns of logits kept around those above the lower stability threshold, so that each
#: pixel that can be above it is interpolated from the original logits.
_MARGIN = 3


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mask that the decoder returned for a prompt, with all that filtering it again needs.

    Attributes
    ----------
    logits : numpy.ndarray
        (h, w) float32, the part of the 256 × 256 logits that holds the mask.
    y0, x0 : int
        First row and column of that part.
    score : float
        IoU that the model predicts.
    stability : float
        0–1, see `napari_tinysam.masks.stability_scores`.
    box : (int, int, int, int)
        x0, y0, x1, y1 of the mask's first and last pixels at the size of the image.
    area : int
        Pixels of the mask at the size of the image.
    point : (float, float)
        The prompt, x and y in pixels of the image.
    upscaler : Upscaler
        To the size of the image.
    """

    logits: npt.NDArray[np.float32]
    y0: int
    x0: int
    score: float
    stability: float
    box: tuple[int, int, int, int]
    area: int
    point: tuple[float, float]
    upscaler: Upscaler

    @property
    def mask(self) -> BoxedMask:
        """The mask at the size of the image, computed at each access."""
        return self._above(MASK_THRESHOLD)

    def _above(self, threshold: float) -> BoxedMask:
        return upscaled_above(self.logits, self.y0, self.x0, self.upscaler, threshold)

    def with_exact_stability(self) -> Candidate:
        """Return it with the stability at the size of the image, as in Segment Anything."""
        low = self._above(MASK_THRESHOLD - STABILITY_OFFSET).area
        high = self._above(MASK_THRESHOLD + STABILITY_OFFSET).area
        # In float32, as there: a value may equal the threshold.
        stability = np.float32(high) / np.float32(low) if low else np.float32(0)
        return replace(self, stability=float(stability))

    def covers(
        self, points: npt.NDArray[np.float64], above: float
    ) -> npt.NDArray[np.bool_]:
        """Whether the logits at the size of the image exceed a value at pixels.

        Parameters
        ----------
        points : numpy.ndarray
            (P, 2), x and y in pixels of the image; rounded down to a pixel.
        above : float
            In logits, at least the lower threshold of the stability score.

        Returns
        -------
        numpy.ndarray
            (P,) bool.
        """
        x, y = points.astype(np.intp).T
        rows, columns = self.upscaler.weights
        height, width = self.logits.shape
        # A pixel reads few logits, and most points read none of this part.
        wy = rows[y, self.y0 : self.y0 + height]
        wx = columns[x, self.x0 : self.x0 + width]
        near = np.flatnonzero(wy.any(axis=1) & wx.any(axis=1))
        found = np.zeros(len(points), bool)
        values = np.einsum(
            "ph,hw,pw->p", wy[near], self.logits, wx[near], optimize=True
        )
        # Logits outside the part are lower. Pixels that read them have weights with a sum below 1.
        inside = (wy[near].sum(1) > 1 - 1e-4) & (wx[near].sum(1) > 1 - 1e-4)
        found[near] = (values > above) & inside
        return found


def upscaled_above(
    logits: npt.NDArray[np.float32],
    y0: int,
    x0: int,
    upscaler: Upscaler,
    threshold: float,
) -> BoxedMask:
    """Return the pixels of the image whose interpolated logits exceed a threshold.

    Parameters
    ----------
    logits : numpy.ndarray
        (h, w) part of the logits; those around it are far below the threshold.
    y0, x0 : int
        First row and column of the part in the 256 × 256 logits.
    upscaler : Upscaler
    threshold : float

    Returns
    -------
    BoxedMask
        In the smallest rectangle that holds it.
    """
    raised = logits - np.float32(threshold)
    whole = np.full((LOGITS, LOGITS), np.float32(-1e4))
    height, width = logits.shape
    whole[y0 : y0 + height, x0 : x0 + width] = raised
    return upscaler.boxed(whole)


def found_by(
    logits: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    points: npt.NDArray[np.float64],
    upscaler: Upscaler,
    stability: npt.NDArray[np.float32],
) -> list[Candidate]:
    """Make candidates of masks.

    Parameters
    ----------
    logits : numpy.ndarray
        (K, 256, 256) float32, over the frame.
    scores, stability : numpy.ndarray
        (K,).
    points : numpy.ndarray
        (K, 2), the prompts in pixels of the image.
    upscaler : Upscaler

    Returns
    -------
    list of Candidate
        Without masks that are empty at the size of the image.
    """
    found = []
    for plane, score, point, stable in zip(
        logits, scores, points, stability, strict=True
    ):
        part = _part(plane)
        if part is None:
            continue
        rows, columns = part
        candidate = Candidate(
            plane[rows, columns].copy(),
            rows.start,
            columns.start,
            float(score),
            float(stable),
            (0, 0, 0, 0),
            0,
            (float(point[0]), float(point[1])),
            upscaler,
        )
        mask = candidate.mask
        if not mask.area:
            continue
        found.append(replace(candidate, box=mask.box, area=mask.area))
    return found


def _part(logits: npt.NDArray[np.float32]) -> tuple[slice, slice] | None:
    """Rows and columns that can affect the mask and its stability."""
    above = logits > MASK_THRESHOLD - STABILITY_OFFSET
    slices = []
    for axis in (1, 0):
        there = np.flatnonzero(above.any(axis=axis))
        if not there.size:
            return None
        start = max(0, int(there[0]) - _MARGIN)
        slices.append(slice(start, min(len(logits), int(there[-1]) + 1 + _MARGIN)))
    return slices[0], slices[1]


def suppressed(
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    threshold: float = 0.7,
) -> npt.NDArray[np.intp]:
    """Non-maximum suppression of boxes, as torchvision does it.

    Parameters
    ----------
    boxes : numpy.ndarray
        (K, 4), x0, y0, x1, y1.
    scores : numpy.ndarray
        (K,); of equal scores the first one wins.
    threshold : float
        A box is dropped if its IoU with a better one that is kept is above this.

    Returns
    -------
    numpy.ndarray
        Indices of those that are kept, the best first.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    # In float32, as there: an IoU may equal the threshold.
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)[order]
    low, high = boxes[:, :2], boxes[:, 2:]
    area = (high - low).prod(axis=1)
    alive = np.ones(len(boxes), bool)
    kept = []
    for number in range(len(boxes)):
        if not alive[number]:
            continue
        kept.append(number)
        after = np.flatnonzero(alive[number + 1 :]) + number + 1
        sides = np.minimum(high[number], high[after]) - np.maximum(
            low[number], low[after]
        )
        shared = np.maximum(sides, 0).prod(axis=1)
        union = area[number] + area[after] - shared
        # Boxes without extent share nothing.
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        alive[after[iou.astype(np.float64) > threshold]] = False
    return np.asarray(order[kept], np.intp)


def best_apart(
    candidates: Sequence[Candidate], threshold: float = 0.7
) -> list[Candidate]:
    """Drop candidates whose box is nearly that of a better one; the best first."""
    boxes = np.array([candidate.box for candidate in candidates], np.float64)
    scores = np.array([candidate.score for candidate in candidates])
    return [candidates[k] for k in suppressed(boxes, scores, threshold)]
