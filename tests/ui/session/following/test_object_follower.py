"""An object is clicked once and followed: one id through all planes, the user's word stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels

from blob_runtime import blob_predictor
from desk import Desk, open_desk
from fake_inference import SteppedInference
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.ui.session.facade import StatusKind
from napari_tinysam.ui.session.worker import Lane
from napari_tinysam.ui.state.stack_planes import AxisKind
from napari_tinysam.ui.state.traces import PlaneState
from volume.stack_of_discs import StackRuntime

#: Radii in pixels of the frame; planes have 128 pixels, so 8 of the frame are one of the plane.
BALL = [0, 0, 60, 90, 110, 120, 110, 90, 60, 0, 0, 0]
X, Y = 320.0, 400.0


def planes_of(radii: list[float], *others: list[float]) -> list[list[Any]]:
    """Discs at one place, and others 300 to the right of each other."""
    return [
        [
            (X + 300 * number, Y, each[at])
            for number, each in enumerate((radii, *others))
            if each[at]
        ]
        for at in range(len(radii))
    ]


def desk(
    planes: list[list[Any]],
    *,
    inference: Any = None,
    kind: AxisKind | None = AxisKind.DEPTH,
    labels: np.ndarray | None = None,
    **options: Any,
) -> Desk:
    pixels = np.empty((len(planes), 128, 128, 3), np.uint8)
    pixels[:] = np.arange(len(planes), dtype=np.uint8)[:, None, None, None]
    names = {"axis_labels": ("z", "y", "x")} if kind is AxisKind.DEPTH else {}
    if kind is AxisKind.TIME:
        names = {"axis_labels": ("t", "y", "x")}
    layers: list[Any] = [Image(pixels, rgb=True, name="cells", **names, **options)]
    if labels is not None:
        layers.append(Labels(labels, name="cells committed_objects"))
    predictor = Predictor(StackRuntime(planes), name="stack", model_id="stack")
    found = open_desk(*layers, inference=inference, load_predictor=lambda *_: predictor)
    run(found)
    return found


def run(found: Desk) -> None:
    if isinstance(found.inference, SteppedInference):
        found.inference.run_all()


def show(found: Desk, plane: int) -> None:
    found.viewer.dims.set_point(0, plane)
    run(found)


def click(found: Desk, x: float = X, y: float = Y) -> None:
    found.click(x / 8, y / 8)
    run(found)


def follow(found: Desk) -> None:
    found.session.follow_object()
    run(found)


def areas(found: Desk, label: int = 1) -> list[int]:
    target = found.session.target
    assert target is not None
    return [int((np.asarray(plane) == label).sum()) for plane in target.data]


def shown(found: Desk, label: int = 1) -> list[int]:
    return [at for at, area in enumerate(areas(found, label)) if area]


def test_one_click_and_one_key_give_the_whole_object() -> None:
    found = desk(planes_of(BALL))
    show(found, 5)
    click(found)
    follow(found)
    assert shown(found) == [2, 3, 4, 5, 6, 7, 8]
    assert found.ids == [1]
    expected = np.pi * (np.array(BALL) / 8) ** 2
    np.testing.assert_allclose(areas(found), expected, rtol=0.1)
    states = found.session.follower.states
    assert states[5] is PlaneState.ANCHOR
    assert {states[at] for at in (2, 3, 4, 6, 7, 8)} == {PlaneState.FOLLOWED}
    assert found.session.follower.note.startswith("Found in 7 planes.")


def test_it_is_one_step_to_take_back_and_to_do_again() -> None:
    found = desk(planes_of(BALL))
    show(found, 5)
    click(found)
    follow(found)
    whole = areas(found)
    assert found.session.undo_text == "follow"
    found.session.undo()
    assert shown(found) == [5], "the clicked plane was committed"
    assert found.session.follower.states == {}
    found.session.redo()
    assert areas(found) == whole
    assert sorted(found.session.follower.states) == [2, 3, 4, 5, 6, 7, 8]
    found.session.undo()
    found.session.undo()
    assert shown(found) == []


def test_another_object_keeps_its_pixels() -> None:
    labels = np.zeros((12, 128, 128), np.uint32)
    labels[6, :, :38] = 7
    found = desk(planes_of(BALL), labels=labels)
    show(found, 5)
    click(found)
    follow(found)
    assert areas(found, 7)[6] == 128 * 38
    assert shown(found, 8)


def test_a_labelled_object_is_followed_from_under_the_cursor() -> None:
    labels = np.zeros((12, 128, 128), np.uint32)
    rows, columns = np.mgrid[:128, :128]
    labels[4][np.hypot(columns - X / 8, rows - Y / 8) < 110 / 8] = 3
    found = desk(planes_of(BALL), labels=labels)
    show(found, 4)
    found.session.hover_at(found.world(X / 8, Y / 8))
    follow(found)
    assert shown(found, 3) == [2, 3, 4, 5, 6, 7, 8]


def test_nothing_to_follow_is_said() -> None:
    found = desk(planes_of(BALL))
    show(found, 5)
    follow(found)
    assert "Click an object first" in found.told[-1][1]
    alone = desk([planes_of(BALL)[5]])
    click(alone)
    follow(alone)
    assert "one plane" in alone.told[-1][1]
    assert alone.ids == []


def test_an_axis_that_may_be_depth_or_time_is_asked_for_once() -> None:
    found = desk(planes_of(BALL), kind=None)
    show(found, 5)
    click(found)
    follow(found)
    assert found.session.follower.asks_for_kind
    assert found.ids == []
    assert "depth or time" in found.told[-1][1]
    found.session.set_axis_kind(0, AxisKind.DEPTH)
    run(found)
    assert shown(found) == [2, 3, 4, 5, 6, 7, 8]
    show(found, 0)
    assert found.session.follower.kind is AxisKind.DEPTH


def test_what_the_user_corrects_is_an_anchor_and_only_its_neighbours_are_found_anew() -> (
    None
):
    found = desk(planes_of(BALL))
    show(found, 5)
    click(found)
    follow(found)
    target = found.session.target
    assert target is not None
    # Painted with napari's brush: the object is twice as wide here.
    show(found, 7)
    before = [plane.copy() for plane in np.asarray(target.data)]
    brush(target, 7, X / 8 - 10, 12)
    run(found)
    assert found.session.follower.states[7] is PlaneState.ANCHOR
    now = np.asarray(target.data)
    for plane in (2, 3, 4, 5):
        np.testing.assert_array_equal(now[plane], before[plane])
    assert (now[7] != before[7]).any()
    # Undone stroke by stroke, it is no anchor any more.
    while found.session.follower.states.get(7) is PlaneState.ANCHOR:
        assert found.session.can_undo
        found.session.undo()
    np.testing.assert_array_equal(np.asarray(target.data)[7], before[7])


def painted(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:128, :128]
    return np.hypot(columns - x, rows - y) <= radius


def brush(target: Labels, plane: int, x: float, size: int) -> None:
    """Paint object 1 with napari's brush."""
    target.brush_size = size
    with target.block_history():  # as while the mouse is dragged
        target.paint((plane, Y / 8, x), 1)


