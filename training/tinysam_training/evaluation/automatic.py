"""Figures of all objects of an image at once, as they are found without prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.metrics import THRESHOLDS, MatchCounts, object_overlaps

if TYPE_CHECKING:
    import numpy.typing as npt

    from tinysam_training.labelled_image import LabelledImage

#: Their names.
AUTOMATIC = ("msa", "ap50", "precision50", "recall50", "f1_50", "pq50")


def counts_of(
    image: LabelledImage, found: npt.NDArray[np.int32]
) -> tuple[MatchCounts, ...]:
    """Match with layer 0, which the object head learns, at each threshold."""
    true = image.labels[0]
    overlaps = object_overlaps(true, found, None if image.complete else true > 0)
    return tuple(overlaps.counts(threshold) for threshold in THRESHOLDS)


def automatic_figures(counts: Sequence[MatchCounts]) -> dict[str, float | None]:
    """Return `AUTOMATIC` of the matches of an image."""
    half = counts[THRESHOLDS.index(0.5)]
    return {
        "msa": float(np.mean([each.accuracy for each in counts])),
        "ap50": half.accuracy,
        "precision50": half.precision,
        "recall50": half.recall,
        "f1_50": half.f1,
        "pq50": half.panoptic_quality,
    }
