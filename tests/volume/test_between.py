"""Shapes between two planes: their ends, their middle, and never anything outside the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tinysam.masks import BoxedMask
from napari_tinysam.volume.between import shape_between

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
