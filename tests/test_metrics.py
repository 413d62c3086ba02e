"""Metrics against plain re-statements of their definitions, and at their edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_tinysam.metrics import (
    THRESHOLDS,
    MatchCounts,
    bootstrap_interval,
    clicks_to_iou,
    mean_segmentation_accuracy,
    object_overlaps,
    pooled,
    segmentation_accuracy,
)

quick = settings(deadline=None, max_examples=60)

#: Few ids on few pixels: objects overlap in all ways, ties included.
label_images = st.integers(1, 5).flatmap(
    lambda top: arrays(np.int32, (4, 5), elements=st.integers(0, top))
)


def plain_iou(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(N, M) intersection over union of all pairs, one pair at a time."""
    table = np.zeros((len(ids_of(true)), len(ids_of(found))))
    for i, a in enumerate(ids_of(true)):
        for j, b in enumerate(ids_of(found)):
            one, other = true == a, found == b
            table[i, j] = np.sum(one & other) / np.sum(one | other)
    return table


def ids_of(labels: np.ndarray) -> list[int]:
    return [int(i) for i in np.unique(labels) if i]


def best_pairing(iou: np.ndarray, threshold: float) -> tuple[int, float]:
    """Most pairs with at least this IoU, and the most IoU among those: all are tried."""
    if iou.shape[0] > iou.shape[1]:
        iou = iou.T
    rows, columns = iou.shape
    best = (0, 0.0)
    for chosen in itertools.permutations(range(columns), rows):
        values = [iou[i, j] for i, j in enumerate(chosen) if iou[i, j] >= threshold]
        best = max(best, (len(values), sum(values)))
    return best


# ------------------------------------------------------------ objects


@quick
@given(label_images, label_images, st.sampled_from([0.05, 0.25, 0.5, 0.6, 0.75, 1.0]))
def test_counts_equal_the_best_of_all_pairings(
    true: np.ndarray, found: np.ndarray, threshold: float
) -> None:
    counts = object_overlaps(true, found).counts(threshold)
    pairs, iou_sum = best_pairing(plain_iou(true, found), threshold)
    assert counts.true_positives == pairs
    assert counts.false_negatives == len(ids_of(true)) - pairs
    assert counts.false_positives == len(ids_of(found)) - pairs
    assert counts.iou_sum == pytest.approx(iou_sum)


@quick
@given(label_images, label_images)
def test_pairs_and_ids(true: np.ndarray, found: np.ndarray) -> None:
    overlaps = object_overlaps(true, found)
    assert overlaps.true_ids.tolist() == ids_of(true)
    assert overlaps.found_ids.tolist() == ids_of(found)
    table = np.zeros((len(ids_of(true)), len(ids_of(found))))
    table[overlaps.rows, overlaps.columns] = overlaps.iou
    assert np.array_equal(table, plain_iou(true, found))
    assert np.array_equal(overlaps.best_iou, table.max(axis=1, initial=0))


@quick
@given(
    arrays(np.int32, (2, 3, 4), elements=st.integers(0, 3)),
    arrays(np.int32, (2, 3, 4), elements=st.integers(0, 3)),
)
def test_volumes(true: np.ndarray, found: np.ndarray) -> None:
    """Accuracy in 3-D, with each object in all of its planes."""
    iou = plain_iou(true, found)
    expected = []
    for threshold in THRESHOLDS:
        right, _ = best_pairing(iou, threshold) if iou.size else (0, 0.0)
        every = sum(iou.shape) - right
        expected.append(right / every if every else 1.0)
    assert mean_segmentation_accuracy(true, found) == pytest.approx(np.mean(expected))


@quick
@given(label_images, label_images)
def test_numbers_of_objects_do_not_matter(true: np.ndarray, found: np.ndarray) -> None:
    expected = segmentation_accuracy(true, found)
    sparse = np.where(true > 0, true.astype(np.int64) * 10**9 - 7, 0)
    assert np.array_equal(segmentation_accuracy(sparse, found), expected)
    gaps = np.where(found > 0, 3 * found.astype(np.uint8) + 40, 0)
    assert np.array_equal(segmentation_accuracy(true, gaps), expected)


def test_two_halves_of_an_object_are_one_match() -> None:
    """IoU 0.5 with both: the tie counts once, and at any threshold above not at all."""
    true = np.ones((2, 4), int)
    found = np.repeat([[1, 1, 2, 2]], 2, axis=0)
    counts = object_overlaps(true, found).counts(0.5)
    assert counts == MatchCounts(1, 1, 0, 0.5)
    assert object_overlaps(true, found).counts(0.51) == MatchCounts(0, 2, 1, 0.0)


def test_a_chain_of_ties_is_matched_as_far_as_it_goes() -> None:
    """Taking the first partner that fits would find one pair only.

    True objects are A and B; found are a with IoU 1/2 to A, and c with 1/2 to both.
    """
    true = np.array([[1] * 4 + [2] * 2 + [0] * 2])
    found = np.array([[1] * 2 + [2] * 4 + [0] * 2])
    table = plain_iou(true, found)
    assert table[0].tolist() == [0.5, 1 / 3]
    assert table[1, 1] == 0.5
    assert object_overlaps(true, found).counts(0.3).true_positives == 2


def test_an_iou_equal_to_a_threshold_reaches_it() -> None:
    for threshold, n in zip(THRESHOLDS, range(50, 100, 5), strict=True):
        true = np.ones(100, int)
        found = (np.arange(100) < n).astype(int)
        accuracy = segmentation_accuracy(true, found)
        assert accuracy[THRESHOLDS.index(threshold)] == 1
        assert accuracy.sum() == THRESHOLDS.index(threshold) + 1


