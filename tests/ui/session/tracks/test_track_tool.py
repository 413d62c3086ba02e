"""Tracks are corrected with keys, each correction one step of undo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Points, Tracks

from napari_tinysam.ui.session.tracks.tool import Tool
from ui.session.tracks.small_movie import FRAMES, at, disc, movie, opened

if TYPE_CHECKING:
    from desk import Desk


def tracked(labels: np.ndarray | None = None) -> Desk:
    desk = opened(labels)
    desk.session.track_objects()
    return desk


def over(desk: Desk, frame: int, x: float, y: float) -> None:
    """Go to a frame and move the mouse."""
    desk.viewer.dims.set_point(0, frame)
    desk.session.hover_at(desk.world(x, y))


def graph(desk: Desk) -> dict[int, list[int]]:
    return next(
        layer for layer in desk.viewer.layers if isinstance(layer, Tracks)
    ).graph


def division_marks(desk: Desk) -> Points:
    return next(layer for layer in desk.viewer.layers if isinstance(layer, Points))


def test_movies_without_doubts_have_no_marks() -> None:
    desk = tracked(two())
    assert not any(isinstance(layer, Points) for layer in desk.viewer.layers)


def two() -> np.ndarray:
    """Make two cells that stay where they are, numbered by frame."""
    frames = np.zeros((4, 40, 80), np.uint32)
    for t, frame in enumerate(frames):
        disc(frame, 1 + t % 2, 20, 20, 8)
        disc(frame, 2 - t % 2, 20, 55, 8)
    return frames


def test_cut_here() -> None:
    desk = tracked()
    moving = at(desk, 40, 95)[0]
    over(desk, 3, 96, 40)
    desk.session.cut_track()
    ids = at(desk, 40, 96)
    assert ids[:3] == [moving] * 3
    assert ids[3] == ids[4] != moving
    assert desk.session.undo_text == "cut track"
    desk.session.undo()
    assert at(desk, 40, 96)[3] == moving


def test_swap_from_here_on() -> None:
    desk = tracked(two())
    one, other = at(desk, 20, 20)[0], at(desk, 20, 55)[0]
    over(desk, 2, 20, 20)
    desk.session.swap_tracks()
    assert "Swap track" in desk.session.tracks_hint
    over(desk, 2, 55, 20)
    desk.session.swap_tracks()
    assert desk.session.tracks_hint == ""
    assert at(desk, 20, 20) == [one, one, other, other]
    assert at(desk, 20, 55) == [other, other, one, one]
    desk.session.undo()
    assert at(desk, 20, 20) == [one] * 4


def test_link_after_a_cut_and_wrong_ways() -> None:
    desk = tracked(two())
    one = at(desk, 20, 20)[0]
    over(desk, 2, 20, 20)
    desk.session.cut_track()
    over(desk, 1, 20, 20)
    desk.session.link_tracks()
    over(desk, 0, 55, 20)
    desk.session.link_tracks()
    assert "later frame" in desk.told[-1][1]
    over(desk, 2, 20, 20)
    desk.session.link_tracks()
    assert at(desk, 20, 20) == [one] * 4
    over(desk, 1, 20, 20)
    desk.session.link_tracks()
    desk.session.link_tracks()  # over the same: it is left
    assert desk.session.tracks_hint == ""


def test_delete_from_here() -> None:
    desk = tracked(two())
    over(desk, 2, 20, 20)
    desk.session.delete_track()
    assert [bool(each) for each in at(desk, 20, 20)] == [True, True, False, False]
    desk.session.undo()
    assert all(at(desk, 20, 20))


def test_a_division_is_refused_and_said_again() -> None:
    desk = tracked()
    mother = at(desk, 40, 40)[0]
    assert len(graph(desk)) == 2
    over(desk, 3, 40, 34)
    desk.session.refuse_division()
    assert graph(desk) == {}
    desk.session.divide_track()
    assert list(graph(desk).values()) == [[mother]] * 2
    assert desk.session.undo_text == "division"
    desk.session.undo()
    assert graph(desk) == {}
    desk.session.undo()
    assert len(graph(desk)) == 2


def test_keys_act_under_a_mouse_that_stays_while_frames_change() -> None:
    desk = tracked(two())
    one = at(desk, 20, 20)[0]
    over(desk, 2, 20, 20)
    desk.session.cut_track()
    desk.viewer.dims.set_point(0, 1)
    desk.session.link_tracks()
    desk.viewer.dims.set_point(0, 2)
    desk.session.link_tracks()
    assert at(desk, 20, 20) == [one] * 4


def test_a_proposed_division_is_shown_and_confirmed() -> None:
    desk = tracked(movie(smaller=6))
    desk.session.tracking.set_settings(division=1.0)
    assert graph(desk) == {}
    assert len(desk.session.track_tool.doubts) >= 1
    marks = division_marks(desk)
    assert marks.data[:, 0].tolist() == [3, 3, 2]
    assert marks.features["role"].tolist() == ["daughter", "daughter", "mother"]
    np.testing.assert_allclose(marks.data[2], [2, 40, 40], atol=0.1)
    np.testing.assert_allclose(marks.size[2], 1.5 * 24, rtol=0.1)
    desk.viewer.dims.set_point(0, 0)
    desk.session.next_doubt()
    assert desk.viewer.dims.point[0] == 3
    assert "divided" in desk.told[-1][1]
    over(desk, 3, 40, 50)
    desk.session.divide_track()
    assert len(graph(desk)) == 2
    assert desk.session.track_tool.doubts == []
    assert len(marks.data) == 0
    desk.session.undo()
    assert len(marks.data) == 3
    assert graph(desk) == {}
    over(desk, 3, 40, 50)
    desk.session.refuse_division()
    assert desk.session.track_tool.doubts == []
    assert desk.session.undo_text == "no division"


def test_corrections_hold_when_settings_change_and_objects_are_added() -> None:
    desk = tracked(two())
    over(desk, 2, 20, 20)
    desk.session.cut_track()
    first, second = at(desk, 20, 20)[1:3]
    desk.session.tracking.set_settings(gap=3)
    assert at(desk, 20, 20)[1:3] == [first, second]
    layer = desk.session.target
    layer.data_setitem((np.array([0, 0]), np.array([2, 2]), np.array([2, 3])), 77)
    desk.session.track_objects()
    assert at(desk, 20, 20)[1:3] == [first, second]


def paint(desk: Desk, frame: int, rows: slice, columns: slice, label: int) -> None:
    """Paint as napari's brush does."""
    ys, xs = np.mgrid[rows, columns]
    where = (np.full(ys.size, frame), ys.ravel(), xs.ravel())
    desk.session.target.data_setitem(where, label)


