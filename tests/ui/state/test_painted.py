"""Proposals painted in windows: the same pixels as of the whole plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tinysam.everything import LabelSettings, Proposal, Proposals
from napari_tinysam.everything.choosing import shapes_of
from napari_tinysam.everything.shapes import TakenPixels
from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.canvas.painted_pyramid import PaintedPyramid
from napari_tinysam.ui.state.coloring import choose_colors
from napari_tinysam.ui.state.painted import (
    FoundObjects,
    KeptPixels,
    ShownObjects,
    whole,
)
from napari_tinysam.ui.state.planes import Plane

SHAPE = (300, 400)


def disc(x: int, y: int, radius: int) -> BoxedMask:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return BoxedMask.from_full(np.hypot(rows - y, columns - x) <= radius)


discs = st.builds(
    disc, st.integers(0, SHAPE[1]), st.integers(0, SHAPE[0]), st.integers(2, 90)
).filter(lambda mask: mask.area > 0)


@st.composite
def windows(draw: st.DrawFn) -> tuple[range, range]:
    step = draw(st.sampled_from([1, 2, 3, 4, 8]))
    found = []
    for length in SHAPE:
        first = draw(st.integers(0, (length - 1) // step))
        last = draw(st.integers(first, (length - 1) // step))
        found.append(range(step * first, min(step * (last + 1), length), step))
    return found[0], found[1]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(discs, discs), max_size=8), windows(), discs)
def test_a_window_shows_what_the_plane_shows(
    members: list[tuple[BoxedMask, BoxedMask]],
    window: tuple[range, range],
    labelled: BoxedMask,
) -> None:
    proposals = Proposals(
        [
            Proposal(mask, 0.9 - n / 100, (0, 0), territory=own if n % 2 else None)
            for n, (mask, own) in enumerate(members)
        ],
        SHAPE,
    )
    taken = TakenPixels(proposals, labelled.within)
    # Pieces would be left out of coarse windows only where objects are cut by others.
    wish = LabelSettings(confidence=0.0, connected=False)
    shapes = shapes_of(proposals, wish, taken)
    shown = ShownObjects(shapes, choose_colors(proposals), KeptPixels(proposals))
    rows, columns = window
    plane = whole(shown)
    np.testing.assert_array_equal(
        shown.paint(rows, columns),
        plane[rows.start : rows.stop : rows.step][
            :, columns.start : columns.stop : columns.step
        ],
    )
    assert not plane[labelled.to_full()].any()
    labels = shapes.labels()
    np.testing.assert_array_equal(plane > 0, labels > 0)
    assert len(np.unique(plane)) == len(np.unique(labels))


@settings(deadline=None, max_examples=60)
@given(st.lists(discs, max_size=10), windows())
def test_so_does_a_search(masks: list[BoxedMask], window: tuple[range, range]) -> None:
    found = FoundObjects(SHAPE)
    plane = np.zeros(SHAPE, bool)
    for mask in masks:
        free = mask.to_full() & ~plane
        assert found.add(mask) == (2 * np.count_nonzero(free) > mask.area)
        plane = whole(found) > 0
    rows, columns = window
    np.testing.assert_array_equal(
        found.paint(rows, columns),
        whole(found)[rows.start : rows.stop : rows.step][
            :, columns.start : columns.stop : columns.step
        ],
    )
    assert len(np.unique(whole(found))) == len(found) + bool((~plane).any())


@pytest.mark.parametrize("transposed", [False, True])
def test_a_pyramid_reads_like_an_array(transposed: bool) -> None:
    painted = FoundObjects(SHAPE)
    painted.add(disc(200, 100, 60))
    axes = (2, 1) if transposed else (1, 2)
    shape = (3, *(SHAPE[::-1] if transposed else SHAPE))
    pyramid = PaintedPyramid(shape, axes)
    plane = Plane((1, None, None), axes, SHAPE)
    pyramid.write(plane, painted)
    expected = np.zeros(shape, np.int32)
    values = whole(painted)
    expected[1] = values.T if transposed else values
    level: Any = pyramid.levels[0]
    assert (level.ndim, level.size, len(level)) == (3, expected.size, 3)
    np.testing.assert_array_equal(np.asarray(level), expected)
    keys: list[Any] = [1, (1, slice(20, 90)), (slice(None), 100, slice(5, 250, 3))]
    keys += [..., (..., 200), (-2, slice(None), slice(-30, None))]
    for key in keys:
        np.testing.assert_array_equal(level[key], expected[key])
    assert pyramid.write(plane, None)
    assert not pyramid.write(plane, None)
    assert not np.asarray(level).any()


def test_a_pyramid_of_channels_shows_the_objects_in_all() -> None:
    painted = FoundObjects(SHAPE)
    painted.add(disc(200, 100, 60))
    pyramid = PaintedPyramid((4, 2, *SHAPE), (2, 3))
    pyramid.write(Plane((3, 0, None, None), (2, 3), SHAPE, channel_axis=1), painted)
    level = pyramid.levels[0]
    assert not level[2].any()
    np.testing.assert_array_equal(level[3, 0], level[3, 1])
    assert level[3, 1].any()
