"""What the journal says of each action: its name, its arguments, and what they were done with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from desk import noise
from journalled_desk import commit, kept, open_queued
from napari_tinysam.journal.lines import Action, DamagedError
from napari_tinysam.journal.prompted import mask_from_json, mask_to_json
from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.labels.filling import packed
from napari_tinysam.ui.state.work_time import WorkTime

if TYPE_CHECKING:
    from desk import Desk


def actions(desk: Desk, name: str) -> list[Action]:
    return [action for action in kept(desk).actions if action.name == name]


def last(desk: Desk, name: str) -> Action:
    return actions(desk, name)[-1]


def edit(desk: Desk, x: float, y: float) -> None:
    desk.session.set_edit_mode(True)
    desk.click(x, y)
    desk.session.set_edit_mode(False)


def objects(action: Action) -> list[dict[str, Any]]:
    return list(action.arguments["objects"])


def test_a_commit_says_how_each_object_came_to_be() -> None:
    desk = open_queued(noise(3, 200, 300))
    desk.viewer.dims.set_current_step(0, 2)
    desk.click(40.5, 30)
    desk.click(44, 30, 0)
    desk.session.set_candidate(2)
    desk.session.next_object()
    desk.box(100, 50, 160, 90)
    desk.session.commit()
    desk.inference.turn()

    clicked, boxed = objects(last(desk, "commit"))
    assert (clicked["id"], boxed["id"]) == (1, 2)
    assert (clicked["origin"], boxed["origin"]) == ("clicks", "box")
    assert clicked["plane"] == [2, None, None]
    assert clicked["prompts"]["points"] == [[30, 40.5, 1], [30, 44, 0]]
    assert boxed["prompts"]["box"] == [50, 100, 90, 160]
    assert (clicked["candidate"], clicked["chosen"], clicked["score"]) == (2, True, 0.7)
    assert (boxed["candidate"], boxed["chosen"], boxed["score"]) == (1, False, 0.9)
    assert clicked["look"] == [0, 0, 200, 300]
    assert clicked["seconds"] >= 0


def test_what_was_done_before_the_first_object_is_told_in_order() -> None:
    desk = open_queued(noise(200, 300))
    desk.click(40, 30)
    desk.session.undo()
    desk.click(50, 30)
    desk.session.set_candidate(2)
    commit(desk, 100, 100)

    found = kept(desk).actions
    assert [action.name for action in found] == [
        "model",
        "setting",
        "prompt",
        "undo",
        "prompt",
        "choose",
        "prompt",
        "commit",
    ]
    assert [action.number for action in found] == list(range(1, 9))
    assert [action.step for action in found] == [0, 0, 1, 1, 2, 3, 4, 5]
    assert found[2].time <= found[-1].time
    model = {"name": "discs", "id": "discs", "device": "auto", "runtime": "discs"}
    assert found[0].arguments == model
    assert found[2].model == "discs discs"
    assert found[2].arguments["drafts"] == {
        "keep": 0,
        "then": [{"points": [[30, 40, 1]]}],
    }


def test_changed_settings_are_told_with_the_next_action() -> None:
    from napari_tinysam.labels import Overlap

    desk = open_queued(noise(200, 300))
    commit(desk, 40, 30)
    desk.session.set_overlap(Overlap.REPLACE)
    commit(desk, 45, 30)

    settings = actions(desk, "setting")
    assert settings[0].arguments["version"]
    assert settings[1].arguments == {"overlap": "replace"}
    assert last(desk, "commit").arguments["overlap"] == "replace"


def test_an_edited_object_is_told_with_the_shape_it_had() -> None:
    desk = open_queued(noise(200, 300))
    commit(desk, 40, 30)
    target = desk.session.target
    assert target is not None
    before = np.array(target.data) == 1
    desk.session.stop_hover()
    edit(desk, 40, 30)
    commit(desk, 60, 30)

    (told,) = objects(last(desk, "commit"))
    assert told["id"] == 1
    mask = mask_from_json(told["prompts"]["mask"], (200, 300))
    np.testing.assert_array_equal(mask.to_full(), before)


def test_changes_of_objects_are_told() -> None:
    desk = open_queued(noise(200, 300))
    for x in (40, 120, 200):
        commit(desk, x, 60)
    session = desk.session
    session.stop_hover()
    edit(desk, 40, 60)
    session.delete_object()
    desk.inference.turn()
    assert last(desk, "delete").ids == (1,)
    edit(desk, 120, 60)
    session.merge_objects()
    desk.click(200, 60)
    desk.inference.turn()
    merged = last(desk, "merge")
    assert merged.arguments["into"] == 2
    assert merged.arguments["from"] == 3
    session.undo()
    desk.inference.turn()
    undone = last(desk, "undo")
    assert (undone.arguments["of"], undone.step) == ("merge", merged.step)
    session.clear()
    edit(desk, 120, 60)
    desk.click(114, 60)
    desk.click(126, 60)
    session.split_object()
    desk.inference.turn()
    split = last(desk, "split")
    assert split.arguments["seeds"] == [[60, 114], [60, 126]]
    assert split.arguments["into"] == [2, 4]


def test_painting_is_told_with_its_ids() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 40, 30)
    target = desk.session.target
    assert target is not None
    target.paint((10, 10), 7)
    desk.inference.turn()
    target.paint((10, 10), 0)
    desk.inference.turn()

    painted, erased = actions(desk, "paint")
    assert [(each["id"], each["origin"]) for each in objects(painted)] == [
        (7, "painted")
    ]
    assert not objects(erased)
    assert erased.arguments["erased"]
    assert painted.windows
    assert painted.step < erased.step


def test_filling_and_linking_many_planes_are_told() -> None:
    desk = open_queued(noise(4, 60, 80, axis_labels=("z", "y", "x")))
    found = np.zeros((60, 80), np.int32)
    found[10:30, 10:40] = 1
    desk.viewer.dims.set_current_step(0, 1)
    shown = desk.session.shown_plane
    assert shown is not None
    filling = desk.session._parts.labelling.filling
    for at in range(4):
        plane = replace(shown, index=(at, None, None))
        filling.write(desk.image, plane, 1, packed(found))
    desk.inference.turn()
    desk.session.link_planes()
    desk.inference.turn()

    filled = [a for a in actions(desk, "fill") if "count" in a.arguments]
    assert [a.arguments["plane"][0] for a in filled] == [0, 1, 2, 3]
    assert [a.arguments["first"] for a in filled] == [1, 2, 3, 4]
    linked = last(desk, "link")
    assert "overlap" in linked.arguments["settings"]
    assert linked.windows
    # All windows of one step belong to it, however many turns it took.
    written = [action for action in kept(desk).actions if action.windows]
    assert {(a.name, a.step) for a in written} == {("fill", 1), ("link", linked.step)}


def test_following_is_told_with_its_planes() -> None:
    desk = open_queued(noise(4, 60, 80, axis_labels=("z", "y", "x")))
    desk.viewer.dims.set_current_step(0, 1)
    commit(desk, 40, 30)
    desk.session.hover_at(desk.world(40, 30))
    desk.session.follow_object()
    desk.inference.turn()

    followed = actions(desk, "follow")
    (told,) = objects(followed[0])
    assert (told["id"], told["origin"], told["anchors"]) == (1, "followed", [1])
    assert len({action.step for action in followed}) == 1
    planes = {window.start[0] for action in followed for window in action.windows}
    assert planes == {0, 2, 3}


def test_pauses_are_no_work() -> None:
    times = iter([10.0, 12.0, 500.0, 503.0])
    work = WorkTime(lambda: next(times))

    assert [work.passed() for _ in range(4)] == [0, 2, 0, 3]
    work.spend("a", 2)
    work.spend("a", 1.5)
    assert work.take("a") == 3.5
    assert work.take("a") == 0


@pytest.mark.parametrize(
    "content",
    [
        None,
        [0, 0, [3, 3], "x"],
        [0, 0, [3, 3], ""],
        [-1, 0, [1, 1], "eJwDAAAAAAE="],
        [8, 8, [9, 9], "eJwDAAAAAAE="],
        [0, 0, [2**20, 2**20], "eJwDAAAAAAE="],
    ],
)
def test_damaged_masks_are_told(content: Any) -> None:
    with pytest.raises(DamagedError):
        mask_from_json(content, (10, 10))


def test_masks_survive() -> None:
    full = np.random.default_rng(0).random((30, 41)) < 0.2
    mask = BoxedMask.from_full(full)
    again = mask_from_json(mask_to_json(mask), (30, 41))
    np.testing.assert_array_equal(again.to_full(), full)
    empty = BoxedMask.empty((5, 5))
    assert not mask_from_json(mask_to_json(empty), (5, 5)).area
