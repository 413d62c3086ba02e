"""Random labels in which a choice between links is a toss-up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from napari_tinysam.volume.overlaps import PlaneOverlaps


def is_toss_up(stack: np.ndarray, least: float, tips: float = 1.0) -> bool:
    """Whether links are equally good in two ways somewhere, so that names may decide.

    Parameters
    ----------
    stack : ndarray of int, (Z, H, W)
    least : float
        Overlaps below are never used.
    tips : float
        As `LinkSettings` has it.
    """
    overlaps = PlaneOverlaps.of(list(stack))
    for (first, second), (pairs, common) in overlaps.pairs.items():
        areas = np.minimum(
            overlaps.areas[first][pairs[:, 0]], overlaps.areas[second][pairs[:, 1]]
        )
        iou, share = overlaps.iou(first, second), common / areas
        for worth, limit in ((iou, least), (share, tips)):
            kept = worth >= limit
            sums = list(_sums(pairs[kept].tolist(), worth[kept].tolist()))
            if len({round(each, 9) for each in sums}) < len(sums):
                return True
    return False


def _sums(pairs: list[list[int]], worth: list[float]) -> Iterator[float]:
    """Yield the sums of all choices of pairs in which no object is twice."""
    if not pairs:
        yield 0.0
        return
    (one, other), *rest = pairs
    yield from _sums(rest, worth[1:])
    free = [n for n, (a, b) in enumerate(rest, 1) if a != one and b != other]
    for each in _sums([pairs[n] for n in free], [worth[n] for n in free]):
        yield worth[0] + each


def by_first_pixel(labels: np.ndarray) -> np.ndarray:
    """Number objects by their first pixel: equal arrays have the same objects."""
    ids, first, index = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(np.where(ids == 0, -1, first))) + (ids[0] != 0)
    return rank[index].reshape(labels.shape)
