"""Folders of the Cell Tracking Challenge, there and back, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_tinysam.errors import DataError, FileError
from napari_tinysam.volume.ctc import read_ctc, write_ctc
from napari_tinysam.volume.lineage import Track, check_lineage, graph_of, tracks_of

#: One mother and two daughters, and an object that is away for a frame.
FRAMES = [
    np.array([[7, 7, 0, 9]]),
    np.array([[7, 0, 0, 9]]),
    np.array([[3, 0, 4, 0]]),
    np.array([[3, 0, 4, 9]]),
]
PARENTS = {3: 7, 4: 7}


def test_tracks_are_read_from_frames() -> None:
    tracks = tracks_of(FRAMES, PARENTS)
    assert tracks == [
        Track(3, (2, 3), 7),
        Track(4, (2, 3), 7),
        Track(7, (0, 1)),
        Track(9, (0, 1, 3)),
    ]
    assert tracks[-1].runs() == [(0, 1), (3, 3)]
    assert graph_of(tracks) == {3: [7], 4: [7]}


@pytest.mark.parametrize(
    ("parents", "said"),
    [({3: 99}, "in no frame"), ({9: 7}, "before its parent"), ({3: 3}, "before")],
)
def test_lineages_that_cannot_be_are_refused(
    parents: dict[int, int], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        tracks_of(FRAMES, parents)


def test_a_folder_as_the_challenge_wants_it(tmp_path: Path) -> None:
    names = write_ctc(tmp_path / "RES", FRAMES, tracks_of(FRAMES, PARENTS))
    assert names == {3: [3], 4: [4], 7: [7], 9: [9, 1]}
    assert (tmp_path / "RES" / "res_track.txt").read_text().splitlines() == [
        "1 3 3 9",
        "3 2 3 7",
        "4 2 3 7",
        "7 0 1 0",
        "9 0 1 0",
    ]
    masks = sorted(path.name for path in (tmp_path / "RES").glob("*.tif"))
    assert masks == [f"mask00{n}.tif" for n in range(4)]
    last = tifffile.imread(tmp_path / "RES" / "mask003.tif")
    assert last.dtype == np.uint16
    assert last.tolist() == [[3, 0, 4, 1]]


movies = st.integers(0, 2**32).map(
    lambda seed: (
        np.random.default_rng(seed).integers(0, 4, (5, 3, 4))
        * np.random.default_rng(seed + 1).choice([1, 70_000])
    )
)


@given(frames=movies)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_there_and_back(tmp_path: Path, frames: np.ndarray) -> None:
    """Objects are the same pixels, whatever they are called; gaps become children."""
    tracks = tracks_of(frames)
    names = write_ctc(tmp_path / "again", frames, tracks)
    found = read_ctc(tmp_path / "again")
    assert len(found) == len(frames)
    assert found.notes == ()
    by_name = {track.label: track for track in found.tracks}
    for track in tracks:
        parts = [by_name[name] for name in names[track.label]]
        assert [frame for part in parts for frame in part.frames] == list(track.frames)
        assert [part.parent for part in parts] == [0, *names[track.label][:-1]]
        for part in parts:
            for frame in part.frames:
                np.testing.assert_array_equal(
                    found.frame(frame) == part.label, frames[frame] == track.label
                )


def test_volumes_through_time(tmp_path: Path) -> None:
    frames = [np.ones((3, 5, 4), int), np.ones((3, 5, 4), int)]
    write_ctc(tmp_path, frames, tracks_of(frames))
    assert read_ctc(tmp_path).frame(1).shape == (3, 5, 4)


def test_annotations_are_read_too(tmp_path: Path) -> None:
    for number, frame in enumerate(FRAMES):
        tifffile.imwrite(tmp_path / f"man_track{number:04d}.tif", frame.astype("u2"))
    (tmp_path / "man_track.txt").write_text("7 0 1 0\n3 2 3 7\n5 0 3 0\n\n")
    found = read_ctc(tmp_path)
    assert [track.parent for track in found.tracks] == [7, 0, 0, 0]
    assert found.notes == (
        "The text does not know object 4, 9.",
        "No frame shows object 5.",
    )


def test_a_parent_that_goes_on_is_no_parent(tmp_path: Path) -> None:
    for number, frame in enumerate(FRAMES):
        tifffile.imwrite(tmp_path / f"mask{number:03d}.tif", frame.astype("u2"))
    (tmp_path / "res_track.txt").write_text("7 0 1 0\n9 0 3 7\n3 2 3 9\n4 2 3 7\n")
    found = read_ctc(tmp_path)
    check_lineage(found.tracks)
    assert {t.label: t.parent for t in found.tracks} == {3: 0, 4: 7, 7: 0, 9: 0}
    assert len(found.notes) == 2


def make(folder: Path) -> None:
    write_ctc(folder, FRAMES, tracks_of(FRAMES, PARENTS))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "mask002.tif").unlink(), "frame 2 is missing"),
        (lambda f: (f / "res_track.txt").unlink(), "neither res_track.txt"),
        (lambda f: (f / "res_track.txt").write_text("1 2 3\n"), "line 1"),
        (lambda f: (f / "res_track.txt").write_text("1 0 x 0\n"), "line 1"),
        (
            lambda f: (f / "res_track.txt").write_bytes(b"\xff\xfe\x00"),
            "cannot be read",
        ),
        (lambda f: (f / "mask001.tif").write_bytes(b"II*\0 no"), "cannot be read"),
        (
            lambda f: tifffile.imwrite(f / "mask001.tif", np.zeros((9, 9), "u2")),
            "another size",
        ),
        (
            lambda f: tifffile.imwrite(f / "mask001.tif", np.zeros((1, 4), "f4")),
            "no labels",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path)
    spoil(tmp_path)
    with pytest.raises(FileError, match=said):
        read_ctc(tmp_path)


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no frames"):
        read_ctc(tmp_path)
    with pytest.raises(FileError, match="cannot be read"):
        read_ctc(tmp_path / "nowhere")


def test_nothing_is_left_of_a_movie_that_breaks_off(tmp_path: Path) -> None:
    """A frame that cannot be read, in the middle; what was there before stays."""
    make(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def breaking():  # type: ignore[no-untyped-def]
        yield FRAMES[0] * 0
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_ctc(tmp_path, breaking(), [])
    with pytest.raises(DataError, match="frame 9"):
        write_ctc(tmp_path, FRAMES, [Track(3, (2, 9))])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