def test_a_plane_that_is_accepted_stays() -> None:
    found = desk(planes_of(BALL))
    show(found, 5)
    click(found)
    follow(found)
    show(found, 3)
    found.session.accept_plane()
    assert found.session.follower.states[3] is PlaneState.ANCHOR
    assert found.session.undo_text == "accept"
    found.session.undo()
    assert found.session.follower.states[3] is PlaneState.FOLLOWED


def test_an_object_ends_where_the_user_says() -> None:
    found = desk(planes_of(BALL))
    show(found, 5)
    click(found)
    follow(found)
    show(found, 7)
    assert found.session.follower.note
    found.session.end_object_here()
    assert not found.session.follower.note, "it told of more planes"
    assert shown(found) == [2, 3, 4, 5, 6, 7]
    show(found, 3)
    found.session.end_object_here()
    assert shown(found) == [3, 4, 5, 6, 7]
    found.session.undo()
    found.session.undo()
    assert shown(found) == [2, 3, 4, 5, 6, 7, 8]


def test_ends_are_dragged_in_and_out() -> None:
    found = desk(planes_of(BALL))
    show(found, 5)
    click(found)
    follow(found)
    found.session.follower.move_ends(4, 8)
    assert shown(found) == [4, 5, 6, 7, 8]
    found.session.follower.move_ends(2, 8)
    run(found)
    assert shown(found) == [2, 3, 4, 5, 6, 7, 8]
    found.session.follower.move_ends(10, 11)
    assert "not in this range" in found.told[-1][1]
    assert shown(found) == [2, 3, 4, 5, 6, 7, 8]


