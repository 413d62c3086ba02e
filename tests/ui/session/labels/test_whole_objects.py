"""An object of a volume is deleted, merged and split as one; ids of other planes are not it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels

from desk import Desk, open_desk
from ui.session.tracks.small_movie import opened


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:96, :96]
    return np.hypot(columns - x, rows - y) <= radius


@pytest.fixture
def found() -> Desk:
    """Object 1 goes through planes 1 to 6, object 2 through 3 to 8; far off, 1 is used again."""
    labels = np.zeros((10, 96, 96), np.int32)
    for at in range(1, 7):
        labels[at][disc(20 + 2 * at, 30, 8)] = 1
    for at in range(3, 9):
        labels[at][disc(70, 60, 9)] = 2
    labels[9][disc(80, 15, 5)] = 1
    image = Image(np.zeros((10, 96, 96), np.uint8), name="cells", metadata={})
    image.axis_labels = ("z", "y", "x")
    desk = open_desk(image, Labels(labels, name="cells committed_objects"))
    desk.viewer.dims.set_point(0, 4)
    return desk


def ids(found: Desk, plane: int) -> list[int]:
    target = found.session.target
    assert target is not None
    return sorted(set(np.asarray(target.data)[plane].ravel().tolist()) - {0})


def edit(found: Desk, x: float, y: float) -> None:
    found.session.set_edit_mode(True)
    found.click(x, y)


def data(found: Desk) -> Any:
    target = found.session.target
    assert target is not None
    return np.array(target.data)


def test_an_object_is_deleted_in_all_of_its_planes(found: Desk) -> None:
    before = data(found)
    edit(found, 28, 30)
    found.session.delete_object()
    assert not (data(found)[1:7] == 1).any()
    assert ids(found, 9) == [1], "another object with the same id"
    assert "removed from 6 planes" in found.told[-1][1]
    found.session.undo()
    np.testing.assert_array_equal(data(found), before)
    found.session.redo()
    assert not (data(found)[1:7] == 1).any()


def test_or_in_the_shown_plane_only(found: Desk) -> None:
    found.session.set_whole(False)
    edit(found, 28, 30)
    found.session.delete_object()
    assert ids(found, 4) == [2]
    assert ids(found, 5) == [1, 2]


def test_two_objects_are_merged_in_all_planes(found: Desk) -> None:
    before = data(found)
    edit(found, 28, 30)
    found.session.merge_objects()
    found.click(70, 60)
    assert [ids(found, at) for at in range(10)] == [[]] + [[1]] * 9
    found.session.undo()
    np.testing.assert_array_equal(data(found), before)


def test_an_object_is_split_along_the_axis(found: Desk) -> None:
    before = data(found)
    found.session.hover_at(found.world(28, 30))
    found.session.split_here()
    assert [1 in ids(found, at) for at in range(1, 7)] == [True] * 3 + [False] * 3
    assert [3 in ids(found, at) for at in range(1, 7)] == [False] * 3 + [True] * 3
    found.session.undo()
    np.testing.assert_array_equal(data(found), before)


def test_where_there_is_nothing_to_split_is_said(found: Desk) -> None:
    found.viewer.dims.set_point(0, 1)
    found.session.hover_at(found.world(22, 30))
    found.session.split_here()
    assert "begins here" in found.told[-1][1]
    found.session.hover_at(found.world(90, 90))
    found.session.split_here()
    assert "several planes" in found.told[-1][1]
    assert not found.session.can_undo


def test_an_object_in_one_plane_is_handled_as_ever(found: Desk) -> None:
    found.viewer.dims.set_point(0, 9)
    edit(found, 80, 15)
    found.session.delete_object()
    assert ids(found, 9) == []
    assert ids(found, 4) == [1, 2]


def test_an_object_that_is_gone_is_not_split() -> None:
    desk = opened()
    desk.session.hover_at(desk.world(40, 40))
    desk.session.edit_object()
    label = desk.session.edited_id
    layer = desk.session.target
    layer.data[layer.data == label] = 0
    desk.session.split_object()
    assert desk.told[-1][1] == f"Object {label} is not in this plane any more."
