"""A class that is renamed has its new name in all images of the list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from desk import open_desk

if TYPE_CHECKING:
    from pathlib import Path

    from desk import Desk

pytestmark = pytest.mark.usefixtures("at_once")


def open_list(folder: Path) -> Desk:
    desk = open_desk()
    desk.session.listed.open_paths([folder])
    return desk


def annotate(desk: Desk, at: int, *digits: int) -> None:
    """Open an image, commit an object for each digit, and give it that class."""
    desk.session.listed.go_to(at)
    for x, digit in zip((20, 60), digits, strict=False):
        desk.click(x, 30)
        desk.session.commit()
        desk.session.hover_at(desk.world(x, 30))
        desk.session.classifying.give(digit)


def two_images(folder: Path) -> Desk:
    """The first has an object of each class, the third one of the first class; both are left."""
    desk = open_list(folder)
    for name in ("alive", "dead"):
        desk.session.classifying.add(name)
    annotate(desk, 0, 1, 2)
    annotate(desk, 2, 1)
    desk.session.listed.go_to(3)
    return desk


def rename(desk: Desk, old: str, new: str) -> None:
    classifying = desk.session.classifying
    classifying.rename({each.name: each for each in classifying.classes}[old], new)


def named(desk: Desk, at: int) -> dict[int, str]:
    desk.session.listed.go_to(at)
    layer = desk.session.target
    assert layer is not None
    found = desk.session.classifying.of(layer)
    return {label: each.name for label, each in found.items()}


def classes(desk: Desk) -> list[str]:
    return [each.name for each in desk.session.classifying.classes]


def test_other_images_have_the_new_name_when_they_are_opened_again(
    folder: Path,
) -> None:
    desk = two_images(folder)
    rename(desk, "alive", "living")
    assert named(desk, 2) == {1: "living"}
    desk.session.undo()
    assert named(desk, 2) == {}
    desk.session.redo()
    assert named(desk, 2) == {1: "living"}
    assert named(desk, 0) == {1: "living", 2: "dead"}  # from its file
    assert classes(desk) == ["living", "dead"]


def test_the_new_name_is_known_at_a_later_start(folder: Path) -> None:
    desk = two_images(folder)
    rename(desk, "alive", "living")
    rename(desk, "living", "healthy")
    assert "alive" in (folder / "2_classes.csv").read_text()  # nobody was there since
    desk.session.close()
    desk = open_list(folder)
    assert named(desk, 2) == {1: "healthy"}
    assert named(desk, 0) == {1: "healthy", 2: "dead"}
    assert classes(desk) == ["healthy", "dead"]
    # Its file has the new name when it is saved the next time.
    desk.click(40, 50)
    desk.session.commit()
    desk.session.listed.go_to(3)
    assert "healthy" in (folder / "0_classes.csv").read_text()


def test_names_that_change_places_do_not_change_objects(folder: Path) -> None:
    desk = two_images(folder)
    rename(desk, "alive", "other")
    rename(desk, "dead", "alive")
    rename(desk, "other", "dead")
    assert named(desk, 0) == {1: "dead", 2: "alive"}
    desk.session.close()
    desk = open_list(folder)
    assert named(desk, 2) == {1: "dead"}
    assert classes(desk) == ["dead", "alive"]


def test_a_new_class_may_have_the_old_name(folder: Path) -> None:
    desk = two_images(folder)
    rename(desk, "alive", "living")
    desk.session.classifying.add("alive")
    annotate(desk, 3, 3)
    desk.session.listed.go_to(0)
    desk.session.close()
    desk = open_list(folder)
    assert named(desk, 3) == {1: "alive"}
    assert named(desk, 2) == {1: "living"}
    assert classes(desk) == ["living", "dead", "alive"]