def test_a_key_acts_on_the_object_under_the_mouse_also_after_painting() -> None:
    desk = tracked(two())
    one, other = at(desk, 20, 20)[0], at(desk, 20, 55)[0]
    paint(desk, 2, slice(2, 4), slice(2, 4), 77)  # objects are numbered anew
    over(desk, 2, 55, 20)
    desk.session.cut_track()
    assert at(desk, 20, 20) == [one] * 4
    assert at(desk, 20, 55)[1:3] == [other, desk.session.target.data[3, 20, 55]]
    assert at(desk, 20, 55)[2] != other
    over(desk, 1, 20, 20)
    desk.session.link_tracks()
    paint(desk, 1, slice(2, 4), slice(2, 4), 78)
    desk.session.track_objects()
    over(desk, 2, 55, 20)
    desk.session.link_tracks()  # what was begun named objects of the earlier measurement
    assert at(desk, 20, 55)[2] not in (one, other)
    assert "goes on as" in desk.session.tracks_hint


def test_what_is_painted_at_a_tracked_object_belongs_to_it() -> None:
    desk = tracked(two())
    one = at(desk, 20, 20)[0]
    paint(desk, 2, slice(28, 34), slice(18, 22), one)
    before = desk.session.target.data.copy()
    desk.session.track_objects()
    assert np.array_equal(desk.session.target.data, before)
    over(desk, 2, 20, 31)
    desk.session.cut_track()
    assert at(desk, 31, 20)[2] == at(desk, 20, 20)[2] != one
    desk.session.undo()
    assert np.array_equal(desk.session.target.data, before)


def test_keys_say_what_is_missing() -> None:
    desk = opened()
    desk.session.cut_track()
    assert "Track the objects first" in desk.told[-1][1]
    desk.session.track_objects()
    over(desk, 0, 1, 1)
    desk.session.cut_track()
    assert desk.told[-1][1] == "Move over a tracked object."
    desk.session.next_doubt()
    over(desk, 0, 100, 60)
    layer = desk.session.target
    layer.data_setitem((np.array([0]), np.array([60]), np.array([100])), 500)
    desk.session.cut_track()
    assert "is new here" in desk.told[-1][1]


METHODS = (
    "link_tracks",
    "cut_track",
    "swap_tracks",
    "divide_track",
    "refuse_division",
    "delete_track",
    "undo",
    "redo",
)
steps = st.tuples(
    st.sampled_from(METHODS),
    st.integers(0, FRAMES - 1),
    st.sampled_from([(40, 40), (40, 34), (40, 50), (96, 40), (140, 15)]),
)


@settings(max_examples=8, deadline=None)
@given(st.lists(steps, max_size=14))
def test_any_keys_in_any_order(given_: list) -> None:
    desk = tracked()
    for method, frame, (x, y) in given_:
        over(desk, frame, x, y)
        getattr(desk.session, method)()
    data = desk.session.target.data
    shown = [layer for layer in desk.viewer.layers if isinstance(layer, Tracks)]
    assert not shown or set(np.unique(data)[1:]) == set(shown[0].data[:, 0])
    for child, (mother,) in (shown[0].graph if shown else {}).items():
        last = np.flatnonzero((data == mother).any(axis=(1, 2))).max()
        assert last < np.flatnonzero((data == child).any(axis=(1, 2))).min()
    while desk.session.undo_text:
        desk.session.undo()
    assert np.array_equal(data, movie())


def test_a_button_lets_clicks_do_what_the_key_does() -> None:
    desk = tracked(two())
    tool = desk.session.track_tool
    tool.arm(Tool.SWAP)
    assert desk.session.tracks_hint == "Click the tracked object."
    desk.viewer.dims.set_point(0, 2)
    one = at(desk, 20, 20)[2]
    desk.click(20, 20)
    assert tool.armed is Tool.SWAP
    desk.click(55, 20)
    assert at(desk, 20, 55)[2] == one
    assert tool.armed is None
    tool.arm(Tool.CUT)
    tool.arm(Tool.CUT)
    assert tool.armed is None
    desk.click(40, 35)  # a prompt again
    assert desk.session.can_commit