def test_the_weakest_plane_is_shown() -> None:
    found = desk(planes_of(BALL))
    found.session.show_weakest_plane()
    assert "Follow an object first" in found.told[-1][1]
    show(found, 5)
    click(found)
    follow(found)
    trace = found.session.follower.current
    assert trace is not None
    found.session.show_weakest_plane()
    least = min(each.trust for each in trace.found.values() if each.plane != 5)
    there = found.session.follower.shown
    assert there is not None
    assert trace.found[there].trust == least


def test_all_objects_of_a_plane_are_followed_together() -> None:
    found = desk(planes_of(BALL, BALL[::-1]))
    show(found, 5)
    click(found)
    found.session.next_object()
    click(found, X + 300)
    found.session.commit()
    run(found)
    assert found.ids == [1, 2]
    found.session.follower.follow_all()
    run(found)
    assert shown(found, 1) == [2, 3, 4, 5, 6, 7, 8]
    assert shown(found, 2) == [3, 4, 5, 6, 7, 8, 9]
    found.session.undo()
    assert shown(found, 1) == shown(found, 2) == [5]


def test_planes_between_annotated_ones_are_filled() -> None:
    labels = np.zeros((12, 128, 128), np.uint32)
    for plane in (2, 5, 8):
        labels[plane][painted(X / 8, Y / 8, BALL[plane] / 8)] = 4
    labels[5][painted(X / 8 + 60, Y / 8, 8)] = 9  # nothing in the neighbours
    found = desk(planes_of(BALL), labels=labels)
    show(found, 5)
    before = labels.copy()
    found.session.follower.fill_between()
    run(found)
    assert shown(found, 4) == [2, 3, 4, 5, 6, 7, 8], "nothing beyond the outer planes"
    assert 2 not in shown(found, 9)
    assert 8 not in shown(found, 9)
    target = found.session.target
    assert target is not None
    for plane in (2, 5, 8):
        np.testing.assert_array_equal(np.asarray(target.data)[plane], before[plane])
    found.session.undo()
    np.testing.assert_array_equal(np.asarray(target.data), before)


def test_undo_in_the_middle_ends_the_run() -> None:
    inference = SteppedInference()
    found = desk(planes_of(BALL), inference=inference)
    show(found, 5)
    click(found)
    found.session.commit()
    run(found)
    found.session.hover_at(found.world(X / 8, Y / 8))
    run(found)
    found.session.follow_object()
    while len(shown(found)) < 3:
        inference.step()
    assert found.session.follower.running
    assert found.session.status.kind is StatusKind.SEGMENTING
    found.session.undo()
    assert shown(found) == [5]
    run(found)
    assert shown(found) == [5]
    assert not found.session.follower.running


def test_cancel_keeps_what_is_found() -> None:
    inference = SteppedInference()
    found = desk(planes_of(BALL), inference=inference)
    show(found, 5)
    click(found)
    found.session.follow_object()
    while found.session.target is None or len(shown(found)) < 4:
        inference.step()
    found.session.cancel()
    there = shown(found)
    assert len(there) == 4
    assert Lane.FOLLOW not in inference.waiting
    run(found)
    assert shown(found) == there
    found.session.undo()
    assert shown(found) == [5]


@pytest.mark.parametrize("what", ["labels", "image", "close"])
def test_what_goes_away_in_the_middle_ends_the_run(what: str) -> None:
    inference = SteppedInference()
    found = desk(planes_of(BALL), inference=inference)
    show(found, 5)
    click(found)
    found.session.follow_object()
    while found.session.target is None or len(shown(found)) < 3:
        inference.step()
    target = found.session.target
    deliver = inference.start()  # a plane is being computed meanwhile
    if what == "labels":
        found.viewer.layers.remove(target)
    elif what == "image":
        found.viewer.layers.remove(found.image)
    else:
        found.session.close()
    deliver()
    run(found)
    assert not found.session.follower.running
    assert not any(level == "error" for level, _ in found.told)


