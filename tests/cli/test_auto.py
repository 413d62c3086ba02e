"""``napari-tinysam auto``: files in, labels, tables and pictures out; nothing lost on the way."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from cli.scenes import DISCS, Scenes, load_scenes
from command import Run, run_command
from napari_tinysam.batch import jobs as batch
from napari_tinysam.batch.runners import processes
from napari_tinysam.cli import auto as cli_auto
from napari_tinysam.errors import FileError, TinySAMError


@pytest.fixture
def runtime() -> Scenes:
    return Scenes(DISCS, seen=DISCS)


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runtime: Scenes,
) -> Callable[..., Run]:
    """Run the command in a folder with three images."""
    monkeypatch.chdir(tmp_path)
    load_scenes(monkeypatch, runtime)
    rng = np.random.default_rng(0)
    Path("images").mkdir()
    for name in ("a.tif", "b.png", "c.ome.tif"):
        pixels = rng.integers(0, 255, (128, 128)).astype(np.uint8)
        iio.imwrite(Path("images") / name, pixels)

    return partial(run_command, capsys, "auto")


def written(folder: str = "out") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_segmented(run: Callable[..., Run]) -> None:
    done = run("images", "-o", "out/of/it", "--overlay")
    assert done.code == 0, done.err
    assert "3 files segmented: 12 objects." in done.out
    assert written("out/of/it") == sorted(
        f"{stem}_{kind}" for stem in "abc" for kind in ("labels.tif", "objects.csv", "overlay.png")
    )  # fmt: skip
    labels = tifffile.imread("out/of/it/a_labels.tif")
    assert labels.shape == (128, 128)
    assert labels.dtype == np.uint16
    assert labels.max() == 4
    table = rows("out/of/it/a_objects.csv")
    pixels = iio.imread("images/a.tif")
    for row in table:
        mask = labels == int(row["label"])
        y, x = np.nonzero(mask)
        assert int(row["area"]) == mask.sum()
        assert [int(row[k]) for k in ("x0", "y0", "x1", "y1")] == [
            x.min(), y.min(), x.max(), y.max()
        ]  # fmt: skip
        assert float(row["centroid_x"]) == pytest.approx(x.mean(), rel=1e-4)
        assert float(row["centroid_y"]) == pytest.approx(y.mean(), rel=1e-4)
        assert float(row["intensity_mean"]) == pytest.approx(
            pixels[mask].mean(), rel=1e-4
        )
        assert 0.9 < float(row["score"]) < 0.96
        assert row["found_by"] == "prompt"
    picture = iio.imread("out/of/it/a_overlay.png")
    assert picture.shape == (1024, 1024, 3)


def test_several_processes_are_started_also_for_one_file(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its planes or tiles are shared."""
    started: list[int] = []

    def start(count: int, *_: Any, **__: Any) -> None:
        started.append(count)
        raise TinySAMError("That is enough.")

    monkeypatch.setattr(processes, "Processes", start)
    done = run("images/a.tif", "-o", "out", "--workers", "3")
    assert done.code == 1
    assert "That is enough." in done.err
    assert started == [3]


def test_what_is_done_is_passed_over(run: Callable[..., Run], runtime: Scenes) -> None:
    assert run("images/a.tif", "-o", "out").code == 0
    again = run("images", "-o", "out")
    assert "2 files segmented, 1 done before: 8 objects." in again.out
    assert runtime.encoded == 3
    # Other settings are another result.
    other = run("images/a.tif", "-o", "out", "--confidence", "0.99")
    assert "1 file segmented: 0 objects." in other.out
    model = run("images/a.tif", "-o", "out", "--model", "another")
    assert "1 file segmented" in model.out


def test_corrected_labels_are_left_alone(run: Callable[..., Run]) -> None:
    assert run("images/a.tif", "-o", "out").code == 0
    mine = np.ones((128, 128), np.uint16)
    tifffile.imwrite("out/a_labels.tif", mine)
    again = run("images/a.tif", "-o", "out")
    assert again.code == 0
    assert "1 left alone" in again.out
    assert "Move it away" in again.err
    np.testing.assert_array_equal(tifffile.imread("out/a_labels.tif"), mine)


