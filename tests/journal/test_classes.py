"""Classes of objects, as actions tell them."""

from __future__ import annotations

from itertools import count
from typing import Any

from napari_tinysam.journal.classes import CLASSES, RENAMED, ClassesTold
from napari_tinysam.journal.lines import Action

_numbers = count(1)


def do(name: str, step: int = 0, **arguments: Any) -> Action:
    return Action(next(_numbers), 0.0, name, arguments, step=step)


def gave(step: int, before: str, after: str, *labels: int) -> Action:
    classes = {str(label): after for label in labels}
    return do("class", step, classes=classes, were=dict.fromkeys(classes, before))


def test_classes_are_given_changed_and_taken_away() -> None:
    told = ClassesTold([gave(1, "", "big", 1, 2), gave(2, "big", "small", 2)])
    assert told.named == {1: "big", 2: "small"}
    told.add(gave(3, "small", "", 2))
    assert told.named == {1: "big"}
    told.add(do("undo", 3))
    assert told.named == {1: "big", 2: "small"}
    told.add(do("undo", 2))
    told.add(do("undo", 1))
    assert told.named == {}
    told.add(do("redo", 1))
    assert told.named == {1: "big", 2: "big"}


def test_what_there_was_when_a_journal_began_is_no_step() -> None:
    told = ClassesTold([do(CLASSES, classes={"7": "big"}), gave(1, "big", "", 7)])
    assert told.named == {}
    assert list(told.steps) == [1]
    told.add(do("undo", 1))
    assert told.named == {7: "big"}


def test_accepted_objects_had_no_class() -> None:
    told = ClassesTold([do("accept", 4, classes={"3": "big"}, objects=[])])
    assert told.named == {3: "big"}
    told.add(do("undo", 4))
    assert told.named == {}


def test_a_new_name_holds_for_steps_before_it_too() -> None:
    told = ClassesTold([gave(1, "", "big", 1), gave(2, "big", "small", 1)])
    told.add(do(RENAMED, **{"from": "big", "to": "large"}))
    assert told.named == {1: "small"}
    told.add(do("undo", 2))
    assert told.named == {1: "large"}


def test_what_is_no_class_is_left_out() -> None:
    odd = [do("class", 1, classes=5), do("class", 2, classes={"x": "y"}), do("undo", 2)]
    assert ClassesTold(odd).named == {}
