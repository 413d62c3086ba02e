"""Objects of frames become tracks: by button, by sliders, with divisions and undo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Tracks

from fake_inference import SteppedInference
from napari_tinysam.ui.state.stack_planes import AxisKind
from ui.session.tracks.small_movie import FRAMES, at, disc, movie, opened

if TYPE_CHECKING:
    from desk import Desk


def tracks_layer(desk: Desk) -> Tracks | None:
    found = [layer for layer in desk.viewer.layers if isinstance(layer, Tracks)]
    return found[0] if found else None


def test_tracks_with_a_division_and_back() -> None:
    desk = opened()
    desk.session.track_objects()
    data = desk.session.target.data
    mother, moving = data[0, 40, 40], data[0, 40, 90]
    assert at(desk, 40, 95)[:5] == [moving] * 5
    above, below = data[3, 34, 40], data[3, 50, 40]
    assert len({mother, moving, above, below}) == 4
    assert desk.told[-1][1] == "5 tracks, 1 division."
    layer = tracks_layer(desk)
    assert layer is not None
    assert layer.graph == {above: [mother], below: [mother]}
    assert set(layer.data[:, 0]) == set(np.unique(data)[1:])
    assert desk.viewer.layers.selection.active is not layer

    desk.session.undo()
    assert np.array_equal(desk.session.target.data, movie())
    assert tracks_layer(desk) is None
    desk.session.redo()
    assert tracks_layer(desk).graph == {above: [mother], below: [mother]}


def test_short_tracks_are_hidden_not_deleted() -> None:
    desk = opened()
    desk.session.track_objects()
    blinking = at(desk, 15, 140)
    assert blinking[1] == blinking[2] > 0
    for least in (2, 3, 4):
        desk.session.tracking.set_settings(least_frames=least)
    assert at(desk, 15, 140) == [0] * FRAMES
    assert desk.session.tracking.note == "4 tracks, 1 division. 1 short is hidden."
    assert at(desk, 34, 40)[3] > 0  # daughters stay
    desk.session.tracking.set_settings(least_frames=1)
    assert at(desk, 15, 140) == blinking
    desk.session.undo()  # the slider was one step
    assert desk.session.tracking.settings.least_frames == 1
    assert desk.session.undo_text == "track"


def test_labels_that_are_tracks_already_keep_their_ids() -> None:
    labels = np.zeros((4, 40, 80), np.uint32)
    for t in range(4):
        disc(labels[t], 7, 20, 20, 8)
        disc(labels[t], 9, 20, 55, 8)
    desk = opened(labels)
    desk.session.track_objects()
    assert np.array_equal(desk.session.target.data, labels)
    assert tracks_layer(desk) is not None
    assert desk.told[-1][1] == "2 tracks. The labels had them already."


def test_stacks_are_linked_first() -> None:
    frames = np.zeros((4, 3, 40, 80), np.uint32)
    number = 0
    for t in range(4):
        for z in range(3):
            for x in (20, 55):
                number += 1
                disc(frames[t, z], number, 20, x, 8)
    desk = opened(frames, axes=("t", "z", "y", "x"))
    desk.session.track_objects()
    data = desk.session.target.data
    assert len(np.unique(data)) == 3
    assert (data[:, :, 20, 20] == data[0, 0, 20, 20]).all()
    layer = tracks_layer(desk)
    assert layer is not None
    assert layer.data.shape == (8, 5)
    assert layer.data[:, 2].tolist() == [1.0] * 8  # the middle of three planes
    desk.session.linking.set_settings(least_planes=3)
    assert "Undo the tracking" in desk.told[-1][1]
    assert len(np.unique(data)) == 3
    desk.session.linking.set_settings(least_planes=2)
    desk.session.undo()
    assert len(np.unique(desk.session.target.data)) == 9  # linked in depth
    desk.session.undo()
    assert np.array_equal(desk.session.target.data, frames)


def test_time_on_a_later_axis_and_an_answer() -> None:
    desk = opened(axes=None)
    desk.session.track_objects()
    assert "known to be time (t)" in desk.told[-1][1]
    desk.session.set_axis_kind(0, AxisKind.TIME)
    desk.session.track_objects()
    assert desk.told[-1][1] == "5 tracks, 1 division."


def test_cancel_undo_and_layers_gone_in_the_middle() -> None:
    for what in ("cancel", "undo", "labels", "image", "dock"):
        inference = SteppedInference()
        desk = opened(inference=inference)
        layer = desk.session.target
        desk.session.track_objects()
        inference.step()
        if what == "labels":
            desk.viewer.layers.remove(layer)
        elif what == "image":
            desk.viewer.layers.remove(desk.image)
        elif what == "dock":
            desk.session.close()
        else:
            getattr(desk.session, what)()
        inference.run_all()
        assert not desk.session.tracking.running
        assert np.array_equal(layer.data, movie())
        assert tracks_layer(desk) is None


def test_the_tracks_layer_goes_with_its_labels() -> None:
    desk = opened()
    desk.session.track_objects()
    desk.viewer.layers.remove(desk.session.target)
    assert tracks_layer(desk) is None


def test_a_tracks_layer_that_the_user_removed_comes_back_with_the_next_change() -> None:
    desk = opened()
    desk.session.track_objects()
    desk.viewer.layers.remove(tracks_layer(desk))
    desk.session.tracking.set_settings(least_frames=3)
    assert tracks_layer(desk) is not None


@pytest.mark.parametrize("frames", [1, 0])
def test_nothing_to_track(frames: int) -> None:
    labels = movie()[:1] if frames else np.zeros((3, 40, 40), np.uint32)
    desk = opened(labels)
    desk.session.track_objects()
    assert "one frame only" in desk.told[-1][1] or "no objects" in desk.told[-1][1]


def test_new_objects_are_tracked_too_and_what_is_erased_stays_so() -> None:
    desk = opened()
    desk.session.track_objects()
    layer = desk.session.target
    data = layer.data
    spot = np.nonzero(np.hypot(*(np.mgrid[:80, :160] - np.array([[[65]], [[20]]]))) < 6)
    for t in (2, 3):
        layer.data_setitem((np.full(len(spot[0]), t), *spot), 200 + t)
    layer.data_setitem((np.array([0]), np.array([40]), np.array([40])), 0)
    desk.session.track_objects()
    assert data[2, 65, 20] == data[3, 65, 20] > 0
    assert data[0, 40, 40] == 0
    assert data[0, 41, 41] > 0


def test_a_slider_of_tracks_does_not_stop_links_on_their_way() -> None:
    frames = np.zeros((4, 3, 40, 80), np.uint32)
    for t in range(4):
        for z in range(3):
            disc(frames[t, z], 1 + 3 * t + z, 20, 20, 8)
    inference = SteppedInference()
    desk = opened(frames, axes=("t", "z", "y", "x"), inference=inference)
    desk.session.track_objects()
    inference.run_all()
    desk.session.target.data_setitem(tuple(np.zeros((4, 1), int)), 99)
    desk.session.link_planes()
    inference.step()
    desk.session.tracking.set_settings(gap=2)
    inference.run_all()
    assert not desk.session.linking.running
    assert not desk.session.tracking.running


def parted(axis: tuple[str, ...] = ("t", "y", "x")) -> tuple[np.ndarray, Desk]:
    """Open a movie of which the ids of each frame begin with 1, and choose frames 1 to 4."""
    frames = np.zeros((6, 40, 80), np.uint32)
    for t, frame in enumerate(frames):
        disc(frame, 1 + t % 2, 20, 20, 8)
        disc(frame, 2 - t % 2, 20, 55, 8)
    desk = opened(frames, axes=axis)
    desk.session.tracking.part.set_range(0, 1, 4)
    return frames, desk


def test_a_range_is_tracked_and_the_rest_stays() -> None:
    frames, desk = parted()
    desk.session.track_objects()
    data = desk.session.target.data
    assert np.array_equal(data[[0, 5]], frames[[0, 5]])
    one, other = at(desk, 20, 20)[1], at(desk, 20, 55)[1]
    assert at(desk, 20, 20)[1:5] == [one] * 4
    assert at(desk, 20, 55)[1:5] == [other] * 4
    assert not {one, other} & {1, 2}, "these are other objects in the other frames"
    layer = tracks_layer(desk)
    assert layer is not None
    assert sorted(set(layer.data[:, 1])) == [1, 2, 3, 4]

    desk.viewer.dims.set_point(0, 3)
    desk.session.hover_at(desk.world(20, 20))
    desk.session.cut_track()
    assert at(desk, 20, 20)[1:3] == [one] * 2
    assert at(desk, 20, 20)[3] == at(desk, 20, 20)[4] != one
    desk.viewer.dims.set_point(0, 0)
    desk.session.hover_at(desk.world(20, 20))
    desk.session.cut_track()
    assert "outside of the range" in desk.told[-1][1]
    cut = data.copy()

    desk.session.tracking.part.take_all(0)
    desk.session.track_objects()
    assert at(desk, 20, 20)[:3] == [at(desk, 20, 20)[0]] * 3
    assert at(desk, 20, 20)[3] == at(desk, 20, 20)[5] != at(desk, 20, 20)[0]
    assert len(set(at(desk, 20, 55))) == 1
    desk.session.undo()
    assert np.array_equal(data, cut)
    desk.session.undo()
    desk.session.undo()
    assert np.array_equal(data, frames)


def test_divisions_of_other_frames_are_known_when_the_range_is_longer_again() -> None:
    desk = opened()
    desk.session.track_objects()
    graph = dict(tracks_layer(desk).graph)
    whole = desk.session.target.data.copy()
    desk.session.tracking.part.set_range(0, 3, 5)
    desk.session.track_objects()
    assert np.array_equal(desk.session.target.data, whole)
    assert tracks_layer(desk).graph == {}
    desk.session.tracking.part.take_all(0)
    desk.session.track_objects()
    assert desk.told[-1][1] == "5 tracks, 1 division."
    assert len(tracks_layer(desk).graph) == len(graph) == 2
    assert np.array_equal(desk.session.target.data > 0, whole > 0)


def corrected() -> tuple[Desk, list[np.ndarray]]:
    """Track two cells; cut one in frame 4, swap them in frame 5, hide the other in frame 1."""
    frames, _ = parted()
    desk = opened(frames)
    desk.session.track_objects()
    states = [frames, desk.session.target.data.copy()]

    def press(frame: int, x: int, method: str) -> None:
        desk.viewer.dims.set_point(0, frame)
        desk.session.hover_at(desk.world(x, 20))
        getattr(desk.session, method)()

    press(4, 20, "cut_track")
    states.append(desk.session.target.data.copy())
    press(5, 20, "swap_tracks")
    press(5, 55, "swap_tracks")
    states.append(desk.session.target.data.copy())
    press(0, 55, "cut_track")
    press(2, 55, "cut_track")
    press(1, 55, "delete_track")
    states.append(desk.session.target.data.copy())
    return desk, states


def take_range(desk: Desk, first: int, last: int) -> np.ndarray:
    """Track a range; return the labels."""
    desk.session.tracking.part.set_range(0, first, last)
    desk.session.track_objects()
    return desk.session.target.data


@pytest.mark.parametrize("ranges", [[(0, 2)], [(3, 5), (0, 2)], [(2, 5), (3, 4)]])
@pytest.mark.parametrize("slider", [False, True])
def test_corrections_hold_when_the_range_is_narrowed_and_grows_again(
    ranges: list[tuple[int, int]], slider: bool
) -> None:
    desk, states = corrected()
    last = states[-1]
    assert last[4, 20, 20] not in last[:4, 20, 20], "cut"
    assert last[5, 20, 55] == last[4, 20, 20], "swapped"
    assert last[1, 20, 55] == 0, "deleted"
    for first, end in ranges:
        assert np.array_equal(take_range(desk, first, end), last)
        if slider:
            desk.session.tracking.set_settings(gap=2)
            desk.session.tracking.set_settings(gap=0)
            assert np.array_equal(desk.session.target.data > 0, last > 0)
        whole = take_range(desk, 0, 5)
    for before, after in ((last, whole), (whole, last)):
        pairs = np.unique(np.stack([before.ravel(), after.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1], "the same objects are one"
    for _ in range(40):
        desk.session.undo()
    assert np.array_equal(desk.session.target.data, states[0])
    for _ in range(40):
        desk.session.redo()
    assert np.array_equal(desk.session.target.data, whole)


def test_what_is_corrected_in_a_range_holds_in_a_longer_one() -> None:
    frames, desk = parted()
    desk.session.tracking.part.take_all(0)
    desk.session.track_objects()
    take_range(desk, 0, 3)
    desk.viewer.dims.set_point(0, 2)
    desk.session.hover_at(desk.world(20, 20))
    desk.session.cut_track()
    take_range(desk, 3, 5)
    desk.viewer.dims.set_point(0, 4)
    desk.session.hover_at(desk.world(55, 20))
    desk.session.cut_track()
    take_range(desk, 0, 5)
    left, right = at(desk, 20, 20), at(desk, 20, 55)
    assert left == [left[0]] * 2 + [left[2]] * 4
    assert right == [right[0]] * 4 + [right[4]] * 2
    assert len({left[0], left[2], right[0], right[4]}) == 4
    assert np.array_equal(desk.session.target.data > 0, frames > 0)


def test_short_tracks_outside_of_a_range_come_back_later() -> None:
    desk = opened()
    desk.session.track_objects()
    blinking = at(desk, 15, 140)
    assert blinking[1] > 0
    desk.session.tracking.set_settings(least_frames=3)
    take_range(desk, 3, 5)
    take_range(desk, 0, 5)
    assert at(desk, 15, 140) == [0] * FRAMES
    desk.session.tracking.set_settings(least_frames=1)
    assert at(desk, 15, 140) == blinking


def test_a_range_of_one_frame_cannot_be_tracked() -> None:
    _, desk = parted()
    desk.session.tracking.part.set_range(0, 2, 2)
    desk.session.track_objects()
    assert "two frames or more" in desk.told[-1][1]


def test_how_far_planes_lie_apart_is_asked_only_where_the_layer_does_not_say_it() -> (
    None
):
    frames = np.zeros((3, 4, 40, 80), np.uint32)
    for t in range(3):
        disc(frames[t, 1], 3, 20, 20, 8)
        disc(frames[t, 2], 3, 20, 20, 8)
    desk = opened(frames, axes=("t", "z", "y", "x"))
    assert desk.session.depth_planes.asked
    desk.session.track_objects()
    movie_ = desk.session.tracking.movie
    assert movie_.frames.scale == (1, 1, 1)
    before = movie_.frames.diameter
    desk.session.set_z_step(4.0)
    assert desk.session.tracking.movie.frames.scale == (4, 1, 1)
    assert desk.session.tracking.movie.frames.diameter > 1.5 * before
    assert desk.session.depth_planes.words(2) == "2 (8 px)"
    desk.image.scale = (1, 3, 0.5, 0.5)
    assert not desk.session.depth_planes.asked
    desk.session.track_objects()
    assert desk.session.tracking.movie.frames.scale == (3, 0.5, 0.5)
