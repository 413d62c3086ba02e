"""Looks at parts of a plane."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.inference.looks import Look, LookGrid, is_large
from napari_tinysam.masks import BoxedMask


@st.composite
def grids(draw: st.DrawFn) -> LookGrid:
    side = draw(st.integers(2, 40))
    overlap = draw(st.integers(0, side - 1))
    shape = (draw(st.integers(1, 90)), draw(st.integers(1, 90)))
    return LookGrid(shape, side, overlap)


@given(grids())
def test_cores_cover_the_plane_once_and_looks_overlap_enough(grid: LookGrid) -> None:
    owners = np.zeros(grid.shape, int)
    for look in grid:
        core = grid.core(look)
        owners[core.rows, core.columns] += 1
        assert look.y0 <= core.y0 < core.y1 <= look.y1 <= grid.shape[0]
        assert look.x0 <= core.x0 < core.x1 <= look.x1 <= grid.shape[1]
        assert look.size == tuple(min(grid.side, length) for length in grid.shape)
    assert (owners == 1).all()
    assert len(list(grid)) == len(grid)
    for starts in grid.starts:
        assert (np.diff(starts) <= grid.side - grid.overlap).all()


@given(grids(), st.data())
def test_a_place_lies_in_the_core_of_its_look(
    grid: LookGrid, data: st.DataObject
) -> None:
    y = data.draw(st.integers(0, grid.shape[0] - 1))
    x = data.draw(st.integers(0, grid.shape[1] - 1))
    core = grid.core(grid.around((x, y)))
    assert core.y0 <= y < core.y1
    assert core.x0 <= x < core.x1
    assert grid.around((x + 0.4, y - 0.4)) == grid.around((x, y))


@given(grids(), st.data())
def test_touching_looks_are_those_whose_cores_share_pixels(
    grid: LookGrid, data: st.DataObject
) -> None:
    y = sorted(data.draw(st.tuples(*[st.integers(0, grid.shape[0])] * 2)))
    x = sorted(data.draw(st.tuples(*[st.integers(0, grid.shape[1])] * 2)))
    part = Look(y[0], x[0], y[1], x[1])
    shown = np.zeros(grid.shape, bool)
    shown[part.rows, part.columns] = True
    expected = {
        look
        for look in grid
        if shown[grid.core(look).rows, grid.core(look).columns].any()
    }
    assert set(grid.touching(part)) == expected


def test_nearest_looks_come_first() -> None:
    grid = LookGrid((100, 100), 20, 0)
    first, *_, last = grid.touching(Look(0, 0, 100, 100))
    assert grid.core(first) == Look(40, 40, 60, 60)
    assert last.y0 in (0, 80)
    assert last.x0 in (0, 80)


def test_points_and_masks_move_with_the_look() -> None:
    look = Look(30, 10, 60, 50)
    np.testing.assert_array_equal(look.local(np.array([[12.5, 31]])), [[2.5, 1]])
    mask = BoxedMask(np.ones((2, 3), bool), 4, 5, look.size)
    placed = look.placed(mask, (100, 100))
    assert placed.box == (15, 34, 17, 35)
    assert placed.shape == (100, 100)


def test_clearance_counts_only_sides_inside_the_plane() -> None:
    shape = (100, 200)
    assert Look.whole(shape).clearance((0, 0, 199, 99), shape) == np.inf
    corner = Look(0, 0, 50, 60)
    assert corner.clearance((0, 0, 54, 10), shape) == 5
    assert corner.clearance((0, 0, 10, 49), shape) == 0
    assert corner.clearance((0, 0, 61, 10), shape) == -2
    assert Look(10, 10, 50, 60).clearance((9, 30, 20, 40), shape) == -1


def test_an_overlap_as_large_as_the_look_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        LookGrid((10, 10), 5, 5)


def test_planes_that_fit_nearly_are_not_large() -> None:
    assert not is_large((1536, 900))
    assert is_large((200, 1537))
