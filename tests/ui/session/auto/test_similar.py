"""Find similar: ranked, filtered, accepted with a class, undone; proposals by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from desk import Desk, open_desk
from everything.scene import KindsRuntime, SceneRuntime
from fake_inference import SteppedInference
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.prompts import NEGATIVE
from napari_tinysam.ui.canvas.proposal_layer import PROPOSED
from napari_tinysam.ui.state.mode import Mode

#: (x, y, radius) in pixels of the frame; images have 128, an eighth. Two kinds, in turn.
DISCS = [
    (150.0, 150.0, 60.0),
    (400.0, 150.0, 60.0),
    (650.0, 150.0, 60.0),
    (150.0, 500.0, 60.0),
    (400.0, 500.0, 60.0),
    (650.0, 500.0, 60.0),
]
MIDDLES = [(int(x / 8), int(y / 8)) for x, y, _ in DISCS]
EVEN, ODD = [0, 2, 4], [1, 3, 5]


def open_kinds(
    runtime: SceneRuntime | None = None, inference: Any = None, size: int = 128
) -> Desk:
    runtime = runtime or KindsRuntime(DISCS, seen=DISCS)
    predictor = Predictor(runtime, name="discs", model_id="discs")
    image = Image(np.zeros((size, size), np.uint8), name="cells")
    desk = open_desk(image, inference=inference, load_predictor=lambda *_: predictor)
    desk.runtime = runtime
    return desk


def points(desk: Desk) -> list[Any]:
    """What was decoded."""
    return list(desk.runtime.points)


def commit(desk: Desk, *numbers: int) -> None:
    for number in numbers:
        desk.click(*MIDDLES[number])
        desk.session.commit()


def hover(desk: Desk, number: int) -> None:
    desk.session.hover_at(desk.world(*MIDDLES[number]))


def shown(desk: Desk) -> list[int]:
    """Which discs are proposed."""
    data = np.asarray(desk.viewer.layers[PROPOSED].data)
    return [n for n, (x, y) in enumerate(MIDDLES) if data[..., y, x].any()]


def classes(desk: Desk) -> dict[int, str]:
    target = desk.session.target
    assert target is not None
    return {k: c.name for k, c in desk.session.classifying.of(target).items()}


def give(desk: Desk, number: int, digit: int) -> None:
    hover(desk, number)
    desk.session.classifying.give(digit)


def test_objects_like_a_committed_one_are_proposed_and_accepted_by_click() -> None:
    desk = open_kinds()
    commit(desk, 0)
    hover(desk, 0)
    desk.session.find_similar()
    assert shown(desk) == [2, 4]
    assert desk.session.mode is Mode.PICK
    assert desk.session.proposals.ranking is not None
    assert desk.session.proposals.ranking.example == "object 1"
    desk.click(*MIDDLES[2])
    assert desk.ids == [1, 2]
    desk.click(*MIDDLES[4], NEGATIVE)
    assert shown(desk) == []
    assert desk.session.mode is Mode.PROMPT
    desk.session.undo()
    desk.session.undo()
    assert desk.ids == [1]
    assert shown(desk) == [2, 4]
    desk.session.undo()
    assert desk.session.proposals.settings is None


def test_objects_like_the_one_that_is_clicked_are_proposed() -> None:
    desk = open_kinds()
    desk.click(*MIDDLES[1])
    desk.session.find_similar()
    assert set(shown(desk)) == set(ODD)  # itself, too: it is not committed
    desk.session.commit()
    assert shown(desk) == [3, 5]


def test_the_slider_shows_those_that_are_less_alike() -> None:
    desk = open_kinds()
    commit(desk, 0)
    hover(desk, 0)
    desk.session.find_similar()
    proposals = desk.session.proposals
    asked = len(points(desk))
    proposals.set_least_likeness(0.0)
    assert shown(desk) == [1, 2, 3, 4, 5]
    assert proposals.ranking is not None
    ranked = proposals.ranking.likeness
    proposals.set_least_likeness(float(np.sort(ranked)[-1]))
    assert len(shown(desk)) == 1
    assert len(points(desk)) == asked  # nothing is decoded again
    desk.session.undo()  # one step of the slider
    assert shown(desk) == [2, 4]


def test_what_is_found_already_is_ranked_without_a_search() -> None:
    desk = open_kinds()
    desk.session.auto_segment()
    commit(desk, 3)
    hover(desk, 3)
    asked = len(points(desk))
    desk.session.find_similar()
    assert shown(desk) == [1, 5]
    assert len(points(desk)) == asked
    desk.session.set_picking(False)
    commit(desk, 0)
    hover(desk, 0)
    desk.session.find_similar()
    assert shown(desk) == [2, 4]


def test_accepted_objects_get_the_class_of_the_one_that_was_asked_about() -> None:
    desk = open_kinds()
    desk.session.classifying.add("round")
    commit(desk, 0)
    give(desk, 0, 1)
    desk.session.find_similar()
    desk.session.proposals.accept_all()
    assert desk.ids == [1, 2, 3]
    assert classes(desk) == {1: "round", 2: "round", 3: "round"}
    desk.session.undo()
    assert desk.ids == [1]
    assert classes(desk) == {1: "round"}
    desk.session.redo()
    assert classes(desk) == {1: "round", 2: "round", 3: "round"}


def test_all_objects_of_a_class_are_examples() -> None:
    desk = open_kinds()
    desk.session.classifying.add("any")
    commit(desk, 0, 1)
    give(desk, 0, 1)
    give(desk, 1, 1)
    desk.session.find_similar()
    ranking = desk.session.proposals.ranking
    assert ranking is not None
    assert ranking.example == "“any”"
    # In the middle between the kinds: nothing tells them apart.
    assert np.ptp(ranking.likeness) < 0.5


@pytest.mark.parametrize("committed", [False, True])
def test_it_says_when_nothing_is_chosen(committed: bool) -> None:
    desk = open_kinds()
    if committed:
        commit(desk, 0)
        desk.session.hover_at(desk.world(3, 120))
    desk.session.find_similar()
    text = "Click an object, or move over a committed one, and ask again."
    assert desk.told == [("info", text)]
    assert desk.session.proposals.settings is None


def test_it_says_when_the_image_is_not_read_yet() -> None:
    desk = open_kinds(inference=SteppedInference())
    desk.click(*MIDDLES[0])
    desk.session.find_similar()
    assert desk.told[-1][0] == "info"
    assert len(desk.told) == 1


def test_it_says_when_the_model_cannot_compare() -> None:
    desk = open_kinds(SceneRuntime(DISCS, seen=DISCS))
    commit(desk, 0)
    hover(desk, 0)
    desk.session.find_similar()
    assert desk.told == [
        ("error", "Objects were not compared: This model cannot compare objects.")
    ]
    assert desk.ids == [1]
    assert not desk.session.auto.running


def test_it_says_when_nothing_else_is_alike() -> None:
    desk = open_kinds(KindsRuntime(DISCS[:2], seen=DISCS[:2]))
    commit(desk, 0)
    hover(desk, 0)
    desk.session.find_similar()
    assert shown(desk) == []
    assert "Move the slider “Likeness”" in desk.told[-1][1]
    assert desk.session.mode is Mode.PROMPT


def two_classes(desk: Desk) -> None:
    desk.session.classifying.add("even")
    desk.session.classifying.add("odd")
    commit(desk, 0, 1)
    give(desk, 0, 1)
    give(desk, 1, 2)


def test_auto_segmentation_gives_the_class_of_the_most_alike_examples() -> None:
    desk = open_kinds()
    two_classes(desk)
    desk.session.auto_segment()
    even, odd = desk.session.classifying.classes
    assert desk.session.similar.classes_here() == [even, odd]
    assert shown(desk) == [2, 3, 4, 5]
    desk.session.similar.set_classes(True, odd)
    assert shown(desk) == [3, 5]
    desk.session.proposals.accept_all()
    assert classes(desk) == {1: "even", 2: "odd", 3: "odd", 4: "odd"}
    desk.session.similar.set_classes(True, even)
    assert shown(desk) == [2, 4]
    desk.session.similar.set_classes(False)
    desk.session.proposals.accept_all()
    assert len(desk.ids) == 6
    assert len(classes(desk)) == 4  # "no class": accepted ones get none


def test_proposals_that_are_there_get_classes_when_asked() -> None:
    desk = open_kinds()
    desk.session.auto_segment()
    assert desk.session.proposals.classed is None
    two_classes(desk)
    desk.session.similar.set_classes(True)
    assert desk.session.proposals.classed is not None
    desk.session.proposals.accept_all()
    kinds = classes(desk)
    labels = np.asarray(desk.session.target.data)  # type: ignore[union-attr]
    for number, (x, y) in enumerate(MIDDLES):
        assert kinds[int(labels[y, x])] == ("odd" if number % 2 else "even")


def test_with_one_class_proposals_have_none() -> None:
    desk = open_kinds()
    desk.session.classifying.add("even")
    desk.session.classifying.add("unused")
    commit(desk, 0)
    give(desk, 0, 1)
    desk.session.auto_segment()
    assert desk.session.similar.classes_here() == []
    assert desk.session.proposals.classed is None
    desk.session.proposals.accept_all()
    assert classes(desk) == {1: "even"}
