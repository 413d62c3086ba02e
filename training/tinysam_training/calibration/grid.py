"""Thresholds for scores and logits of a grid's masks, measured where the whole grid was decoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.everything import (
    LabelSettings,
    Proposals,
    SearchSettings,
    best_apart,
    label_proposals,
)
from tinysam_training.calibration.image import (
    CalibrationImage,
    GridAnswers,
    best_confidence,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything import Candidate

#: The largest cost of the hierarchical search, in mSA and in mean IoU; half of it for background.
_COST = 0.005

#: Points are skipped up to this share: the head is less reliable on images that it was not trained
#: on.
_ENOUGH = 0.5

#: A mask is good if its IoU with an object is at least this.
_GOOD = 0.7

#: Share of the good masks that may fall below the floors.
_BELOW = 0.02

_BACKGROUNDS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
_LOGITS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.5, 10.0, 12.0, 16.0)


def floors(
    images: Sequence[CalibrationImage], search: SearchSettings
) -> SearchSettings:
    """Find floors of score and stability that all but a few good masks pass.

    Parameters
    ----------
    images : sequence of CalibrationImage
        With the grid's answers.
    search : SearchSettings
    """
    good = [
        candidate
        for one in images
        for candidate in _grid(one).all
        if one.best_iou(_grid(one).proposal(candidate)) >= _GOOD
    ]
    if not good:
        return search
    score, stability = (
        float(np.quantile([getattr(c, name) for c in good], _BELOW))
        for name in ("score", "stability")
    )
    return replace(
        search,
        score_threshold=round(max(score, 0.0), 3),
        stability_threshold=round(stability, 3),
    )


def confidence(
    images: Sequence[CalibrationImage], search: SearchSettings
) -> tuple[LabelSettings, float]:
    """Find the confidence for masks of the dense grid, and its mSA."""
    return best_confidence(
        images,
        lambda one: _proposals(one, _grid(one).all, search),
        LabelSettings(confidence=min(search.score_threshold, 1.0)),
    )


def spared(
    images: Sequence[CalibrationImage], search: SearchSettings, labels: LabelSettings
) -> tuple[SearchSettings, float, float]:
    """Find the points that the hierarchical search may leave out, from the dense result alone.

    Parameters
    ----------
    images : sequence of CalibrationImage
        With the grid's answers.
    search : SearchSettings
    labels : LabelSettings
        Of the grid's masks.

    Returns
    -------
    (SearchSettings, float, float)
        The settings, mSA with them, and the share of points that they spare.
    """

    def judged(settings: SearchSettings) -> tuple[float, float, float]:
        """Return mSA, mean IoU and the share that is spared."""
        spared = total = 0
        values = []
        for one in images:
            grid = _grid(one)
            covered = _covered(grid, settings)
            spared += int(covered.sum())
            total += len(grid.lattice.all)
            left = {(float(x), float(y)) for x, y in grid.lattice.dense[~covered]}
            rest = [c for c in grid.dense if c.point in left]
            found = _proposals(one, [*grid.coarse, *rest], settings)
            values.append(one.agreement(label_proposals(found, labels).labels))
        msa, iou = np.mean(values, axis=0).tolist()
        return msa, iou, spared / total

    chosen = replace(search, background=0.0, confident_logit=np.inf)
    dense = result = judged(chosen)
    steps: list[tuple[str, float, Iterable[float]]] = [
        ("background", _COST / 2, _BACKGROUNDS),
        ("confident_logit", _COST, sorted(_LOGITS, reverse=True)),
    ]
    for name, cost, values in steps:
        for value in values:
            change: dict[str, Any] = {name: value}
            other = replace(chosen, **change)
            found = judged(other)
            if min(found[0] - dense[0], found[1] - dense[1]) < -cost:
                break
            chosen, result = other, found
            if name == "background" and found[2] >= _ENOUGH:
                break
    if np.isinf(chosen.confident_logit):  # notes have no field for that
        chosen = replace(chosen, confident_logit=max(_LOGITS))
    return chosen, result[0], result[2]


def _grid(one: CalibrationImage) -> GridAnswers:
    assert one.grid is not None
    return one.grid


def _proposals(
    one: CalibrationImage, candidates: Iterable[Candidate], search: SearchSettings
) -> Proposals:
    passed = [candidate for candidate in candidates if _passes(candidate, search)]
    kept = best_apart(passed, search.box_overlap)
    return Proposals(map(_grid(one).proposal, kept), one.shape)


def _passes(candidate: Candidate, search: SearchSettings) -> bool:
    return (
        candidate.score > search.score_threshold
        and candidate.stability >= search.stability_threshold
    )


def _covered(grid: GridAnswers, search: SearchSettings) -> npt.NDArray[np.bool_]:
    """Find the points of the second round that the search would leave out."""
    points = grid.lattice.dense
    covered = grid.foreground < search.background
    for candidate in grid.coarse:
        if _passes(candidate, search):
            covered |= candidate.covers(points, search.confident_logit)
    return covered
