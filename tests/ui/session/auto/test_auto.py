"""Auto-segmentation in the session: in steps, filtered live, accepted, rejected, undone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels

from desk import Desk, open_desk
from everything.scene import SceneRuntime
from fake_inference import SteppedInference
from napari_tinysam.everything.thresholds import NOTE
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.prompts import NEGATIVE
from napari_tinysam.ui.canvas.proposal_layer import PROPOSED
from napari_tinysam.ui.session.facade import StatusKind
from napari_tinysam.ui.session.worker import Lane
from napari_tinysam.ui.state.region import Region

#: In pixels of the frame of 1024; images have 128, so a disc's middle is at an eighth of this.
DISCS = [
    (200.0, 200.0, 90.0),
    (440.0, 320.0, 60.0),
    (720.0, 200.0, 80.0),
    (640.0, 720.0, 100.0),
]
MIDDLES = [(25, 25), (55, 40), (90, 25), (80, 90)]


def desk(
    *layers: Any, inference: Any = None, seen: Any = DISCS, size: int = 128
) -> Desk:
    runtime = SceneRuntime(DISCS, seen=seen)
    settings = {
        "score_threshold": 0.5,
        "stability_threshold": 0.5,
        "points_per_side": 16,
    }
    notes = {NOTE: json.dumps({"search": settings, "labels": {"confidence": 0.6}})}
    predictor = Predictor(runtime, name="discs", model_id="discs", notes=notes)
    image = Image(np.zeros((size, size), np.uint8), name="cells")
    found = open_desk(
        *(layers or (image,)), inference=inference, load_predictor=lambda *_: predictor
    )
    found.runtime = runtime
    return found


def proposals(desk: Desk) -> np.ndarray:
    return np.asarray(desk.viewer.layers[PROPOSED].data)


def shown(desk: Desk) -> list[int]:
    """Which discs have a proposal at their middle."""
    data = proposals(desk)
    return [n for n, (x, y) in enumerate(MIDDLES) if data[..., y, x].any()]


def test_the_button_proposes_objects() -> None:
    here = desk()
    here.session.auto_segment()
    data = proposals(here)
    assert len(np.unique(data)) == 1 + 4
    y, x = np.mgrid[:128, :128] * 8 + 3.5
    for cx, cy, radius in DISCS:
        truth = np.hypot(x - cx, y - cy) <= radius
        label = data[int(cy / 8), int(cx / 8)]
        found = data == label
        assert (truth & found).sum() / (truth | found).sum() > 0.9
    assert here.session.proposals.count == 4
    assert here.session.status.kind is StatusKind.READY
    assert here.ids == []  # nothing of the user's is touched
    assert here.session.target is None


@pytest.mark.parametrize("seen", [DISCS, None])
def test_it_works_with_and_without_an_object_head(seen: Any) -> None:
    here = desk(seen=seen)
    here.session.auto_segment()
    assert shown(here) == [0, 1, 2, 3]


def test_the_layer_lies_on_the_image() -> None:
    image = Image(
        np.zeros((128, 128), np.uint8), scale=(0.5, 0.25), translate=(3, 4), rotate=30
    )
    here = desk(image)
    here.session.auto_segment()
    layer = here.viewer.layers[PROPOSED]
    np.testing.assert_allclose(
        layer.data_to_world((10, 20)), image.data_to_world((10, 20))
    )
    assert not layer.editable
    assert layer not in here.session.labels_layers()


def test_nothing_is_advised_where_the_rest_is_labelled_or_it_was_stopped() -> None:
    here = desk(seen=[])
    here.runtime.discs = []
    here.session.auto_segment()
    assert here.session.proposals.advice.startswith("Found little")
    assert here.told[-1] == ("info", here.session.proposals.advice)
    labels = Labels(np.eye(128, dtype=np.uint8))
    here.viewer.add_layer(labels)
    here.session.set_target(labels)
    here.session.auto_segment()
    assert here.session.proposals.advice == ""

    inference = SteppedInference()
    here = desk(inference=inference, seen=None)
    inference.run_all()
    here.session.auto_segment()
    here.session.cancel()
    inference.run_all()
    assert here.session.proposals.advice == ""


def test_changing_the_model_stops_it() -> None:
    inference = SteppedInference()
    here = desk(inference=inference, seen=None)
    inference.run_all()
    here.session.auto_segment()
    for _ in range(3):
        inference.step()
    deliver = inference.start()
    here.session.set_model("other")
    assert not here.session.auto.running
    assert here.session.status.kind is StatusKind.LOADING_MODEL
    deliver()
    inference.run_all()
    assert not here.session.auto.running
    assert here.session.status.kind is StatusKind.READY
    assert here.session.proposals.count == 0
    assert PROPOSED not in here.viewer.layers or not proposals(here).any()
    ((level, text),) = here.told
    assert level == "info"
    assert "the model was changed" in text


def test_what_waits_for_the_image_begins_with_the_new_model() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    here.session.auto_segment()
    here.session.set_model("other")
    assert here.session.auto.running
    inference.run_all()
    assert here.session.proposals.count == 4


def test_masks_appear_while_it_runs_and_clicks_go_first() -> None:
    inference = SteppedInference()
    here = desk(inference=inference, seen=None)
    inference.run_all()  # the model and the embedding
    here.session.auto_segment()
    assert here.session.status.kind is StatusKind.SEGMENTING
    assert here.session.status.busy
    counts = []
    for _ in range(3):
        assert inference.step() is Lane.AUTO
        counts.append(here.session.status.fraction)
    assert counts == sorted(counts)
    assert here.session.auto.running
    here.click(25, 25)
    assert inference.step() is Lane.PROMPT
    assert here.session.candidate_scores
    assert inference.step() is Lane.AUTO
    inference.run_all()
    assert not here.session.auto.running
    assert shown(here) == [0, 1, 2, 3]


def test_cancel_keeps_what_was_found() -> None:
    inference = SteppedInference()
    here = desk(inference=inference, seen=None)
    inference.run_all()
    here.session.auto_segment()
    while not (PROPOSED in here.viewer.layers and proposals(here).any()):
        inference.step()
    here.session.cancel()
    decoded = len(here.runtime.points)
    inference.run_all()
    assert len(here.runtime.points) <= decoded + 16
    assert here.session.status.kind is StatusKind.READY
    assert 0 < here.session.proposals.count < 4
    assert proposals(here).any()
    here.session.undo()
    assert not proposals(here).any()


def test_pressed_too_early_it_waits_for_the_image() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    here.session.auto_segment()
    assert here.session.auto.running
    inference.run_all()
    assert shown(here) == [0, 1, 2, 3]


def test_pressed_twice_it_runs_once() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    inference.run_all()
    here.session.auto_segment()
    here.session.auto_segment()
    assert "already running" in here.told[-1][1]
    inference.run_all()
    assert here.session.proposals.count == 4


def test_sliders_filter_without_decoding() -> None:
    here = desk()
    here.session.auto_segment()
    decoded = len(here.runtime.points)
    auto = here.session.proposals
    auto.set_settings(least_area=200.0)
    assert shown(here) == [0, 2, 3]  # the smallest has 177 pixels
    auto.set_settings(least_area=0.0, largest_area=350.0)
    assert shown(here) == [1, 2]
    auto.set_settings(largest_area=float("inf"))
    scores = np.sort(here.session._parts.subject.proposed.proposals.scores)
    auto.set_settings(confidence=float(scores[1:3].mean()))
    assert len(shown(here)) == 2
    assert len(here.runtime.points) == decoded
    # However far a slider was dragged, it is one step.
    here.session.undo()
    assert shown(here) == [0, 1, 2, 3]
    here.session.redo()
    assert len(shown(here)) == 2


def test_accept_all_writes_labels_with_new_ids() -> None:
    here = desk()
    here.session.auto_segment()
    before = proposals(here).copy()
    here.session.proposals.accept_all()
    assert here.ids == [1, 2, 3, 4]
    np.testing.assert_array_equal(here.session.target.data > 0, before > 0)
    assert not proposals(here).any()
    here.session.undo()
    assert here.ids == []
    np.testing.assert_array_equal(proposals(here), before)
    here.session.redo()
    assert here.ids == [1, 2, 3, 4]
    assert not proposals(here).any()


def test_accept_all_leaves_what_is_there() -> None:
    mine = np.zeros((128, 128), np.uint16)
    mine[20:30, 20:30] = 7
    here = desk(
        Image(np.zeros((128, 128), np.uint8), name="cells"), Labels(mine, name="mine")
    )
    here.session.set_target(here.viewer.layers["mine"])
    here.session.auto_segment()
    here.session.proposals.accept_all()
    assert set(here.ids) > {7}
    assert (mine[20:30, 20:30] == 7).all()
    here.session.undo()
    assert here.ids == [7]


def colors(desk: Desk) -> dict[int, tuple[float, ...]]:
    """Which colour each disc's proposal has on the screen; those without one are left out."""
    layer = desk.viewer.layers[PROPOSED]
    data = proposals(desk)
    return {
        n: tuple(layer.get_color(data[y, x]))
        for n, (x, y) in enumerate(MIDDLES)
        if data[y, x]
    }


