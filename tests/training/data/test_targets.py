"""What windows say of their objects, against plain loops over objects and logits."""

from __future__ import annotations

import numpy as np
import pytest

from tinysam_training.data.targets import (
    known,
    object_boxes,
    object_maps_targets,
    object_targets,
    valid,
    visible_objects,
)
from tinysam_training.data.windows import Window, whole_frame
from tinysam_training.labelled_image import LabelledImage


def window_of(
    labels: np.ndarray, height: int, width: int, *, complete: bool = True
) -> Window:
    """A window with these labels and arbitrary distances; labels outside its part vanish."""
    size = labels.shape[-1]
    rng = np.random.default_rng(1)
    shown = np.zeros((size, size), bool)
    shown[:height, :width] = True
    return Window(
        np.where(shown, rng.uniform(0, 255, (3, size, size)), 0).astype(np.float32),
        np.where(shown, labels, 0).astype(np.int32),
        np.where(shown, rng.uniform(0, 1, (size, size)), 0).astype(np.float32),
        np.where(shown, rng.uniform(0, 1, (size, size)), 1).astype(np.float32),
        height,
        width,
        complete,
        "set",
    )


@pytest.fixture
def busy() -> Window:
    """Two layers of blobs of all sizes, padded on two sides."""
    rng = np.random.default_rng(0)
    labels = np.zeros((2, 64, 64), np.int32)
    for layer in (0, 1):
        for number in rng.choice(np.arange(1, 100), 25, replace=False):
            y, x = rng.integers(0, 60, 2)
            h, w = rng.integers(1, 16, 2)
            labels[layer, y : y + h, x : x + w] = number
    return window_of(labels, 57, 50)


def logits(plane: np.ndarray, stride: int = 4) -> np.ndarray:
    """Mean of every 4 × 4 pixels, or s × s."""
    starts = range(0, plane.shape[0], stride)
    return np.array(
        [[plane[y : y + stride, x : x + stride].mean() for x in starts] for y in starts]
    )


def test_visible_objects_are_counted_in_the_window(busy: Window) -> None:
    objects, areas = visible_objects(busy.labels, min_pixels=20)
    expected = {
        (layer, int(number)): np.count_nonzero(busy.labels[layer] == number)
        for layer in (0, 1)
        for number in np.unique(busy.labels[layer])
        if number > 0
    }
    found = dict(zip(map(tuple, objects.tolist()), areas.tolist(), strict=True))
    assert found == {key: n for key, n in expected.items() if n >= 20}
    assert any(n < 20 for n in expected.values())
    assert {layer for layer, _ in found} == {0, 1}
    assert len(visible_objects(busy.labels, min_pixels=0)[0]) == len(expected)


def test_targets_are_the_covered_shares(busy: Window) -> None:
    objects, _ = visible_objects(busy.labels, min_pixels=1)
    objects = np.random.default_rng(0).permutation(objects)
    targets = object_targets(busy.labels, objects)
    assert targets.dtype == np.float32
    expected = [logits(busy.labels[layer] == number) for layer, number in objects]
    np.testing.assert_allclose(targets, expected)


def test_boxes_are_tight_and_inclusive(busy: Window) -> None:
    objects, _ = visible_objects(busy.labels, min_pixels=1)
    objects = np.random.default_rng(0).permutation(objects)
    for box, (layer, number) in zip(
        object_boxes(busy.labels, objects), objects, strict=True
    ):
        ys, xs = np.nonzero(busy.labels[layer] == number)
        assert box.tolist() == [xs.min(), ys.min(), xs.max(), ys.max()]


def test_boxes_of_objects_elsewhere_are_refused(busy: Window) -> None:
    with pytest.raises(ValueError, match="500"):
        object_boxes(busy.labels, np.array([[0, 500]]))


def test_no_objects_no_targets(busy: Window) -> None:
    none = np.zeros((0, 2), np.int64)
    assert object_targets(busy.labels, none).shape == (0, 16, 16)
    assert object_boxes(busy.labels, none).shape == (0, 4)
    empty = window_of(np.zeros((2, 64, 64)), 64, 64)
    objects, areas = visible_objects(empty.labels)
    assert objects.shape == (0, 2)
    assert areas.shape == (0,)


def test_in_a_complete_image_all_but_the_padding_is_known(busy: Window) -> None:
    np.testing.assert_array_equal(known(busy), valid(busy))
    assert valid(busy).sum() == 57 * 50
    assert valid(busy)[56, 49]


def test_in_a_part_annotated_image_objects_and_a_rim_are_known() -> None:
    labels = np.zeros((2, 64, 64), np.int32)
    labels[0, 20:30, 10:22] = 3
    labels[1, 40:50, 30:40] = 1
    window = window_of(labels, 64, 36, complete=False)
    expected = np.zeros((64, 64), bool)
    expected[16:34, 6:26] = True
    np.testing.assert_array_equal(known(window, layers=1), expected)
    expected[36:54, 26:36] = True  # the rest is padding
    np.testing.assert_array_equal(known(window), expected)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("complete", [True, False])
def test_object_maps_are_means(busy: Window, complete: bool, stride: int) -> None:
    window = window_of(busy.labels, 57, 50, complete=complete)
    maps, weight = object_maps_targets(window, stride)
    planes = (
        window.labels[0] > 0,
        window.centre_distance,
        window.boundary_distance,
        known(window, layers=1),
    )
    assert maps.dtype == weight.dtype == np.float32
    for values, plane in zip((*maps, *weight), planes, strict=True):
        np.testing.assert_allclose(values, logits(plane, stride), atol=1e-6)


def test_targets_of_a_whole_frame() -> None:
    labels = np.zeros((1, 128, 64), np.int32)  # 8 times as large in the frame
    labels[0, 10:20, 30:50] = 1
    image = LabelledImage("one", "set", np.zeros((128, 64, 3), np.uint8), labels)
    frame = whole_frame(image)
    target = object_targets(frame.labels, np.array([[0, 1]]))[0]
    expected = np.zeros((256, 256), np.float32)
    expected[20:40, 60:100] = 1
    np.testing.assert_array_equal(target, expected)
    maps, weight = object_maps_targets(frame)
    np.testing.assert_array_equal(maps[0], expected)
    assert weight[0, :, :128].min() == 1
    assert weight[0, :, 128:].max() == 0
