"""Several images in a viewer, and which labels are whose. On a ViewerModel."""

from __future__ import annotations

from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from napari.layers import Image, Labels

from desk import Desk, open_desk
from fake_inference import ImmediateInference
from fake_predictor import disc_predictor
from napari_tinysam.labels import object_masks
from napari_tinysam.ui.session.facade import AnnotationSession


def picture(name: str, *shape: int, seed: int = 1, **options: Any) -> Image:
    return Image(np.random.default_rng(seed).random(shape), name=name, **options)


def committed(desk: Desk, x: float, y: float) -> Labels:
    desk.click(x, y)
    desk.session.commit()
    target = desk.session.target
    assert target is not None
    return target


def reopened(desk: Desk) -> Desk:
    """Close the dock and open it again in the same viewer."""
    desk.session.close()
    predictor, runtime = disc_predictor()
    told: list[tuple[str, str]] = []
    session = AnnotationSession(
        desk.viewer,
        ImmediateInference(),
        load_predictor=lambda *_: predictor,
        notify=lambda *message: told.append(message),
    )
    session.set_active(True)
    return Desk(desk.viewer, session, session._parts.inference, runtime, told)


# --- the image that is segmented ---------------------------------------------------------


def test_the_image_opened_last_is_segmented_into_labels_of_its_own() -> None:
    desk = open_desk(picture("one", 200, 300))
    first = committed(desk, 100, 80)
    desk.viewer.add_layer(picture("two", 200, 300, seed=2))
    assert desk.image.name == "two"
    second = committed(desk, 60, 50)
    assert second is not first
    assert (first.name, second.name) == (
        "one committed_objects",
        "two committed_objects",
    )
    assert np.unique(first.data).tolist() == [0, 1]
    assert np.unique(second.data).tolist() == [0, 1]


def test_the_image_selected_last_is_segmented_into_the_labels_it_had() -> None:
    desk = open_desk(picture("one", 200, 300), picture("two", 200, 300, seed=2))
    assert desk.image.name == "two"
    second = committed(desk, 60, 50)
    desk.viewer.layers.selection.active = desk.viewer.layers["one"]
    assert desk.image.name == "one"
    assert desk.session.target is None
    first = committed(desk, 100, 80)
    desk.viewer.layers.selection.active = desk.viewer.layers["two"]
    assert desk.session.target is second
    desk.session.set_image(desk.viewer.layers["one"])
    assert desk.session.target is first
    assert desk.viewer.layers.selection.active is desk.viewer.layers["one"]


def test_drafts_and_undo_are_each_images_own() -> None:
    desk = open_desk(picture("one", 200, 300))
    desk.click(100, 80)
    one = desk.image
    two = desk.viewer.add_layer(picture("two", 200, 300, seed=2))
    assert desk.session.object_count == 0
    assert not desk.preview_pixels()
    assert not desk.session.can_undo
    desk.click(60, 50)
    desk.session.set_image(one)
    assert [d.points[0].x for d in desk.session.drafts.filled] == [100]
    desk.session.undo()
    assert desk.session.object_count == 0
    desk.session.set_image(two)
    assert desk.session.object_count == 1


def test_what_is_shown_lies_above_the_image_it_belongs_to() -> None:
    desk = open_desk(picture("one", 200, 300))
    desk.click(100, 80)
    committed(desk, 60, 50)
    desk.viewer.add_layer(picture("two", 200, 300, seed=2))
    desk.click(100, 80)
    layers = desk.viewer.layers

    def above(name: str) -> bool:
        return layers.index(name) > layers.index(desk.image)

    assert above("current_object")
    assert above("point_prompts")
    target = committed(desk, 60, 50)
    assert layers.index(target) > layers.index(desk.image)
    assert desk.session.hidden_by is None
    desk.session.set_image(layers["one"])
    assert desk.session.hidden_by == "two"
    layers["two"].visible = False
    assert desk.session.hidden_by is None


def test_what_is_seen_instead_of_the_image_is_named_first() -> None:
    desk = open_desk(picture("one", 200, 300))
    first = desk.image
    desk.viewer.add_layer(picture("two", 200, 300, seed=2))
    desk.viewer.add_layer(picture("three", 200, 300, seed=3))
    desk.session.set_image(first)
    assert desk.session.hidden_by == "three"
    desk.viewer.layers["three"].visible = False
    assert desk.session.hidden_by == "two"


