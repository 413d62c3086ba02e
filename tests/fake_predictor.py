"""A predictor whose masks are known: discs around clicks. Everything around the network is real."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime import DecodedPrompts

if TYPE_CHECKING:
    import numpy.typing as npt

#: Radii of the three candidates, in pixels of the 256² logits, and their scores.
RADII = (4.0, 8.0, 16.0)
SCORES = (0.6, 0.9, 0.7)


class DiscRuntime:
    """Draws discs around positive points, and leaves out discs around negative ones.

    A box gives the ellipse in it, whatever the candidate; a mask prompt is kept and added to.

    Parameters
    ----------
    gate : threading.Event, optional
        Encoding waits for it: a test that holds it back catches the dock in the middle of an
        embedding.
    """

    name = "discs"
    image_size = 1024
    has_object_head = False
    dense_prompts = False

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.gate = gate
        self.encoding = threading.Event()
        self.encoded: list[tuple[int, ...]] = []
        self.failure: Exception | None = None

    def encode(self, rgb: npt.NDArray[np.uint8]) -> Any:
        self.encoding.set()
        self.encoded.append(rgb.shape)
        if self.gate is not None and not self.gate.wait(timeout=30):
            raise TimeoutError("The test never opened the gate.")
        if self.failure is not None:
            raise self.failure
        return rgb.mean()

    def decode(
        self,
        features: Any,
        *,
        points: npt.NDArray[np.float32] | None,
        labels: npt.NDArray[np.int32] | None,
        boxes: npt.NDArray[np.float32] | None,
        masks: npt.NDArray[np.float32] | None,
        least_scores: npt.NDArray[np.float32] | None = None,
        exact: bool = True,
    ) -> DecodedPrompts:
        count = next(len(v) for v in (points, boxes, masks) if v is not None)
        logits = np.full((count, 3, 256, 256), -10.0, np.float32)
        for i in range(count):
            if masks is not None:
                logits[i] = np.maximum(logits[i], masks[i])
            elif boxes is not None:
                logits[i] = np.maximum(logits[i], _ellipse(boxes[i]))
            if points is None or labels is None:
                continue
            for sign in (1, 0):
                for point in points[i][labels[i] == sign]:
                    for k, radius in enumerate(RADII):
                        disc = _disc(point, radius if sign else radius / 2)
                        logits[i, k] = (
                            np.maximum(logits[i, k], disc)
                            if sign
                            else np.minimum(logits[i, k], -disc)
                        )
        scores = np.tile(np.array(SCORES, np.float32), (count, 1))
        return DecodedPrompts(logits, scores)

    def maps_of_half(self, rgb: np.ndarray) -> np.ndarray | None:
        return None

    def object_maps(self, features: Any) -> None:
        return None


def _disc(xy_frame: npt.NDArray[np.float32], radius: float) -> npt.NDArray[np.float32]:
    """Logits that cross zero `radius` low-resolution pixels around a point of the frame."""
    x, y = (xy_frame + 0.5) / 4 - 0.5
    ys, xs = np.mgrid[:256, :256]
    return (radius - np.hypot(xs - x, ys - y)).astype(np.float32)


def _ellipse(box: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    x0, y0, x1, y1 = (box + 0.5) / 4 - 0.5
    ys, xs = np.mgrid[:256, :256]
    inside = 1 - np.hypot(
        (xs - (x0 + x1) / 2) / max(0.5, (x1 - x0) / 2),
        (ys - (y0 + y1) / 2) / max(0.5, (y1 - y0) / 2),
    )
    return (10 * inside).astype(np.float32)


def disc_predictor(
    gate: threading.Event | None = None,
) -> tuple[Predictor, DiscRuntime]:
    """Make a predictor of discs, and hand out its runtime too."""
    runtime = DiscRuntime(gate)
    return Predictor(runtime, name="discs", model_id="discs"), runtime
