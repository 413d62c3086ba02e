"""Undo is the journal read backwards: it goes on where a process was killed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Labels

from desk import Desk, noise
from fake_inference import QueuedInference
from fake_predictor import disc_predictor
from journalled_desk import commit, crash, kept, open_queued, same
from napari_tinysam.ui.session.facade import AnnotationSession
from napari_tinysam.ui.session.labels.filling import packed

if TYPE_CHECKING:
    from collections.abc import Callable


class Course:
    """What a session did, with the labels after each step."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.labels: list[np.ndarray] = []

    def step(self, do: Callable[[], Any]) -> None:
        do()
        self.desk.inference.turn()
        self.labels.append(labels_of_target(self.desk))


def labels_of_target(desk: Desk) -> np.ndarray:
    target = desk.session.target
    shape = desk.image.data.shape
    return np.zeros(shape, np.uint32) if target is None else np.array(target.data)


def restored(*layers: Any) -> Desk:
    desk = open_queued(*layers)
    desk.session.recovery.restore()
    desk.inference.turn()
    return desk


def undo(desk: Desk) -> str:
    text = str(desk.session.undo_text)
    desk.session.undo()
    desk.inference.turn()
    return text


def edit(desk: Desk, x: float, y: float) -> None:
    desk.session.set_edit_mode(True)
    desk.click(x, y)
    desk.session.set_edit_mode(False)


def annotate(desk: Desk) -> list[tuple[str, np.ndarray]]:
    """Do one of each; returns each text of undo with the labels before it."""
    session, past = desk.session, list[tuple[str, np.ndarray]]()

    def do(call: Callable[[], Any]) -> None:
        before = labels_of_target(desk)
        call()
        desk.inference.turn()
        past.append((session.undo_text, before))

    do(lambda: desk.click(40, 40))
    do(session.commit)
    do(lambda: desk.box(100, 60, 150, 120))
    do(session.commit)
    do(lambda: desk.click(230, 100))
    do(session.commit)
    session.stop_hover()
    do(lambda: edit(desk, 40, 40))
    do(lambda: desk.click(55, 40))
    do(session.commit)
    target = session.target
    assert target is not None
    do(lambda: target.paint((150, 200), 9))
    do(lambda: edit(desk, 230, 100))
    do(session.delete_object)
    do(lambda: edit(desk, 40, 40))
    session.merge_objects()
    do(lambda: desk.click(125, 90))
    do(lambda: desk.click(270, 30))
    return past


def test_everything_is_undone_after_a_crash_and_done_again() -> None:
    desk = open_queued(noise(200, 300))
    past = annotate(desk)
    kept(desk)
    labels = crash(desk)

    later = restored(noise(200, 300))
    np.testing.assert_array_equal(labels_of_target(later), labels)
    # The prompt that was not committed is there, too.
    assert later.session.uncommitted_count == 1
    for text, before in reversed(past):
        assert undo(later) == text
        np.testing.assert_array_equal(labels_of_target(later), before)
        assert same(later)
    assert not later.session.undo_text
    for _ in past:
        later.session.redo()
        later.inference.turn()
    assert same(later)
    np.testing.assert_array_equal(labels_of_target(later), labels)


def test_undone_steps_stay_undone_and_can_be_done_again() -> None:
    desk = open_queued(noise(200, 300))
    annotate(desk)
    for _ in range(6):
        undo(desk)
    kept(desk)
    text, labels = desk.session.redo_text, crash(desk)

    later = restored(noise(200, 300))
    np.testing.assert_array_equal(labels_of_target(later), labels)
    assert later.session.redo_text == text
    commit(later, 280, 180)
    assert not later.session.redo_text


def test_two_crashes_in_a_row() -> None:
    desk = open_queued(noise(200, 300))
    past = annotate(desk)
    kept(desk)
    crash(desk)
    desk = restored(noise(200, 300))
    undo(desk)
    commit(desk, 280, 180)
    kept(desk)
    crash(desk)

    desk = restored(noise(200, 300))
    assert undo(desk) == "commit"
    assert undo(desk) == "point"
    for text, before in reversed(past[:-1]):
        assert undo(desk) == text
        np.testing.assert_array_equal(labels_of_target(desk), before)
    names = [action.name for action in kept(desk).actions]
    assert names.count("commit") == 5


