"""In a window, a network answers as the training's decoder does there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from efficient_models import efficient_model
from napari_tinysam.frame import CELL
from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
from napari_tinysam.model import ImageFeatures
from tinysam_training.learning.decoding import decode

SIDE, CELLS = 256, 8


@pytest.fixture(scope="module")
def runtime() -> TorchRuntime:
    return TorchRuntime(efficient_model(SIDE), torch.device("cpu"))


@pytest.mark.parametrize("kind", ["point", "points", "box", "point and box"])
def test_every_object_is_answered_as_in_training(
    runtime: TorchRuntime, kind: str
) -> None:
    rng = np.random.default_rng(len(kind))
    rgb = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    count = 5
    corners = rng.integers(0, SIDE // CELL - CELLS + 1, (count, 2))
    corners[3] = corners[1]  # two objects of one window
    first = CELL * corners[:, ::-1].astype(np.float32)  # x and y
    local = rng.uniform(10, CELL * CELLS - 10, (count, 3, 2)).astype(np.float32)
    points = boxes = labels = None
    if "point" in kind:
        points = local[:, : 2 if kind == "points" else 1]
        labels = rng.integers(0, 2, points.shape[:2]).astype(np.int32)
    if "box" in kind:
        boxes = np.sort(local[:, 1:], axis=1).reshape(count, 4)
    masks = rng.normal(0, 8, (count, 4 * CELLS, 4 * CELLS)).astype(np.float32)
    found = runtime.decode(
        runtime.encode(rgb),
        points=None if points is None else points + first[:, None],
        labels=labels,
        boxes=None if boxes is None else boxes + np.tile(first, 2),
        masks=masks,
        corners=corners,
    )

    model = runtime._model
    with torch.no_grad():
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
        whole = model.features(model.normalize_and_pad(image))
        windows = [
            torch.cat([_cut(level, corner, s) for corner in corners])
            for level, s in zip(
                (whole.embedding, *whole.details[:2]), (1, 2, 4), strict=True
            )
        ]
        none = torch.full((count, 4), torch.nan)
        expected = decode(
            model,
            ImageFeatures(windows[0], tuple(windows[1:])),
            torch.from_numpy(corners),
            torch.arange(count),
            torch.zeros(count, 0, 2) if points is None else torch.from_numpy(points),
            torch.zeros(count, 0, dtype=torch.int64)
            if labels is None
            else torch.from_numpy(labels),
            none if boxes is None else torch.from_numpy(boxes),
            torch.from_numpy(masks)[:, None],
        )
    scale = float(expected.logits.abs().max())
    # Details are kept in float16.
    np.testing.assert_allclose(found.logits, expected.logits, atol=5e-4 * scale)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_a_search_in_bfloat16_answers_nearly_the_same() -> None:
    rounded = TorchRuntime(efficient_model(SIDE), torch.device("cpu"), bfloat16=True)
    rng = np.random.default_rng(0)
    features = rounded.encode(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    corners = np.array([[0, 0], [3, 5]])
    asked = {
        "boxes": None,
        "points": CELL * (corners[:, None, ::-1] + 3.5).astype(np.float32),
        "labels": np.ones((2, 1), np.int32),
        "masks": rng.normal(0, 8, (2, 4 * CELLS, 4 * CELLS)).astype(np.float32),
        "corners": corners,
    }
    exact = rounded.decode(features, **asked)
    found = rounded.decode(features, **asked, exact=False)
    scale = float(np.abs(exact.logits).max())
    np.testing.assert_allclose(found.logits, exact.logits, atol=0.1 * scale)


def _cut(level: torch.Tensor, corner: np.ndarray, times: int) -> torch.Tensor:
    y, x = (times * corner).tolist()
    side = times * CELLS
    return level[..., y : y + side, x : x + side]
