"""`segment` on planes that are larger than the model's frame."""

from __future__ import annotations

import numpy as np
import pytest

from fake_predictor import RADII, disc_predictor
from napari_tinysam.cli.prompt_options import ObjectPrompt
from napari_tinysam.cli.segment import segment_objects


def test_objects_of_a_large_plane_are_seen_in_parts_of_it() -> None:
    predictor, runtime = disc_predictor()
    plane = np.add.outer(np.arange(2000), np.arange(3000)).astype(np.uint16)
    objects = [
        ObjectPrompt(positive=((2500.0, 300.0),)),
        ObjectPrompt(box=(100.0, 200.0, 1900.0, 1700.0)),
    ]
    result = segment_objects(predictor, plane, objects)
    assert result.labels.shape == plane.shape
    ys, xs = np.nonzero(result.labels == 1)
    assert (xs.mean(), ys.mean()) == pytest.approx((2500, 300), abs=1)
    assert ys.size == pytest.approx(np.pi * (RADII[1] * 4) ** 2, rel=0.1)
    ys, xs = np.nonzero(result.labels == 2)
    assert (xs.min(), ys.min()) == pytest.approx((100, 200), abs=20)
    assert (xs.max(), ys.max()) == pytest.approx((1900, 1700), abs=20)
    assert len(runtime.encoded) == 2


def test_prompts_move_together() -> None:
    prompt = ObjectPrompt((1.0, 2.0, 3.0, 4.0), ((2.0, 3.0),), ((9.0, 8.0),))
    assert prompt.around == (1, 2, 9, 8)
    moved = prompt.moved(-1, 10)
    assert moved == ObjectPrompt((0, 12, 2, 14), ((1, 13),), ((8, 18),))
