"""A predictor that sees discs, other ones in each plane of a stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from everything.scene import SceneRuntime
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.runtime import DecodedPrompts

#: x, y and radius in pixels of the model's frame, which are half a pixel of the planes.
Disc = tuple[float, float, float]

SHAPE = (512, 512)


class StackRuntime(SceneRuntime):
    """The scene of the plane that was encoded; a plane's pixels are its number."""

    def __init__(self, planes: Sequence[Sequence[Disc]]) -> None:
        super().__init__([])
        self.planes = planes
        self.asked: list[int] = []

    def encode(self, rgb: np.ndarray) -> Any:
        return int(rgb.max())

    def decode(self, features: Any, **given: Any) -> DecodedPrompts:
        self.asked.append(features)
        self.discs, self._known = list(self.planes[features]), {}
        return super().decode(features, **given)


class Stack:
    """A stack, its predictor, and a reader of its planes."""

    def __init__(self, planes: Sequence[Sequence[Disc]]) -> None:
        self.discs = planes
        self.runtime = StackRuntime(planes)
        self.predictor = Predictor(self.runtime, name="stack", model_id="stack")
        self.read: list[int] = []

    def __call__(self, plane: int) -> Embedding:
        self.read.append(plane)
        return self.predictor.encode(np.full((*SHAPE, 3), plane, np.uint8))

    def truth(self, plane: int, number: int) -> BoxedMask:
        """The true mask of a disc."""
        return disc(*self.discs[plane][number])


def disc(x: float, y: float, radius: float) -> BoxedMask:
    """A disc of the frame, in pixels of the planes."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] * 2 + 0.5
    return BoxedMask.from_full(np.hypot(columns - x, rows - y) <= radius)