def test_proposals_keep_their_colours_whatever_else_is_shown() -> None:
    here = desk()
    here.session.auto_segment()
    first = colors(here)
    assert len(first) == 4
    here.session.set_picking(True)
    here.click(*MIDDLES[0], NEGATIVE)  # the others would move up by one
    here.click(*MIDDLES[2])
    left = colors(here)
    assert left == {n: first[n] for n in (1, 3)}
    here.session.undo()
    here.session.undo()
    areas = here.session._parts.subject.proposed.proposals.areas  # type: ignore[union-attr]
    here.session.proposals.set_settings(least_area=float(np.median(areas)))
    filtered = colors(here)
    assert 0 < len(filtered) < 4
    assert filtered == {n: first[n] for n in filtered}
    here.session.proposals.set_settings(least_area=0.0)
    assert colors(here) == first


def test_pick_accepts_by_click_and_rejects_by_right_click() -> None:
    here = desk()
    here.session.auto_segment()
    decoded = len(here.runtime.points)
    here.session.set_picking(True)
    here.session.hover_at(here.world(*MIDDLES[1]))
    edges = here.preview_pixels()
    assert edges  # the outline of the proposal
    here.click(*MIDDLES[1])
    assert here.ids == [1]
    assert shown(here) == [0, 2, 3]
    here.click(*MIDDLES[2], NEGATIVE)
    assert shown(here) == [0, 3]
    assert here.ids == [1]
    assert len(here.runtime.points) == decoded  # nothing was decoded
    here.click(2, 120)
    assert "no proposal here" in here.told[-1][1]
    here.session.undo()
    assert shown(here) == [0, 2, 3]
    here.session.undo()
    assert here.ids == []
    assert shown(here) == [0, 1, 2, 3]


