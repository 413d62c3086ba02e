"""Point grids: where they are, and that none is there twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.everything import centred_lattice, official_lattice

SIDES = st.integers(1, 1500)


def published(height: int, width: int, n: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """TinySAM's loops, said again."""
    coarse, dense = [], []
    m, step_y, step_x = n // 4, height // n, width // n
    for i in range(m):
        for j in range(m):
            x, y = (j + 0.5) / m * width, (i + 0.5) / m * height
            coarse.append((x, y))
            for dy in range(-1, 3):
                for dx in range(-1, 3):
                    if dx == dy == 0:
                        continue
                    if dx == 2 and x + 2 * step_x >= width:
                        continue
                    if dy == 2 and y + 2 * step_y >= height:
                        continue
                    dense.append((x + dx * step_x, y + dy * step_y))
    return np.array(coarse), np.array(dense)


def as_set(points: np.ndarray) -> list[tuple[float, float]]:
    return sorted(map(tuple, np.round(points, 6).tolist()))


@given(SIDES, SIDES)
def test_centred_points_are_those_of_segment_anything(height: int, width: int) -> None:
    lattice = centred_lattice((height, width))
    points = lattice.all
    assert (points >= 0).all()
    assert (points < (width, height)).all()
    pixels = {tuple(p) for p in points.astype(int).tolist()}
    assert len(pixels) == len(points) == min(32, height) * min(32, width)
    if min(height, width) >= 32:
        along = (np.arange(32) + 0.5) / 32
        y, x = np.meshgrid(along * height, along * width, indexing="ij")
        assert as_set(points) == as_set(np.stack([x, y], -1).reshape(-1, 2))


@given(st.integers(1, 70))
def test_of_each_block_one_point_is_in_the_first_round(n: int) -> None:
    lattice = centred_lattice((200, 300), n)
    assert len(lattice.coarse) == (-(-n // 4)) ** 2
    assert len(lattice.all) == n**2
    numbers = (lattice.coarse / (300, 200) * n - 0.5).round().astype(int)
    blocks = {tuple(block) for block in (numbers // 4).tolist()}
    assert len(blocks) == len(lattice.coarse)


def test_points_outside_are_left_out_of_both_rounds() -> None:
    lattice = centred_lattice((64, 64))
    where = np.zeros((64, 64), bool)
    where[:40, 10:] = True
    inside = lattice.inside(where)
    assert 0 < len(inside.all) < len(lattice.all)
    for part, whole in (
        (inside.coarse, lattice.coarse),
        (inside.dense, lattice.dense),
    ):
        x, y = whole.astype(int).T
        np.testing.assert_array_equal(part, whole[where[y, x]])


@pytest.mark.parametrize(
    ("size", "count"),
    [((1024, 1024), 961), ((480, 640), 961), ((700, 1000), 1024), ((333, 500), 1024)],
)
def test_official_points_are_those_of_the_published_code(
    size: tuple[int, int], count: int
) -> None:
    lattice = official_lattice(size)
    coarse, dense = published(*size)
    assert as_set(lattice.coarse) == as_set(coarse)
    assert as_set(lattice.dense) == as_set(dense)
    assert len(lattice.all) == count


@given(st.integers(32, 1200), st.integers(32, 1200))
def test_official_points_lie_in_the_image(height: int, width: int) -> None:
    points = official_lattice((height, width)).all
    assert (points >= 0).all()
    assert (points < (width, height)).all()


def test_what_makes_no_points_is_refused() -> None:
    with pytest.raises(ValueError, match="At least one point"):
        centred_lattice((10, 10), 0)
    with pytest.raises(ValueError, match="no pixels"):
        centred_lattice((0, 10))
    for size, n in (((31, 100), 32), ((100, 100), 3)):
        with pytest.raises(ValueError, match="official lattice needs"):
            official_lattice(size, n)
