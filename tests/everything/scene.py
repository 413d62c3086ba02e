"""A runtime that sees discs: a point in a disc returns it, any other point the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime import DecodedPrompts

if TYPE_CHECKING:
    from napari_tinysam.inference.predictions import Embedding


class SceneRuntime:
    """Logits are distances to the border of the disc that was pointed at, in logits' pixels.

    Parameters
    ----------
    discs : list of (x, y, radius)
        In pixels of the model's frame.
    steepness : float
        Of the logits.
    seen : list of (x, y, radius), optional
        What the object head sees; without it there is none.
    """

    name = "discs"
    image_size = 1024
    dense_prompts = False

    def __init__(
        self,
        discs: list[tuple[float, float, float]],
        steepness: float = 1.0,
        seen: list[tuple[float, float, float]] | None = None,
    ) -> None:
        self.has_object_head = seen is not None
        self.seen = seen
        self.discs = discs
        self.steepness = steepness
        self.points: list[tuple[float, float]] = []
        self._known: dict[int, np.ndarray] = {}

    def encode(self, rgb: np.ndarray) -> Any:
        return None

    def maps_of_half(self, rgb: np.ndarray) -> np.ndarray | None:
        return None

    def object_maps(self, features: Any) -> np.ndarray | None:
        if self.seen is None:
            return None
        y, x = np.mgrid[:256, :256] * 4 + 1.5
        maps = np.zeros((3, 256, 256), np.float32)
        maps[1] = 1
        for cx, cy, radius in self.seen:
            away = np.hypot(x - cx, y - cy) / radius
            inside = (away < 1) & (maps[0] == 0)
            maps[0][inside] = 1
            maps[1][inside] = away[inside]
            maps[2][inside] = 1 - away[inside]
        return maps

    def decode(
        self,
        features: Any,
        *,
        points: Any,
        labels: Any,
        boxes: Any,
        masks: Any,
        least_scores: Any = None,
        exact: bool = True,
    ) -> DecodedPrompts:
        planes, scores = [], []
        if points is None:
            points = boxes.reshape(-1, 2, 2).mean(axis=1, keepdims=True)
        for x, y in points[:, 0].tolist():
            self.points.append((x, y))
            # The last disc that holds the point; −1 is the ground.
            holding = [
                number
                for number, (cx, cy, radius) in enumerate(self.discs)
                if np.hypot(x - cx, y - cy) <= radius
            ]
            number = holding[-1] if holding else -1
            planes.append(self._planes(number))
            score = 0.95 - 0.001 * number if holding else 0.1
            scores.append([score - 0.02 * k for k in range(3)])
        logits = np.stack(planes)
        scores = np.array(scores, np.float32)
        return DecodedPrompts(logits, scores)

    def _planes(self, number: int) -> np.ndarray:
        """(3, 256, 256) logits of a disc, or of the ground."""
        if number not in self._known:
            inside = np.full((256, 256), -50.0)
            if number >= 0:
                cx, cy, radius = self.discs[number]
                y, x = np.mgrid[:256, :256] * 4 + 1.5
                inside = (radius - np.hypot(x - cx, y - cy)) / 4
            growth = np.array([0.0, -1.0, 2.0])[:, None, None]
            planes = self.steepness * (inside + growth)
            self._known[number] = planes.astype(np.float32)
        return self._known[number]


class KindsRuntime(SceneRuntime):
    """Discs of two kinds, in turn: their features differ, and each has a little of its own."""

    def feature_maps(self, features: Any) -> list[np.ndarray]:
        y, x = np.mgrid[:64, :64] * 16 + 7.5
        maps = np.zeros((8, 64, 64), np.float32)
        maps[7] = 50
        for number, (cx, cy, radius) in enumerate(self.discs):
            inside = np.hypot(x - cx, y - cy) <= radius
            maps[number % 2][inside] = 1
            maps[2 + number // 2][inside] = 0.1 * (1 + number // 2)
        return [maps]


def scene(
    discs: list[tuple[float, float, float]],
    size: tuple[int, int] = (512, 512),
    steepness: float = 1.0,
    seen: list[tuple[float, float, float]] | None = None,
) -> tuple[Predictor, Embedding, SceneRuntime]:
    """A predictor of discs, and the embedding of an image of a size."""
    runtime = SceneRuntime(discs, steepness, seen)
    predictor = Predictor(runtime, name="discs", model_id="discs")
    embedding = predictor.encode(np.zeros((*size, 3), np.uint8))
    return predictor, embedding, runtime
