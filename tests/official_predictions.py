"""Prompts for one image, and the comparison of their masks with `SamPredictor`'s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
from napari_tinysam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything import SamPredictor

    from napari_tinysam.inference.predictions import Masks
    from napari_tinysam.model import SegmentAnything

LOGITS_TOLERANCE = 1e-4
# torch interpolates with other roundings of the positions when it has a single thread.
UPSCALED_TOLERANCE = 2e-4
SCORES_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Click:
    """The prompts of one object; x and y as shares of the image's sides."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: bool = False


CLICKS = {
    "a point": Click(((0.4, 0.3),), (1,)),
    "points on and beside": Click(((0.4, 0.3), (0.7, 0.8), (0.0, 0.0)), (1, 0, 0)),
    "a box": Click(box=(0.1, 0.2, 0.75, 0.9)),
    "a box with points": Click(
        ((0.5, 0.5), (0.15, 0.25)), (1, 0), (0.1, 0.2, 0.75, 0.9)
    ),
    "a mask": Click(mask=True),
    "a mask with a point": Click(((0.6, 0.4),), (1,), mask=True),
    "everything": Click(((0.6, 0.4),), (0,), (0.3, 0.1, 0.9, 0.6), mask=True),
}


def random_image(height: int, width: int) -> np.ndarray:
    """Smooth colours with noise, (height, width, 3) uint8."""
    rng = np.random.default_rng(height)
    y, x = np.mgrid[:height, :width][..., np.newaxis] / 60.0  # (height, width, 1) each
    waves = np.sin(x + np.arange(3)) * np.cos(1.3 * y + 1)
    noise = rng.normal(0, 20, (height, width, 3))
    return np.clip(waves * 80 + 120 + noise, 0, 255).astype(np.uint8)


def mask_prompt() -> np.ndarray:
    """(256, 256) logits of a disc."""
    y, x = np.mgrid[:256, :256]
    return (8 - 0.2 * np.hypot(y - 90, x - 120)).astype(np.float32)


def pixels(click: Click, height: int, width: int) -> dict[str, np.ndarray | None]:
    """Return the arguments of `SamPredictor.predict`."""
    size = np.array([width, height])
    return {
        "point_coords": np.array(click.points) * size if click.points else None,
        "point_labels": np.array(click.labels) if click.labels else None,
        "box": None if click.box is None else np.array(click.box) * np.tile(size, 2),
        "mask_input": mask_prompt()[np.newaxis] if click.mask else None,
    }


def together(clicks: list[Click], height: int, width: int) -> Prompts:
    """All objects as one `Prompts`, short rows filled up."""
    longest = max(len(click.points) for click in clicks)
    points = np.zeros((len(clicks), longest, 2))
    labels = np.full((len(clicks), longest), -1)
    boxes = np.full((len(clicks), 4), np.nan)
    masks = np.full((len(clicks), 256, 256), np.nan, np.float32)
    for row, click in enumerate(clicks):
        arguments = pixels(click, height, width)
        if click.points:
            points[row, : len(click.points)] = arguments["point_coords"]
            labels[row, : len(click.points)] = click.labels
        if click.box is not None:
            boxes[row] = arguments["box"]
        if click.mask:
            masks[row] = mask_prompt()
    return Prompts(points=points, labels=labels, boxes=boxes, masks=masks)


def predictor(model: SegmentAnything) -> Predictor:
    runtime = TorchRuntime(model, torch.device("cpu"))
    return Predictor(runtime, name="test", model_id="test")


def assert_official(
    found: Masks, index: int, reference: SamPredictor, click: Click
) -> None:
    """Compare one object with `SamPredictor.predict`."""
    height, width = reference.original_size
    arguments = pixels(click, height, width)
    logits, scores, low_res = reference.predict(
        **arguments, multimask_output=True, return_logits=True
    )
    assert low_res.std() > 0.5  # or the tolerance would say little
    np.testing.assert_allclose(
        found.logits[index], low_res, rtol=0, atol=LOGITS_TOLERANCE
    )
    np.testing.assert_allclose(
        found.scores[index], scores, rtol=0, atol=SCORES_TOLERANCE
    )
    for candidate in range(3):
        np.testing.assert_allclose(
            found.full_logits(index, candidate),
            logits[candidate],
            rtol=0,
            atol=UPSCALED_TOLERANCE,
        )
        clear = np.abs(logits[candidate]) > UPSCALED_TOLERANCE
        mask = found.boxed(index, candidate).to_full()
        assert mask.shape == (height, width)
        np.testing.assert_array_equal(mask[clear], logits[candidate][clear] > 0)
