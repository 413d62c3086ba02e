"""The object of a track is followed anew from a frame on, as one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Tracks

from fake_inference import SteppedInference
from napari_tinysam.ui.state.stack_planes import AxisKind
from ui.session.following.test_object_follower import X, Y, desk, planes_of, run, show
from ui.session.tracks.small_movie import disc

if TYPE_CHECKING:
    from typing import Any

    from desk import Desk

FRAMES = 7
PLACE = (int(X / 8), int(Y / 8))  # of the object that is followed, in pixels
OTHER = (100, 50)


def wrong_labels() -> np.ndarray:
    """Label the object right in frames 0 to 2, too small in 3; then its track goes elsewhere."""
    frames = np.zeros((FRAMES, 128, 128), np.uint32)
    (x, y), (other_x, other_y) = PLACE, OTHER
    for t, frame in enumerate(frames):
        disc(frame, 2, other_y, other_x, 6)
        if t < 3:
            disc(frame, 1, y, x, 11)
        elif t == 3:
            disc(frame, 1, y, x + 4, 7)
        else:
            disc(frame, 1, y + 40, x, 8)
    return frames


def tracked(**options: Any) -> Desk:
    """Open a movie in which the model sees the object in all frames but the last."""
    planes = planes_of([90.0] * (FRAMES - 1) + [0])
    found = desk(planes, kind=AxisKind.TIME, labels=wrong_labels(), **options)
    found.session.track_objects()
    run(found)
    for frame, y in ((3, PLACE[1]), (4, PLACE[1] + 40)):
        over(found, frame, PLACE[0], y)
        found.session.link_tracks()
        run(found)
    assert found.session.undo_text == "link tracks"
    return found


def over(found: Desk, frame: int, x: int, y: int) -> None:
    show(found, frame)
    found.session.hover_at(found.world(x, y))
    run(found)


def ids(found: Desk, place: tuple[int, int]) -> list[int]:
    x, y = place
    return found.session.target.data[:, y, x].tolist()


def follow_again(found: Desk, frame: int = 2) -> None:
    over(found, frame, *PLACE)
    found.session.follow_track()
    run(found)


def test_a_track_is_followed_anew() -> None:
    found = tracked()
    before = found.session.target.data.copy()
    assert ids(found, (PLACE[0], PLACE[1] + 40))[4:] == [1] * 3
    follow_again(found)
    assert ids(found, PLACE) == [1] * 6 + [0]
    assert ids(found, OTHER) == [2] * FRAMES
    elsewhere = ids(found, (PLACE[0], PLACE[1] + 40))
    assert elsewhere[:4] == [0] * 4
    assert len(set(elsewhere[4:])) == 1
    assert elsewhere[4] not in (0, 1, 2)
    area = (found.session.target.data == 1).sum(axis=(1, 2))
    assert area[3] > 300, "the piece that was too small is drawn anew"
    layer = next(each for each in found.viewer.layers if isinstance(each, Tracks))
    assert set(layer.data[:, 0]) == {1, 2, elsewhere[4]}
    assert found.session.undo_text == "follow track"
    assert sorted(found.session.follower.states) == [2, 3, 4, 5]

    found.session.undo()
    assert np.array_equal(found.session.target.data, before)
    assert found.session.undo_text == "link tracks"
    found.session.redo()
    assert ids(found, PLACE) == [1] * 6 + [0]
    for _ in range(3):
        found.session.undo()
    assert np.array_equal(found.session.target.data, wrong_labels())


def test_it_holds_when_a_slider_moves_and_another_key_is_pressed() -> None:
    found = tracked()
    follow_again(found)
    whole = found.session.target.data.copy()
    found.session.tracking.set_settings(overlap=0.9)
    run(found)
    assert ids(found, PLACE)[2:] == [ids(found, PLACE)[2]] * 4 + [0]
    found.session.undo()
    assert np.array_equal(found.session.target.data, whole)
    over(found, 5, *PLACE)
    found.session.cut_track()
    run(found)
    assert ids(found, PLACE)[:5] == [1] * 5
    assert ids(found, PLACE)[5] not in (0, 1)
    found.session.undo()
    assert np.array_equal(found.session.target.data, whole)
    found.session.undo()
    over(found, 2, *PLACE)
    found.session.cut_track()  # works on the movie as it was
    run(found)
    assert ids(found, PLACE)[:2] == [1, 1]
    assert ids(found, PLACE)[2] not in (0, 1)


def test_pixels_of_other_tracks_are_not_taken() -> None:
    found = tracked()
    layer = found.session.target
    x, y = PLACE
    block = np.mgrid[y - 12 : y + 13, x : x + 12]
    where = (np.full(block[0].size, 4), block[0].ravel(), block[1].ravel())
    layer.data_setitem(where, 50)  # another object has half of it there
    follow_again(found)
    assert (layer.data[4, y - 12 : y + 13, x : x + 12] == 50).all()


def test_undo_cancel_and_layers_gone_in_the_middle() -> None:
    for what in ("undo", "cancel", "labels", "image", "dock"):
        inference = SteppedInference()
        found = tracked(inference=inference)
        layer = found.session.target
        before = layer.data.copy()
        over(found, 2, *PLACE)
        found.session.follow_track()
        while layer.data[4, PLACE[1], PLACE[0]] != 1:
            inference.step()
        assert found.session.follower.running
        if what == "labels":
            found.viewer.layers.remove(layer)
        elif what == "image":
            found.viewer.layers.remove(found.image)
        elif what == "dock":
            found.session.close()
        else:
            getattr(found.session, what)()
        inference.run_all()
        assert not found.session.follower.running
        if what == "undo":
            assert np.array_equal(layer.data, before)
            assert found.session.undo_text == "link tracks"
        if what == "cancel":
            assert ids(found, PLACE)[:5] == [1] * 5
            found.session.undo()
            inference.run_all()
            assert np.array_equal(layer.data, before)


def test_what_cannot_be_followed_is_said() -> None:
    found = tracked()
    over(found, FRAMES - 1, *OTHER)
    found.session.follow_track()
    assert "last frame" in found.told[-1][1]
    over(found, 1, 5, 5)
    found.session.follow_track()
    assert "Move over a tracked object" in found.told[-1][1]


def paint(found: Desk, frame: int, x: int, y: int) -> None:
    """Add to the object at a place with napari's brush, or make a new one there."""
    layer = found.session.target
    label = int(layer.data[frame, y, x]) or 60
    rows, columns = np.mgrid[y - 2 : y + 3, x - 14 : x + 15]
    where = (np.full(rows.size, frame), rows.ravel(), columns.ravel())
    layer.data_setitem(where, label)


places = st.sampled_from([PLACE, OTHER, (PLACE[0], PLACE[1] + 40), (60, 20)])
KEYS = ("follow_track", "cut_track", "link_tracks", "swap_tracks", "delete_track")
keys = st.sampled_from([*KEYS, "follow_track", "paint", "undo", "redo"])


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.tuples(keys, st.integers(0, FRAMES - 1), places), max_size=9),
)
def test_any_keys_and_painting_in_any_order(asked: list) -> None:
    found = tracked()
    for key, frame, (x, y) in asked:
        over(found, frame, x, y)
        if key == "paint":
            paint(found, frame, x, y)
        else:
            getattr(found.session, key)()
        run(found)
    found.session.track_objects()
    run(found)
    data = found.session.target.data
    shown = next((e for e in found.viewer.layers if isinstance(e, Tracks)), None)
    assert shown is None or set(np.unique(data)[1:]) == set(shown.data[:, 0])
    while found.session.undo_text:
        found.session.undo()
    assert np.array_equal(data, wrong_labels())
