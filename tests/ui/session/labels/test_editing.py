"""Objects that are there: changed, deleted, merged and split."""

from __future__ import annotations

import numpy as np
from napari.layers import Labels

from desk import Desk, noise, open_desk
from napari_tinysam.prompts import NEGATIVE
from napari_tinysam.ui.state.mode import Mode


def committed_desk() -> Desk:
    """Two objects: 1 on the left, 2 on the right."""
    desk = open_desk(noise(200, 300))
    for x in (60, 200):
        desk.click(x, 80)
        desk.session.commit()
    desk.session.set_edit_mode(True)
    return desk


def test_editing_keeps_the_id_and_the_neighbours() -> None:
    desk = committed_desk()
    labels = desk.session.target
    assert labels is not None
    area = np.count_nonzero(labels.data == 1)
    desk.click(60, 80)
    assert desk.session.edited_id == 1
    assert sum(desk.preview_pixels().values()) == area  # the object itself, so far
    desk.click(72, 80)
    desk.session.commit()
    assert desk.ids == [1, 2]
    assert np.count_nonzero(labels.data == 1) > area
    desk.session.undo()
    assert np.count_nonzero(labels.data == 1) == area


def test_editing_can_shrink_an_object() -> None:
    desk = committed_desk()
    labels = desk.session.target
    assert labels is not None
    area = np.count_nonzero(labels.data == 1)
    desk.click(60, 80)
    desk.click(66, 80, NEGATIVE)
    desk.session.commit()
    assert 0 < np.count_nonzero(labels.data == 1) < area


def test_edit_mode_wants_an_object() -> None:
    desk = committed_desk()
    desk.click(130, 150)
    assert not desk.session.can_edit
    assert desk.told[-1][0] == "info"


def test_delete_and_its_undo() -> None:
    desk = committed_desk()
    desk.click(200, 80)
    desk.session.delete_object()
    assert desk.ids == [1]
    desk.session.undo()
    assert desk.ids == [1, 2]


def test_merge_two_objects() -> None:
    desk = committed_desk()
    labels = desk.session.target
    assert labels is not None
    total = np.count_nonzero(labels.data)
    desk.click(60, 80)
    desk.session.merge_objects()
    assert desk.session.mode is Mode.MERGE
    desk.click(200, 80)
    assert desk.ids == [1]
    assert np.count_nonzero(labels.data) == total
    assert desk.session.mode is Mode.EDIT
    desk.session.undo()
    assert desk.ids == [1, 2]


def test_split_pieces_and_by_clicks() -> None:
    desk = committed_desk()
    labels = desk.session.target
    assert labels is not None
    desk.click(60, 80)
    desk.session.split_object()  # one disc
    assert desk.told[-1][0] == "warning"
    desk.click(56, 80)
    desk.click(64, 80)
    desk.session.split_object()
    assert desk.ids == [1, 2, 3]
    assert labels.data[80, 56] != labels.data[80, 64]
    desk.session.undo()
    assert desk.ids == [1, 2]


def test_a_dumbbell_is_split_at_its_waist() -> None:
    ys, xs = np.mgrid[:200, :300]
    two = (np.hypot(ys - 100, xs - 100) < 30) | (np.hypot(ys - 100, xs - 150) < 30)
    desk = open_desk(noise(200, 300), Labels(two.astype(np.uint16), name="touching"))
    desk.session.set_target(desk.viewer.layers["touching"])
    desk.session.set_edit_mode(True)
    desk.click(100, 100)
    desk.session.split_object()
    assert desk.ids == [1, 2]
    data = desk.viewer.layers["touching"].data
    assert data[100, 90] != data[100, 160]
    assert np.count_nonzero(data) == two.sum()
