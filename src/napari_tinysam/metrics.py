"""Metrics of segmentations: found objects against true ones. numpy and scipy only.

Two label images are compared object by object. A found object is right at a threshold t if its
intersection over union (IoU) with a true object is at least t; each object is matched once. The
accuracy TP / (TP + FP + FN) ranked the Data Science Bowl 2018; Cellpose and StarDist call it
average precision, micro-sam segmentation accuracy (SA). Its mean over the thresholds 0.50, 0.55,
… 0.95 is mSA.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

#: 0.50, 0.55, … 0.95. As n / 100, so that an IoU of 11/20 equals the threshold 0.55 exactly.
THRESHOLDS = tuple(n / 100 for n in range(50, 100, 5))

#: A found object with more than this share of unknown pixels is not counted.
UNKNOWN_SHARE = 0.5


@dataclass(frozen=True)
class MatchCounts:
    """Counts of matched objects in one image or several; their sum pools images.

    Each ratio is 1 if there was nothing to find and nothing was found, and 0 if only one of the two
    is empty.

    Parameters
    ----------
    true_positives, false_positives, false_negatives : int
        Objects that were matched, found in vain, and missed.
    iou_sum : float
        Sum of the IoU of the matched objects.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    iou_sum: float = 0.0

    def __add__(self, other: MatchCounts) -> MatchCounts:
        """Pool the objects of two images."""
        return MatchCounts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.iou_sum + other.iou_sum,
        )

    @property
    def accuracy(self) -> float:
        """TP / (TP + FP + FN): SA, "AP" in Cellpose and StarDist."""
        return self._share(
            self.true_positives,
            self.true_positives + self.false_positives + self.false_negatives,
        )

    @property
    def precision(self) -> float:
        """Share of the found objects that are true."""
        return self._share(
            self.true_positives, self.true_positives + self.false_positives
        )

    @property
    def recall(self) -> float:
        """Share of the true objects that were found."""
        return self._share(
            self.true_positives, self.true_positives + self.false_negatives
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self._share(2 * self.true_positives, self._both)

    @property
    def panoptic_quality(self) -> float:
        """F1 times the mean IoU of the matched objects (Kirillov et al., CVPR 2019, eq. 1)."""
        return self._share(2 * self.iou_sum, self._both)

    @property
    def _both(self) -> int:
        """True objects plus found ones."""
        return 2 * self.true_positives + self.false_positives + self.false_negatives

    def _share(self, part: float, whole: int) -> float:
        if whole:
            return part / whole
        return 0.0 if self._both else 1.0


def pooled(counts: Iterable[MatchCounts]) -> MatchCounts:
    """Add up the counts of several images, as StarDist does: larger images weigh more."""
    return sum(counts, MatchCounts(0, 0, 0))


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pairs of a true and a found object that share pixels, from `object_overlaps`.

    Parameters
    ----------
    true_ids, found_ids : numpy.ndarray
        (N,) and (M,) labels of the objects that are counted.
    rows, columns : numpy.ndarray
        (K,) indices into them, one pair for any two objects that share a pixel.
    iou : numpy.ndarray
        (K,) float64, intersection over union of each pair.
    """

    true_ids: npt.NDArray[np.integer[Any]]
    found_ids: npt.NDArray[np.integer[Any]]
    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    iou: npt.NDArray[np.float64]

    def match(self, threshold: float) -> npt.NDArray[np.intp]:
        """Match as many objects as possible, each at most once, with the largest sum of IoU.

        Parameters
        ----------
        threshold : float
            Least IoU of a pair, above 0 and at most 1. At 0.5 and below, objects can have several
            partners; the best assignment is computed.

        Returns
        -------
        numpy.ndarray
            (T,) indices into `rows`, `columns` and `iou`, in ascending order.

        Raises
        ------
        ValueError
            If the threshold is not above 0 and at most 1.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"A threshold lies between 0 and 1; got {threshold}.")
        good = np.flatnonzero(self.iou >= threshold)
        rivals = _with_rivals(self.rows[good]) | _with_rivals(self.columns[good])
        if not rivals.any():
            return good
        # A pair without rivals is in every best assignment.
        rival = good[rivals]
        chosen = _assign(self.rows[rival], self.columns[rival], self.iou[rival])
        return np.sort(np.concatenate([good[~rivals], rival[chosen]]))

    def counts(self, threshold: float) -> MatchCounts:
        """Count the objects that match at a threshold; see `match`."""
        matched = self.match(threshold)
        return MatchCounts(
            true_positives=len(matched),
            false_positives=len(self.found_ids) - len(matched),
            false_negatives=len(self.true_ids) - len(matched),
            iou_sum=float(self.iou[matched].sum()),
        )

    @cached_property
    def best_iou(self) -> npt.NDArray[np.float64]:
        """(N,) the largest IoU of each true object with a found one; 0 without one."""
        best = np.zeros(len(self.true_ids))
        np.maximum.at(best, self.rows, self.iou)
        return best


