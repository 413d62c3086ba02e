"""Random labels in which a choice between links is a toss-up."""

from __future__ import annotations

import numpy as np

from napari_tinysam.volume.overlaps import PlaneOverlaps


def has_ties(stack: np.ndarray, least: float) -> bool:
    """Whether two overlaps of the same two planes are equal: then names may decide."""
    overlaps = PlaneOverlaps.of(list(stack))
    return any(
        len(np.unique(iou.round(9))) < len(iou)
        for pair in overlaps.pairs
        if len(iou := overlaps.iou(*pair)[overlaps.iou(*pair) >= least])
    )
