"""Tracks of the dock are written for other programs, and read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from napari.layers import Tracks

from napari_tinysam.ui.session.track_files import CSV, CTC, FORMS, GEFF, TRACKMATE
from ui.session.small_movie import FRAMES, movie, opened

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


@pytest.mark.parametrize("form", [GEFF, CSV])
def test_places_become_a_tracks_layer(tmp_path: Path, form: str) -> None:
    desk = tracked()
    path = tmp_path / f"cells{FORMS[form]}"
    write(desk, form, path)
    desk.viewer.layers.remove(
        next(each for each in desk.viewer.layers if isinstance(each, Tracks))
    )
    desk.session.track_files.read(path)
    finished(desk)
    shown = next(each for each in desk.viewer.layers if isinstance(each, Tracks))
    assert len(np.unique(shown.data[:, 0])) == 5
    assert len(shown.graph) == 2


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
