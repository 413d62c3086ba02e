"""Masks as polygons."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import points_in_poly

from napari_tinysam.outlines import polygons


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_polygons_cover_exactly_the_mask(mask: np.ndarray) -> None:
    y, x = np.indices(mask.shape)
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    drawn = np.zeros(mask.size, int)
    for outer, *holes in polygons(mask):
        drawn += points_in_poly(centres, outer)
        for hole in holes:
            drawn -= points_in_poly(centres, hole)
    np.testing.assert_array_equal(drawn.reshape(mask.shape), mask)


def test_a_rectangle_has_four_corners_and_a_ring_eight() -> None:
    mask = np.ones((4, 6), bool)
    ((outer,),) = polygons(mask)
    assert sorted(map(tuple, outer.tolist())) == [(0, 0), (0, 4), (6, 0), (6, 4)]
    mask[1:3, 2:4] = False
    ((outer, hole),) = polygons(mask)
    assert np.ptp(outer, axis=0).tolist() == [6, 4]
    assert sorted(map(tuple, hole.tolist())) == [(2, 1), (2, 3), (4, 1), (4, 3)]
