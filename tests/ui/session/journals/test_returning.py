"""What comes back beside the labels: proposals do not, followed objects and tracks do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Tracks

from fake_inference import TurnedInference
from napari_tinysam.ui.state.stack_planes import AxisKind
from napari_tinysam.ui.state.traces import PlaneState
from napari_tinysam.volume.tracking import TrackSettings
from ui.session.auto import test_auto as auto
from ui.session.following.test_object_follower import (
    BALL,
    areas,
    click,
    desk,
    follow,
    planes_of,
    run,
    show,
    shown,
)
from ui.session.tracks.small_movie import at, movie
from ui.session.tracks.test_tracking import tracks_layer

if TYPE_CHECKING:
    import pytest

    from desk import Desk


def crash(found: Desk) -> None:
    """End as a crash does: what runs is cut."""
    found.session.close(window_is_gone=True)


def restore(found: Desk) -> None:
    run(found)
    assert found.session.recovery.offer is not None
    found.session.recovery.restore()
    run(found)


def undo(found: Desk) -> None:
    found.session.undo()
    run(found)


def redo(found: Desk) -> None:
    found.session.redo()
    run(found)


def proposed() -> Desk:
    found = auto.desk(inference=TurnedInference())
    run(found)
    return found


def stack(**options: Any) -> Desk:
    found = desk(planes_of(BALL), inference=TurnedInference(), **options)
    run(found)
    return found


# ------------------------------------------------------------ proposals


def test_proposals_do_not_come_back_nor_their_steps() -> None:
    before = proposed()
    before.session.auto_segment()
    run(before)
    x, y = auto.MIDDLES[0]
    before.session.set_picking(True)
    before.click(x, y)
    run(before)
    before.click(*auto.MIDDLES[1], 0)
    run(before)
    assert before.session.undo_text == "reject"
    ids = before.ids
    assert len(ids) == 1
    crash(before)

    later = proposed()
    restore(later)
    assert later.ids == ids
    assert later.session.proposals.count == 0
    assert later.session.undo_text == "accept"
    later.session.auto_segment()
    run(later)
    assert auto.shown(later) == [1, 2, 3]  # what was accepted is an object now
    undo(later)
    undo(later)
    assert later.ids == []
    assert later.session.undo_text == ""


def test_proposals_alone_are_not_offered() -> None:
    before = proposed()
    before.session.auto_segment()
    run(before)
    assert before.session.proposals.count
    crash(before)

    assert proposed().session.recovery.offer is None


# ------------------------------------------------------------ followed objects


def test_a_followed_object_is_followed_anew_where_it_is_corrected() -> None:
    before = stack()
    show(before, 5)
    click(before)
    follow(before)
    whole = areas(before)
    crash(before)

    later = stack()
    restore(later)
    assert areas(later) == whole
    show(later, 5)
    follower = later.session.follower
    assert follower.current is not None
    assert follower.states[5] is PlaneState.ANCHOR
    assert {follower.states[plane] for plane in (2, 3, 4, 6, 7, 8)} == {
        PlaneState.FOLLOWED
    }
    follower.move_ends(4, 6)
    run(later)
    assert shown(later) == [4, 5, 6]
    crash(later)

    last = stack()
    restore(last)
    show(last, 5)
    trace = last.session.follower.current
    assert trace is not None
    assert (trace.first, trace.last) == (4, 6)
    undo(last)
    assert areas(last) == whole
    assert last.session.follower.current is not None
    assert last.session.follower.current.first == 0
    undo(last)
    assert shown(last) == [5]
    assert last.session.follower.current is None
    redo(last)
    assert areas(last) == whole
    assert last.session.follower.current is not None


def test_following_that_was_cut_goes_on_with_the_key() -> None:
    before = stack()
    show(before, 5)
    click(before)
    before.session.follow_object()
    while len(shown(before)) < 3:
        before.inference.step()
        before.inference.turn()
    assert before.session.follower.running
    reached = shown(before)
    crash(before)

    later = stack()
    restore(later)
    assert shown(later) == reached
    show(later, 5)
    later.session.hover_at(later.world(40, 50))
    follow(later)
    assert shown(later) == [2, 3, 4, 5, 6, 7, 8]
    assert later.ids == [1]


def test_what_the_planes_are_need_not_be_said_again() -> None:
    before = stack(kind=None)
    before.session.set_axis_kind(0, AxisKind.DEPTH)
    show(before, 5)
    click(before)
    follow(before)
    crash(before)

    later = stack(kind=None)
    restore(later)
    show(later, 5)
    assert later.session.follower.kind is AxisKind.DEPTH


# ------------------------------------------------------------ tracks


def tracked(labels: np.ndarray | None = None) -> Desk:
    """Open a movie, maybe with labels of frames."""
    from desk import open_desk

    axes = ("t", "y", "x")
    layers: list[Any] = [
        Image(np.zeros(movie().shape, np.uint8), name="cells", axis_labels=axes)
    ]
    if labels is not None:
        layers.append(Labels(labels, name="cells committed_objects", axis_labels=axes))
    found = open_desk(*layers, inference=TurnedInference())
    run(found)
    return found


def cut(found: Desk) -> None:
    """Cut the track that moves in the fourth frame."""
    found.viewer.dims.set_point(0, 3)
    found.session.hover_at(found.world(96, 40))
    found.session.cut_track()
    run(found)


def test_tracks_and_their_divisions_come_back_with_the_corrections() -> None:
    before = tracked(movie())
    before.session.track_objects()
    run(before)
    graph = tracks_layer(before).graph
    assert graph
    before.session.tracking.set_settings(gap=2)
    run(before)
    cut(before)
    labels = before.session.target.data.copy()
    note = before.session.tracking.note
    assert note == "6 tracks, 1 division."
    crash(before)

    later = tracked()
    restore(later)
    assert np.array_equal(later.session.target.data, labels)
    assert later.session.tracking.note == note
    assert tracks_layer(later).graph == graph
    assert later.session.tracking.settings == TrackSettings(gap=2)
    assert later.session.undo_text == "cut track"
    undo(later)
    assert len(set(at(later, 40, 95)[:5])) == 1
    assert later.session.tracking.note == "5 tracks, 1 division."
    redo(later)
    assert later.session.tracking.note == note
    for _ in range(3):
        undo(later)
    assert np.array_equal(later.session.target.data, movie())
    assert tracks_layer(later) is None
    redo(later)
    assert tracks_layer(later).graph == graph


def test_tracks_that_came_back_can_be_corrected_and_lost_once_more() -> None:
    before = tracked(movie())
    before.session.track_objects()
    run(before)
    graph = tracks_layer(before).graph
    crash(before)
    middle = tracked()
    restore(middle)
    cut(middle)
    assert middle.session.tracking.note == "6 tracks, 1 division."
    crash(middle)

    later = tracked()
    restore(later)
    assert later.session.tracking.note == "6 tracks, 1 division."
    assert tracks_layer(later).graph == graph
    undo(later)
    assert later.session.tracking.note == "5 tracks, 1 division."


def test_tracks_whose_journal_is_damaged_come_back_as_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = tracked(movie())
    before.session.track_objects()
    run(before)
    labels = before.session.target.data.copy()
    crash(before)
    from napari_tinysam.ui.session.journals import recovery

    def changed(told: Any, *others: Any) -> Any:
        for action in told.actions:
            if action.name == "track":
                action.arguments["parents"] = [["a", 1], 7]
                action.arguments["settings"] = {"gap": "no"}
        return remembered(told, *others)

    remembered = recovery.remembered
    monkeypatch.setattr(recovery, "remembered", changed)
    later = tracked()
    restore(later)
    assert np.array_equal(later.session.target.data, labels)
    assert later.session.tracking.note == "5 tracks."


def test_nothing_is_tracked_where_nothing_was() -> None:
    before = tracked()
    before.click(40, 40)
    before.session.commit()
    run(before)
    crash(before)

    later = tracked()
    restore(later)
    assert not any(isinstance(layer, Tracks) for layer in later.viewer.layers)
