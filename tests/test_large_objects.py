"""Objects of smaller looks: when they are believed, and how they get into the labels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tinysam.large_objects import blended, confirmation, larger_seen
from napari_tinysam.masks import Upscaler
from napari_tinysam.metrics import object_overlaps
from napari_tinysam.object_maps import boundary_distance, centre_distance
from napari_tinysam.objects import confirmed, object_regions, segment_objects

FRAME = 1024
WHOLE = Upscaler((FRAME, FRAME), (FRAME, FRAME))


def maps_of(labels: np.ndarray, factor: int = 1) -> np.ndarray:
    """(3, 256 / factor, 256 / factor): what a perfect head says of labels in the frame."""
    layers = [
        labels > 0,
        centre_distance(labels) / 255,
        boundary_distance(labels) / 255,
    ]
    side, cells = 4 * factor, 256 // factor
    squares = np.stack(layers).reshape(3, cells, side, cells, side)
    return squares.mean(axis=(2, 4)).astype(np.float32)


def disc(y: int, x: int, radius: int) -> np.ndarray:
    ys, xs = np.mgrid[:FRAME, :FRAME]
    return np.asarray(np.hypot(ys - y, xs - x) <= radius)


def numbered(*masks: np.ndarray) -> np.ndarray:
    labels = np.zeros((FRAME, FRAME), np.int32)
    for number, mask in enumerate(masks, start=1):
        labels[mask] = number
    return labels


BIG, SMALL = disc(500, 400, 300), disc(200, 900, 80)
TRUE = numbered(BIG, SMALL)


def patches() -> np.ndarray:
    """What is said of a large disc that is not recognised: bits of foreground, vague distances."""
    maps = maps_of(numbered(SMALL))
    rng = np.random.default_rng(0)
    bits = rng.random((32, 32)).repeat(8, 0).repeat(8, 1) < 0.4
    bits &= maps_of(numbered(BIG))[0] > 0.5
    maps[0][bits] = 0.7
    maps[1][bits] = 0.5
    maps[2][bits] = 0.5
    return maps


def test_objects_confirm_their_own_maps() -> None:
    maps = maps_of(TRUE)
    regions = object_regions(maps, (256, 256))
    assert (confirmation(regions, maps)[1:] > 0.95).all()
    # Half of an object is not confirmed by the maps of the whole one.
    half = regions * (np.arange(256) < 100)
    assert confirmation(half, maps)[1] < 0.85
    # Nor is what lies in the background.
    assert confirmation(np.roll(regions, 128, axis=0), maps)[2] < 0.5


def test_a_large_object_comes_from_the_look_that_sees_it_whole() -> None:
    alone = segment_objects(patches(), WHOLE)
    assert object_overlaps(TRUE, alone).best_iou[0] < 0.5
    found = segment_objects([patches(), maps_of(TRUE, 2)], WHOLE)
    assert found.max() == 2
    assert object_overlaps(TRUE, found).best_iou.min() > 0.95
    # The small one is drawn from the frame's own maps, as it would be without other looks.
    one = [labels[200, 900] for labels in (alone, found)]
    np.testing.assert_array_equal(found == one[1], alone == one[0])


def test_the_look_is_as_good_in_images_of_other_sizes() -> None:
    upscaler = Upscaler((FRAME, FRAME), (1500, 1500))
    found = segment_objects([patches(), maps_of(TRUE, 2), maps_of(TRUE, 4)], upscaler)
    places = ((np.arange(1500) + 0.5) * FRAME / 1500).astype(int)
    true = TRUE[np.ix_(places, places)]
    assert object_overlaps(true, found).best_iou.min() > 0.95
    assert found.max() == 2


@pytest.mark.parametrize("factor", [2, 4])
def test_many_objects_are_not_taken_for_one(factor: int) -> None:
    """A smaller look that sees a sheet of cells as one thing is not believed."""
    cells = [
        disc(150 + 90 * i, 150 + 90 * j, 42).copy() for i in range(6) for j in range(6)
    ]
    true = numbered(*cells)
    blurred = maps_of(numbered(np.isin(true, np.arange(1, 37))), factor)
    fine = maps_of(true)
    assert segment_objects([fine, blurred], WHOLE).max() == 36


def test_background_that_is_sure_of_itself_stays() -> None:
    cell = disc(200, 900, 28)
    ghost = maps_of(numbered(BIG, cell), 2)
    ghost[0] *= 0.8  # not so sure
    found = segment_objects([maps_of(numbered(cell)), ghost], WHOLE)
    assert found.max() == 1


def test_both_looks_count_where_objects_are_large() -> None:
    """The frame's maps take two touching discs for one, the smaller look sees the border."""
    for radius, both in ((100, True), (20, False)):
        left = disc(500, 500 - radius + 2, radius)
        right = disc(500, 500 + radius - 2, radius) & ~left
        true = numbered(left, right)
        merged = maps_of(numbered(left | right))
        merged[1], merged[2] = 0.45, 0.55  # vague
        seen = [merged, maps_of(true, 2)]
        assert segment_objects(merged, WHOLE).max() == 1
        assert int(segment_objects(seen, WHOLE).max()) == 1 + both
        regions = object_regions(merged, (256, 256))
        mixed = blended(seen, regions)
        assert mixed.shape == merged.shape
        assert (mixed is merged) is not both
    assert blended([merged], regions) is merged


def test_objects_are_confirmed_at_the_size_of_the_image() -> None:
    upscaler = Upscaler((FRAME, FRAME), (700, 700))
    maps = maps_of(TRUE)
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


def test_small_objects_of_smaller_looks_do_not_count() -> None:
    nothing = np.stack(
        [np.full((256, 256), 0.2), np.ones((256, 256)), np.zeros((256, 256))]
    ).astype(np.float32)
    looks = [nothing, maps_of(TRUE, 2)]
    regions = [object_regions(maps, maps.shape[1:]) for maps in looks]
    found = larger_seen(looks, regions)
    assert [look for look, _ in found] == [1]
    assert found[0][1].sum() > 4000  # the large one


def test_the_smallest_look_goes_before_the_middle_one() -> None:
    """Two halves of a thing in the middle look, the whole of it in the smallest."""
    left = BIG & (np.arange(FRAME) < 400)
    halves = maps_of(numbered(left, BIG & ~left), 2)
    halves[1:] = 0.6  # seen, but not as objects of their own
    halves[1, :, 32:90:8] = 0.1
    found = segment_objects([patches(), halves, maps_of(TRUE, 4)], WHOLE)
    assert object_overlaps(TRUE, found).best_iou[0] > 0.93
