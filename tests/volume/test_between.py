"""Shapes between two planes: their ends, their middle, and never anything outside the image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tinysam.masks import BoxedMask
from napari_tinysam.volume.between import (
    filled_between,
    shape_between,
    shape_vanishing,
)

SHAPE = (60, 80)


def disc(y: float, x: float, radius: float) -> BoxedMask:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return BoxedMask.from_full(np.hypot(rows - y, columns - x) <= radius)


discs = st.builds(disc, st.floats(0, 59), st.floats(0, 79), st.floats(1.5, 14)).filter(
    lambda mask: mask.area > 0
)


@given(first=discs, second=discs)
@settings(max_examples=60, deadline=None)
def test_the_ends_are_the_masks_themselves(first: BoxedMask, second: BoxedMask) -> None:
    for share, end in ((0.0, first), (1.0, second)):
        np.testing.assert_array_equal(
            shape_between(first, second, share).to_full(), end.to_full()
        )


@given(first=discs, second=discs, share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_what_is_between_lies_in_the_image(
    first: BoxedMask, second: BoxedMask, share: float
) -> None:
    found = shape_between(first, second, share)
    assert found.to_full().shape == SHAPE
    assert found.area > 0
    assert found.area <= 1.3 * max(first.area, second.area) + 12


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_disc_that_moves_and_grows(share: float) -> None:
    first, second = disc(20, 18, 8), disc(34, 56, 14)
    wanted = disc(20 + 14 * share, 18 + 38 * share, 8 + 6 * share)
    assert shape_between(first, second, share).iou(wanted) > 0.93


def test_two_arms_become_one_smoothly() -> None:
    """The areas between lie between those of the ends."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    arms = (abs(rows - 30) < 4) & (abs(columns - 40) < 25)
    arms |= (abs(columns - 40) < 4) & (abs(rows - 30) < 25)
    cross, round_ = BoxedMask.from_full(arms), disc(30, 40, 24)
    areas = [shape_between(cross, round_, s).area for s in np.linspace(0, 1, 9)]
    assert areas == sorted(areas)


@given(mask=discs)
@settings(max_examples=40, deadline=None)
def test_what_vanishes_shrinks_to_nothing(mask: BoxedMask) -> None:
    masks = [shape_vanishing(mask, share) for share in np.linspace(0, 1, 8)]
    np.testing.assert_array_equal(masks[0].to_full(), mask.to_full())
    assert masks[-1].area == 0
    for larger, smaller in itertools.pairwise(masks):
        assert not (smaller.to_full() & ~larger.to_full()).any()


def test_a_ball_annotated_in_some_planes_is_filled() -> None:
    """Every second plane of a ball, and planes without it on both sides."""
    y, x = np.mgrid[:60, :80]
    truth = np.stack(
        [
            5 * ((y - 30) ** 2 + (x - 40) ** 2 + (4 * (z - 6)) ** 2 <= 20**2)
            for z in range(13)
        ]
    ).astype(np.int32)
    known = {z: truth[z] for z in (0, 2, 4, 6, 8, 10, 12)}
    found = dict(filled_between(known))
    assert sorted(found) == [1, 3, 5, 7, 9, 11]
    whole = np.stack([known.get(z, found.get(z)) for z in range(13)])
    for planes, least in ((slice(2, 11), 0.95), (slice(None), 0.88)):  # with the caps
        shown, true = whole[planes] == 5, truth[planes] == 5
        assert (shown & true).sum() / (shown | true).sum() > least


def test_only_the_wanted_objects_are_filled() -> None:
    both = 3 * disc(20, 20, 8).to_full() + 9 * disc(40, 60, 8).to_full()
    ((_, found),) = filled_between({0: both, 2: both}, objects=[9])
    assert set(np.unique(found)) == {0, 9}
    ((_, found),) = filled_between({4: both, 6: both})
    np.testing.assert_array_equal(found, both)


def test_a_pixel_goes_to_the_object_that_it_lies_deeper_inside_of() -> None:
    """They swap places: in the middle both want the same pixels, and each pixel has one owner."""
    one, other = disc(30, 25, 10).to_full(), disc(30, 55, 10).to_full()
    ((_, found),) = filled_between({0: 1 * one + 2 * other, 2: 2 * one + 1 * other})
    assert found.max() <= 2
    np.testing.assert_array_equal(found > 0, disc(30, 40, 10).to_full())


def test_planes_beside_each_other_have_nothing_between() -> None:
    one = disc(30, 25, 10).to_full().astype(int)
    assert list(filled_between({3: one, 4: one})) == []
    assert list(filled_between({3: one})) == []
    with pytest.raises(ValueError, match="one size"):
        list(filled_between({0: one, 2: one[:, 1:]}))
