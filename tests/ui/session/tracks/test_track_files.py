"""Tracks of the dock are written for other programs, and read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from napari.layers import Tracks

from napari_tinysam.ui.session.tracks.files import CSV, CTC, FORMS, GEFF, TRACKMATE
from ui.session.tracks.small_movie import FRAMES, at, movie, opened

if TYPE_CHECKING:
    from desk import Desk


def finished(desk: Desk) -> None:
    end = time.monotonic() + 30
    while desk.session.track_files.running:
        assert time.monotonic() < end
        time.sleep(0.01)


def tracked() -> Desk:
    desk = opened()
    desk.session.track_objects()
    return desk


def write(desk: Desk, form: str, path: Path) -> None:
    if form == GEFF:
        pytest.importorskip("geff")
    desk.session.track_files.write(form, path)
    finished(desk)


@pytest.mark.parametrize("form", list(FORMS))
def test_each_form_is_written(tmp_path: Path, form: str) -> None:
    desk = tracked()
    path = tmp_path / f"cells_tracks{FORMS[form]}"
    write(desk, form, path)
    assert desk.told[-1] == ("info", f"5 tracks are written to {path.name}.")
    assert path.exists()


def test_a_folder_of_the_challenge_comes_back(tmp_path: Path) -> None:
    desk = tracked()
    write(desk, CTC, tmp_path / "result")
    before = desk.session.target.data.copy()
    graph = next(each for each in desk.viewer.layers if isinstance(each, Tracks)).graph

    other = opened(np.zeros_like(movie()))
    other.session.track_files.read(tmp_path / "result")
    finished(other)
    assert np.array_equal(other.session.target.data, before)
    assert other.session.target.name == "result labels"
    shown = next(each for each in other.viewer.layers if isinstance(each, Tracks))
    assert shown.graph == graph
    assert other.session.tracking.note == "5 tracks, 1 division."


def tracks_layer(desk: Desk) -> Tracks:
    return next(each for each in desk.viewer.layers if isinstance(each, Tracks))


@pytest.mark.parametrize("form", [GEFF, CSV])
def test_places_become_a_tracks_layer_without_objects(
    tmp_path: Path, form: str
) -> None:
    path = tmp_path / f"cells{FORMS[form]}"
    write(tracked(), form, path)
    desk = opened(np.zeros_like(movie()))
    desk.session.track_files.read(path)
    finished(desk)
    shown = tracks_layer(desk)
    assert len(np.unique(shown.data[:, 0])) == 5
    assert len(shown.graph) == 2
    assert "None of their places lies in an object" in desk.told[-1][1]


@pytest.mark.parametrize("form", [GEFF, CSV])
def test_places_in_objects_make_them_tracks(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"cells{FORMS[form]}"
    before = tracked()
    write(before, form, path)
    desk = opened()
    desk.session.track_files.read(path)
    finished(desk)
    assert np.array_equal(desk.session.target.data, before.session.target.data)
    assert tracks_layer(desk).graph == tracks_layer(before).graph
    assert any(
        "5 tracks belong to objects of cells committed_objects, with all places."
        in said
        for _, said in desk.told
    )
    assert desk.session.undo_text == "import tracks"

    moving = at(desk, 40, 95)[2]  # keys work on them
    desk.viewer.dims.set_point(0, 2)
    desk.session.hover_at(desk.world(95, 40))
    desk.session.cut_track()
    assert at(desk, 40, 95)[1] == moving != at(desk, 40, 95)[2]
    assert len(tracks_layer(desk).graph) == 2
    desk.session.undo()
    desk.session.undo()
    assert np.array_equal(desk.session.target.data, movie())


def test_what_does_not_match_is_said_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    rows = [(7, t, 40, 90 + 2 * t) for t in range(4)]  # the moving cell, not to its end
    rows += [(9, 0, 5, 5), (9, 1, 5, 5)]  # nothing is there
    rows += [(11, 0, 42, 92)]  # the moving cell again
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(["track,t,y,x", *lines]))
    desk = opened()
    desk.session.track_files.read(path)
    finished(desk)
    said = desk.told[-1][1]
    assert "1 track belongs to objects" in said
    assert "2 of 7 places lie in no object" in said
    assert "1 lies in one of another track" in said
    assert "objects had no track" in said
    ids = at(desk, 40, 98)
    assert len(set(ids[:4])) == 1
    assert ids[4] not in (0, ids[0])
    assert np.array_equal(desk.session.target.data > 0, movie() > 0)


def test_wrong_files_are_one_sentence(tmp_path: Path) -> None:
    desk = tracked()
    files = desk.session.track_files
    layers = list(desk.viewer.layers)
    (tmp_path / "empty").mkdir()
    small = tmp_path / "small"
    small.mkdir()
    for number in range(FRAMES):
        name = f"mask{number:03}.tif"
        tifffile.imwrite(small / name, np.ones((8, 8), np.uint16))
    (small / "res_track.txt").write_text("1 0 5 0\n")
    table = tmp_path / "far.csv"
    table.write_text("track,t,y,x\n1,0,500,500\n")
    for path, said in (
        (tmp_path / "empty", "holds no frames"),
        (small, "of another one"),
        (table, "outside the movie"),
        (tmp_path / "none.csv", "none.csv"),
    ):
        files.read(path)
        finished(desk)
        level, text = desk.told[-1]
        assert level == "error"
        assert said in text
        assert "Traceback" not in text
    assert list(desk.viewer.layers) == layers


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    desk = tracked()
    (tmp_path / "taken").write_text("not a folder")
    for form in (CTC, TRACKMATE, CSV):
        write(desk, form, tmp_path / "taken" / f"tracks{FORMS[form]}")
        assert desk.told[-1][0] == "error"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_nothing_is_written_before_tracking(tmp_path: Path) -> None:
    desk = opened()
    desk.session.track_files.write(CSV, tmp_path / "tracks.csv")
    assert desk.told[-1] == ("info", "Track the objects first.")
