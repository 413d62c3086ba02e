"""What the user did is not lost, and nothing is done that was not shown. On a ViewerModel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Labels, Points, Shapes

from desk import Desk, noise, open_desk
from fake_inference import SteppedInference
from napari_tinysam.labels import Overlap
from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.labels.edits import LabelEdit
from napari_tinysam.ui.state.drafts import PlaneDrafts
from napari_tinysam.ui.state.history import History, Step
from napari_tinysam.ui.state.planes import Plane

# --- commits that wait -------------------------------------------------------------------


def test_commits_of_planes_that_were_left_are_done() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(6, 60, 80), inference=inference)
    for at in range(6):
        desk.viewer.dims.set_current_step(0, at)
        desk.click(40, 30)
        desk.session.commit()
    inference.run_all()
    assert desk.session.target is not None
    assert [int(plane.max()) > 0 for plane in desk.session.target.data] == [True] * 6
    assert not desk.told
    for at in range(6):
        desk.viewer.dims.set_current_step(0, at)
        inference.run_all()
        assert desk.session.object_count == 0


def test_a_commit_is_done_when_its_image_is_not_the_one_shown() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(60, 80), inference=inference)
    first = desk.image
    desk.click(40, 30)
    desk.session.commit()
    desk.viewer.add_layer(noise(60, 80))
    inference.run_all()
    assert desk.session.target is None
    desk.session.set_image(first)
    assert desk.ids == [1]


def test_what_was_taken_back_before_its_mask_came_is_not_committed() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(3, 60, 80), inference=inference)
    desk.click(40, 30)
    desk.session.commit()
    desk.session.undo()
    desk.viewer.dims.set_current_step(0, 2)
    inference.run_all()
    assert desk.session.target is None


def test_a_commit_that_fails_is_said_and_its_prompts_stay() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(3, 60, 80), inference=inference)
    desk.viewer.dims.set_current_step(0, 0)
    inference.run_all()
    desk.viewer.dims.set_current_step(0, 1)
    desk.click(40, 30)
    desk.session.commit()
    desk.viewer.dims.set_current_step(0, 0)
    desk.runtime.failure = OSError("the disk is gone")
    inference.run_all()
    assert desk.told == [
        (
            "error",
            "Objects on plane 1 of cells were not committed: the disk is gone. "
            "Their prompts are still there.",
        )
    ]
    desk.runtime.failure = None
    desk.viewer.dims.set_current_step(0, 1)
    assert desk.session.object_count == 1


def test_an_image_that_goes_before_its_commit_is_done_is_said() -> None:
    desk = open_desk(noise(60, 80), inference=SteppedInference())
    desk.click(40, 30)
    desk.session.commit()
    desk.viewer.layers.remove("cells")
    assert [level for level, _ in desk.told] == ["warning"]


def test_one_covered_object_does_not_hold_up_the_others(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    desk.box(95, 75, 105, 85)  # inside the object that is there
    desk.session.next_object()
    desk.click(200, 120)
    desk.session.commit()
    assert desk.ids == [1, 2]
    assert desk.session.target is not None
    assert desk.session.target.data[120, 200] == 2
    assert desk.session.object_count == 1  # what was covered is still there
    assert "1 of 2 objects were not committed" in desk.told[-1][1]


@pytest.mark.parametrize(("grown", "there"), [(1, False), (12, True)])
def test_a_ring_around_an_object_is_no_object(grown: int, there: bool) -> None:
    ids = np.zeros((200, 300), np.uint32)
    ids[60:100, 80:120] = 4
    desk = open_desk(noise(200, 300), Labels(ids, name="cells_labels"))
    # A box gives the ellipse in it.
    desk.box(80 - grown - 12, 60 - grown - 12, 119 + grown + 12, 99 + grown + 12)
    if there:
        desk.box(110, 60, 180, 100)
    desk.session.commit()
    assert (5 in desk.ids) is there


def test_a_ring_around_an_object_takes_what_is_free_if_that_is_the_rule() -> None:
    ids = np.zeros((200, 300), np.uint32)
    ids[60:100, 80:120] = 4
    desk = open_desk(noise(200, 300), Labels(ids.copy(), name="cells_labels"))
    desk.session.set_overlap(Overlap.FREE)
    desk.box(67, 47, 132, 112)
    desk.session.commit()
    assert desk.session.target is not None
    found = np.asarray(desk.session.target.data)
    assert np.array_equal(found == 4, ids == 4)
    assert np.count_nonzero(found == 5)


@pytest.mark.parametrize(
    ("overlap", "preserve", "left"),
    [
        (Overlap.NEVER, False, 36),
        (Overlap.FREE, False, 36),
        (Overlap.MERGE, False, 36),
        (Overlap.REPLACE, True, 36),
        (Overlap.REPLACE, False, 0),
    ],
)
def test_an_accepted_proposal_takes_what_is_free_or_replaces(
    overlap: Overlap, preserve: bool, left: int
) -> None:
    ids = np.zeros((40, 40), np.uint32)
    ids[1:7, 1:7] = 4
    desk = open_desk(noise(40, 40), Labels(ids, name="cells_labels"))
    desk.session.set_overlap(overlap)
    target, plane = desk.session.target, desk.session.shown_plane
    assert target is not None
    assert plane is not None
    target.preserve_labels = preserve
    mask = BoxedMask(np.ones((7, 7), bool), 1, 1, (40, 40))
    assert desk.session._parts.labelling.paste(plane, [mask]) is not None
    found = np.asarray(target.data)
    assert np.count_nonzero(found == 4) == left
    assert np.count_nonzero(found == 5) == 49 - left


# --- clicks on and beside objects --------------------------------------------------------


def test_a_click_on_a_labelled_object_offers_to_edit_it(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    desk.click(102, 80)
    assert desk.session.object_count == 0
    assert desk.session.offered == 1
    assert desk.told == [
        ("info", "Object 1 is already here. Click it again to edit it.")
    ]
    desk.click(102, 82)
    assert desk.session.edited_id == 1
    desk.click(112, 80)
    desk.session.commit()
    assert desk.ids == [1]


def test_a_click_elsewhere_takes_the_offer_back(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    desk.click(102, 80)
    desk.click(200, 120)
    assert desk.session.offered is None
    desk.session.commit()
    assert desk.ids == [1, 2]


def test_overwriting_means_a_new_object_where_one_is(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    desk.session.set_overlap(Overlap.REPLACE)
    desk.click(102, 80)
    assert desk.session.object_count == 1


def test_a_click_far_away_begins_another_object_as_the_preview_shows(
    desk: Desk,
) -> None:
    desk.click(100, 80)
    desk.session.hover_at(desk.world(200, 120))
    assert desk.session.click_means == "another"
    assert set(desk.preview_pixels()) == {"hover", "current"}
    desk.click(200, 120)
    assert desk.session.object_count == 2
    desk.session.commit()
    assert desk.ids == [1, 2]


def test_a_click_beside_the_mask_adds_to_it(desk: Desk) -> None:
    desk.click(100, 80)
    mask = desk.session._parts.masks.known()[0]
    beside = 100 + round(np.sqrt(mask.area / np.pi)) + 2
    desk.session.hover_at(desk.world(beside, 80))
    assert desk.session.click_means == "part"
    desk.click(beside, 80)
    assert desk.session.object_count == 1
    desk.session.hover_at(desk.world(100, 80))  # on the mask: nothing is shown
    assert desk.session.click_means == ""


def test_the_rule_can_be_switched_off(desk: Desk) -> None:
    desk.session.set_new_objects(False)
    desk.click(100, 80)
    desk.session.hover_at(desk.world(200, 120))
    assert desk.session.click_means == "part"
    desk.click(200, 120)
    assert desk.session.object_count == 1


def test_a_negative_click_far_away_is_the_current_objects(desk: Desk) -> None:
    desk.click(100, 80)
    desk.click(200, 120, 0)
    assert desk.session.object_count == 1


def test_two_clicks_before_the_masks_are_two_objects() -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference)
    desk.click(100, 80)
    desk.click(200, 120)
    assert desk.session.object_count == 2
    inference.run_all()
    desk.session.commit()
    inference.run_all()
    assert desk.ids == [1, 2]


def test_delete_takes_the_object_under_the_cursor(desk: Desk) -> None:
    for x, y in ((100, 80), (200, 120)):
        desk.click(x, y)
        desk.session.commit()
    desk.session.hover_at(desk.world(200, 120))
    desk.session.delete_object()
    assert desk.ids == [1]
    desk.session.undo()
    assert desk.ids == [1, 2]
    desk.session.hover_at(desk.world(20, 20))
    desk.session.delete_object()
    assert desk.ids == [1, 2]


def test_edit_takes_the_object_under_the_cursor(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    desk.session.hover_at(desk.world(100, 80))
    desk.session.edit_object()
    assert desk.session.edited_id == 1


@pytest.mark.parametrize("first", [(118, 80), (126, 80), (146, 83)])
def test_seeds_decide_where_an_object_is_split(first: tuple[int, int]) -> None:
    """A round object with two seeds anywhere: no sliver."""
    ids = np.zeros((200, 300), np.uint32)
    ys, xs = np.mgrid[:200, :300]
    ids[(ys - 80) ** 2 + (xs - 120) ** 2 <= 28**2] = 3
    desk = open_desk(noise(200, 300), Labels(ids, name="cells_labels"))
    desk.session.set_new_objects(False)
    desk.session.hover_at(desk.world(120, 80))
    desk.session.edit_object()
    desk.click(*first)
    desk.click(95, 78)
    desk.session.split_object()
    target = desk.session.target
    assert target is not None
    here, there = target.data[first[1], first[0]], target.data[78, 95]
    assert here != there
    sizes = [np.count_nonzero(target.data == label) for label in (here, there)]
    assert min(sizes) > 0.2 * sum(sizes)


def test_seeds_in_two_lobes_are_cut_at_the_neck() -> None:
    ids = np.zeros((200, 300), np.uint32)
    ys, xs = np.mgrid[:200, :300]
    ids[(ys - 80) ** 2 + (xs - 100) ** 2 <= 30**2] = 3
    ids[(ys - 80) ** 2 + (xs - 144) ** 2 <= 18**2] = 3
    desk = open_desk(noise(200, 300), Labels(ids, name="cells_labels"))
    desk.session.hover_at(desk.world(100, 80))
    desk.session.edit_object()
    desk.click(95, 75)
    desk.click(157, 80)
    desk.session.split_object()
    target = desk.session.target
    assert target is not None
    row = target.data[80]
    cut = int(np.nonzero(np.diff(row[72:160]))[0][0]) + 72
    assert abs(cut - 128) <= 5  # where the two discs meet


# --- the user's own prompts --------------------------------------------------------------


def prompts() -> tuple[Points, Shapes]:
    points = Points([[80, 100], [82, 104]], name="point_prompts")
    box = [[40, 20], [40, 70], [90, 70], [90, 20]]
    return points, Shapes([np.array(box)], name="prompts")


@pytest.mark.parametrize("before", [True, False])
def test_prompts_that_the_user_brought_are_read_and_left_alone(before: bool) -> None:
    layers = prompts()
    desk = open_desk(noise(200, 300), *layers) if before else open_desk(noise(200, 300))
    if not before:
        for layer in layers:
            desk.viewer.add_layer(layer)
    drafts = desk.session.drafts
    assert {draft.box for draft in drafts.filled} == {(20, 40, 70, 90), None}
    assert sum(len(draft.points) for draft in drafts.filled) == 2
    desk.click(200, 120)
    desk.session.commit()
    assert [len(layer.data) for layer in layers] == [2, 1]
    desk.session.close()
    assert all(layer in desk.viewer.layers for layer in layers)
    assert [len(layer.data) for layer in layers] == [2, 1]
    assert {layer.name for layer in desk.viewer.layers} == {
        "cells",
        "cells committed_objects",
        "point_prompts",
        "prompts",
    }


def test_reading_them_is_one_step(desk: Desk) -> None:
    points, _ = prompts()
    desk.viewer.add_layer(points)
    assert desk.session.object_count == 1
    desk.session.undo()
    assert desk.session.object_count == 0
    assert not desk.session.can_undo
    assert len(points.data) == 2


def test_later_changes_of_them_are_read_too(desk: Desk) -> None:
    points, _ = prompts()
    desk.viewer.add_layer(points)
    points.add([[84, 96]])
    (draft,) = desk.session.drafts.filled
    assert len(draft.points) == 3
    points.selected_data = {0}
    points.remove_selected()
    (draft,) = desk.session.drafts.filled
    assert [(p.x, p.y) for p in draft.points] == [(104, 82), (96, 84)]


def test_prompts_on_the_planes_of_a_stack() -> None:
    points = Points([[0, 30, 40], [2, 20, 20]], name="point_prompts")
    desk = open_desk(noise(3, 60, 80), points)
    desk.viewer.dims.set_current_step(0, 0)
    assert [(p.x, p.y) for p in desk.session.drafts.current.points] == [(40, 30)]
    desk.viewer.dims.set_current_step(0, 2)
    assert [(p.x, p.y) for p in desk.session.drafts.current.points] == [(20, 20)]
    desk.viewer.dims.set_current_step(0, 1)
    assert desk.session.object_count == 0


def test_keys_are_ours_on_our_prompt_layers(desk: Desk) -> None:
    desk.session.make_prompt_layers()
    desk.click(100, 80)
    for name in ("prompts", "point_prompts"):
        layer = desk.viewer.layers[name]
        desk.viewer.layers.selection.active = layer
        layer.mode = "pan_zoom"
        assert {str(key) for key in layer.keymap} >= {"T", "A", "S", "E", "Delete"}
        layer.mode = "select"
        assert not layer.keymap


# --- the history's memory ----------------------------------------------------------------


def test_the_history_is_bounded_by_bytes_and_keeps_the_last_step() -> None:
    layer = Labels(np.zeros((64, 64), np.uint32))
    plane = Plane((None, None), (0, 1), (64, 64))
    history = History(most_bytes=5 * 2 * 16 * 16 * 4)

    def step(side: int) -> Step:
        ids = np.zeros((side, side), np.uint32)
        edit = LabelEdit(layer, plane, 0, 0, ids, ids + 1)
        return Step("commit", plane, PlaneDrafts(), PlaneDrafts(), edit)

    for _ in range(20):
        history.push(step(16))
    assert history.nbytes <= 5 * 2 * 16 * 16 * 4
    kept = 0
    while history.undo() is not None:
        kept += 1
    assert kept == 5
    history.push(step(64))
    assert history.undo() is not None


# --- saving ------------------------------------------------------------------------------


def test_saving_writes_what_is_committed_beside_the_image(tmp_path: Path) -> None:
    path = tmp_path / "well A1.ome.tif"
    tifffile.imwrite(path, np.random.default_rng(1).random((200, 300)).astype("f4"))
    viewer = ViewerModel()
    viewer.open(str(path), plugin="napari")
    desk = open_desk(viewer.layers[0])
    saving = desk.session.saving
    desk.click(100, 80)
    desk.session.commit()
    target = desk.session.target
    assert target is not None
    assert not saving.is_saved(target)
    suggested = saving.suggestion(target, desk.image)
    assert suggested == tmp_path / "well A1_labels.tif"
    saving.save(target, suggested)
    np.testing.assert_array_equal(tifffile.imread(suggested), target.data)
    assert tifffile.imread(suggested).dtype == np.uint32
    assert saving.is_saved(target)
    assert saving.file_of(target) == suggested
    desk.click(200, 120)
    desk.session.commit()
    assert not saving.is_saved(target)


def test_changes_made_while_a_file_is_written_are_not_saved(tmp_path: Path) -> None:
    inference = SteppedInference()
    desk = open_desk(noise(200, 300), inference=inference)
    inference.run_all()
    desk.click(100, 80)
    inference.run_all()
    desk.session.commit()
    target = desk.session.target
    assert target is not None
    before = target.data.copy()
    desk.session.saving.save(target, tmp_path / "a.tif")
    target.paint((20, 20), 5)
    inference.run_all()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), before)
    assert not desk.session.saving.is_saved(target)


def test_a_file_that_cannot_be_written_is_said_and_nothing_is_left(
    desk: Desk, tmp_path: Path
) -> None:
    desk.click(100, 80)
    desk.session.commit()
    target = desk.session.target
    assert target is not None
    desk.session.saving.save(target, tmp_path / "missing" / "a.tif")
    assert desk.told[-1][0] == "error"
    assert not desk.session.saving.is_saved(target)
    assert not list(tmp_path.iterdir())


def test_a_stack_with_channels_is_saved_without_them(tmp_path: Path) -> None:
    desk = open_desk(noise(3, 2, 60, 80, axis_labels=("t", "c", "y", "x")))
    desk.click(40, 30)
    desk.session.commit()
    target = desk.session.target
    assert target is not None
    desk.session.saving.save(target, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), target.data[:, 0])


def test_selecting_the_labels_makes_naparis_save_save_them(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    assert desk.viewer.layers.selection == {desk.session.target}
    assert all(layer.name != "current_object" for layer in desk.viewer.layers.selection)