def test_removing_the_image_in_the_middle_of_an_object_leaves_nothing_of_it() -> None:
    desk = open_desk(picture("one", 200, 300))
    desk.click(100, 80)
    desk.viewer.layers.remove("one")
    assert not desk.preview_pixels()
    assert desk.session.image is None
    desk.viewer.add_layer(picture("next", 120, 140))
    desk.session.hover_at(desk.world(30, 30))
    assert desk.preview_pixels()
    assert desk.session.object_count == 0


# --- labels that are there already -------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["cells committed_objects", "cells_cp_masks", "cells_labels", "committed_objects"],
)
@pytest.mark.parametrize("before", [True, False])
def test_labels_that_fit_the_image_are_its_target(name: str, before: bool) -> None:
    others = np.zeros((200, 300), np.uint32)
    others[10:30, 10:30] = 7
    labels = Labels(others, name=name)
    image = picture("cells", 200, 300)
    desk = open_desk(image, labels) if before else open_desk(image)
    if not before:
        desk.viewer.add_layer(labels)
    assert desk.session.target is labels
    committed(desk, 100, 80)
    assert desk.ids == [7, 8]


def test_of_several_labels_the_one_called_after_the_image_is_the_target() -> None:
    ids = np.zeros((200, 300), np.uint32)
    mine, other = Labels(ids, name="cells_labels"), Labels(ids.copy(), name="tissue")
    desk = open_desk(picture("cells", 200, 300), mine, other)
    assert desk.session.target is mine


@pytest.mark.parametrize(
    "labels",
    [
        Labels(np.zeros((100, 300), int), name="smaller"),
        Labels(np.zeros((200, 300), int), name="elsewhere", translate=(5, 5)),
        Labels(np.zeros((200, 300), int), name="cells_gt"),
        Labels(np.zeros((200, 300), int), name="true labels"),
        Labels(np.zeros((200, 300), int), name="hidden", visible=False),
    ],
    ids=lambda layer: layer.name,
)
def test_labels_that_do_not_fit_are_not_chosen(labels: Labels) -> None:
    desk = open_desk(picture("cells", 200, 300), labels)
    assert desk.session.target is None


def test_two_nameless_candidates_are_a_choice_for_the_user() -> None:
    ids = np.zeros((200, 300), np.uint32)
    desk = open_desk(
        picture("cells", 200, 300), Labels(ids, name="a"), Labels(ids.copy(), name="b")
    )
    assert desk.session.target is None


def test_labels_called_after_another_image_are_left_to_it() -> None:
    ids = np.zeros((200, 300), np.uint32)
    desk = open_desk(
        picture("one", 200, 300),
        Labels(ids, name="one_labels"),
        picture("two", 200, 300, seed=2),
    )
    assert desk.image.name == "two"
    assert desk.session.target is None


def test_labels_from_a_file_without_a_scale_are_put_on_their_image() -> None:
    labels = Labels(np.zeros((200, 300), np.uint32), name="cells_labels")
    image = picture("cells", 200, 300, scale=(0.5, 0.5), translate=(3, 4))
    desk = open_desk(image, labels)
    assert desk.session.target is labels
    np.testing.assert_allclose(labels.scale, image.scale)
    np.testing.assert_allclose(labels.translate, image.translate)


def test_new_stays_new_when_the_user_chose_it() -> None:
    desk = open_desk(
        picture("cells", 200, 300),
        Labels(np.zeros((200, 300), int), name="cells_labels"),
    )
    desk.session.set_target(None)
    two = desk.viewer.add_layer(picture("two", 50, 60))
    desk.session.set_image(desk.viewer.layers["cells"])
    assert two is not desk.image
    assert desk.session.target is None


def test_who_wants_nothing_kept_is_not_told_how_to_go_on_with_it() -> None:
    desk = open_desk(picture("one", 200, 300))
    desk.click(100, 80)
    desk.session.give_up_unsaved()
    desk.session.close()
    assert not any("not committed yet" in text for _, text in desk.told)


