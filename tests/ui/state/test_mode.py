"""What a click means: one value, and what ends a mode."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels

from desk import Desk, open_desk
from napari_tinysam.ui.state.mode import Mode, ModeSwitch


def test_each_change_is_told_once() -> None:
    modes, told = ModeSwitch(), []
    modes.changed.connect(told.append)
    for mode in (Mode.EDIT, Mode.EDIT, Mode.PICK, Mode.PROMPT):
        modes.enter(mode)
    assert told == [Mode.EDIT, Mode.PICK, Mode.PROMPT]


def test_only_the_mode_that_is_on_can_be_left() -> None:
    modes = ModeSwitch()
    modes.enter(Mode.PICK)
    modes.leave(Mode.MERGE)
    assert modes.value is Mode.PICK
    modes.leave(Mode.PICK)
    assert modes.value is Mode.PROMPT


@pytest.mark.parametrize(
    ("before", "after"),
    [(Mode.EDIT, Mode.EDIT), (Mode.PROMPT, Mode.PROMPT), (Mode.PICK, Mode.PROMPT)],
)
def test_editing_goes_on_after_merging(before: Mode, after: Mode) -> None:
    modes = ModeSwitch()
    modes.enter(before)
    modes.toggle(Mode.MERGE)
    assert modes.value is Mode.MERGE
    modes.toggle(Mode.MERGE)
    assert modes.value is after
    modes.leave(Mode.EDIT)
    assert modes.value is Mode.PROMPT


@pytest.fixture
def desk() -> Desk:
    """A stack with one object on its first plane, which is being edited."""
    ids = np.zeros((2, 60, 80), np.uint16)
    ids[0, 20:40, 20:40] = 3
    desk = open_desk(
        Image(np.zeros((2, 60, 80)), name="cells"), Labels(ids, name="cells_labels")
    )
    desk.viewer.dims.set_current_step(0, 0)
    desk.session.set_edit_mode(True)
    desk.click(30, 30)
    assert desk.session.edited_id == 3
    return desk


def test_merging_ends_where_no_object_is_edited(desk: Desk) -> None:
    desk.session.merge_objects()
    assert desk.session.mode is Mode.MERGE
    desk.viewer.dims.set_current_step(0, 1)
    assert desk.session.mode is Mode.EDIT
    desk.viewer.dims.set_current_step(0, 0)
    desk.session.merge_objects()
    desk.session.next_object()
    assert desk.session.mode is Mode.EDIT


def test_another_image_is_prompted(desk: Desk) -> None:
    desk.viewer.add_layer(Image(np.zeros((60, 80)), name="other"))
    assert desk.session.mode is Mode.PROMPT


def test_picking_needs_proposals_and_excludes_editing(desk: Desk) -> None:
    desk.session.set_picking(True)
    assert desk.session.mode is Mode.PICK
    desk.session.set_edit_mode(False)
    assert desk.session.mode is Mode.PICK
    desk.viewer.dims.set_current_step(0, 1)  # a plane without proposals
    assert desk.session.mode is Mode.PROMPT