def test_accuracy_by_hand() -> None:
    true = np.array([[1, 1, 0, 2, 2, 2, 2, 0, 3]])
    found = np.array([[4, 4, 0, 5, 5, 5, 0, 6, 0]])
    # 1–4: IoU 1. 2–5: IoU 3/4. 3 is missed, 6 is not there.
    expected = [2 / 4] * 6 + [1 / 5] * 4
    assert segmentation_accuracy(true, found) == pytest.approx(expected)
    assert mean_segmentation_accuracy(true, found) == pytest.approx(np.mean(expected))
    counts = object_overlaps(true, found).counts(0.5)
    assert counts.precision == pytest.approx(2 / 3)
    assert counts.recall == pytest.approx(2 / 3)
    assert counts.f1 == pytest.approx(2 / 3)
    # panoptic quality: 1.75 / (2 + 1/2 + 1/2)
    assert counts.panoptic_quality == pytest.approx(1.75 / 3)


def test_empty_images() -> None:
    empty, full = np.zeros((3, 3), int), np.ones((3, 3), int)
    ratios = ("accuracy", "precision", "recall", "f1", "panoptic_quality")
    for true, found, expected in (
        (empty, empty, 1),
        (empty, full, 0),
        (full, empty, 0),
        (full, full, 1),
    ):
        counts = object_overlaps(true, found).counts(0.5)
        assert [getattr(counts, name) for name in ratios] == [expected] * 5
        assert mean_segmentation_accuracy(true, found) == expected
    assert mean_segmentation_accuracy(empty[:0], empty[:0]) == 1


def test_pooling_counts_objects_not_images() -> None:
    large, small = MatchCounts(9, 0, 1, 8.0), MatchCounts(0, 1, 1)
    both = pooled([large, small])
    assert both == MatchCounts(9, 1, 2, 8.0)
    assert both.accuracy == 9 / 12
    assert pooled([]).accuracy == 1


def test_found_objects_on_unknown_pixels_do_not_count() -> None:
    true = np.zeros((4, 6), int)
    true[:2, :2] = 1
    found = np.zeros((4, 6), int)
    found[:2, :3] = 1  # IoU 4/6, a third on unknown pixels
    found[3, :2] = 2  # on unknown pixels
    known = true > 0
    overlaps = object_overlaps(true, found, known)
    assert overlaps.counts(0.5) == MatchCounts(1, 0, 0, 4 / 6)
    assert overlaps.counts(0.7) == MatchCounts(0, 1, 1)
    assert object_overlaps(true, found).counts(0.5) == MatchCounts(1, 1, 0, 4 / 6)
    found[2, :2] = 1  # 4 of 8 pixels are known: it still counts
    assert len(object_overlaps(true, found, known).found_ids) == 1
    found[3, 3] = 1
    assert len(object_overlaps(true, found, known).found_ids) == 0


@quick
@given(label_images, label_images)
def test_what_matches_at_a_half_is_never_unknown(
    true: np.ndarray, found: np.ndarray
) -> None:
    known = true > 0
    with_all = object_overlaps(true, found).counts(0.5)
    kept = object_overlaps(true, found, known).counts(0.5)
    assert kept.true_positives == with_all.true_positives
    assert kept.iou_sum == pytest.approx(with_all.iou_sum)
    assert kept.false_negatives == with_all.false_negatives
    assert kept.false_positives <= with_all.false_positives


def test_thousands_of_objects() -> None:
    side = np.arange(60)
    tiles = np.kron(60 * side[:, None] + side + 1, np.ones((4, 4), int))
    moved = np.roll(tiles, 1, axis=1)
    counts = object_overlaps(tiles, moved).counts(0.6)
    assert counts.true_positives == 3600  # IoU 12/20
    assert object_overlaps(tiles, moved).counts(0.65).true_positives == 0


@pytest.mark.parametrize(
    ("true", "found", "error", "words"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), ValueError, "shapes"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), TypeError, "true has dtype"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), ValueError, "found has -1"),
    ],
)
def test_what_is_not_labels_is_refused(
    true: np.ndarray, found: np.ndarray, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        object_overlaps(true, found)


@pytest.mark.parametrize("threshold", [0, -1, 1.01])
def test_thresholds_are_shares(threshold: float) -> None:
    overlaps = object_overlaps(np.ones((1, 1), int), np.ones((1, 1), int))
    with pytest.raises(ValueError, match="between 0 and 1"):
        overlaps.counts(threshold)


# ------------------------------------------------------------ clicks


def test_clicks_to_iou() -> None:
    curves = [
        [0.9, 0.1, 0.1],  # the first time counts
        [0.1, 0.5, 0.8],
        [0.1, 0.5, 0.7],
    ]
    assert clicks_to_iou(curves, 0.8).tolist() == [1, 3, 4]
    assert clicks_to_iou([curve[:2] for curve in curves], 0.8).tolist() == [1, 3, 3]
    with pytest.raises(ValueError, match="needed"):
        clicks_to_iou(curves[0], 0.8)


# ------------------------------------------------------------ bootstrap


def test_bootstrap_interval_of_a_known_mean() -> None:
    """Close to the normal one, ± 1.96 standard errors, where that holds."""
    values = np.random.default_rng(3).normal(0.7, 0.1, 400)
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - error, abs=0.002)
    assert high == pytest.approx(values.mean() + error, abs=0.002)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    narrow = bootstrap_interval(values, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_bootstrap_of_one_value_and_of_none() -> None:
    assert bootstrap_interval([0.25]) == (0.25, 0.25)
    for values in ([], [0.5, np.nan]):
        with pytest.raises(ValueError, match="at least one value"):
            bootstrap_interval(values)
