"""Outlines of masks: closed, exact, and of one width on every screen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_tinysam.ui.canvas.outline import (
    LineStyle,
    Mesh,
    Paint,
    fill,
    strokes,
    trace,
)

PAINT = Paint(line=1.0, line_edge=2.0, rim=3.0, rim_edge=4.0, fill=5.0)
SOLID = LineStyle(width=2.0, rim=1.0)

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


def signed_area(line: np.ndarray) -> float:
    """Positive where the line runs clockwise on the screen, y down."""
    y, x = line.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius - 1 : radius + 2, -radius - 1 : radius + 2]
    return np.asarray(y**2 + x**2 <= radius**2)


def area(mesh: Mesh, wanted: float) -> float:
    """Area of the triangles whose vertices all have a value."""
    corners = mesh.vertices[mesh.faces[(mesh.values[mesh.faces] == wanted).all(axis=1)]]
    (ay, ax), (by, bx) = (
        (corners[:, 1] - corners[:, 0]).T,
        (corners[:, 2] - corners[:, 0]).T,
    )
    return float(np.abs(ax * by - ay * bx).sum() / 2)


@given(masks)
def test_outlines_enclose_the_pixels_of_the_mask_and_no_others(
    mask: np.ndarray,
) -> None:
    traced = trace(mask, 10, 20)
    assert sum(signed_area(line) for line in traced.outlines) == mask.sum()
    covered = np.zeros((40, 40), int)
    for y0, x0, y1, x1 in (traced.runs + 0.5).astype(int):
        covered[y0:y1, x0:x1] += 1
    expected = np.zeros((40, 40), int)
    expected[10 : 10 + mask.shape[0], 20 : 20 + mask.shape[1]] = mask
    np.testing.assert_array_equal(covered, expected)


def test_each_piece_and_each_hole_has_an_outline() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12], mask[5:8, 5:8] = True, False
    mask[15:18, 15:18] = True
    areas = sorted(signed_area(line) for line in trace(mask, 0, 0).outlines)
    assert areas == [-9, 9, 100]


def test_pixels_that_touch_at_a_corner_are_two_pieces() -> None:
    assert len(trace(np.eye(2, dtype=bool), 0, 0).outlines) == 2


@given(masks, st.integers(2, 4))
def test_coarse_outlines_leave_nothing_out(mask: np.ndarray, step: int) -> None:
    covered = sum(signed_area(line) for line in trace(mask, 0, 0, step).outlines)
    assert mask.sum() <= covered <= step**2 * mask.sum()


@pytest.mark.parametrize("zoom", [0.1, 0.7, 3.0, 40.0])
@pytest.mark.parametrize("stretch", [1.0, 0.25])
def test_lines_have_one_width_on_the_screen(zoom: float, stretch: float) -> None:
    """Whatever the zoom is, and also where pixels are not square or turned."""
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    to_screen = zoom * turn @ np.diag([1.0, stretch])
    square = np.zeros((300, 300), bool)
    square[20:-20, 20:-20] = True
    rim, line = strokes(trace(square, 0, 0), to_screen, SOLID, PAINT)
    perimeter = 2 * 260 * zoom * (1 + stretch)
    for mesh, value, width in ((rim, PAINT.rim, 4 - 1), (line, PAINT.line, 2 - 1)):
        on_screen = Mesh(mesh.vertices @ to_screen.T, mesh.faces, mesh.values)
        # The soft edges, half a pixel into the line, have other values.
        assert area(on_screen, value) == pytest.approx(width * perimeter, rel=0.05)


def test_steps_are_smoothed_unless_pixels_are_seen_as_squares() -> None:
    traced = trace(disc(20), 0, 0)
    for zoom, squares in ((3.0, False), (20.0, True)):
        _, line = strokes(traced, zoom * np.eye(2), SOLID, PAINT)
        side = line.vertices[: len(line.vertices) // 4]  # one of four parallel lines
        level = np.isclose(np.diff(side, axis=0), 0, atol=1e-6).any(axis=1)
        assert level.all() == squares


def test_dashes_are_half_of_a_line_and_lie_on_a_whole_rim() -> None:
    traced = trace(disc(30), 0, 0)
    solid_rim, solid = strokes(traced, np.eye(2), SOLID, PAINT)
    rim, dashed = strokes(traced, np.eye(2), LineStyle(2.0, 1.0, dash=6.0), PAINT)
    share = area(dashed, PAINT.line) / area(solid, PAINT.line)
    assert share == pytest.approx(0.5, abs=0.05)
    assert area(rim, PAINT.rim) == pytest.approx(area(solid_rim, PAINT.rim))


@pytest.mark.parametrize("zoom", [0.001, 0.05, 1.0, 100.0])
def test_single_pixels_are_drawn_too(zoom: float) -> None:
    traced = trace(np.ones((1, 1), bool), 5, 5)
    for style in (SOLID, LineStyle(2.0, 1.0, dash=6.0)):
        for mesh in strokes(traced, zoom * np.eye(2), style, PAINT):
            assert len(mesh.faces)
            assert np.isfinite(mesh.vertices).all()
            farthest = np.abs(mesh.vertices - 5).max() - 0.5
            assert farthest * zoom < 2 * (style.width / 2 + style.rim + 0.5) + 1e-6


def test_the_fill_covers_each_pixel_once() -> None:
    mask = disc(9)
    assert area(fill(trace(mask, 3, 4), PAINT), PAINT.fill) == mask.sum()