def test_closing_and_opening_keeps_target_drafts_and_undo() -> None:
    desk = open_desk(picture("one", 200, 300), picture("two", 200, 300, seed=2))
    desk.session.set_image(desk.viewer.layers["one"])
    target = committed(desk, 100, 80)
    desk.viewer.add_labels(np.zeros((200, 300), int), name="another")
    desk.click(200, 120)
    desk.session.set_new_objects(False)
    desk.viewer.layers.selection.active = target
    again = reopened(desk)
    assert any("not committed yet" in text for _, text in desk.told)
    assert again.image.name == "one"
    assert again.session.target is target
    assert again.session.object_count == 1
    assert again.preview_pixels()
    assert not again.session.new_objects
    again.session.commit()
    assert again.ids == [1, 2]
    again.session.undo()
    again.session.undo()
    again.session.undo()
    assert not target.data.any()


# --- channels ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "labels", "axis"),
    [
        ((3, 2, 60, 80), "tcyx", 1),
        ((2, 3, 60, 80), "ctyx", 0),
        ((2, 3, 2, 60, 80), "tzcyx", 2),
    ],
)
def test_objects_belong_to_all_channels_wherever_the_axis_is(
    shape: tuple[int, ...], labels: str, axis: int
) -> None:
    image = picture(
        "movie", *shape, axis_labels=tuple(labels), scale=(2.0,) * len(shape)
    )
    desk = open_desk(image)
    dims = desk.viewer.dims
    for other in range(len(shape) - 2):
        dims.set_current_step(other, 1)
    assert desk.session.channel == 1
    assert desk.session.channel_count == 2
    desk.click(40, 30)
    dims.set_current_step(axis, 0)
    assert desk.session.object_count == 1  # the same drafts
    desk.session.commit()
    target = desk.session.target
    assert target is not None
    assert target.data.shape == (shape if axis else shape[1:])
    seen = []
    for channel in range(2):
        dims.set_current_step(axis, channel)
        seen.append(target.get_value((*dims.point[:-2], 60.0, 80.0), world=True))
    assert seen == [1, 1]
    time = next(i for i in range(len(shape) - 2) if i != axis)
    dims.set_current_step(time, 0)
    assert not target.get_value((*dims.point[:-2], 60.0, 80.0), world=True)
    dims.set_current_step(time, 1)
    desk.click(40, 30)  # on the other channel: labelled already
    desk.session.commit()
    assert desk.ids == [1]


def test_the_target_of_a_stack_with_channels_is_found_again() -> None:
    desk = open_desk(picture("movie", 3, 2, 60, 80, axis_labels=("t", "c", "y", "x")))
    target = committed(desk, 40, 30)
    again = open_desk(
        picture("movie", 3, 2, 60, 80, axis_labels=("t", "c", "y", "x")),
        Labels(
            target.data, name="loaded", scale=target.scale, translate=target.translate
        ),
    )
    assert again.session.target is again.viewer.layers["loaded"]


def test_a_stack_can_be_called_channels_and_back() -> None:
    desk = open_desk(picture("stack", 3, 60, 80))
    assert desk.session.channel is None
    assert desk.session.channel_count == 3
    desk.session.set_channel(2)
    assert desk.session.channel == 2
    assert desk.viewer.dims.current_step[0] == 2
    assert committed(desk, 40, 30).data.shape == (60, 80)
    desk.session.undo()
    desk.session.set_channel(None)
    assert desk.session.channel is None
    assert committed(desk, 40, 30).data.shape == (3, 60, 80)


# --- labels on disk ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zarr", "dask"])
def test_accepting_all_into_labels_that_are_not_in_memory(
    kind: str, tmp_path: Any
) -> None:
    ids = (
        zarr.open(
            str(tmp_path / "l.zarr"),
            mode="w",
            shape=(200, 300),
            dtype="uint32",
            chunks=(64, 64),
        )
        if kind == "zarr"
        else dask.array.zeros((200, 300), dtype="uint32", chunks=(64, 64))
    )
    labels = Labels(ids, name="cells_labels")
    desk = open_desk(picture("cells", 200, 300), labels)
    found = np.zeros((200, 300), np.int32)
    found[20:40, 20:40], found[60:90, 100:140] = 1, 2
    plane = desk.session.shown_plane
    assert plane is not None
    masks = [mask for _, mask in object_masks(found)]
    assert desk.session._parts.labelling.paste(plane, masks) is not None
    np.testing.assert_array_equal(np.asarray(labels.data), found)
