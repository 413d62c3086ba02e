"""Object maps to labels, on maps of objects that are known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tinysam.masks import Upscaler
from napari_tinysam.metrics import mean_segmentation_accuracy, object_overlaps
from napari_tinysam.objects.confirmation import confirmed
from napari_tinysam.objects.finding import (
    ObjectSettings,
    object_regions,
    segment_objects,
)
from napari_tinysam.objects.maps import boundary_distance, centre_distance

FRAME = 1024


def ideal_maps(labels: np.ndarray, side: int = 256) -> np.ndarray:
    """(3, side, side) of labels over the frame: what a perfect head would say."""
    layers = [
        labels > 0,
        centre_distance(labels) / 255,
        boundary_distance(labels) / 255,
    ]
    pixels = FRAME // side
    cells = np.stack(layers).reshape(3, side, pixels, side, pixels)
    return cells.mean(axis=(2, 4)).astype(np.float32)


def touching_discs(radius: int, per_side: int) -> np.ndarray:
    """(1024, 1024) labels of a square of discs, each touching its neighbours."""
    labels = np.zeros((FRAME, FRAME), np.int32)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = np.hypot(y, x) <= radius
    for i in range(per_side):
        for j in range(per_side):
            y0, x0 = (3 + k * (2 * radius - 1) for k in (i, j))
            part = labels[y0 : y0 + len(disc), x0 : x0 + len(disc)]
            part[disc] = i * per_side + j + 1
    return labels


def in_the_frame(labels: np.ndarray) -> np.ndarray:
    """Pad labels to the frame as images are."""
    height, width = labels.shape
    return np.pad(labels, [(0, FRAME - height), (0, FRAME - width)])


WHOLE = Upscaler((FRAME, FRAME), (FRAME, FRAME))


@pytest.mark.parametrize("side", [256, 512])
@pytest.mark.parametrize(("radius", "per_side"), [(120, 4), (40, 12), (16, 20)])
def test_touching_discs_are_found(radius: int, per_side: int, side: int) -> None:
    true = touching_discs(radius, per_side)
    found = segment_objects(ideal_maps(true, side), WHOLE)
    assert found.dtype == np.int32
    assert np.array_equal(np.unique(found), np.arange(per_side**2 + 1))
    assert mean_segmentation_accuracy(true, found) >= 0.9


@pytest.mark.parametrize("side", [256, 512])
@pytest.mark.parametrize("scale", [0.25, 0.7, 1.5])
def test_images_of_other_sizes(scale: float, side: int) -> None:
    """A disc in a wide image lies where it lies in the frame, with a smooth border."""
    labels = np.zeros((600, 1024), np.int32)
    y, x = np.mgrid[:600, :1024]
    labels[np.hypot(y - 300, x - 500) <= 200] = 1
    labels[np.hypot(y - 300, x - 800) <= 101] = 2
    size = round(600 * scale), round(1024 * scale)
    upscaler = Upscaler((600, 1024), size)
    found = segment_objects(ideal_maps(in_the_frame(labels), side), upscaler)
    assert found.shape == size
    y, x = ((np.mgrid[: size[0], : size[1]] + 0.5) / scale) - 0.5
    true = np.zeros(size, int)
    true[np.hypot(y - 300, x - 500) <= 200] = 1
    true[np.hypot(y - 300, x - 800) <= 101] = 2
    assert object_overlaps(true, found).best_iou.min() > 0.95
    assert found.max() == 2


def test_borders_between_objects_are_smooth() -> None:
    """A slanted line between two halves stays a line: no steps of the coarser maps."""
    y, x = np.mgrid[:FRAME, :FRAME]
    slanted = np.where(x < 400 + y / 5, 1, 2)
    upscaler = Upscaler((FRAME, FRAME), (2 * FRAME, 2 * FRAME))
    found = segment_objects(ideal_maps(slanted), upscaler)
    assert found.max() == 2
    border = np.array([np.flatnonzero(np.diff(row))[0] for row in found[200:-200]])
    line = np.polynomial.Polynomial.fit(np.arange(len(border)), border, 3)
    assert np.abs(border - line(np.arange(len(border)))).max() < 6  # 3 of the frame


def test_nothing_gives_nothing() -> None:
    maps = np.stack([np.zeros((256, 256)), np.ones((256, 256)), np.zeros((256, 256))])
    found = segment_objects(maps.astype(np.float32), WHOLE)
    assert found.shape == (FRAME, FRAME)
    assert not found.any()


def test_one_object() -> None:
    labels = np.zeros((FRAME, FRAME), np.int32)
    labels[300:500, 600:900] = 1
    found = segment_objects(ideal_maps(labels), WHOLE)
    assert found.max() == 1
    assert object_overlaps(labels, found).best_iou.item() > 0.97


def test_foreground_everywhere_is_one_object() -> None:
    """With its maps, and where the head knows nothing but that it is foreground."""
    found = segment_objects(ideal_maps(np.ones((FRAME, FRAME), np.int32)), WHOLE)
    assert (found == 1).all()
    maps = np.stack([np.ones((256, 256)), np.ones((256, 256)), np.zeros((256, 256))])
    assert (segment_objects(maps.astype(np.float32), WHOLE) == 1).all()


def test_foreground_without_a_seed_is_an_object() -> None:
    labels = np.zeros((FRAME, FRAME), np.int32)
    labels[100:200, 100:200], labels[400:500, 400:500] = 1, 2
    maps = ideal_maps(labels)
    maps[2, 100:] = 0  # no boundary distance at the second one
    found = segment_objects(maps, WHOLE)
    assert found.max() == 2
    assert object_overlaps(labels, found).best_iou.min() > 0.95


@pytest.mark.parametrize("side", [256, 512])
def test_small_pieces_are_dropped(side: int) -> None:
    """Areas are in values of 4 pixels of the frame, also where maps are finer."""
    labels = np.zeros((FRAME, FRAME), np.int32)
    for number in range(5):
        labels[200 * number : 200 * number + 100, 100:200] = number + 1
    labels[500:512, 800:812] = 6  # 144 pixels, 1.4 % of the median object
    labels[700:704, 800:804] = 7  # one value of the maps
    maps = ideal_maps(labels, side)
    assert segment_objects(maps, WHOLE).max() == 5
    some = ObjectSettings(minimum_share=0.01)
    assert segment_objects(maps, WHOLE, some).max() == 6
    every = ObjectSettings(minimum_share=0, minimum_area=0, smoothing=0)
    assert segment_objects(maps, WHOLE, every).max() == 7


def test_the_foreground_threshold_moves_the_border() -> None:
    y, x = np.mgrid[:256, :256]
    foreground = np.clip(1 - np.hypot(y - 128, x - 128) / 100, 0, 1)
    maps = np.stack([foreground, 1 - foreground, foreground]).astype(np.float32)
    for threshold in (0.3, 0.5, 0.7):
        settings = ObjectSettings(foreground_threshold=threshold)
        found = segment_objects(maps, WHOLE, settings)
        area = np.pi * (400 * (1 - threshold)) ** 2
        assert np.count_nonzero(found) == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("side", [256, 512])
def test_objects_are_confirmed_at_the_size_of_the_image(side: int) -> None:
    true = np.zeros((FRAME, FRAME), np.int32)
    y, x = np.mgrid[:FRAME, :FRAME]
    true[np.hypot(y - 500, x - 400) <= 300] = 1
    true[np.hypot(y - 200, x - 900) <= 80] = 2
    upscaler = Upscaler((FRAME, FRAME), (700, 700))
    maps = ideal_maps(true, side)
    labels = segment_objects(maps, upscaler)
    found = confirmed(labels, maps, upscaler)
    assert found.shape == (3,)
    assert (found > 0.9).all()
    # One label for both of them is contradicted; so is one where nothing is seen.
    one = np.where(labels > 0, 1, 0).astype(np.int32)
    assert confirmed(one, maps, upscaler)[1] < found[1:].min()
    nowhere = np.zeros_like(labels)
    nowhere[-60:, :60] = 1
    assert confirmed(nowhere, maps, upscaler)[1] == 0


def test_wrong_maps_and_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="Three object maps"):
        segment_objects(np.zeros((256, 256), np.float32), WHOLE)
    with pytest.raises(ValueError, match="foreground_threshold lies between"):
        ObjectSettings(foreground_threshold=1.5)
    with pytest.raises(ValueError, match="smoothing is not negative"):
        ObjectSettings(smoothing=-1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("height", [0.05, 0.15, 0.3])
def test_objects_are_the_h_maxima_of_the_distance(seed: int, height: float) -> None:
    """Against scikit-image's morphology, on landscapes of many hills."""
    from scipy import ndimage as ndi
    from skimage.morphology import h_maxima

    rng = np.random.default_rng(seed)
    hills = ndi.gaussian_filter(rng.normal(size=(64, 64)), 2.5)
    depth = ((hills - hills.min()) / np.ptp(hills)).astype(np.float32)
    maps = np.stack([np.ones_like(depth), np.zeros_like(depth), depth])
    settings = ObjectSettings(
        seed_height=height,
        least_depth=1e-6,
        smoothing=0,
        minimum_area=0,
        minimum_share=0,
    )
    found = object_regions(maps, depth.shape, settings)
    tops, count = ndi.label(h_maxima(depth, height), np.ones((3, 3)))
    assert count > 0
    assert found.max() == count
    # Each of them is the top of one object.
    owners = [np.unique(found[tops == top]) for top in range(1, count + 1)]
    assert all(len(owner) == 1 for owner in owners)
    assert len({int(owner[0]) for owner in owners}) == count


def test_peaks_that_are_not_deep_enough_join_their_neighbours() -> None:
    depth = np.zeros((9, 21), np.float32)
    depth[2:7, 2:9], depth[2:7, 12:19] = 0.9, 0.25
    depth[2:7, 9:12] = 0.05
    maps = np.stack([depth > 0, np.zeros_like(depth), depth]).astype(np.float32)
    kinds = {"smoothing": 0, "minimum_area": 0, "minimum_share": 0}
    shape = (9, 21)
    apart = object_regions(maps, shape, ObjectSettings(least_depth=0.2, **kinds))
    joined = object_regions(maps, shape, ObjectSettings(least_depth=0.3, **kinds))
    assert apart.max() == 2
    assert joined.max() == 1
    assert np.array_equal(apart > 0, joined > 0)