def object_overlaps(
    true: npt.ArrayLike,
    found: npt.ArrayLike,
    known: npt.NDArray[np.bool_] | None = None,
) -> Overlaps:
    """Intersect the objects of two label images, in time linear in their pixels.

    Parameters
    ----------
    true, found : array-like
        (H, W) or (Z, H, W) integers, one label for each object, 0 for none. Labels may have gaps.
    known : numpy.ndarray, optional
        (H, W) bool, the annotated pixels of a partly annotated image. Found objects with more than
        half of their pixels elsewhere are left out: they are neither right nor wrong. None of them
        could have an IoU of 0.5 with a true object on known pixels.

    Returns
    -------
    Overlaps
        IoU of all pairs that share a pixel.

    Raises
    ------
    ValueError
        If the shapes differ, or labels are negative.
    TypeError
        If labels are not integers.
    """
    from scipy.sparse import coo_array

    true_ids, true_compact = _compact(true, "true")
    found_ids, found_compact = _compact(found, "found")
    if true_compact.shape != found_compact.shape:
        raise ValueError(
            f"Labels of one image are needed; got shapes {true_compact.shape} and "
            f"{found_compact.shape}."
        )
    true_flat, found_flat = true_compact.ravel(), found_compact.ravel()
    true_areas = np.bincount(true_flat, minlength=len(true_ids) + 1)
    found_areas = np.bincount(found_flat, minlength=len(found_ids) + 1)
    both = np.flatnonzero((true_flat > 0) & (found_flat > 0))
    # Summing duplicates of a sparse matrix is a counting sort: linear in the pixels.
    shared = coo_array(
        (np.ones(len(both), np.int64), (true_flat[both], found_flat[both])),
        shape=(len(true_areas), len(found_areas)),
    ).tocsr()
    shared.sum_duplicates()
    pairs = shared.tocoo()
    rows, columns = pairs.row.astype(np.intp), pairs.col.astype(np.intp)
    union = true_areas[rows] + found_areas[columns] - pairs.data
    iou = pairs.data / union
    kept = _mostly_known(found_flat, found_areas, known)
    place = np.cumsum(kept) - 1
    stays = kept[columns - 1]
    return Overlaps(
        true_ids=true_ids,
        found_ids=found_ids[kept],
        rows=rows[stays] - 1,
        columns=place[columns[stays] - 1],
        iou=np.asarray(iou[stays], np.float64),
    )


def segmentation_accuracy(
    true: npt.ArrayLike,
    found: npt.ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
    known: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.float64]:
    """SA of one image: TP / (TP + FP + FN) at each threshold, (T,) in 0–1.

    1 if both images are empty, 0 if one is. Cellpose and StarDist call the value at 0.5 AP50.
    Parameters and errors as for `object_overlaps` and `Overlaps.match`.
    """
    overlaps = object_overlaps(true, found, known)
    return np.array([overlaps.counts(t).accuracy for t in thresholds], np.float64)


def mean_segmentation_accuracy(
    true: npt.ArrayLike,
    found: npt.ArrayLike,
    known: npt.NDArray[np.bool_] | None = None,
) -> float:
    """MSA of one image: the mean of `segmentation_accuracy` over `THRESHOLDS`."""
    return float(segmentation_accuracy(true, found, known=known).mean())


