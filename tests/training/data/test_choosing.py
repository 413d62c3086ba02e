"""Objects of windows, chosen on the device that holds the windows."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from tinysam_training.data.batches import choose_objects
from tinysam_training.data.choosing import chosen_objects, with_moved_borders
from tinysam_training.data.targets import LEAST_PIXELS, object_boxes, object_targets


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


@given(st.integers(0, 2**32), st.integers(-5, 5))
@settings(max_examples=40, deadline=None)
def test_moved_borders_are_those_of_scipy(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    masks = ndi.gaussian_filter(rng.random((3, 40, 40)), (0, 3, 3)) > 0.5
    others = (ndi.gaussian_filter(rng.random((3, 40, 40)), (0, 3, 3)) > 0.52) & ~masks
    by = np.array([steps, 0, -steps])
    found = with_moved_borders(*map(torch.from_numpy, (masks, others, by))).numpy()
    cross, square = (ndi.generate_binary_structure(2, n) for n in (1, 2))
    for mask, other, step, moved in zip(masks, others, by, found, strict=True):
        expected = mask
        for number in range(1, abs(step) + 1):
            shape = cross if number % 2 else square
            if step > 0:
                expected = ndi.binary_dilation(expected, shape) & ~other
            else:
                expected = ndi.binary_erosion(expected, shape, border_value=1)
        if expected.sum() < LEAST_PIXELS:
            expected = mask
        np.testing.assert_array_equal(moved, expected)


def test_all_objects_of_a_window_are_drawn_as_wide() -> None:
    labels = np.zeros((2, 1, 64, 64), np.int32)
    labels[:, 0, 8:20, 8:20], labels[:, 0, 30:50, 30:50] = 1, 2
    rng = np.random.default_rng(0)
    plain = chosen_objects(torch.from_numpy(labels), 4, rng)
    moved = chosen_objects(torch.from_numpy(labels), 4, rng, np.array([2, -2]))
    assert torch.equal(plain.window, moved.window)
    by = moved.boxes - plain.boxes
    assert by[:2].tolist() == [[-2, -2, 2, 2]] * 2
    assert by[2:].tolist() == [[2, 2, -2, -2]] * 2