def test_a_bad_file_does_not_stop_the_rest(run: Callable[..., Run]) -> None:
    Path("images/b.png").write_bytes(b"no image at all")
    Path("images/notes.txt").write_text("not looked at")
    done = run("images", "images/missing.tif", "-o", "out")
    assert done.code == 1
    assert "2 files segmented, 2 failed: 8 objects." in done.out
    assert "Failed: images/b.png:" in done.err
    assert "Failed: images/missing.tif:" in done.err
    assert done.err.splitlines()[-1] == "Error: 2 of 4 files could not be segmented."
    assert "Traceback" not in done.err
    assert written() == [
        "a_labels.tif",
        "a_objects.csv",
        "c_labels.tif",
        "c_objects.csv",
    ]


def test_stacks_are_segmented_plane_by_plane(run: Callable[..., Run]) -> None:
    stack = np.zeros((2, 3, 128, 128), np.uint16)
    tifffile.imwrite("movie.tif", stack, metadata={"axes": "TZYX"}, ome=True)
    done = run("movie.tif", "-o", "out")
    assert "24 objects in 6 planes" in done.out
    with tifffile.TiffFile("out/movie_labels.tif") as tiff:
        assert tiff.series[0].axes == "TZYX"
        labels = tiff.asarray()
    assert labels.shape == (2, 3, 128, 128)
    assert (labels.reshape(6, -1).max(axis=1) == 4).all()
    table = rows("out/movie_objects.csv")
    assert len(table) == 24
    assert {(row["t"], row["z"]) for row in table} == {
        (str(t), str(z)) for t in range(2) for z in range(3)
    }
    assert run("movie.tif", "-o", "out").out.startswith(
        "0 files segmented, 1 done before"
    )


def test_colours_and_channels(run: Callable[..., Run]) -> None:
    rng = np.random.default_rng(0)
    tifffile.imwrite("rgb.tif", rng.integers(0, 255, (128, 128, 3)).astype(np.uint8))
    channels = rng.integers(0, 999, (2, 128, 128)).astype(np.uint16)
    tifffile.imwrite("two.tif", channels, metadata={"axes": "CYX"}, ome=True)
    done = run("rgb.tif", "two.tif", "-o", "out")
    assert done.code == 0, done.err
    assert "channel 0 is used" in done.err
    assert {"intensity_mean_0", "intensity_mean_1", "intensity_mean_2"} < set(
        rows("out/rgb_objects.csv")[0]
    )
    (first, *_) = rows("out/two_objects.csv")
    labels = tifffile.imread("out/two_labels.tif")
    mean = channels[0][labels == int(first["label"])].mean()
    assert float(first["intensity_mean"]) == pytest.approx(mean, rel=1e-4)
    second = run("two.tif", "-o", "out2", "--channel", "1")
    assert second.code == 0, second.err


def test_size_and_confidence_can_be_said(run: Callable[..., Run]) -> None:
    # The smallest disc has 177 pixels of the image, the largest 398.
    assert "1 object\n" in run("images/a.tif", "-o", "1", "--max-area", "200").out
    assert "3 objects" in run("images/a.tif", "-o", "2", "--min-area", "200").out
    assert "0 objects" in run("images/a.tif", "-o", "3", "--confidence", "0.99").out
    assert rows("3/a_objects.csv") == []
    assert Path("3/a_objects.csv").read_text().startswith("label,area,x0")