def clicks_to_iou(curves: npt.ArrayLike, threshold: float) -> npt.NDArray[np.intp]:
    """Count the clicks until the mask of each object is good ("NoC").

    Parameters
    ----------
    curves : array-like
        (N, C) float, IoU of each object after 1, 2, … C clicks.
    threshold : float
        The IoU to reach.

    Returns
    -------
    numpy.ndarray
        (N,) int. An object that C clicks do not make good counts as ``C + 1`` clicks, so a failure
        can only make the mean worse.

    Raises
    ------
    ValueError
        If there are no clicks.
    """
    values = np.asarray(curves, np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"IoU of (N, C) clicks is needed; got shape {values.shape}.")
    good = values >= threshold
    never = values.shape[1] + 1
    return np.asarray(np.where(good.any(axis=1), good.argmax(axis=1) + 1, never))


def bootstrap_interval(
    values: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron and Tibshirani, 1993, chapter 13).

    Parameters
    ----------
    values : array-like
        (N,) finite, one for each image: objects of one image are alike, so they are not resampled.
    confidence : float
        Share of resampled means inside the interval.
    resamples : int
        How often N values are drawn with replacement.
    seed : int
        The same values and seed give the same interval.

    Returns
    -------
    (float, float)
        Lower and upper end; both are the value itself if there is only one.

    Raises
    ------
    ValueError
        If there are no values, or one is not finite.
    """
    from scipy.stats import bootstrap

    sample = np.asarray(values, np.float64).ravel()
    if not sample.size or not np.isfinite(sample).all():
        raise ValueError("A bootstrap needs at least one value, and finite ones.")
    if sample.size == 1:
        return float(sample[0]), float(sample[0])
    found = bootstrap(
        (sample,),
        np.mean,
        n_resamples=resamples,
        # A few million numbers at once, however many values there are.
        batch=max(1, min(resamples, 4_000_000 // sample.size)),
        confidence_level=confidence,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _compact(
    labels: npt.ArrayLike, name: str
) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.intp]]:
    """Return the ids in use, (N,), and the labels renumbered 1…N in their order."""
    array = np.asarray(labels)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        raise TypeError(f"Labels are integers; {name} has dtype {array.dtype}.")
    if not array.size:
        return np.zeros(0, array.dtype), np.zeros(array.shape, np.intp)
    if array.min() < 0:
        raise ValueError(f"Labels are not negative; {name} has {array.min()}.")
    top = int(array.max())
    if top > 4 * array.size + 1000:  # too large for a table
        ids, inverse = np.unique(array, return_inverse=True)
        return ids[ids > 0], inverse.reshape(array.shape) + np.intp(ids[0] > 0)
    used = np.bincount(array.ravel(), minlength=top + 1) > 0
    used[0] = False
    numbers = np.cumsum(used) * used
    return np.flatnonzero(used), np.asarray(numbers[array], np.intp)


def _mostly_known(
    found: npt.NDArray[np.intp],
    areas: npt.NDArray[np.intp],
    known: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.bool_]:
    """(M,) whether each found object is counted."""
    if known is None:
        return np.ones(len(areas) - 1, bool)
    if np.size(known) != found.size:
        raise ValueError(f"known has {np.size(known)} pixels, the labels {found.size}.")
    unknown = ~np.asarray(known, bool).ravel()
    outside = np.bincount(found[unknown], minlength=len(areas))
    return np.asarray(outside[1:] <= UNKNOWN_SHARE * areas[1:])


def _with_rivals(objects: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """(K,) whether the object of each pair is in another pair too."""
    return np.asarray(np.bincount(objects)[objects] > 1)


def _assign(
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    iou: npt.NDArray[np.float64],
) -> npt.NDArray[np.intp]:
    """Choose as many pairs as possible that share no object, with the largest sum of IoU."""
    from scipy.optimize import linear_sum_assignment

    row_ids, row_places = np.unique(rows, return_inverse=True)
    column_ids, column_places = np.unique(columns, return_inverse=True)
    size = len(row_ids), len(column_ids)
    # One more pair outweighs all the IoU that it could cost.
    value = np.zeros(size)
    value[row_places, column_places] = 1 + iou / (min(size) + 1)
    pair = np.full(size, -1, np.intp)
    pair[row_places, column_places] = np.arange(len(rows))
    chosen = pair[linear_sum_assignment(value, maximize=True)]
    return np.asarray(chosen[chosen >= 0])
