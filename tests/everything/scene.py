"""A runtime that sees discs: a point in one gives it, a point beside all gives the ground."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_tinysam.predictor import Embedding, Predictor
from napari_tinysam.runtime import DecodedPrompts


class SceneRuntime:
    """Logits are distances to the border of the disc that was pointed at, in logits' pixels.

    Parameters
    ----------
    discs : list of (x, y, radius)
        In pixels of the model's frame.
    steepness : float
        Of the logits.
    """

    name = "discs"
    image_size = 1024
    has_object_head = False

    def __init__(
        self, discs: list[tuple[float, float, float]], steepness: float = 1.0
    ) -> None:
        self.discs = discs
        self.steepness = steepness
        self.points: list[tuple[float, float]] = []

    def encode(self, rgb: np.ndarray) -> Any:
        return None

    def object_maps(self, features: Any) -> None:
        return None

    def decode(
        self, features: Any, *, points: Any, labels: Any, boxes: Any, masks: Any
    ) -> DecodedPrompts:
        logits = np.empty((len(points), 3, 256, 256), np.float32)
        scores = np.empty((len(points), 3), np.float32)
        y, x = np.mgrid[:256, :256] * 4 + 1.5
        for row, (px, py) in enumerate(points[:, 0]):
            self.points.append((float(px), float(py)))
            inside = np.full((256, 256), -50.0)
            score = 0.1
            for number, (cx, cy, radius) in enumerate(self.discs):
                if np.hypot(px - cx, py - cy) <= radius:
                    inside = (radius - np.hypot(x - cx, y - cy)) / 4
                    score = 0.95 - 0.001 * number
            for k, growth in enumerate((0.0, -1.0, 2.0)):
                logits[row, k] = self.steepness * (inside + growth)
                scores[row, k] = score - 0.02 * k
        return DecodedPrompts(logits, scores)


def scene(
    discs: list[tuple[float, float, float]],
    size: tuple[int, int] = (512, 512),
    steepness: float = 1.0,
) -> tuple[Predictor, Embedding, SceneRuntime]:
    """A predictor of discs, and the embedding of an image of a size."""
    runtime = SceneRuntime(discs, steepness)
    predictor = Predictor(runtime, name="discs", model_id="discs")
    embedding = predictor.encode(np.zeros((*size, 3), np.uint8))
    return predictor, embedding, runtime
