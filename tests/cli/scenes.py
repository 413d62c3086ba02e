"""A model of discs for the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from everything.scene import SceneRuntime
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.inference import load
from napari_tinysam.inference.predictor import Predictor

if TYPE_CHECKING:
    import pytest

    from napari_tinysam.inference.runtime import DecodedPrompts

#: In pixels of the frame of 1024; the images have 128.
DISCS = [
    (200.0, 220.0, 90.0),
    (420.0, 300.0, 60.0),
    (700.0, 180.0, 80.0),
    (650.0, 700.0, 90.0),
]


class Scenes(SceneRuntime):
    """Remembers how often it encoded, and refuses to where a test wants that."""

    encoded = 0
    refuse: Callable[[int], None] = staticmethod(lambda number: None)

    def encode(self, rgb: np.ndarray) -> Any:
        self.encoded += 1
        self.refuse(self.encoded)
        return super().encode(rgb)


class Moving(Scenes):
    """The discs lie further right by four pixels of the image for each unit of its first pixel."""

    def encode(self, rgb: np.ndarray) -> Any:
        super().encode(rgb)
        return 32.0 * int(rgb[0, 0, 0])

    def object_maps(self, features: Any) -> np.ndarray | None:
        self._move(features)
        return super().object_maps(features)

    def decode(self, features: Any, **prompts: Any) -> DecodedPrompts:
        self._move(features)
        return super().decode(features, **prompts)

    def _move(self, right: float) -> None:
        self.discs = self.seen = [(x + right, y, radius) for x, y, radius in DISCS]
        self._known.clear()


def load_scenes(monkeypatch: pytest.MonkeyPatch, runtime: SceneRuntime) -> None:
    """Let commands load a model of this runtime, whatever it is called."""
    settings = {
        "score_threshold": 0.5,
        "stability_threshold": 0.5,
        "points_per_side": 16,
    }
    notes = {NOTE: json.dumps({"search": settings, "labels": {"confidence": 0.6}})}

    def loaded(name: str, **_: Any) -> Predictor:
        return Predictor(runtime, name=name, model_id=f"{name}/cpu", notes=notes)

    monkeypatch.setattr(load, "load_model", loaded)


def picture(number: int, size: int = 128) -> np.ndarray:
    """Gray values that `to_rgb` keeps, and a first pixel of this number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size, size))
    pixels[0, :3] = number, 0, 255
    return pixels.astype(np.uint8)
