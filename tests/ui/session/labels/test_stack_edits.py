"""Changes of many planes are one step, and touch nothing that the user did since."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Labels

from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.labels.edits import LabelEdit
from napari_tinysam.ui.session.labels.stack_edits import StackEdit, redrawn, renamed
from napari_tinysam.ui.state.planes import Plane


def plane_of(layer: Labels, at: int, axes: tuple[int, int] = (1, 2)) -> Plane:
    index = tuple(None if axis in axes else at for axis in range(3))
    shape = layer.data.shape
    return Plane(index, axes, (shape[axes[0]], shape[axes[1]]))


def square(y: int, x: int, side: int, shape: tuple[int, int] = (12, 10)) -> BoxedMask:
    full = np.zeros(shape, bool)
    full[y : y + side, x : x + side] = True
    return BoxedMask.from_full(full)


@pytest.fixture
def layer() -> Labels:
    data = np.zeros((4, 12, 10), np.int32)
    data[:, 2:6, 2:6] = 1
    data[:, 8:10, 6:9] = 2
    return Labels(data)


def test_an_object_is_drawn_anew_where_it_is_free(layer: Labels) -> None:
    edit = StackEdit(layer)
    for at in (1, 2):
        piece = redrawn(layer, plane_of(layer, at), 1, square(4, 3, 5), replace=False)
        assert piece is not None
        edit.add(piece)
    before = layer.data.copy()
    assert layer.data[1, 8, 7] == 2, "another object keeps its pixels"
    assert layer.data[1, 4, 7] == 1
    assert layer.data[1, 2, 2] == 0, "where it was before, it is no longer"
    assert layer.data[0, 2, 2] == 1, "other planes stay"
    assert edit.revert()
    assert layer.data[1, 2, 2] == 1
    assert not edit.applied
    assert edit.apply()
    np.testing.assert_array_equal(layer.data, before)


def test_an_object_may_take_pixels_of_others(layer: Labels) -> None:
    piece = redrawn(layer, plane_of(layer, 0), 1, square(4, 3, 5), replace=True)
    assert piece is not None
    StackEdit(layer).add(piece)
    assert layer.data[0, 8, 7] == 1


def test_an_object_is_removed_from_a_plane(layer: Labels) -> None:
    piece = redrawn(layer, plane_of(layer, 3), 1, None, replace=False)
    assert piece is not None
    StackEdit(layer).add(piece)
    assert not (layer.data[3] == 1).any()
    assert redrawn(layer, plane_of(layer, 3), 1, None, replace=False) is None


def test_what_was_painted_since_stays(layer: Labels) -> None:
    edit = StackEdit(layer)
    for at in range(4):
        piece = renamed(layer, plane_of(layer, at), 1, 7)
        assert piece is not None
        edit.add(piece)
    layer.data[2, 3, 3] = 9
    edit.revert()
    assert layer.data[2, 3, 3] == 9
    assert (np.delete(layer.data[2, 2:6, 2:6].ravel(), 5) == 1).all()
    edit.apply()
    assert layer.data[2, 3, 3] == 9
    assert renamed(layer, plane_of(layer, 0), 1, 5) is None, "the id is not there"


def test_rows_may_be_a_later_axis_than_columns(layer: Labels) -> None:
    plane = plane_of(layer, 1, axes=(2, 1))
    full = np.zeros((10, 12), bool)
    full[0, :3] = True
    mask = BoxedMask.from_full(full)
    piece = redrawn(layer, plane, 5, mask, replace=False)
    assert piece is not None
    StackEdit(layer).add(piece)
    assert (layer.data[1, :3, 0] == 5).all()
    assert layer.data[1, 0, 1] == 0


def test_what_belongs_to_the_labels_is_told(layer: Labels) -> None:
    said: list[bool] = []
    edit = StackEdit(layer, said.append)
    assert edit.revert(), "a step without pixels is still a step"
    edit.apply()
    assert said == [False, True]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pieces_in_any_order_are_taken_back_whole(data: Any) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    layer = Labels(rng.integers(0, 4, (3, 8, 8)).astype(np.uint8))
    start = layer.data.copy()
    edit = StackEdit(layer)
    states = []
    for _ in range(data.draw(st.integers(1, 6))):
        at = int(rng.integers(3))
        y, x = rng.integers(0, 5, 2)
        plane = plane_of(layer, at)
        before = layer.data[at, y : y + 3, x : x + 3].copy()
        after = rng.integers(0, 4, before.shape).astype(np.uint8)
        edit.add(LabelEdit(layer, plane, int(y), int(x), before, after))
        states.append(layer.data.copy())
    edit.revert()
    np.testing.assert_array_equal(layer.data, start)
    edit.apply()
    np.testing.assert_array_equal(layer.data, states[-1])
