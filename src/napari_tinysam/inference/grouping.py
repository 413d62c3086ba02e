"""Prompts in groups that can share a batch. numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.prompts import Prompts

if TYPE_CHECKING:
    import numpy.typing as npt


def alike(prompts: Prompts) -> list[tuple[npt.NDArray[np.intp], Prompts]]:
    """Group objects that can share a batch: equal numbers of points, boxes and masks.

    Padding with dummy points instead would change the masks: the prompt encoder gives them tokens
    that all others attend to.
    """
    kinds = np.stack(
        [prompts.point_counts, prompts.has_box, prompts.has_mask], axis=1
    ).astype(np.intp)
    groups = []
    for kind in np.unique(kinds, axis=0):
        rows = np.flatnonzero((kinds == kind).all(axis=1))
        count, has_box, has_mask = (int(k) for k in kind)
        points, labels = _real_points(prompts, rows, count)
        group = Prompts(
            points=points,
            labels=labels,
            boxes=prompts.boxes[rows]
            if has_box and prompts.boxes is not None
            else None,
            masks=prompts.masks[rows]
            if has_mask and prompts.masks is not None
            else None,
        )
        groups.append((rows, group))
    return groups


def _real_points(
    prompts: Prompts, rows: npt.NDArray[np.intp], count: int
) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.int32] | None]:
    """(n, count, 2) points and (n, count) labels of `rows` without padding."""
    if count == 0 or prompts.points is None or prompts.labels is None:
        return None, None
    real = prompts.labels[rows] != -1
    points = prompts.points[rows][real].reshape(len(rows), count, 2)
    return points, prompts.labels[rows][real].reshape(len(rows), count)
