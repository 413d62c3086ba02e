"""Objects of planes become objects of the stack: by button, by sliders, with undo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels

from desk import Desk, open_desk
from fake_inference import SteppedInference
from napari_tinysam.ui.session.facade import StatusKind
from napari_tinysam.ui.state.stack_planes import AxisKind
from napari_tinysam.ui.state.traces import Trace

PLANES = 5


def boxes(*places: tuple[int, int, int, int], planes: int = PLANES) -> np.ndarray:
    """Make (planes, 48, 64) labels of squares, (id, plane, y, x), 8 pixels wide."""
    labels = np.zeros((planes, 48, 64), np.uint32)
    for label, plane, y, x in places:
        labels[plane, y : y + 8, x : x + 8] = label
    return labels


#: An object through four planes, one through two, one in a single plane: ids of single planes.
STACK = boxes(
    *((1 + z, z, 4 + z, 4) for z in range(4)),
    (11, 2, 20, 30),
    (12, 3, 21, 30),
    (21, 4, 36, 50),
)


def opened(labels: np.ndarray, *, inference: Any = None, name: str = "z") -> Desk:
    axes = ("t", "z", "y", "x")[-labels.ndim :] if name else None
    axes = axes if name != "?" else None
    image = Image(
        np.zeros(labels.shape, np.uint8),
        name="cells",
        axis_labels=axes,
        scale=(5,) + (1,) * (labels.ndim - 1),
    )
    layer = Labels(labels.copy(), name="cells committed_objects", scale=image.scale)
    desk = open_desk(image, layer, inference=inference)
    if isinstance(inference, SteppedInference):
        inference.run_all()
    assert desk.session.target is layer
    return desk


def ids_at(desk: Desk) -> dict[str, list[int]]:
    """Ids of the three objects of `STACK`, where they show."""
    data = desk.session.target.data
    return {
        "long": [int(data[z, 8 + z, 8]) for z in range(4)],
        "short": [int(data[2, 25, 34]), int(data[3, 25, 34])],
        "single": [int(data[4, 40, 54])],
    }


def test_one_id_through_the_planes_and_back() -> None:
    desk = opened(STACK)
    desk.session.link_planes()
    assert ids_at(desk) == {"long": [1] * 4, "short": [11] * 2, "single": [0]}
    assert (
        "2 objects through the planes. 1 in fewer planes is hidden."
        in (desk.told[-1][1])
    )
    assert not desk.session.saving.is_saved(desk.session.target)
    desk.session.undo()
    assert np.array_equal(desk.session.target.data, STACK)
    desk.session.redo()
    assert ids_at(desk)["long"] == [1] * 4


def test_sliders_link_anew_and_a_drag_is_one_step() -> None:
    desk = opened(STACK)
    linking = desk.session.linking
    desk.session.link_planes()
    for least in (3, 4, 5):
        linking.set_settings(least_planes=least)
    assert ids_at(desk) == {"long": [0] * 4, "short": [0] * 2, "single": [0]}
    linking.set_settings(least_planes=1)  # nothing was lost
    assert ids_at(desk) == {"long": [1] * 4, "short": [11] * 2, "single": [21]}
    linking.set_settings(overlap=0.9)  # each piece for itself
    assert ids_at(desk)["long"] == [1, 2, 3, 4]
    desk.session.undo()
    assert ids_at(desk) == {"long": [1] * 4, "short": [11] * 2, "single": [0]}
    assert linking.settings.least_planes == 2  # the sliders go back, too
    assert linking.settings.overlap == 0.25
    desk.session.undo()
    assert np.array_equal(desk.session.target.data, STACK)
    assert not linking.linked
    desk.session.redo()
    desk.session.redo()
    assert linking.settings.overlap == 0.9
    assert ids_at(desk)["long"] == [1, 2, 3, 4]


def test_what_the_user_paints_stays() -> None:
    desk = opened(STACK)
    desk.session.link_planes()
    layer = desk.session.target
    layer.data_setitem((np.array([0, 0]), np.array([8, 9]), np.array([8, 8])), [99, 0])
    desk.session.linking.set_settings(least_planes=5)
    assert layer.data[0, 8:11, 8].tolist() == [0, 0, 0]
    desk.session.linking.set_settings(least_planes=1)
    # What was erased does not come back with the object.
    assert layer.data[0, 8:11, 8].tolist() == [99, 0, 1]
    for _ in range(3):
        desk.session.undo()
    assert np.array_equal(layer.data, STACK)


def test_new_objects_are_linked_with_those_that_are_there() -> None:
    desk = opened(STACK)
    desk.session.link_planes()
    layer = desk.session.target
    new = np.zeros((48, 64), bool)
    new[36:44, 50:58] = True  # below the single one, which is hidden
    at = np.nonzero(new)
    layer.data_setitem((np.full(len(at[0]), 3), *at), 50)
    desk.session.link_planes()
    assert layer.data[3, 40, 54] == layer.data[4, 40, 54] > 0


def test_objects_through_planes_are_left_as_they_are() -> None:
    labels = STACK.copy()
    labels[0:3, 30:38, 4:12] = 70  # followed by hand
    labels[3, 30:38, 4:12] = 71
    desk = opened(labels)
    desk.session.link_planes()
    assert (desk.session.target.data[0:3, 34, 8] == 70).all()
    desk.session.linking.set_settings(least_planes=5)
    assert (desk.session.target.data[0:3, 34, 8] == 70).all()
    assert "1 had one id through planes before" in desk.session.linking.note


def test_planes_that_were_numbered_one_by_one() -> None:
    labels = boxes((1, 0, 4, 4), (2, 0, 20, 30), (1, 1, 20, 30), (2, 1, 4, 4), planes=2)
    desk = opened(labels)
    desk.session.link_planes()
    data = desk.session.target.data
    assert data[0, 8, 8] == data[1, 8, 8] == 1
    assert data[0, 24, 34] == data[1, 24, 34] == 2


def test_followed_objects_keep_their_id() -> None:
    """Also where ids say nothing else."""
    labels = boxes((1, 0, 4, 4), (2, 0, 20, 30), (1, 1, 20, 30), (2, 1, 4, 4), planes=3)
    desk = opened(labels)
    layer = desk.session.target
    for z in range(3):
        layer.data[z, 36:44, 50:58] = 9
    plane = desk.session.shown_plane
    trace = Trace(9, 0, plane, frozenset([0]), {}, 0, 2)
    desk.session._parts.subject.memory.traces_of(layer).put(9, trace)
    desk.session.link_planes()
    assert layer.data[:, 40, 54].tolist() == [9, 9, 9]
    assert layer.data[:2, 8, 8].tolist() == [1, 1]


def test_stacks_of_a_movie_are_linked_each_by_itself() -> None:
    labels = np.stack([STACK, np.where(STACK > 0, STACK + 100, 0)])
    desk = opened(labels)
    desk.session.link_planes()
    data = desk.session.target.data
    assert [data[0, z, 8 + z, 8] for z in range(4)] == [1] * 4
    assert [data[1, z, 8 + z, 8] for z in range(4)] == [101] * 4


def test_cancel_and_undo_in_the_middle() -> None:
    inference = SteppedInference()
    desk = opened(STACK, inference=inference)
    desk.session.link_planes()
    inference.step()
    assert desk.session.status.kind is StatusKind.LINKING
    assert desk.session.status.text == "Linking: plane 2 of 5"
    desk.session.cancel()
    assert desk.session.status.kind is StatusKind.READY
    inference.run_all()
    assert np.array_equal(desk.session.target.data, STACK)

    desk.session.link_planes()
    inference.step()
    desk.session.undo()
    inference.run_all()
    assert np.array_equal(desk.session.target.data, STACK)
    assert not desk.session.linking.running


def test_only_the_latest_setting_counts() -> None:
    inference = SteppedInference()
    desk = opened(STACK, inference=inference)
    desk.session.link_planes()
    inference.run_all()
    linking = desk.session.linking
    linking.set_settings(least_planes=5)
    deliver = inference.start()
    linking.set_settings(least_planes=1)
    deliver()
    assert linking.running
    inference.run_all()
    assert not linking.running
    assert ids_at(desk)["single"] == [21]
    desk.session.undo()
    assert ids_at(desk) == {"long": [1] * 4, "short": [11] * 2, "single": [0]}


@pytest.mark.parametrize("what", ["labels", "image", "dock"])
def test_layers_go_in_the_middle(what: str) -> None:
    inference = SteppedInference()
    desk = opened(STACK, inference=inference)
    layer = desk.session.target
    desk.session.link_planes()
    inference.step()
    if what == "dock":
        desk.session.close()
    else:
        desk.viewer.layers.remove(layer if what == "labels" else desk.image)
    inference.run_all()
    assert not desk.session.linking.running
    assert np.array_equal(layer.data, STACK)


@pytest.mark.parametrize(
    ("labels", "name", "said"),
    [
        (STACK, "?", "known to be depth (z). Choose it first."),
        (STACK[:1], "z", "has one plane only"),
        (np.zeros_like(STACK), "z", "has no objects"),
    ],
)
def test_what_cannot_be_linked(labels: np.ndarray, name: str, said: str) -> None:
    desk = opened(labels, name=name)
    desk.session.link_planes()
    assert said in desk.told[-1][1]
    assert not desk.session.linking.running
    assert np.array_equal(desk.session.target.data, labels)


def test_the_answer_what_the_axis_is_is_remembered() -> None:
    desk = opened(STACK, name="?")
    desk.session.set_axis_kind(0, AxisKind.DEPTH)
    desk.session.link_planes()
    assert ids_at(desk)["long"] == [1] * 4


def test_a_small_type_has_room_for_links_that_need_no_ids() -> None:
    desk = opened(STACK.astype(np.uint8))
    desk.session.link_planes()
    assert ids_at(desk)["long"] == [1] * 4
    assert desk.session.target.data.dtype == np.uint8


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    moves=st.lists(
        st.sampled_from(["least", "overlap", "gap", "undo", "redo", "paint"]),
        max_size=8,
    ),
)
def test_undoing_everything_gives_the_labels_back(seed: int, moves: list[str]) -> None:
    rng = np.random.default_rng(seed)
    places = [
        (number, int(rng.integers(PLANES)), *rng.integers(0, (40, 56)).tolist())
        for number in range(1, 25)
    ]
    labels = boxes(*places)
    desk = opened(labels)
    desk.session.link_planes()
    for move in moves:
        if move == "least":
            desk.session.linking.set_settings(least_planes=int(rng.integers(1, 4)))
        elif move == "overlap":
            desk.session.linking.set_settings(overlap=float(rng.uniform(0.05, 0.6)))
        elif move == "gap":
            desk.session.linking.set_settings(gap=int(rng.integers(0, 4)))
        elif move == "paint":
            spot = [rng.integers(0, n, 5) for n in labels.shape]
            desk.session.target.data_setitem(tuple(spot), 77)
        else:
            getattr(desk.session, move)()
    while desk.session._parts.subject.state.history.undo_text:
        desk.session.undo()
    assert np.array_equal(desk.session.target.data, labels)


def test_a_range_is_linked_and_the_rest_stays() -> None:
    numbered = boxes(  # the ids of each plane begin with 1
        *((1 + z % 2, z, 4 + z, 4) for z in range(5)),
        *((2 - z % 2, z, 30, 40) for z in range(5)),
    )
    desk = opened(numbered)
    linking, data = desk.session.linking, desk.session.target.data
    linking.part.set_range(0, 1, 3)
    desk.session.link_planes()
    assert np.array_equal(data[[0, 4]], numbered[[0, 4]])
    ids = [int(data[z, 8 + z, 8]) for z in range(5)]
    assert ids[1] == ids[2] == ids[3]
    linking.set_settings(least_planes=4)
    assert not data[1:4].any()
    linking.set_settings(least_planes=1)
    assert [int(data[z, 8 + z, 8]) for z in range(5)] == ids
    linking.part.take_all(0)
    desk.session.link_planes()
    assert len({int(data[z, 8 + z, 8]) for z in range(5)}) == 1
    while desk.session.undo_text:
        desk.session.undo()
    assert np.array_equal(data, numbered)
    linking.part.set_range(0, 2, 2)
    desk.session.link_planes()
    assert "two planes or more" in desk.told[-1][1]


def test_the_buttons_of_a_range_set_it_to_the_shown_plane() -> None:
    desk = opened(STACK)
    part = desk.session.linking.part
    desk.viewer.dims.set_point(0, 3 * 5)
    part.begin_here(0)
    assert part.ranges()[0][2:4] == (3, 4)
    desk.viewer.dims.set_point(0, 2 * 5)
    part.end_here(0)
    assert part.ranges()[0][2:4] == (2, 2)
    part.take_all(0)
    assert part.ranges()[0][2:4] == (0, 4)