def test_a_missed_object_is_added_by_clicks() -> None:
    here = desk()
    here.session.auto_segment()
    here.session.set_picking(True)
    here.click(*MIDDLES[0], NEGATIVE)
    here.session.set_picking(False)
    here.click(*MIDDLES[0])
    here.session.commit()
    assert here.ids == [1]
    assert here.session.target.data[25, 25] == 1
    assert shown(here) == [1, 2, 3]


def test_a_second_run_respects_committed_objects() -> None:
    here = desk()
    here.click(*MIDDLES[3])
    here.session.commit()
    committed = here.session.target.data.copy()
    points = len(here.runtime.points)
    here.session.auto_segment()
    assert shown(here) == [0, 1, 2]
    assert not (proposals(here)[committed > 0]).any()
    for x, y in here.runtime.points[points:]:
        assert committed[int(y / 8), int(x / 8)] == 0
    here.session.proposals.accept_all()
    assert len(here.ids) == 4
    here.session.auto_segment()
    assert shown(here) == []


def test_everything_labelled_is_said() -> None:
    mine = np.ones((128, 128), np.uint16)
    here = desk(
        Image(np.zeros((128, 128), np.uint8), name="cells"), Labels(mine, name="mine")
    )
    here.session.set_target(here.viewer.layers["mine"])
    here.session.auto_segment()
    assert "already labelled" in here.told[-1][1]
    assert PROPOSED not in here.viewer.layers


