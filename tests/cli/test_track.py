"""``napari-tinysam track``, and ``auto --link``: stacks and movies in, one label an object out."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile

from cli.scenes import DISCS, Moving, load_scenes, picture
from command import Run, run_command, run_refused
from napari_tinysam.volume.ctc import read_ctc

FRAMES = 4


@pytest.fixture
def runtime() -> Moving:
    return Moving(DISCS, seen=DISCS)


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runtime: Moving,
) -> Callable[..., Run]:
    """Run a command in a folder with a movie, once as a file and once as a folder."""
    monkeypatch.chdir(tmp_path)
    load_scenes(monkeypatch, runtime)
    frames = np.stack([picture(number) for number in range(FRAMES)])
    save("movie.tif", frames, "TYX")
    Path("frames").mkdir()
    for number, frame in enumerate(frames):
        tifffile.imwrite(f"frames/t{number:03d}.tif", frame)
    return partial(run_command, capsys)


def save(path: str, pixels: np.ndarray, axes: str) -> None:
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": axes})


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def two_that_divide() -> np.ndarray:
    """Labels of six frames: one stays, one becomes two."""
    labels = np.zeros((6, 60, 90), np.uint16)
    y, x = np.mgrid[:60, :90]
    for number, frame in enumerate(labels):
        frame[np.hypot(y - 30, x - 75) < 8] = 5 + number
        places = [(30, 10)] if number < 3 else [(22, 7), (38, 7)]
        for label, (cx, radius) in enumerate(places, start=1):
            frame[np.hypot(y - 30, x - cx) < radius] = label
    return labels


@pytest.mark.parametrize("movie", ["movie.tif", "frames"])
def test_a_movie_is_segmented_and_tracked(
    command: Callable[..., Run], movie: str
) -> None:
    done = command("track", movie, "-o", "out")
    assert done.code == 0, done.err
    assert "out: 4 tracks in 4 frames, 0 divisions" in done.out
    found = read_ctc(Path("out"))
    assert found.notes == ()
    assert [track.frames for track in found.tracks] == [(0, 1, 2, 3)] * 4
    stem = Path(movie).stem
    table = rows(f"out/{stem}_tracks.csv")
    assert list(table[0]) == [
        "track",
        "parent",
        "t",
        "z",
        "y",
        "x",
        "area",
        "intensity",
    ]
    assert len(table) == 16
    first = [row for row in table if row["track"] == "1"]
    assert np.diff([float(row["x"]) for row in first]) == pytest.approx(4, abs=0.3)
    frame = np.asarray(tifffile.imread("frames/t001.tif"), float)
    mask = found.frame(1) == 1
    assert float(first[1]["intensity"]) == pytest.approx(frame[mask].mean(), rel=1e-4)


def test_tracking_again_segments_nothing(
    command: Callable[..., Run], runtime: Moving
) -> None:
    assert command("track", "movie.tif", "-o", "out").code == 0
    encoded = runtime.encoded
    before = Path("out/mask000.tif").stat().st_mtime_ns
    again = command("track", "movie.tif", "-o", "out", "--way", "centres")
    assert again.code == 0, again.err
    assert runtime.encoded == encoded == FRAMES
    assert Path("out/mask000.tif").stat().st_mtime_ns > before
    # Corrected labels are used as they are.
    labels = tifffile.imread("out/segmentation/movie_labels.tif")
    labels[labels == 2] = 0
    save("out/segmentation/movie_labels.tif", labels, "TYX")
    corrected = command("track", "movie.tif", "-o", "out")
    assert "out: 3 tracks" in corrected.out
    assert runtime.encoded == encoded


def test_labels_of_others_in_all_forms(command: Callable[..., Run]) -> None:
    pytest.importorskip("geff")
    from napari_tinysam.volume.exchange.geff_store import read_geff

    labels = two_that_divide()
    save("image.tif", labels * 10, "TYX")
    save("image_labels.tif", labels, "TYX")
    done = command(
        *("track", "image.tif", "--labels", "image_labels.tif", "-o", "out"),
        *("--also", "geff,trackmate,tiff,ome-zarr"),
    )
    assert done.code == 0, done.err
    assert "4 tracks in 6 frames, 1 division:" in done.out
    assert not Path("out/segmentation").exists()
    text = Path("out/res_track.txt").read_text().splitlines()
    assert text == ["1 0 2 0", "2 0 5 0", "3 3 5 1", "4 3 5 1"]
    tracked = tifffile.imread("out/image_tracks.tif")
    for number, frame in enumerate(tracked):
        np.testing.assert_array_equal(
            frame, tifffile.imread(f"out/mask{number:03d}.tif")
        )
        np.testing.assert_array_equal(frame > 0, labels[number] > 0)
    assert read_geff(Path("out/image_tracks.geff")).parents == {3: 1, 4: 1}
    image = next(ET.parse("out/image_tracks.xml").getroot().iter("ImageData"))
    assert image.get("filename") == "image.tif"
    import zarr

    again = np.asarray(zarr.open_group("out/image_tracks.ome.zarr", mode="r")["0"])
    np.testing.assert_array_equal(again, tracked)
    # A second run replaces what the first one made.
    assert command(
        *("track", "image.tif", "--labels", "image_labels.tif", "-o", "out"),
        *("--also", "ome-zarr,geff", "--division", "1", "--least-frames", "6"),
    ).code == 0  # fmt: skip
    # A result is tracked like any labels.
    for name in ("out", "out/mask*.tif"):
        more = command("track", "image.tif", "--labels", name, "-o", "again")
        assert more.code == 0, more.err
    Path("out/mask003.tif").unlink()
    broken = command("track", "image.tif", "--labels", "out", "-o", "again")
    assert "out: frame 3 is missing." in broken.err


def test_volumes_through_time(command: Callable[..., Run]) -> None:
    """Planes have labels of their own; they are linked in z, then in time."""
    labels = two_that_divide()
    planes = np.stack([labels, labels[:, ::-1] * 3, labels * 0], axis=1)
    save("deep.tif", planes, "TZYX")
    linked = command(
        *("track", "deep.tif", "--labels", "deep.tif", "--link-z", "-o", "out"),
        *("--z-step", "3", "--also", "tiff"),
    )
    assert linked.code == 0, linked.err
    assert "4 tracks in 6 frames, 1 division:" in linked.out
    tracked = tifffile.imread("out/deep_tracks.tif")
    assert tracked.shape == planes.shape
    np.testing.assert_array_equal(tracked[:, 0], tracked[:, 1][:, ::-1])
    table = rows("out/deep_tracks.csv")
    assert {row["z"] for row in table} == {"0.5"}


def test_a_frame_without_numbers(command: Callable[..., Run]) -> None:
    """Nothing is found there; objects go on after it, in the challenge as children."""
    frames = np.stack([picture(0).astype("f4")] * 4)
    frames[1] = np.nan
    save("nan.tif", frames, "TYX")
    save(
        "labels.tif", np.stack([frame == frame for frame in frames]).astype("u1"), "TYX"
    )
    done = command("track", "nan.tif", "--labels", "labels.tif", "-o", "out")
    assert done.code == 0, done.err
    assert "Frame 1 of nan.tif has no numbers (NaN)" in done.err
    assert Path("out/res_track.txt").read_text() == "1 0 0 0\n2 2 3 1\n"


def test_trackastra_links_where_it_is_installed(
    command: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_tinysam.batch import tracked
    from napari_tinysam.volume import learned

    seen = []

    def chained(images: Any, labels: Any, measured: Any) -> list[Any]:
        seen.append((images.shape, labels.shape, len(measured)))
        return [[(frame, 0)] for frame in range(len(labels))]

    monkeypatch.setattr(learned, "weights_folder", lambda: Path())
    monkeypatch.setattr(tracked, "chained_by_trackastra", chained)
    save("labels.tif", two_that_divide()[:3], "TYX")
    given = "track", "labels.tif", "--labels", "labels.tif", "-o", "out"
    done = command(*given, "--way", "trackastra")
    assert done.code == 0, done.err
    assert seen == [((3, 60, 90), (3, 60, 90), 3)]
    assert "3 tracks in 3 frames" in done.out


def test_some_frames(command: Callable[..., Run]) -> None:
    save("labels.tif", two_that_divide(), "TYX")
    given = "track", "labels.tif", "--labels", "labels.tif", "-o", "out", "--frames"
    done = command(*given, "1-2")
    assert "2 tracks in 2 frames, 0 divisions" in done.out
    assert sorted(path.name for path in Path("out").glob("mask*")) == [
        "mask000.tif",
        "mask001.tif",
    ]


def wide() -> None:
    save("labels.tif", np.zeros((FRAMES, 64, 64), "u2"), "TYX")


def half() -> None:
    save("labels.tif", np.full((FRAMES, 128, 128), 0.5, "f4"), "TYX")


def blank() -> None:
    save("labels.tif", np.full((FRAMES, 128, 128), np.nan, "f4"), "TYX")


def longer() -> None:
    Path("out").mkdir()
    Path("out/mask009.tif").touch()


def mine() -> None:
    Path("out").write_text("mine")


def my_zarr() -> None:
    Path("out/movie_tracks.ome.zarr").mkdir(parents=True)


def gap() -> None:
    Path("frames/t001.tif").unlink()


def other_size() -> None:
    tifffile.imwrite("frames/t002.tif", np.zeros((9, 9), "u1"))


def other_digits() -> None:
    Path("frames/t003.tif").rename("frames/t0010.tif")
    Path("frames/t002.tif").rename("frames/t09.tif")
    Path("frames/t001.tif").rename("frames/t08.tif")


def plane() -> None:
    tifffile.imwrite("one.tif", picture(0))


def one_frame() -> None:
    save("one.tif", picture(0)[None, None], "TZYX")


def channels() -> None:
    save("one.tif", np.zeros((2, 3, 4, 16, 16), "u1"), "AZTYX")


@pytest.mark.parametrize(
    ("arguments", "prepare", "code", "said"),
    [
        ("movie.tif --labels labels.tif", wide, 1, "does not fit movie.tif"),
        ("movie.tif --labels labels.tif", half, 1, "whole numbers from 0"),
        ("movie.tif --labels labels.tif", blank, 1, "whole numbers from 0"),
        ("movie.tif", longer, 1, "frames up to 9, and this movie has 4"),
        ("movie.tif", mine, 1, "out is a file"),
        ("movie.tif --also ome-zarr", my_zarr, 1, "left alone"),
        ("frames", gap, 1, "missing between t000.tif and t002.tif"),
        ("frames", other_size, 1, "9 × 9, t000.tif 128 × 128"),
        ("frames", other_digits, 1, "as many digits"),
        ("one.tif", plane, 1, "single plane"),
        ("one.tif", one_frame, 1, "one frame"),
        ("one.tif", channels, 1, "axes AZTYX"),
        ("none.tif", None, 1, "none.tif"),
        ("movie.tif --frames 3-2", None, 2, "empty range"),
        ("movie.tif --frames 2", None, 2, "range such as"),
        ("movie.tif --frames 2-9", None, 1, "frames 0 to 3; 2 to 9"),
        ("movie.tif --also gif", None, 2, "--also knows"),
        ("movie.tif --way far", None, 2, "--way is one of auto"),
        ("movie.tif --way trackastra", None, 1, "not installed with its weights"),
        ("movie.tif --overlap 0", None, 2, "--overlap is above 0"),
        ("movie.tif --division 2", None, 2, "--division lies"),
        ("movie.tif --mode best", None, 2, "--mode is one of"),
        ("movie.tif --confidence 7", None, 2, "confidence"),
        ("movie.tif --link-z", None, 2, "--link-z is for"),
        ("movie.tif --z-step 0", None, 2, "--z-step"),
    ],
)
def test_what_cannot_be_tracked(
    command: Callable[..., Run],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: str,
    prepare: Callable[[], None] | None,
    code: int,
    said: str,
) -> None:
    if prepare is not None:
        prepare()
    given = ("track", *arguments.split(), "-o", "out")
    lines = run_refused(capsys, tmp_path, *given, code=code)
    assert said in lines[-1]


def test_a_stack_is_linked(command: Callable[..., Run]) -> None:
    save("stack.tif", np.stack([picture(number) for number in (0, 0, 1)]), "ZYX")
    done = command("auto", "stack.tif", "-o", "out", "--link", "z")
    assert done.code == 0, done.err
    assert "4 objects in 3 planes" in done.out
    labels = tifffile.imread("out/stack_labels.tif")
    table = rows("out/stack_objects.csv")
    assert len(table) == 12
    for row in table:
        mask = labels[int(row["z"])] == int(row["label"])
        assert mask.sum() == int(row["area"])
    # Without it, the same planes are another result.
    plain = command("auto", "stack.tif", "-o", "out")
    assert "12 objects in 3 planes" in plain.out


def test_linked_objects_of_few_planes_are_left_out(
    command: Callable[..., Run],
) -> None:
    far = np.stack([picture(number) for number in (0, 9, 0, 9)])
    save("stack.tif", far, "ZYX")
    given = "auto", "stack.tif", "-o", "out", "--link", "z", "--least-planes"
    assert "0 objects" in command(*given, "3").out
    labels = tifffile.imread("out/stack_labels.tif")
    assert labels.shape == far.shape
    assert not labels.any()


def test_a_movie_is_linked_in_a_batch(command: Callable[..., Run]) -> None:
    done = command("auto", "movie.tif", "frames/t000.tif", "-o", "out", "--link", "t")
    assert done.code == 0, done.err
    assert "t000.tif has a single plane; there is nothing to link." in done.err
    table = rows("out/movie_objects.csv")
    assert {row["parent"] for row in table} == {"0"}
    assert sorted({row["label"] for row in table}) == ["1", "2", "3", "4"]
    Path("out/movie_objects.csv").unlink()  # who descends from whom was only there
    again = command("auto", "movie.tif", "-o", "out", "--link", "t")
    assert "1 file segmented" in again.out
    assert rows("out/movie_objects.csv") == table


def test_an_axis_that_could_be_either(command: Callable[..., Run]) -> None:
    """The word of the user counts; a file that says otherwise is said so."""
    np.save("stack.npy", np.stack([picture(0)] * 3))
    for link in "zt":
        done = command("auto", "stack.npy", "-o", link, "--link", link)
        assert "4 objects in 3 planes" in done.out
        assert "taken as" not in done.err
    named = command("auto", "movie.tif", "-o", "named", "--link", "z")
    assert "movie.tif calls its axis T; it is taken as depth." in named.err


def test_what_cannot_be_linked(
    command: Callable[..., Run], runtime: Moving, capsys: Any, tmp_path: Path
) -> None:
    save("odd.tif", np.zeros((2, 3, 64, 64), "u1"), "ATYX")
    done = command("auto", "odd.tif", "-o", "out", "--link", "z")
    assert done.code == 1
    assert "odd.tif has no axis of depth: its axes are ATYX" in done.err
    assert runtime.encoded == 0
    wrong = ("auto", "odd.tif", "-o", "new", "--link", "x")
    assert "--link is z or t" in run_refused(capsys, tmp_path, *wrong, code=2)[-1]
    alone = ("auto", "odd.tif", "-o", "new", "--least-planes", "2")
    assert "is for --link" in run_refused(capsys, tmp_path, *alone, code=2)[-1]
