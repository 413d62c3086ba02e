"""A movie of six frames with a division, and a desk with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels

from desk import Desk, open_desk
from fake_inference import SteppedInference

FRAMES = 6


def disc(labels: np.ndarray, label: int, y: float, x: float, radius: float) -> None:
    rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]]
    labels[np.hypot(rows - y, columns - x) <= radius] = label


def movie(smaller: float = 8.5) -> np.ndarray:
    """Make six frames: a cell that divides in the middle, one that moves, one that blinks.

    Each frame is numbered by itself: 1 … N from the left.
    """
    frames = np.zeros((FRAMES, 80, 160), np.uint32)
    for t, frame in enumerate(frames):
        cells: list[tuple[float, float, float]] = []
        if t < 3:
            cells.append((40, 40, 12))
        else:
            cells += [(34 - 2 * (t - 3), 40, 8.5), (50 + 2 * (t - 3), 40, smaller)]
        cells.append((40, 90 + 2 * t, 9))
        if t in (1, 2):
            cells.append((15, 140, 7))
        for number, cell in enumerate(cells, start=1):
            disc(frame, number, *cell)
    return frames


def opened(
    labels: np.ndarray | None = None,
    *,
    inference: Any = None,
    axes: tuple[str, ...] | None = ("t", "y", "x"),
) -> Desk:
    labels = movie() if labels is None else labels
    image = Image(np.zeros(labels.shape, np.uint8), name="cells", axis_labels=axes)
    layer = Labels(labels.copy(), name="cells committed_objects", axis_labels=axes)
    desk = open_desk(image, layer, inference=inference)
    if isinstance(inference, SteppedInference):
        inference.run_all()
    assert desk.session.target is layer
    return desk


def at(desk: Desk, y: int, x: int) -> list[int]:
    return desk.session.target.data[:, y, x].tolist()
