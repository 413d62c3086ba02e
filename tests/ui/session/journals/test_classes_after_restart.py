"""Classes of objects survive a crash, and can be taken back after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from desk import noise
from journalled_desk import commit, crash, kept, open_queued
from napari_tinysam.journal.folder import Journals
from napari_tinysam.ui.session.journals.unfinished import unsaved_images

if TYPE_CHECKING:
    from desk import Desk


def classes(desk: Desk) -> dict[int, str]:
    target = desk.session.target
    assert target is not None
    return {k: c.name for k, c in desk.session.classifying.of(target).items()}


def give(desk: Desk, x: float, y: float, digit: int) -> None:
    desk.session.hover_at(desk.world(x, y))
    desk.session.classifying.give(digit)
    desk.inference.turn()


def named(desk: Desk, *names: str) -> None:
    for name in names:
        desk.session.classifying.add(name)


def restored() -> Desk:
    desk = open_queued(noise(200, 300))
    desk.session.recovery.restore()
    desk.inference.turn()
    return desk


def annotate() -> Desk:
    desk = open_queued(noise(200, 300))
    named(desk, "big", "small")
    commit(desk, 40, 40)
    commit(desk, 150, 100)
    give(desk, 40, 40, 1)
    give(desk, 150, 100, 2)
    return desk


def test_classes_come_back_and_undo_takes_them_back() -> None:
    first = annotate()
    give(first, 40, 40, 2)
    kept(first)
    crash(first)
    desk = restored()
    assert classes(desk) == {1: "small", 2: "small"}
    desk.session.undo()
    assert classes(desk) == {1: "big", 2: "small"}
    desk.session.redo()
    assert classes(desk) == {1: "small", 2: "small"}


def test_undo_of_all_steps_after_a_crash() -> None:
    first = annotate()
    first.session.undo()
    assert classes(first) == {1: "big"}
    kept(first)
    crash(first)
    desk = open_queued(noise(200, 300))
    named(desk, "small", "big")  # the list remembers its classes
    desk.session.recovery.restore()
    desk.inference.turn()
    assert classes(desk) == {1: "big"}
    desk.session.redo()
    assert classes(desk) == {1: "big", 2: "small"}
    desk.session.undo()
    desk.session.undo()
    assert classes(desk) == {}
    assert desk.ids == [1, 2]
    desk.session.undo()
    desk.inference.turn()
    assert desk.ids == [1]


def test_what_is_restored_is_kept_again() -> None:
    first = annotate()
    kept(first)
    crash(first)
    second = restored()
    give(second, 40, 40, 2)
    kept(second)
    crash(second)
    desk = restored()
    assert classes(desk) == {1: "small", 2: "small"}
    for _ in range(3):
        desk.session.undo()
    assert classes(desk) == {}


def test_a_class_alone_is_offered_if_it_was_not_saved() -> None:
    from napari.layers import Labels

    ids = np.zeros((200, 300), np.uint16)
    ids[10:60, 10:60], ids[80:120, 130:170] = 3, 5
    first = open_queued(noise(200, 300), Labels(ids.copy(), name="cells_labels"))
    target = first.viewer.layers["cells_labels"]
    first.session.set_target(target)
    named(first, "big")
    give(first, 40, 40, 1)
    assert kept(first).changed
    assert kept(first).unsaved == {3}
    crash(first)
    desk = restored()
    assert desk.ids == [3, 5]
    assert classes(desk) == {3: "big"}
    desk.session.undo()
    assert classes(desk) == {}


def test_a_class_that_is_saved_is_not_offered_and_its_undo_is() -> None:
    first = annotate()
    target = first.session.target
    assert target is not None
    journal = first.session._parts.subject.memory.journals[target]
    journal.saved("cells_labels.tif", journal.last)
    assert not kept(first).changed
    first.session.undo()
    first.inference.turn()
    assert kept(first).changed


def test_a_name_that_is_newer_than_the_journal_is_given_to_its_steps_too() -> None:
    first = annotate()
    kept(first)
    crash(first)
    desk = open_queued(noise(200, 300))
    named(desk, "big", "small")
    classifying = desk.session.classifying
    classifying.rename(classifying.classes[0], "huge")
    desk.session.recovery.restore()
    desk.inference.turn()
    assert classes(desk) == {1: "huge", 2: "small"}
    for _ in range(2):
        desk.session.undo()
    assert classes(desk) == {}
    desk.session.redo()
    assert classes(desk) == {1: "huge"}
    assert [each.name for each in classifying.classes] == ["huge", "small"]


def test_a_new_name_is_kept() -> None:
    first = annotate()
    big = first.session.classifying.classes[0]
    first.session.classifying.rename(big, "huge")
    kept(first)
    crash(first)
    desk = restored()
    assert classes(desk) == {1: "huge", 2: "small"}


def test_what_was_restored_is_not_offered_again() -> None:
    first = annotate()
    kept(first)
    crash(first)
    desk = open_queued(noise(200, 300))
    unfinished = desk.session.recovery.unfinished
    unfinished._found(unsaved_images(Journals()), [])
    assert not unfinished.images  # it is open
    layer = desk.session.image
    desk.session.recovery.restore()
    desk.inference.turn()
    desk.viewer.layers.remove(layer)
    assert not unfinished.images