def test_ctrl_c_keeps_what_is_done(run: Callable[..., Run], runtime: Scenes) -> None:
    def interrupt(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    runtime.refuse = interrupt
    done = run("images", "-o", "out")
    assert done.code == 130
    assert "1 of 3 files are done; run the same command to continue." in done.err
    assert written() == ["a_labels.tif", "a_objects.csv"]


def test_a_full_disk_leaves_no_half_a_file(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    done = run("images/a.tif", "-o", "out")
    assert done.code == 1
    assert "No space left on device" in done.err
    assert written() == ["a_objects.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing*.tif", "-o", "out"), "No image is called nothing*.tif"),
        (("empty", "-o", "out"), "no images in the folder empty"),
        (("images", "-o", "out", "--mode", "blind"), "--mode is one of"),
        (
            ("images", "-o", "out", "--confidence", "7"),
            "confidence lies between 0 and 1",
        ),
        (("images", "-o", "out", "--min-area", "9", "--max-area", "3"), "least area"),
        (("images", "-o", "out", "--channel", "red"), "red"),
        (("images", "-o", "out", "--also", "coco,word"), "--also knows coco, roi"),
        (("images", "-o", "out", "--progress", "pie"), "--progress is bar or json"),
        (("images", "-o", "out", "--tiles", "12"), "from 256, not '12'"),
        (("images", "-o", "out", "--tiles", "many"), "auto, off or a number"),
        (("images", "-o", "out", "--workers", "0"), "workers"),
        (("images", "-o", "out", "--cluster", "cloud"), "--cluster is slurm or local"),
        (
            ("images", "-o", "out", "--cluster", "local", "--scheduler", "tcp://a:1"),
            "not both",
        ),
        (("images", "-o", "out", "--table", "xlsx"), "--table is csv or parquet"),
        (("images", "-o", "out", "--labels", "png"), "--labels is auto, tiff"),
        (("images",), "--output"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run: Callable[..., Run], arguments: tuple[str, ...], said: str
) -> None:
    Path("empty").mkdir()
    done = run(*arguments)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not Path("out").exists()


def test_an_output_folder_that_cannot_be_made(run: Callable[..., Run]) -> None:
    Path("file").write_text("")
    done = run("images", "-o", "file/out")
    assert done.code == 1
    assert "cannot be made" in done.err


def test_objects_in_other_forms(run: Callable[..., Run]) -> None:
    done = run("images/a.tif", "-o", "out", "--also", "coco,geojson")
    assert done.code == 0, done.err
    assert written() == [
        *("a_coco.json", "a_labels.tif", "a_objects.csv", "a_objects.geojson"),
    ]
    assert len(json.loads(Path("out/a_coco.json").read_text())["annotations"]) == 4
    assert "1 done before" in run("images/a.tif", "-o", "out", "--also", "coco").out


def test_large_images_are_searched_in_tiles(run: Callable[..., Run]) -> None:
    large = np.zeros((1600, 900), np.uint8)
    large[100:140, 200:240] = 200
    iio.imwrite("large.png", large)
    done = run("large.png", "-o", "out")
    assert "searched in 2 tiles of 1024 pixels" in done.err
    again = run("large.png", "-o", "out", "--tiles", "off")
    assert "tiles" not in again.err
    assert "1 file segmented" in again.out
    small = run("images/a.tif", "-o", "out", "--tiles", "256")
    assert "searched in 1 tile of 128 pixels" in small.err


def test_parquet_without_its_package_is_refused(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_auto, "find_spec", lambda name: None)
    done = run("images", "-o", "out", "--table", "parquet")
    assert done.code == 2
    assert "Parquet needs the package pyarrow" in done.err


def test_progress_in_json(run: Callable[..., Run]) -> None:
    Path("images/b.png").write_bytes(b"no image at all")
    done = run("images", "-o", "out", "--progress", "json")
    assert done.code == 1
    *lines, last = done.err.splitlines()
    assert last.startswith("Error: ")
    events = [json.loads(line) for line in lines]
    files = {event["image"]: event for event in events if event["event"] == "file"}
    assert [event["state"] for event in files.values()] == [
        *("written", "failed", "written"),
    ]
    assert "cannot be read" in files["images/b.png"]["reason"]
    assert files["images/c.ome.tif"]["done"] == files["images/c.ome.tif"]["total"] == 3
    assert files["images/c.ome.tif"]["seconds_left"] == 0
    assert files["images/a.tif"]["objects"] == 4
    assert sum(event["event"] == "plane" for event in events) == 2


# ------------------------------------------------------------------ names of files


def test_patterns_and_folders_stand_for_images(tmp_path: Path) -> None:
    for name in ("b.tif", "a.tif", "a_labels.tif", "a_overlay.png", "t.csv", ".x.tif"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "z.tif").touch()
    found, passed = batch.find_images([str(tmp_path), str(tmp_path / "*.tif")])
    assert [path.name for path in passed] == ["a_labels.tif", "a_overlay.png"]
    assert [path.name for path in found] == ["a.tif", "b.tif"]
    deep, _ = batch.find_images([str(tmp_path / "**" / "*.tif")])
    assert [path.name for path in deep] == ["a.tif", "b.tif", "z.tif"]
    # A file that is named is taken, whatever it is called.
    named, _ = batch.find_images([str(tmp_path / "a_labels.tif")])
    assert [path.name for path in named] == ["a_labels.tif"]
    (tmp_path / "odd[1].tif").touch()
    assert len(batch.find_images([str(tmp_path / "odd[1].tif")]).images) == 1


@pytest.mark.parametrize(
    "result",
    [
        *("a_label.png", "a_labels2.tif", "a-mask.png", "a_cp_masks.tif", "a_seg.npy"),
        *("a_gt.tif", "a_overlay.png", "a_committed_objects.tif", "A_label.tif"),
    ],
)
def test_labels_and_results_are_no_images(tmp_path: Path, result: str) -> None:
    for name in ("A.tif", "a.tif", result):
        (tmp_path / name).touch()
    found, passed = batch.find_images([str(tmp_path)])
    assert result not in {path.name for path in found}
    assert [path.name for path in passed] == [result]
    # As a shell writes a pattern out.
    named, passed = batch.find_images(
        [str(tmp_path / n) for n in ("a.tif", "A.tif", result)]
    )
    assert len(named) == 2
    assert [path.name for path in passed] == [result]


def test_images_may_be_called_like_labels_of_nothing(tmp_path: Path) -> None:
    names = ["day_1_seg.tif", "field mask.png", "gt.tif"]
    for name in names:
        (tmp_path / name).touch()
    assert sorted(p.name for p in batch.find_images([str(tmp_path)]).images) == names


def test_files_that_are_skipped_are_named(run: Callable[..., Run]) -> None:
    iio.imwrite("images/a_label.tif", np.ones((128, 128), np.uint16))
    done = run("images", "-o", "out")
    assert "3 files segmented" in done.out
    assert "1 file skipped" in done.err
    assert "a_label.tif" in done.err


# ------------------------------------------------------- what was done, and of which image


def another_image(path: str) -> np.ndarray:
    pixels = np.random.default_rng(7).integers(0, 255, (96, 128)).astype(np.uint8)
    Path(path).parent.mkdir(exist_ok=True)
    iio.imwrite(path, pixels)
    return pixels


def test_an_image_of_the_same_name_is_another_one(
    run: Callable[..., Run], runtime: Scenes
) -> None:
    assert run("images/a.tif", "-o", "out").code == 0
    first = Path("out/a_labels.tif").read_bytes()
    another_image("other/a.tif")
    done = run("other/a.tif", "-o", "out")
    assert done.code == 0
    assert "1 file segmented" in done.out
    assert "of another image, ../images/a.tif" in done.err
    assert Path("out/a_labels.tif").read_bytes() == first
    assert tifffile.imread("out/a_2_labels.tif").shape == (96, 128)
    for image in ("images/a.tif", "other/a.tif"):
        assert "1 done before" in run(image, "-o", "out").out
    assert runtime.encoded == 2
    assert [n for n in written() if n.endswith("tif")] == [
        "a_2_labels.tif",
        "a_labels.tif",
    ]


def test_a_number_is_not_that_of_another_file_of_the_run(
    run: Callable[..., Run],
) -> None:
    assert run("images/a.tif", "-o", "out").code == 0
    another_image("other/a.tif")
    iio.imwrite("other/a_2.tif", np.zeros((64, 64), np.uint8))
    done = run("other", "-o", "out")
    assert "2 files segmented" in done.out
    shapes = {n: tifffile.imread(f"out/{n}").shape for n in written() if "labels" in n}
    assert shapes == {
        "a_labels.tif": (128, 128),
        "a_2_labels.tif": (64, 64),
        "a_3_labels.tif": (96, 128),
    }


def test_an_image_that_was_exported_again_is_done_again(
    run: Callable[..., Run],
) -> None:
    assert run("images/a.tif", "-o", "out").code == 0
    another_image("images/a.tif")
    done = run("images/a.tif", "-o", "out")
    assert "1 file segmented" in done.out
    assert tifffile.imread("out/a_labels.tif").shape == (96, 128)
    assert written() == ["a_labels.tif", "a_objects.csv"]


def test_an_image_that_was_moved_is_known(run: Callable[..., Run]) -> None:
    assert run("images/a.tif", "-o", "out").code == 0
    Path("moved").mkdir()
    os.rename("images/a.tif", "moved/a.tif")
    assert "1 done before" in run("moved/a.tif", "-o", "out").out


def test_what_is_missing_beside_labels_is_made_of_them(
    run: Callable[..., Run], runtime: Scenes
) -> None:
    stack = np.random.default_rng(1).integers(0, 99, (2, 128, 128)).astype(np.uint8)
    tifffile.imwrite("z.tif", stack, metadata={"axes": "ZYX"})
    assert run("z.tif", "-o", "out").code == 0
    labels, table = Path("out/z_labels.tif").read_bytes(), rows("out/z_objects.csv")
    later = run("z.tif", "-o", "out", "--overlay")
    assert "1 completed" in later.out
    assert iio.imread("out/z_overlay.png").shape == (1024, 1024, 3)
    Path("out/z_objects.csv").unlink()
    again = run("z.tif", "-o", "out")
    assert "1 completed" in again.out
    assert runtime.encoded == 2  # the first time only
    assert Path("out/z_labels.tif").read_bytes() == labels
    made = rows("out/z_objects.csv")
    unknown = ("score", "stability", "found_by")
    assert {row[name] for row in made for name in unknown} == {""}
    for one, two in zip(made, table, strict=True):
        assert {k: v for k, v in one.items() if k not in unknown} == {
            k: v for k, v in two.items() if k not in unknown
        }
    assert "1 done before" in run("z.tif", "-o", "out", "--overlay").out


def test_labels_of_an_earlier_version_are_made_again(run: Callable[..., Run]) -> None:
    assert run("images/a.tif", "-o", "out").code == 0
    labels = tifffile.imread("out/a_labels.tif")
    old = 'napari-tinysam auto {"version": "0.4", "model": "default"}'
    tifffile.imwrite("out/a_labels.tif", labels, description=old)
    assert "1 file segmented" in run("images/a.tif", "-o", "out").out
    assert written() == ["a_labels.tif", "a_objects.csv"]


def test_files_with_several_images(run: Callable[..., Run]) -> None:
    with tifffile.TiffWriter("two.tif") as tiff:
        tiff.write(np.zeros((128, 128), np.uint8))
        tiff.write(np.ones((64, 96), np.uint16))
    first = run("two.tif", "-o", "out")
    assert "two.tif holds 2 images; the first is used" in first.err
    second = run("two.tif", "-o", "out", "--series", "1")
    assert "holds 2 images" not in second.err
    assert tifffile.imread("out/two_labels.tif").shape == (64, 96)
    third = run("two.tif", "-o", "out", "--series", "2")
    assert third.code == 1
    assert "there is no series 2" in third.err


def test_results_of_images_of_one_stem_have_names_of_their_own(tmp_path: Path) -> None:
    names = ["x/a.tif", "x/a.png", "y/A.tif", "x/b.ome.tif", "z/c.tif"]
    jobs = batch.jobs_for([Path(name) for name in names], tmp_path)
    assert [job.stem for job in jobs] == ["a_tif_1", "a_png", "A_tif_2", "b", "c"]
    assert len({job.labels for job in jobs}) == 5


@pytest.mark.skipif(os.name == "nt", reason="Windows folders need no permission")
def test_the_image_itself_is_never_replaced(run: Callable[..., Run]) -> None:
    pixels = iio.imread("images/a.tif")
    os.rename("images/a.tif", "images/a_labels.tif")
    os.symlink("a_labels.tif", "images/a.tif")
    done = run("images/a.tif", "-o", "images")
    assert "left alone" in done.out or "would replace" in done.err
    np.testing.assert_array_equal(iio.imread("images/a_labels.tif"), pixels)


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no images"):
        batch.find_images([str(tmp_path)])
