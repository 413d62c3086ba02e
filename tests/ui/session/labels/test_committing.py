"""Objects that go into the labels, and what painting beside them does."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from napari.layers import Labels

from desk import Desk, noise, open_desk
from napari_tinysam.labels import Overlap


@pytest.mark.parametrize(
    ("overlap", "expected"), [(Overlap.NEVER, 1), (Overlap.REPLACE, 2)]
)
def test_objects_that_are_there(desk: Desk, overlap: Overlap, expected: int) -> None:
    desk.click(100, 80)
    desk.session.commit()
    assert desk.session.target is not None
    desk.session.set_overlap(overlap)
    radius = round(np.sqrt(np.count_nonzero(desk.session.target.data) / np.pi))
    desk.click(100 + radius + 3, 80)
    desk.session.commit()
    assert desk.session.target.data[80, 100 + radius - 2] == expected
    assert desk.ids == [1, 2]


def test_merge_into_the_selected_label(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    desk.session.set_overlap(Overlap.MERGE)
    assert desk.session.target is not None
    desk.session.target.selected_label = 1
    area = np.count_nonzero(desk.session.target.data)
    desk.click(106, 80)
    desk.session.commit()
    assert desk.ids == [1]
    assert np.count_nonzero(desk.session.target.data) > area


def test_nothing_is_lost_when_everything_is_covered(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    desk.box(95, 75, 105, 85)
    desk.session.commit()
    assert desk.ids == [1]
    assert desk.told[-1][0] == "warning"
    assert "object 1 is there already" in desk.told[-1][1]
    assert desk.session.object_count == 1  # the prompts are still there


def test_labels_of_another_tool_are_used_and_kept() -> None:
    others = np.zeros((200, 300), np.uint8)
    others[10:20, 10:20] = 41
    desk = open_desk(noise(200, 300, scale=(2, 2)), Labels(others, name="stardist"))
    desk.session.set_target(desk.viewer.layers["stardist"])
    desk.click(100, 80)
    desk.session.commit()
    assert desk.ids == [41, 42]


def on_disk(kind: str, shape: tuple[int, ...]) -> Any:
    if kind == "numpy":
        return np.zeros(shape, np.uint32)
    chunks = (1,) * (len(shape) - 2) + (64, 64)
    if kind == "dask":
        return dask.array.zeros(shape, dtype=np.uint32, chunks=chunks)
    return zarr.create_array({}, shape=shape, dtype="uint32", chunks=chunks)


@pytest.mark.parametrize("shape", [(200, 300), (3, 200, 300)])
@pytest.mark.parametrize("kind", ["numpy", "zarr", "dask"])
def test_labels_of_any_kind_of_array_take_objects(
    kind: str, shape: tuple[int, ...]
) -> None:
    desk = open_desk(noise(*shape))
    labels = desk.viewer.add_labels(on_disk(kind, shape), name="mine")
    at = tuple(desk.viewer.dims.current_step[:-2])
    labels.paint((*at, 5, 5), 7)
    desk.session.set_target(labels)
    before = np.array(labels.data)
    desk.click(100, 80)
    desk.session.commit()
    first = np.array(labels.data)
    plane = first[at]
    assert plane[80, 100] == 8  # one more than what was painted
    assert (plane == 8).sum() > 100
    assert (first != before).sum() == (plane == 8).sum()
    # What is shown is what is written.
    shown = np.asarray(labels._slice.image.raw)
    np.testing.assert_array_equal(shown, plane)
    desk.click(200, 80)
    desk.session.commit()
    assert np.array(labels.data).max() == 9
    for _ in range(4):
        desk.session.undo()
    np.testing.assert_array_equal(np.array(labels.data), before)
    for _ in range(4):
        desk.session.redo()
    assert set(np.unique(np.array(labels.data))) == {0, 7, 8, 9}


def test_a_full_type_is_refused_not_wrapped() -> None:
    others = np.zeros((200, 300), np.uint8)
    others[0, 0] = 255
    desk = open_desk(noise(200, 300), Labels(others, name="full"))
    desk.session.set_target(desk.viewer.layers["full"])
    desk.click(100, 80)
    desk.session.commit()
    assert desk.told[-1][0] == "warning"
    assert "uint8" in desk.told[-1][1]
    assert desk.ids == [255]


@pytest.mark.parametrize("shape", [(100, 300), (2, 200, 300)])
def test_labels_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    desk = open_desk(noise(200, 300), Labels(np.zeros(shape, int), name="other"))
    desk.session.set_target(desk.viewer.layers["other"])
    desk.click(100, 80)
    desk.session.commit()
    assert desk.told[-1][0] == "warning"
    assert not desk.viewer.layers["other"].data.any()


def test_ids_are_never_given_out_twice(desk: Desk) -> None:
    desk.click(60, 50)
    desk.session.commit()
    desk.click(200, 120)
    desk.session.commit()
    desk.session.set_edit_mode(True)
    desk.click(200, 120)
    desk.session.delete_object()
    desk.session.set_edit_mode(False)
    desk.click(200, 50)
    desk.session.commit()
    assert desk.ids == [1, 3]


def test_ids_follow_what_the_user_paints(desk: Desk) -> None:
    desk.click(60, 50)
    desk.session.commit()
    assert desk.session.target is not None
    desk.session.target.data_setitem((np.array([5]), np.array([5])), 17)
    desk.click(200, 120)
    desk.session.commit()
    assert desk.ids == [1, 17, 18]


@pytest.mark.parametrize("by_brush", [False, True])
def test_painting_is_a_step_like_any_other(desk: Desk, by_brush: bool) -> None:
    desk.click(100, 80)
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    committed = labels.data.copy()
    if by_brush:
        labels.brush_size = 6
        labels.paint((20, 100), 9)
    else:
        labels.data_setitem((np.array([20]), np.array([100])), 9)
    painted = labels.data.copy()
    assert desk.session.undo_text == "painting"
    desk.session.undo()
    np.testing.assert_array_equal(labels.data, committed)
    desk.session.undo()
    assert not labels.data.any()
    desk.session.redo()
    desk.session.redo()
    np.testing.assert_array_equal(labels.data, painted)


def test_a_stroke_of_several_dabs_is_one_step(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    committed = labels.data.copy()
    labels.brush_size = 6
    with labels.block_history():
        for x in (100, 104, 130):
            labels.paint((20, x), 9)
    painted = labels.data.copy()
    desk.session.undo()
    np.testing.assert_array_equal(labels.data, committed)
    desk.session.redo()
    np.testing.assert_array_equal(labels.data, painted)


def test_painting_that_naparis_undo_took_back_is_no_step(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    labels.paint((20, 100), 9)
    labels.undo()  # napari's own
    desk.session.undo()
    assert not labels.data.any()


def test_napari_undo_and_ours_do_not_fight(desk: Desk) -> None:
    desk.click(100, 80)
    desk.session.commit()
    labels = desk.session.target
    assert labels is not None
    labels.undo()
    assert not labels.data.any()
    desk.session.undo()
    assert not labels.data.any()
    assert desk.session.object_count == 1
    desk.session.redo()
    assert desk.ids == [1]


def test_a_mask_without_pixels_makes_no_layer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = desk.runtime.decode

    def nothing(*arguments: Any, **options: Any) -> Any:
        found = decode(*arguments, **options)
        return found._replace(logits=np.full_like(found.logits, -10))

    monkeypatch.setattr(desk.runtime, "decode", nothing)
    desk.click(100, 80)
    desk.session.commit()
    assert desk.told[-1] == ("warning", "Nothing was written: the mask is empty.")
    assert desk.session.target is None
    assert (
        desk.session.object_count == 1
    )  # the prompt stays, for a box or another click
