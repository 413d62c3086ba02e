"""A runtime whose masks follow from the prompts by geometry: fast, exact and easy to predict."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime import DecodedPrompts

#: Radii in pixels of the model's frame: a positive point adds a disk, a negative one cuts a hole.
DISK, HOLE = 60.0, 30.0

#: How far the borders of the three candidates are moved out, in pixels of the frame.
GROWTH = (0.0, -12.0, 12.0)

#: Predicted IoU of the candidates on a black image; up to 0.05 more on brighter ones.
SCORES = (0.9, 0.8, 0.7)


class AnalyticRuntime:
    """Logits are signed distances to boxes and disks, in pixels of the low-resolution grid.

    Parameters
    ----------
    object_maps : numpy.ndarray, optional
        (3, m, m), what the object head says of every image; without it there is no head.
    half : numpy.ndarray, optional
        (3, m / 2, m / 2), what it says of images of half the size.
    """

    name = "geometry"
    image_size = 1024
    dense_prompts = False

    def __init__(
        self, object_maps: np.ndarray | None = None, half: np.ndarray | None = None
    ) -> None:
        self._half = half
        self.halves: list[np.ndarray] = []
        self._object_maps = object_maps
        self.has_object_head = object_maps is not None
        self.encoded: list[np.ndarray] = []
        self.decoded: list[int] = []
        self._lock = threading.Lock()

    def encode(self, rgb: np.ndarray) -> Any:
        assert rgb.dtype == np.uint8
        assert rgb.ndim == 3
        assert rgb.shape[2] == 3
        assert max(rgb.shape[:2]) == self.image_size
        with self._lock:
            self.encoded.append(rgb)
        return float(rgb.mean())

    def decode(
        self,
        features: Any,
        *,
        points: np.ndarray | None,
        labels: np.ndarray | None,
        boxes: np.ndarray | None,
        masks: np.ndarray | None,
        least_scores: np.ndarray | None = None,
        exact: bool = True,
        corners: np.ndarray | None = None,
    ) -> DecodedPrompts:
        given = [p for p in (points, labels, boxes, masks) if p is not None]
        count = len(given[0])
        assert all(len(p) == count for p in given)
        assert (points is None) == (labels is None)
        with self._lock:
            self.decoded.append(count)
        rows = [
            self._distance(
                *(None if p is None else p[i] for p in (points, labels, boxes, masks)),
                (0, 0) if corners is None else 16 * corners[i],
            )
            for i in range(count)
        ]
        distance = np.stack(rows)[:, None] + np.array(GROWTH)[None, :, None, None]
        scores = np.tile(SCORES, (count, 1)) + 0.05 * features / 255
        return DecodedPrompts(
            (distance / 4).astype(np.float32), scores.astype(np.float32)
        )

    def maps_of_half(self, rgb: np.ndarray) -> np.ndarray | None:
        assert max(rgb.shape[:2]) == self.image_size // 2
        self.halves.append(rgb)
        return self._half

    def object_maps(self, features: Any) -> np.ndarray | None:
        return self._object_maps

    def _distance(
        self,
        points: np.ndarray | None,
        labels: np.ndarray | None,
        box: np.ndarray | None,
        mask: np.ndarray | None,
        first: Any,
    ) -> np.ndarray:
        """(256, 256) pixels of the frame to the object's border, positive inside.

        Of a window that begins at the pixel `first`, y and x, (h, h) as the mask.
        """
        cells = self.image_size // 4 if mask is None else len(mask)
        # Centres of the cells in the frame.
        y, x = np.mgrid[:cells, :cells] * 4 + 1.5 + np.reshape(first, (2, 1, 1))
        inside = np.full((cells, cells), -1e3)
        if mask is not None:
            inside = np.maximum(inside, 4 * mask)
        if box is not None:
            x0, y0, x1, y1 = box
            sides = np.minimum.reduce([x - x0, x1 - x, y - y0, y1 - y])
            inside = np.maximum(inside, sides)
        if points is not None and labels is not None:
            assert np.isin(labels, (0, 1)).all(), "fillers must not reach a runtime"
            for sign in (1, 0):
                for px, py in points[labels == sign]:
                    away = np.hypot(x - px, y - py)
                    if sign == 1:
                        inside = np.maximum(inside, DISK - away)
                    else:
                        inside = np.minimum(inside, away - HOLE)
        return inside


def analytic_predictor(
    model_id: str = "geometry", object_maps: np.ndarray | None = None
) -> Predictor:
    """Return a predictor that needs no weights."""
    runtime = AnalyticRuntime(object_maps)
    return Predictor(runtime, name="geometry", model_id=model_id)
