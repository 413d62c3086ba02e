"""Objects of frames become tracks with parents; possible divisions have a confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tinysam.volume.lineage import check_lineage
from napari_tinysam.volume.measuring import MeasuredFrames
from napari_tinysam.volume.tracking import Tracking, TrackSettings, track
from tinysam_training.synthetic.volumes import synthetic_movie
from volume.plain_tra import plain_tra
from volume.ties import by_first_pixel, is_toss_up

SIZE = (60, 200)


def frame(*objects: tuple[int, float, float, float]) -> np.ndarray:
    """Discs: label, y, x, radius."""
    labels = np.zeros(SIZE, np.int32)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for label, cy, cx, radius in objects:
        labels[np.hypot(y - cy, x - cx) <= radius] = label
    return labels


def relabelled(frames: Sequence[np.ndarray], found: Tracking) -> np.ndarray:
    return np.stack([found.links.relabelled(n, f) for n, f in enumerate(frames)])


def division(after: int = 3, moves: float = 0.0) -> list[np.ndarray]:
    """Label 5 becomes two, 1 and 2; a neighbour stays."""
    whole = [frame((5, 30, 50 + i * moves, 10), (9, 30, 150, 10)) for i in range(after)]
    parts = [
        frame(
            (1, 30, 42 + (after + i) * moves - i, 7),
            (2, 30, 58 + (after + i) * moves + i, 7),
            (9, 30, 150, 10),
        )
        for i in range(4)
    ]
    return whole + parts


def test_an_object_keeps_its_track() -> None:
    frames = [frame((7 + i, 30, 30 + 2 * i, 8), (3, 30, 120, 9)) for i in range(5)]
    found = track(MeasuredFrames.of(frames))
    assert [each.frames for each in found.tracks] == [tuple(range(5))] * 2
    assert found.divisions == ()
    stack = relabelled(frames, found)
    assert stack[:, 30, 34].tolist() == [2] * 5
    assert stack[:, 30, 120].tolist() == [1] * 5


@pytest.mark.parametrize("way", ["overlap", "centres"])
@pytest.mark.parametrize("missing", [1, 2])
def test_gaps_are_closed(way: str, missing: int) -> None:
    shown = frame((1, 30, 30, 8))
    frames = [shown, *[frame()] * missing, shown]
    measured = MeasuredFrames.of(frames)
    for gap in range(3):
        found = track(measured, TrackSettings(way=way, gap=gap))  # type: ignore[arg-type]
        assert len(found.tracks) == (1 if gap >= missing else 2)


def test_what_moves_far_is_followed_by_its_centre() -> None:
    frames = [frame((1 + i % 2, 30, 20 + 14 * i, 7)) for i in range(6)]
    found = track(MeasuredFrames.of(frames))
    assert found.way == "centres"
    assert len(found.tracks) == 1
    assert track(MeasuredFrames.of([frames[0]] * 4)).way == "overlap"
    near = TrackSettings(way="centres", distance=0.5)
    assert len(track(MeasuredFrames.of(frames), near).tracks) == 6


@pytest.mark.parametrize("way", ["overlap", "centres"])
@pytest.mark.parametrize("moves", [0.0, 2.0])
def test_a_division(way: str, moves: float) -> None:
    frames = division(moves=moves)
    found = track(MeasuredFrames.of(frames), TrackSettings(way=way))  # type: ignore[arg-type]
    check_lineage(found.tracks)
    (one,) = found.divisions
    assert one.taken
    assert one.confidence > 0.8
    assert one.frame == 3
    assert one.key == (2, 5)
    by_label = {each.label: each for each in found.tracks}
    assert by_label[one.mother].frames == (0, 1, 2)
    for daughter in one.daughters:
        assert by_label[daughter].parent == one.mother
        assert by_label[daughter].frames == (3, 4, 5, 6)
    assert len(found.tracks) == 4


def test_a_division_that_is_rejected_and_one_that_is_confirmed() -> None:
    frames = division()
    for at in range(3, 7):  # uneven daughters: not as sure
        frames[at] = frame((1, 30, 43, 8), (2, 30, 57, 5), (9, 30, 150, 10))
    measured = MeasuredFrames.of(frames)
    (taken,) = track(measured).divisions
    assert taken.taken
    assert 0.3 < taken.confidence < 0.9
    higher = TrackSettings(division=0.95)
    for found in (
        track(measured, decisions={taken.key: False}),
        track(measured, higher),
    ):
        (one,) = found.divisions
        assert not one.taken
        assert (one.key, one.confidence) == (taken.key, taken.confidence)
        assert all(each.parent == 0 for each in found.tracks)
    assert track(measured, higher, {taken.key: True}).tracks == track(measured).tracks


def test_a_mother_that_goes_on_keeps_her_track_without_the_division() -> None:
    """The daughter at her place is her; the other is new."""
    whole, parts = frame((5, 30, 50, 10)), frame((1, 30, 47, 8), (2, 30, 61, 5))
    measured = MeasuredFrames.of([whole] * 3 + [parts] * 3)
    (one,) = track(measured).divisions
    found = track(measured, decisions={one.key: False})
    assert [each.frames for each in found.tracks] == [tuple(range(6)), (3, 4, 5)]
    (kept,) = found.divisions
    assert kept.daughters[0] == kept.mother
    assert not kept.taken


def test_what_is_no_division() -> None:
    """A far neighbour appears; a speck appears; a piece is there for one frame."""
    lone = [frame((1, 30, 50, 10))] * 3
    far = [frame((1, 30, 50, 10), (2, 30, 90, 10))] * 3
    speck = [frame((1, 30, 50, 10), (2, 30, 63, 2))] * 3
    flicker = [frame((1, 30, 44, 7), (2, 30, 58, 7)), *lone]
    for after in (far, speck, flicker):
        found = track(MeasuredFrames.of(lone + after), TrackSettings(division=0.5))
        assert all(each.parent == 0 for each in found.tracks)


def test_two_that_touch_for_a_frame_stay_two() -> None:
    apart = frame((1, 30, 50, 8), (2, 30, 67, 8))
    found = track(MeasuredFrames.of([apart, apart, (apart > 0) * 1, apart, apart]))
    spans = [each.frames for each in found.tracks]
    assert spans.count((0, 1, 3, 4)) == 2


def test_short_tracks_are_left_out_but_not_families() -> None:
    frames = division()
    frames[1] = np.maximum(frames[1], frame((8, 10, 100, 4)))
    found = track(MeasuredFrames.of(frames), TrackSettings(least_frames=4))
    assert sorted(len(each.frames) for each in found.tracks) == [3, 4, 4, 7]
    assert relabelled(frames, found)[1, 10, 100] == 0


def test_planes_far_apart_count_in_distances() -> None:
    """Two balls, one above the other by two planes: near in pixels, far in the world."""
    still = np.zeros((9, 30, 30), np.int32)
    still[1:3, 5:20, 5:20], still[6:8, 5:20, 5:20] = 1, 2
    moved = np.roll(still, (0, 9), (1, 2))
    frames = [still, moved]
    far = MeasuredFrames.of(frames, (40.0, 1.0, 1.0))
    assert far.diameter == pytest.approx((2 * 15 * 15 * 40 * 6 / np.pi) ** (1 / 3))
    found = track(far, TrackSettings(way="centres"))
    assert [each.frames for each in found.tracks] == [(0, 1)] * 2
    assert relabelled(frames, found)[:, 1, 18, 18].tolist() == [1, 1]
    with pytest.raises(ValueError, match="scale of 3"):
        MeasuredFrames.of(frames, (1.0, 1.0))


@pytest.mark.parametrize("frames", [[], [frame()], [frame()] * 3])
def test_nothing_to_track(frames: list[np.ndarray]) -> None:
    for way in ("auto", "overlap", "centres"):
        found = track(MeasuredFrames.of(frames), TrackSettings(way=way))  # type: ignore[arg-type]
        assert found.tracks == found.divisions == ()


def test_one_frame_and_empty_frames_between() -> None:
    found = track(MeasuredFrames.of([frame((4, 30, 30, 8))]))
    assert [each.frames for each in found.tracks] == [(0,)]
    frames = [frame((4, 30, 30, 8)), *[frame()] * 5, frame((4, 30, 30, 8))]
    for way in ("overlap", "centres"):
        found = track(MeasuredFrames.of(frames), TrackSettings(way=way))  # type: ignore[arg-type]
        assert [each.frames for each in found.tracks] == [(0,), (6,)]


def test_frames_that_are_no_labels() -> None:
    with pytest.raises(TypeError, match="whole numbers"):
        MeasuredFrames.of([np.zeros((3, 3))])
    with pytest.raises(ValueError, match="one size"):
        MeasuredFrames.of([np.zeros((3, 3), int), np.zeros((3, 4), int)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"way": "magic"},
        {"overlap": 0},
        {"distance": 0},
        {"gap": 4},
        {"division": 1.1},
        {"least_frames": 0},
    ],
)
def test_settings_that_say_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrackSettings(**wrong)  # type: ignore[arg-type]


stacks = st.integers(0, 2**32).map(
    lambda seed: np.random.default_rng(seed).integers(0, 4, (6, 4, 9), np.int32)
)


@given(
    stack=stacks,
    seed=st.integers(0, 2**32),
    gap=st.integers(0, 3),
    way=st.sampled_from(["overlap", "centres"]),
)
@settings(max_examples=40, deadline=None)
def test_tracks_are_whole_and_do_not_depend_on_names(
    stack: np.ndarray, seed: int, gap: int, way: str
) -> None:
    rng = np.random.default_rng(seed)
    renamed = np.stack(
        [np.append(0, rng.permutation(9)[:3] + 1)[each] for each in stack]
    )
    given_ = TrackSettings(way=way, gap=gap, division=0.1, overlap=0.4)  # type: ignore[arg-type]
    every = []
    for frames in (stack, renamed):
        found = track(MeasuredFrames.of(frames), given_)
        check_lineage(found.tracks)
        tracks = relabelled(frames, found)
        np.testing.assert_array_equal(tracks > 0, frames > 0)
        for each in found.tracks:
            shown = np.flatnonzero((tracks == each.label).any(axis=(1, 2)))
            assert tuple(shown.tolist()) == each.frames
            assert np.diff(each.frames, prepend=each.first).max() <= gap + 1
        for number, ids in enumerate(found.links.objects):
            assert len(set(ids.tolist())) == len(ids), (
                number
            )  # one object a track and frame
        every.append(by_first_pixel(tracks))
    if way == "overlap" and not is_toss_up(stack, given_.overlap / 2):
        np.testing.assert_array_equal(*every)


@pytest.mark.parametrize(("speed", "way"), [(1.6, "overlap"), (9.0, "centres")])
def test_a_synthetic_movie(speed: float, way: str) -> None:
    movie = synthetic_movie(
        np.random.default_rng(3), (24, 200, 200), 14, speed=speed, divisions=0.6
    )
    assert movie.parents
    found = track(MeasuredFrames.of(movie.labels))
    assert found.way == way
    parents = {each.label: each.parent for each in found.tracks}
    tra, det = plain_tra(
        movie.labels, movie.parents, relabelled(movie.labels, found), parents
    )
    assert det == 1
    assert tra > 0.99


def test_as_good_as_the_overlap_tracking_of_laptrack() -> None:
    """Ours reads overlaps once and keeps no tables of all pairs; the links are as right."""
    from laptrack import OverLapTrack

    movie = synthetic_movie(np.random.default_rng(4), (12, 160, 160), 10, divisions=0)
    ours = relabelled(movie.labels, track(MeasuredFrames.of(movie.labels)))
    iou = (1.0, 0.0, -1.0, 0.0, 0.0)
    table, _, _ = OverLapTrack(
        cutoff=0.9,
        metric_coefs=iou,
        gap_closing_metric_coefs=iou,
        gap_closing_cutoff=0.95,
        gap_closing_max_frame_count=2,
    ).predict_overlap_dataframe(list(movie.labels))
    table = table.reset_index()
    theirs = np.zeros_like(ours)
    for at, label, name in zip(
        table["frame"], table["label"], table["track_id"], strict=True
    ):
        theirs[at][movie.labels[at] == label] = name + 1
    pairs = np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1)
    assert len(pairs[0]) == len(set(pairs[0])) == len(set(pairs[1]))
