"""Objects of windows, chosen on the device that holds the windows."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysam_training.data.batches import choose_objects
from tinysam_training.data.choosing import chosen_objects
from tinysam_training.data.targets import object_boxes, object_targets


def scattered(seed: int, objects: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros((3, 2, 64, 64), np.int32)
    for layers in labels:
        for layer in layers:
            for _ in range(rng.integers(objects + 1)):
                y, x = rng.integers(0, 60, 2)
                height, width = rng.integers(1, 20, 2)
                layer[y : y + height, x : x + width] = rng.integers(1, 60_000)
    return labels


@given(st.integers(0, 2**32), st.integers(0, 20), st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_they_are_those_that_each_window_would_choose(
    seed: int, objects: int, most: int
) -> None:
    labels = scattered(seed, objects)
    one, other = np.random.default_rng(seed), np.random.default_rng(seed)
    found = chosen_objects(torch.from_numpy(labels), most, one)
    chosen = [choose_objects(layers, most, other) for layers in labels if most]
    assert found.window.tolist() == [
        row for row, some in enumerate(chosen) for _ in some
    ]
    assert one.random() == other.random()
    at = 0
    for layers, some in zip(labels, chosen, strict=False):
        rows = slice(at, at + len(some))
        at += len(some)
        boxes = object_boxes(layers, some)
        np.testing.assert_array_equal(found.boxes[rows], boxes)
        np.testing.assert_array_equal(
            found.targets[rows], object_targets(layers, some, boxes)
        )
    assert found.targets.shape[1:] == (16, 16)