def test_what_is_painted_meanwhile_is_not_overwritten() -> None:
    inference = SteppedInference()
    found = desk(planes_of(BALL), inference=inference)
    show(found, 5)
    click(found)
    found.session.follow_object()
    while found.session.target is None or len(shown(found)) < 3:
        inference.step()
    target = found.session.target
    found.viewer.dims.set_point(0, 3)
    brush(target, 3, X / 8, 4)
    stroke = np.asarray(target.data)[3] == 1
    assert 0 < stroke.sum() < 40
    run(found)
    np.testing.assert_array_equal(np.asarray(target.data)[3] == 1, stroke)
    assert found.session.follower.states[3] is PlaneState.ANCHOR


def test_planes_change_wildly_meanwhile() -> None:
    inference = SteppedInference()
    found = desk(planes_of(BALL), inference=inference)
    show(found, 5)
    click(found)
    found.session.follow_object()
    rng = np.random.default_rng(0)
    while inference.waiting:
        inference.step()
        found.viewer.dims.set_point(0, int(rng.integers(12)))
    assert shown(found) == [2, 3, 4, 5, 6, 7, 8]


def test_a_movie_is_followed_as_one() -> None:
    planes: list[list[Any]] = [[(200.0 + 40 * at, Y, 60.0)] for at in range(10)]
    found = desk(planes, kind=AxisKind.TIME)
    show(found, 0)
    click(found, 200.0)
    follow(found)
    assert shown(found) == list(range(10))


def test_other_axes_stay_as_they_are() -> None:
    """Of a movie of stacks, one stack is followed."""
    planes = planes_of(BALL)
    found = desk(planes)
    pixels = np.stack([found.image.data] * 2)
    found.viewer.add_image(
        pixels, rgb=True, name="movie", axis_labels=("t", "z", "y", "x")
    )
    found.viewer.dims.set_point(0, 1)
    found.viewer.dims.set_point(1, 5)
    click(found)
    follow(found)
    target = found.session.target
    assert target is not None
    assert target.data.shape == (2, 12, 128, 128)
    assert not target.data[0].any()
    assert [at for at in range(12) if target.data[1, at].any()] == list(range(2, 9))


def test_a_failure_is_one_sentence_and_keeps_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = desk(planes_of(BALL))
    show(found, 5)
    click(found)
    found.session.commit()
    found.session.hover_at(found.world(X / 8, Y / 8))
    predictor = found.session._parts.embedder.predictor
    assert predictor is not None
    encode = predictor.encode

    def broken(pixels: Any, **given: Any) -> Any:
        if pixels.max() == 7:
            raise OSError("The disk is gone.")
        return encode(pixels, **given)

    monkeypatch.setattr(predictor, "encode", broken)
    found.session.follow_object()
    level, said = found.told[-1]
    assert level == "error"
    assert said.startswith("Following stopped")
    assert shown(found)[0] >= 5
    assert 6 in shown(found)
    assert not found.session.follower.running


def test_in_a_large_plane_it_is_followed_from_look_to_look() -> None:
    """A cell crosses a plane that is seen in tiles only."""
    shape = 12, 400, 2600
    pixels = np.zeros(shape, np.uint8)
    rows, columns = np.mgrid[:400, :2600]
    for frame in range(12):
        pixels[frame][np.hypot(columns - 150 - 200 * frame, rows - 200) < 40] = 255
    found = open_desk(
        Image(pixels, name="movie", axis_labels=("t", "y", "x")),
        load_predictor=lambda *_: blob_predictor(),
    )
    found.viewer.dims.set_point(0, 0)
    found.click(150, 200)
    found.session.commit()
    found.viewer.dims.set_point(0, 1)
    found.click(350, 200)
    found.session.commit()
    target = found.session.target
    assert target is not None
    target.data[1][target.data[1] > 0] = 1  # its movement is known
    found.session.hover_at(found.world(350, 200))
    found.session.follow_object()
    assert [int(each.max()) for each in target.data] == [1] * 12
    for frame in range(12):
        inside = target.data[frame] == 1
        truth = pixels[frame] > 0
        assert (inside & truth).sum() > 0.9 * (inside | truth).sum()


