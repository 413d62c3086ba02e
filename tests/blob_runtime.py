"""A runtime that sees bright blobs in the pixels themselves, in whatever look they are shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, label

from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime import DecodedPrompts


class BlobRuntime:
    """A point or box gives the bright blob that is there, with logits of its signed distance."""

    name = "blobs"
    image_size = 1024
    dense_prompts = False
    has_object_head = False

    def encode(self, rgb: np.ndarray) -> Any:
        blobs, _ = label(rgb[2::4, 2::4].mean(axis=-1) > 127)
        return np.pad(blobs, [(0, 256 - side) for side in blobs.shape])

    def maps_of_half(self, rgb: np.ndarray) -> None:
        return None

    def object_maps(self, features: Any) -> None:
        return None

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
        count = len(points if points is not None else boxes)
        logits = np.full((count, 3, 256, 256), -20.0, np.float32)
        scores = np.full((count, 3), 0.1, np.float32)
        for row in range(count):
            if points is not None:
                x, y = points[row][0]
            else:
                x, y = np.asarray(boxes[row]).reshape(2, 2).mean(axis=0)
            at = tuple(int(np.clip(v / 4, 0, 255)) for v in (y, x))
            blob = features == features[at]
            if not features[at]:
                continue
            inside, outside = (
                distance_transform_edt(blob),
                distance_transform_edt(~blob),
            )
            logits[row] = np.clip(inside - outside, -20, 20)
            scores[row] = 0.8, 0.95, 0.7
        return DecodedPrompts(logits, scores)


def blob_predictor() -> Predictor:
    return Predictor(BlobRuntime(), name="blobs", model_id="blobs")
