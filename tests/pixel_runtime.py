"""Discs whose size depends on every pixel that the model read: other pixels, other masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from fake_predictor import DiscRuntime
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime import DecodedPrompts

if TYPE_CHECKING:
    import numpy.typing as npt


class PixelRuntime(DiscRuntime):
    """Logits are raised by what the pixels of the frame say.

    Parameters
    ----------
    salt : int
        Tells one model from another.
    """

    name = "pixels"

    def __init__(self, salt: int = 0) -> None:
        super().__init__()
        self.salt = salt

    def encode(self, rgb: npt.NDArray[np.uint8]) -> Any:
        super().encode(rgb)
        return crc32(np.ascontiguousarray(rgb).tobytes(), self.salt) % 1000

    def decode(self, features: Any, **given: Any) -> DecodedPrompts:
        found = super().decode(features, **given)
        masks = given.get("masks")
        raised = found.logits + (0.0 if masks is not None else features / 1000)
        return DecodedPrompts(raised.astype(np.float32), found.scores)


def pixel_predictor(salt: int = 0) -> Predictor:
    return Predictor(PixelRuntime(salt), name=f"pixels{salt}", model_id=f"p{salt}")
