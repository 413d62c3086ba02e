"""From the cursor to the pixel and back, under any transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import Dims, ViewerModel
from napari.layers import Image

from napari_tinysam.ui.state.planes import (
    PlaneError,
    certain_channel_axis,
    plane_reader,
    possible_channel_axis,
    shown_plane,
)

numbers = st.floats(-50, 50, allow_nan=False)
factors = st.floats(0.05, 20)


@settings(max_examples=40, deadline=None)
@given(
    scale=st.tuples(factors, factors, factors),
    translate=st.tuples(numbers, numbers, numbers),
    angle=st.floats(-180, 180),
    shear=st.floats(-1, 1),
    mix=st.tuples(*[st.floats(-0.3, 0.3)] * 4),
    xy=st.tuples(st.floats(0, 29), st.floats(0, 19)),
)
def test_positions_survive_every_transform(
    scale: Any,
    translate: Any,
    angle: float,
    shear: float,
    mix: Any,
    xy: Any,
) -> None:
    turn, affine = np.eye(3), np.eye(4)
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn[1:, 1:] = [[c, -s], [s, c]]
    affine[1:3, 1:3] += np.reshape(mix, (2, 2))
    affine[:3, 3] = translate[::-1]
    image = Image(
        np.zeros((3, 20, 30), np.uint8),
        scale=scale,
        translate=translate,
        rotate=turn,
        shear=[0, 0, shear],
        affine=affine,
    )
    dims = Dims(ndim=3)
    dims.range = tuple((-1e4, 1e4, 1e-3) for _ in range(3))
    dims.set_point(range(3), image.data_to_world((2, 0, 0)))
    plane = shown_plane(image, dims)
    assert plane.index == (2, None, None)
    world = image.data_to_world(plane.data_position(xy))
    np.testing.assert_allclose(
        plane.xy_plane(image.world_to_data(world)), xy, atol=1e-6
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_a_plane_is_read_as_it_is_seen(order: tuple[int, int, int]) -> None:
    data = np.random.default_rng(0).random((4, 5, 6))
    viewer = ViewerModel()
    image = viewer.add_image(data)
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 2)
    plane = shown_plane(image, viewer.dims)
    expected = data.transpose(order)[2]
    np.testing.assert_array_equal(plane_reader(image, plane)(), expected)
    assert plane.shape == expected.shape


def test_a_lazy_stack_is_read_one_plane_at_a_time() -> None:
    computed = []

    def block(block_info: Any = None) -> np.ndarray:
        computed.append(block_info[None]["chunk-location"][0])
        return np.full((1, 8, 9), computed[-1], np.float32)

    stack = da.map_blocks(block, chunks=((1,) * 5, (8,), (9,)), dtype=np.float32)
    image = Image(stack, contrast_limits=(0, 5))
    dims = Dims(ndim=3)
    dims.range = ((0, 4, 1), (0, 7, 1), (0, 8, 1))
    dims.set_point(0, 3)
    computed.clear()
    read = plane_reader(image, shown_plane(image, dims))
    assert computed == []  # nothing on the GUI's thread
    assert (read() == 3).all()
    assert set(computed) == {3}


def test_a_pyramid_level_with_enough_pixels_is_read() -> None:
    levels = [np.full((2, 4096 >> i, 2048 >> i), i, np.uint8) for i in range(5)]
    image = Image(levels, multiscale=True, contrast_limits=(0, 5))
    dims = Dims(ndim=3)
    dims.range = ((0, 1, 1), (0, 4095, 1), (0, 2047, 1))
    plane = shown_plane(image, dims)
    assert plane.shape == (4096, 2048)
    pixels = plane_reader(image, plane)()
    assert pixels.shape == (1024, 512)
    assert (pixels == 2).all()


def test_places_without_a_plane_are_refused_in_words() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((3, 8, 9)), name="short")
    viewer.add_image(np.zeros((9, 8, 9)))
    viewer.dims.set_point(0, 7)
    with pytest.raises(PlaneError, match="short has no plane"):
        shown_plane(image, viewer.dims)
    flat = viewer.add_image(np.zeros((8, 9)), name="flat")
    assert shown_plane(flat, viewer.dims).index == (None, None)
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(PlaneError, match="flat does not have"):
        shown_plane(flat, viewer.dims)
    viewer.dims.ndisplay = 3
    with pytest.raises(PlaneError, match="2D"):
        shown_plane(image, viewer.dims)


@pytest.mark.parametrize(
    ("shape", "labels", "possible", "certain"),
    [
        ((8, 9), "yx", None, None),
        ((4, 8, 9), None, 0, None),
        ((40, 8, 9), None, None, None),
        ((4, 8, 9), "tyx", None, None),
        ((4, 8, 9), "cyx", 0, 0),
        ((3, 2, 8, 9), "tcyx", 1, 1),
        ((2, 5, 8, 9), "czyx", 0, 0),
        ((3, 5, 2, 8, 9), "tzcyx", 2, 2),
        ((50, 3, 8, 9), None, 1, None),
        ((2, 50, 8, 9), None, 0, None),
        ((3, 1, 8, 9), "tcyx", None, None),
    ],
)
def test_which_axis_may_be_channels(
    shape: tuple[int, ...],
    labels: str | None,
    possible: int | None,
    certain: int | None,
) -> None:
    image = Image(
        np.zeros(shape), axis_labels=None if labels is None else tuple(labels)
    )
    assert possible_channel_axis(image) == possible
    assert certain_channel_axis(image) == certain


def test_colours_are_no_channels() -> None:
    assert possible_channel_axis(Image(np.zeros((8, 9, 3)), rgb=True)) is None


def test_a_microscopes_file_says_which_axis_is_channels(tmp_path: Path) -> None:
    path = tmp_path / "cells.ome.tif"
    stack = np.zeros((3, 2, 32, 40), np.uint8)
    tifffile.imwrite(path, stack, metadata={"axes": "TCYX"}, photometric="minisblack")
    viewer = ViewerModel()
    viewer.open(str(path), plugin="napari")
    image = viewer.layers[0]
    assert image.data.shape == stack.shape
    assert certain_channel_axis(image) == 1