def test_only_the_box_is_looked_at() -> None:
    here = desk()
    here.session.auto.set_region(Region.BOX)
    here.session.auto_segment()
    assert "Draw a box first" in here.told[-1][1]
    here.box(60, 2, 126, 50)
    here.session.auto_segment()
    assert shown(here) == [2]


def test_only_the_view_is_looked_at() -> None:
    here = desk()
    here.image.corner_pixels = np.array([[0, 0], [60, 60]])
    here.session.auto.set_region(Region.VIEW)
    here.session.auto_segment()
    assert shown(here) == [0, 1]


def test_each_plane_of_a_stack_has_its_own() -> None:
    here = desk(Image(np.zeros((3, 128, 128), np.uint8), name="stack"))
    here.viewer.dims.set_point(0, 1)
    here.session.auto_segment()
    data = proposals(here)
    assert data.shape == (3, 128, 128)
    assert [bool(plane.any()) for plane in data] == [False, True, False]
    here.viewer.dims.set_point(0, 2)
    assert here.session.proposals.count == 0
    here.session.auto_segment()
    here.session.proposals.accept_all()
    assert [bool(plane.any()) for plane in proposals(here)] == [False, True, False]
    target = here.session.target.data
    assert [bool(plane.any()) for plane in target] == [False, False, True]
    # Undo goes back to where it was.
    here.session.undo()
    here.session.undo()
    here.session.undo()
    assert here.viewer.dims.point[0] == 1
    assert not proposals(here).any()


def test_a_plane_that_is_left_is_finished_and_drawn_where_it_belongs() -> None:
    inference = SteppedInference()
    here = desk(Image(np.zeros((3, 128, 128), np.uint8)), inference=inference)
    here.viewer.dims.set_point(0, 0)
    inference.run_all()
    here.session.auto_segment()
    here.viewer.dims.set_point(0, 2)
    inference.run_all()
    assert here.session.proposals.count == 0
    here.viewer.dims.set_point(0, 0)
    inference.run_all()
    assert here.session.proposals.count == 4
    assert [bool(plane.any()) for plane in proposals(here)] == [True, False, False]


def test_a_plane_that_is_left_before_it_is_read_is_not_searched_nor_is_another() -> (
    None
):
    inference = SteppedInference()
    here = desk(Image(np.zeros((3, 128, 128), np.uint8)), inference=inference)
    here.viewer.dims.set_point(0, 0)
    here.session.auto_segment()
    assert here.session.auto.running
    here.viewer.dims.set_point(0, 2)
    inference.run_all()
    assert not here.session.auto.running
    assert here.told[-1] == (
        "info",
        "Auto-segmentation did not start: the plane changed.",
    )
    for plane in range(3):
        here.viewer.dims.set_point(0, plane)
        inference.run_all()
        assert here.session.proposals.count == 0


def test_the_image_goes_away_in_the_middle() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    inference.run_all()
    here.session.auto_segment()
    here.viewer.layers.remove(here.image)
    inference.run_all()
    assert not here.session.auto.running
    assert here.session.status.kind is StatusKind.NO_IMAGE


