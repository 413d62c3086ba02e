"""A runtime that sees the bright discs of an image, wherever they are in the frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage as ndi

from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime import DecodedPrompts
from napari_tinysam.objects.maps import boundary_distance, centre_distance


class BrightRuntime:
    """Objects are connected bright pixels of the frame; prompts return the one at the point."""

    name = "bright"
    image_size = 1024
    dense_prompts = False
    has_object_head = True

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, rgb: np.ndarray) -> Any:
        self.encoded += 1
        frame = np.zeros((1024, 1024), bool)
        frame[: rgb.shape[0], : rgb.shape[1]] = rgb[..., 0] > 100
        regions, _ = ndi.label(frame[2::4, 2::4])
        return regions

    def maps_of_half(self, rgb: np.ndarray) -> np.ndarray | None:
        return None

    def object_maps(self, regions: Any) -> np.ndarray:
        maps = np.zeros((3, 256, 256), np.float32)
        maps[0] = regions > 0
        maps[1] = centre_distance(regions) / 255
        maps[2] = boundary_distance(regions) / 255
        return maps

    def decode(
        self,
        regions: Any,
        *,
        points: Any,
        labels: Any,
        boxes: Any,
        masks: Any,
        least_scores: Any = None,
        exact: bool = True,
    ) -> DecodedPrompts:
        planes = []
        for x, y in (points[:, 0] / 4).astype(int).tolist():
            label = regions[min(y, 255), min(x, 255)]
            inside = (regions == label) & (label > 0)
            planes.append(np.where(inside, 8.0, -8.0))
        logits = np.repeat(np.array(planes, np.float32)[:, None], 3, axis=1)
        return DecodedPrompts(logits, np.full((len(planes), 3), 0.9, np.float32))


def bright_predictor() -> Predictor:
    return Predictor(BrightRuntime(), name="bright", model_id="bright")


def field(
    shape: tuple[int, int], step: int, radius: float, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Bright discs on a jittered lattice, uint8, and how many there are."""
    rng = np.random.default_rng(seed)
    image = np.full(shape, 20, np.uint8)
    count = 0
    reach = int(radius) + 1
    for y in range(step // 2, shape[0] - step // 2, step):
        for x in range(step // 2, shape[1] - step // 2, step):
            room = max(0, (step - 2 * reach) // 2 - 3)
            cy, cx = (
                y + rng.integers(-room, room + 1),
                x + rng.integers(-room, room + 1),
            )
            rows, columns = np.mgrid[cy - reach : cy + reach, cx - reach : cx + reach]
            inside = np.hypot(rows - cy, columns - cx) <= radius
            part = image[cy - reach : cy + reach, cx - reach : cx + reach]
            part[inside] = 200
            count += 1
    return image, count