def test_planes_without_values_end_an_object_and_nothing_else() -> None:
    pixels = np.zeros((8, 200, 200), np.float32)
    rows, columns = np.mgrid[:200, :200]
    pixels[:, np.hypot(columns - 100, rows - 90) < 30] = 1
    pixels[5:] = np.nan
    found = open_desk(
        Image(pixels, name="stack", axis_labels=("z", "y", "x")),
        load_predictor=lambda *_: blob_predictor(),
    )
    found.viewer.dims.set_point(0, 2)
    found.click(100, 90)
    found.session.follow_object()
    assert shown(found) == [0, 1, 2, 3, 4]
    assert not found.session.follower.running
    assert [level for level, _ in found.told if level == "error"] == []


def test_an_outline_of_the_users_own_is_kept_through_the_planes() -> None:
    """Who draws cells wider than the model gets them wider in the next planes."""
    pixels = np.zeros((6, 256, 256), np.uint8)
    rows, columns = np.mgrid[:256, :256]
    away = np.hypot(columns - 120, rows - 130)
    pixels[:, away < 30] = 255
    labels = np.zeros(pixels.shape, np.int32)
    labels[2][away < 32.5] = 1
    found = open_desk(
        Image(pixels, name="stack", axis_labels=("z", "y", "x")),
        Labels(labels, name="stack committed_objects"),
        load_predictor=lambda *_: blob_predictor(),
    )
    found.viewer.dims.set_point(0, 2)
    found.session.hover_at(found.world(120, 130))
    found.session.follow_object()
    assert shown(found) == list(range(6))
    wanted = (away < 32.5).sum()
    assert areas(found) == pytest.approx([wanted] * 6, rel=0.04)


def test_an_id_that_goes_to_another_object_is_not_followed_anew() -> None:
    """Such as by linking, tracking, or another tool that numbers objects anew."""
    found = desk(planes_of(BALL, BALL))
    show(found, 5)
    click(found)
    follow(found)
    show(found, 4)
    target = found.session.target
    assert target is not None
    data = np.asarray(target.data)
    data[4][data[4] == 1] = 0
    data[4][painted((X + 300) / 8, Y / 8, 6)] = 1
    before = data.copy()
    with target.block_history():
        target.paint((4, 10, 10), 7)
    run(found)
    after = np.asarray(target.data)
    np.testing.assert_array_equal(after == 1, before == 1)
    assert found.session.follower.current is None


def test_linking_forgets_what_was_known_if_ids_are_others_now() -> None:
    found = desk(planes_of(BALL))
    show(found, 5)
    click(found)
    follow(found)
    assert found.session.follower.current is not None
    found.session.link_planes()
    run(found)
    assert found.session.follower.current is not None
    layer = found.session.target
    for plane in (0, 1):
        where = np.mgrid[plane : plane + 1, 90:100, 90:100].reshape(3, -1)
        layer.data_setitem(tuple(where), 50 + plane)
    found.session.link_planes()
    run(found)
    assert layer.data[0, 95, 95] == layer.data[1, 95, 95]
    assert found.session.follower.current is None
    assert shown(found, found.ids[0]) == [2, 3, 4, 5, 6, 7, 8]


def test_an_object_is_followed_in_its_image_although_another_is_shown_by_then() -> None:
    inference = SteppedInference()
    found = desk(planes_of(BALL), inference=inference)
    show(found, 5)
    found.click(X / 8, Y / 8)
    found.session.follow_object()  # its mask is not there yet
    stack = found.image
    found.viewer.add_image(np.zeros((128, 128), np.uint8), name="other")
    run(found)
    assert found.image is not stack
    target = found.session.state_of(stack).target
    assert target is not None
    planes = [at for at, plane in enumerate(np.asarray(target.data)) if plane.any()]
    assert planes == [2, 3, 4, 5, 6, 7, 8]
