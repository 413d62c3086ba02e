"""Distance maps of labels, against plain loops over objects and pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_tinysam.objects.maps import (
    boundary_distance,
    centre_distance,
    inner_pixels,
    means_of_squares,
)

LABELS = arrays(
    np.int32,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.integers(0, 4),
)


def disk(size: int, radius: float) -> np.ndarray:
    yy, xx = np.mgrid[:size, :size] - size // 2
    return (np.hypot(yy, xx) <= radius).astype(np.int32)


def objects_of(labels: np.ndarray) -> list[list[tuple[int, int]]]:
    numbers = np.unique(labels[labels > 0])
    return [list(zip(*np.nonzero(labels == n), strict=True)) for n in numbers]


@settings(max_examples=60, deadline=None)
@given(LABELS)
def test_centre_distance_is_that_from_the_pixel_nearest_to_the_centroid(
    labels: np.ndarray,
) -> None:
    expected = np.full(labels.shape, 255, np.uint8)
    for pixels in objects_of(labels):
        n = len(pixels)
        sum_y, sum_x = (sum(int(p[axis]) for p in pixels) for axis in (0, 1))
        # In whole numbers; min() takes the first of equals, in reading order.
        cy, cx = min(
            pixels,
            key=lambda p: (n * int(p[0]) - sum_y) ** 2 + (n * int(p[1]) - sum_x) ** 2,
        )
        distances = [np.hypot(y - cy, x - cx) for y, x in pixels]
        farthest = max(1.0, *distances) if n > 1 else 1.0
        for (y, x), distance in zip(pixels, distances, strict=True):
            expected[y, x] = round(255 * distance / farthest)
    np.testing.assert_array_equal(centre_distance(labels), expected)


@settings(max_examples=60, deadline=None)
@given(LABELS)
def test_boundary_distance_is_that_to_the_nearest_pixel_at_a_boundary(
    labels: np.ndarray,
) -> None:
    height, width = labels.shape
    inner = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(height, width):
        sides = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inner[y, x] = labels[y, x] > 0 and all(
            labels[side] == labels[y, x]
            for side in sides
            if 0 <= side[0] < height and 0 <= side[1] < width
        )
    np.testing.assert_array_equal(inner_pixels(labels), inner)

    expected = np.zeros(labels.shape, np.uint8)
    others = np.argwhere(~inner)
    for pixels in objects_of(labels):
        if not len(others):  # a single object without any boundary
            distances = [1.0] * len(pixels)
        else:
            distances = [
                1 + np.hypot(*(others - (y, x)).T).min() if inner[y, x] else 1.0
                for y, x in pixels
            ]
        for (y, x), distance in zip(pixels, distances, strict=True):
            expected[y, x] = round(255 * distance / max(distances))
    np.testing.assert_array_equal(boundary_distance(labels), expected)


def test_maps_of_a_disk_rise_from_centre_and_boundary() -> None:
    labels = disk(41, 18)
    centre, boundary = centre_distance(labels), boundary_distance(labels)
    assert centre[20, 20] == 0
    assert boundary[20, 20] == 255
    assert centre[20, 38] == 255
    # Halfway out.
    assert centre[20, 29] == pytest.approx(128, abs=2)
    assert boundary[20, 29] == pytest.approx(128, abs=8)
    assert (boundary[labels == 0] == 0).all()
    assert (centre[labels == 0] == 255).all()


def test_centre_of_a_ring_lies_on_the_ring() -> None:
    labels = disk(41, 18) - disk(41, 10)
    ys, xs = np.nonzero(centre_distance(labels) == 0)
    assert len(ys) == 1
    assert labels[ys[0], xs[0]] == 1
    assert np.hypot(ys[0] - 20, xs[0] - 20) == pytest.approx(10.5, abs=0.6)


def test_touching_objects_have_a_boundary_between_them() -> None:
    labels = np.ones((10, 20), np.int32)
    labels[:, 10:] = 2
    boundary = boundary_distance(labels)
    assert (boundary[:, 9:11].max() < boundary[:, [0, 19]]).all()


def test_maps_do_not_depend_on_where_an_object_is() -> None:
    shape = disk(15, 6)
    shape[3:6, 9:] = 0
    labels = np.zeros((300, 400), np.int32)
    places = [(0, 0), (100, 31), (250, 377), (77, 204)]
    for number, (y, x) in enumerate(places, start=1):
        labels[y : y + 15, x : x + 15] = number * shape
    for compute in (centre_distance, boundary_distance):
        maps = compute(labels)
        first, *others = (maps[y : y + 15, x : x + 15] for y, x in places)
        for other in others:
            np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_all_integers_are_labels(dtype: type) -> None:
    labels = disk(11, 4)
    for compute in (centre_distance, boundary_distance):
        maps = compute(labels.astype(dtype))
        assert maps.dtype == np.uint8
        np.testing.assert_array_equal(maps, compute(labels))


def test_without_objects_nothing_is_near() -> None:
    labels = np.zeros((5, 7), np.int32)
    assert (centre_distance(labels) == 255).all()
    assert (boundary_distance(labels) == 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2))
def test_finer_maps_are_reduced_to_means_of_squares(
    side: int, factor: int, layers: int
) -> None:
    rng = np.random.default_rng(side + 10 * factor)
    shape = (layers + 1, factor * side, factor * side)[0 if layers else 1 :]
    values = rng.random(shape, np.float32)
    found = means_of_squares(values, side)
    assert found.dtype == np.float32
    assert found.shape == (*shape[:-2], side, side)
    for y, x in np.ndindex(side, side):
        square = values[..., factor * y :, factor * x :][..., :factor, :factor]
        np.testing.assert_allclose(
            found[..., y, x], square.mean(axis=(-2, -1)), rtol=1e-5
        )
    assert (found is values) == (factor == 1)


@pytest.mark.parametrize("shape", [(3, 128, 128), (3, 384, 384), (3, 256, 512)])
def test_maps_that_have_no_such_squares_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be reduced to 256"):
        means_of_squares(np.zeros(shape, np.float32))