def test_a_failure_is_told_and_over() -> None:
    here = desk()
    here.runtime.decode = None
    here.session.auto_segment()
    assert here.told[-1][0] == "error"
    assert "Auto-segmentation stopped" in here.told[-1][1]
    assert not here.session.auto.running
    assert here.session.status.kind is StatusKind.READY


def test_discard_and_close() -> None:
    here = desk()
    here.session.auto_segment()
    here.session.proposals.discard()
    assert here.session.proposals.count == 0
    assert not proposals(here).any()
    here.session.undo()
    assert here.session.proposals.count == 4
    here.session.close()
    assert PROPOSED not in here.viewer.layers
    assert "cells" in here.viewer.layers


def test_a_removed_layer_comes_back_with_the_next_change() -> None:
    here = desk()
    here.session.auto_segment()
    here.viewer.layers.remove(here.viewer.layers[PROPOSED])
    here.session.proposals.set_settings(parts=0.1)
    assert shown(here) == [0, 1, 2, 3]


def test_proposals_of_data_that_changed_are_gone() -> None:
    here = desk()
    here.session.auto_segment()
    assert here.session.proposals.count
    here.image.data = np.ones((128, 128), np.uint8)
    assert here.session._parts.subject.proposed is None
    here.session.proposals.accept_all()
    assert here.session.target is None
    here.session.undo()  # brings no proposals of the old data back
    assert here.session._parts.subject.proposed is None


def test_a_longer_stack_after_a_shorter_one() -> None:
    short = Image(np.zeros((2, 128, 128), np.uint8))
    here = desk(short)
    here.viewer.dims.set_current_step(0, 0)
    here.session.auto_segment()
    assert here.session.proposals.count
    here.viewer.add_layer(Image(np.zeros((9, 128, 128), np.uint8)))
    here.viewer.dims.set_current_step(0, 8)
    assert here.session.proposals.count == 0
    here.session.set_image(short)
    here.viewer.dims.set_current_step(0, 0)
    assert here.session.proposals.count
    assert here.viewer.layers["auto_segmentation"].data.shape == (2, 128, 128)


def test_steps_on_one_image_leave_the_other_ones_proposals() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    inference.run_all()
    here.session.auto_segment()
    inference.run_all()
    first, count = here.image, here.session.proposals.count
    assert count
    here.viewer.add_layer(Image(np.zeros((128, 128), np.uint8), name="b"))
    inference.run_all()
    here.session.auto_segment()
    inference.step()
    here.session.set_image(first)
    inference.run_all()
    assert here.session.proposals.count == count
    found = here.viewer.layers["auto_segmentation"].data
    assert found.any()
    here.session.set_image(here.viewer.layers["b"])
    inference.run_all()
    assert here.session.proposals.count


def test_removing_the_image_ends_its_run() -> None:
    inference = SteppedInference()
    here = desk(inference=inference)
    inference.run_all()
    first = here.image
    here.session.auto_segment()
    inference.step()
    here.viewer.add_layer(Image(np.zeros((128, 128), np.uint8), name="b"))
    here.viewer.layers.remove(first)
    inference.run_all()
    assert not here.session.auto.running
    assert "auto_segmentation" not in here.viewer.layers


@pytest.mark.parametrize("how", ["no image", "3-D"])
def test_without_a_plane_nothing_is_kept_for_later(how: str) -> None:
    """An image opened later is not segmented unasked."""
    here = desk()
    cells = here.image
    if how == "no image":
        here.viewer.layers.clear()
    else:
        here.viewer.dims.ndisplay = 3
    here.session.auto_segment()
    assert not here.session.auto.running
    here.viewer.dims.ndisplay = 2
    if how == "no image":
        here.viewer.add_layer(cells)
    assert here.session.status.kind is StatusKind.READY
    assert PROPOSED not in here.viewer.layers