def test_whole_stack_steps_are_undone_after_a_crash() -> None:
    shape = {"axis_labels": ("z", "y", "x")}
    desk = open_queued(noise(4, 60, 80, **shape))
    session, objects = desk.session, np.zeros((60, 80), np.int32)
    objects[10:30, 10:40], objects[35:50, 50:70] = 1, 2
    desk.viewer.dims.set_current_step(0, 1)
    shown = session.shown_plane
    assert shown is not None
    states = []
    for at in range(4):
        plane = replace(shown, index=(at, None, None))
        session._parts.labelling.filling.write(desk.image, plane, 2, packed(objects))
    desk.inference.turn()
    states.append(labels_of_target(desk))
    session.link_planes()
    desk.inference.turn()
    states.append(labels_of_target(desk))
    session.hover_at(desk.world(20, 20))
    session.delete_object()
    desk.inference.turn()
    commit(desk, 20, 20)
    states.append(labels_of_target(desk))
    session.hover_at(desk.world(20, 20))
    session.follow_object()
    desk.inference.turn()
    kept(desk)
    labels = crash(desk)

    later = restored(noise(4, 60, 80, **shape))
    np.testing.assert_array_equal(labels_of_target(later), labels)
    assert undo(later) == "follow"
    np.testing.assert_array_equal(labels_of_target(later), states.pop())
    assert [undo(later) for _ in range(2)] == ["commit", "point"]
    assert undo(later) == "delete"
    np.testing.assert_array_equal(labels_of_target(later), states.pop())
    assert undo(later) == "link planes"
    np.testing.assert_array_equal(labels_of_target(later), states.pop())
    assert undo(later) == "auto-segment all"
    assert not labels_of_target(later).any()
    assert same(later)


def test_undo_goes_on_in_a_dock_that_is_opened_again() -> None:
    desk = open_queued(noise(200, 300))
    past = annotate(desk)
    desk.session.close()
    predictor, runtime = disc_predictor()
    inference = QueuedInference()
    session = AnnotationSession(
        desk.viewer, inference, load_predictor=lambda *_: predictor
    )
    session.set_active(True)
    again = Desk(desk.viewer, session, inference, runtime)
    inference.turn()
    for text, before in reversed(past):
        assert undo(again) == text
        if session.target is not None:
            np.testing.assert_array_equal(labels_of_target(again), before)
    assert same(again)
    # What was done in the first dock is told, too.
    names = [action.name for action in kept(again).actions]
    assert names.count("commit") == 4


def test_what_others_changed_is_told_and_undo_leaves_it() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 20, 30)
    target = desk.session.target
    assert target is not None
    other = np.array(target.data)
    other[50:55, 60:70] = 9
    target.data = other
    desk.inference.turn()
    assert kept(desk).actions[-1].name == "elsewhere"
    assert same(desk)
    crash(desk)

    later = restored(noise(60, 80))
    assert undo(later) == "commit"
    assert set(np.unique(labels_of_target(later))) == {0, 9}


def test_two_windows_do_not_go_on_with_the_same_labels() -> None:
    desk = open_queued(noise(60, 80))
    commit(desk, 20, 30)
    crash(desk)
    first, second = open_queued(noise(60, 80)), open_queued(noise(60, 80))
    first.session.recovery.restore()
    second.session.recovery.restore()
    assert second.told[-1] == (
        "warning",
        "Another window goes on with these labels already.",
    )
    assert second.session.target is None
    commit(first, 60, 30)
    assert same(first)


def there() -> Labels:
    """Labels of a file, with an object."""
    labels = np.zeros((200, 300), np.uint16)
    labels[20:90, 20:120] = 5
    return Labels(labels, name="cells committed_objects")


def paint(desk: Desk) -> None:
    target = desk.session.target
    assert target is not None
    target.brush_size = 9
    with target.block_history():
        target.paint((50, 100), 8)
        target.paint((50, 104), 9)


def delete(desk: Desk) -> None:
    edit(desk, 60, 60)
    desk.session.delete_object()


@pytest.mark.parametrize("change", [lambda desk: commit(desk, 120, 60), paint, delete])
def test_the_first_change_of_labels_that_were_there_is_taken_back(
    change: Callable[[Desk], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As large labels are: the journal reads them when they are changed already.
    monkeypatch.setattr("napari_tinysam.journal.writing.kept", lambda labels: labels)
    desk = open_queued(noise(200, 300), there())
    change(desk)
    desk.inference.turn()
    commit(desk, 30, 150)
    changed = labels_of_target(desk)
    assert not np.array_equal(changed, there().data)
    assert same(desk)
    desk.session.close(window_is_gone=True)

    later = restored(noise(200, 300))
    np.testing.assert_array_equal(labels_of_target(later), changed)
    while later.session.undo_text:
        undo(later)
    np.testing.assert_array_equal(labels_of_target(later), there().data)
