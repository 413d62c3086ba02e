"""Damaged images, stores that vanish, storage that is full: one sentence, and the rest goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch.slides import load_bright, slide, write_tiff, write_zarr
from command import run_command
from files.server import serving
from napari_tinysam.batch.jobs import find_images, jobs_for
from napari_tinysam.batch.run import segment_files
from napari_tinysam.batch.runners.here import Here
from napari_tinysam.batch.settings import BatchSettings, FileOutcome
from napari_tinysam.batch.work import Worker
from napari_tinysam.files import atomic
from napari_tinysam.inference import load


def run(
    names: list[str],
    out: Path,
    on_step: Callable[..., None] = lambda *_: None,
    **how: Any,
) -> list[FileOutcome]:
    out.mkdir(exist_ok=True)
    worker = Worker(load_bright(out.parent), BatchSettings(tiles=256, **how))
    jobs = jobs_for(find_images(names).images, out)
    return list(segment_files(jobs, Here(worker), on_step=on_step))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two slides as OME-Zarr."""
    folder = tmp_path / "images"
    folder.mkdir()
    write_zarr(folder / "a.ome.zarr", slide())
    write_zarr(folder / "b.ome.zarr", slide(1))
    return folder


def results(out: Path) -> list[str]:
    """What is not hidden: temporary names and parts that wait are."""
    return sorted(path.name for path in out.iterdir() if path.name[0] != ".")


RESULTS = ["b_labels.tif", "b_objects.csv"]


def test_a_damaged_chunk(images: Path, tmp_path: Path) -> None:
    chunk = images / "a.ome.zarr/0/c/2/3"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    failed, done = run([str(images)], tmp_path / "out")
    assert (failed.state, done.state) == ("failed", "written")
    assert f"{images / 'a.ome.zarr'} cannot be read: it is damaged" in failed.reason
    assert results(tmp_path / "out") == RESULTS
    chunk.write_bytes(whole)
    again = run([str(images)], tmp_path / "out")
    assert [one.state for one in again] == ["written", "there"]


def test_a_store_that_vanishes_in_the_middle(images: Path, tmp_path: Path) -> None:
    path = images / "a.ome.zarr"

    def vanish(*_: Any) -> None:
        if path.exists():
            path.rename(tmp_path / "elsewhere")

    failed, done = run([str(images)], tmp_path / "out", vanish)
    assert (failed.state, done.state) == ("failed", "written")
    assert str(path) in failed.reason
    assert results(tmp_path / "out") == RESULTS
    (tmp_path / "elsewhere").rename(path)
    assert run([str(images)], tmp_path / "out")[0].state == "written"


def test_a_server_that_vanishes_in_the_middle(images: Path, tmp_path: Path) -> None:
    with serving(images) as server:
        names = [f"{server.address}/a.ome.zarr", str(images / "b.ome.zarr")]

        def vanish(*_: Any) -> None:
            server.vanishes_after = 0

        failed, done = run(names, tmp_path / "out", vanish)
        assert (failed.state, done.state) == ("failed", "written")
        assert names[0] in failed.reason
        assert results(tmp_path / "out") == RESULTS
        server.vanishes_after = -1
        again = run(names, tmp_path / "out")
        assert [one.state for one in again] == ["written", "there"]
        # Tile by tile: no chunk is asked for much more often than tiles show it.
        here = run([str(images / "a.ome.zarr")], tmp_path / "here")
        assert here[0].objects == again[0].objects


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Refuse to write beyond so many bytes, as a full disk does."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
@pytest.mark.parametrize(
    ("form", "most"), [("tiff", 60), ("tiff", 600), ("ome-zarr", 1500)]
)
def test_storage_that_is_full(
    images: Path, tmp_path: Path, form: str, most: int
) -> None:
    with largest_file(most):  # for the description of tiles, for a tile, for labels
        full = run([str(images)], tmp_path / "out", labels_form=form)
    assert [one.state for one in full] == ["failed"] * 2
    assert all("cannot be written" in one.reason for one in full), full[0].reason
    assert not [name for name in results(tmp_path / "out") if "label" in name]
    again = run([str(images)], tmp_path / "out", labels_form=form)
    assert [one.state for one in again] == ["written"] * 2
    peace = run([str(images)], tmp_path / "peace", labels_form=form)
    assert [one.objects for one in again] == [one.objects for one in peace]
    assert results(tmp_path / "out") == results(tmp_path / "peace")


def test_a_folder_that_is_no_folder(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "load_model", lambda *_, **__: load_bright(tmp_path))
    (tmp_path / "file").write_text("mine")
    done = run_command(capsys, "auto", str(images), "-o", str(tmp_path / "file"))
    assert done.code == 1
    assert "file cannot be made" in done.err
    assert "Traceback" not in done.err


def test_images_on_servers_on_the_command_line(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "load_model", lambda *_, **__: load_bright(tmp_path))
    with serving(images) as server:
        address, out = f"{server.address}/a.ome.zarr", str(tmp_path / "out")
        for word in ("1 file segmented", "1 done before"):
            done = run_command(capsys, "auto", address, "-o", out, "--tiles", "256")
            assert done.code == 0, done.err
            assert word in done.out
        assert results(tmp_path / "out") == ["a_labels.tif", "a_objects.csv"]
        nothing = f"{server.address}/nothing.zarr"
        done = run_command(capsys, "auto", nothing, "-o", out)
        assert done.code == 1
        assert f"{nothing} cannot be reached, or is not an OME-Zarr image" in done.err
        done = run_command(capsys, "auto", address, "-o", out, "--labels", "inside")
        assert "labels cannot be written inside" in done.err


def test_a_missing_chunk_is_empty(images: Path, tmp_path: Path) -> None:
    """As Zarr says: chunks that hold nothing are not written. It may be lost, so it is said."""
    (images / "a.ome.zarr/0/c/0/0").unlink()
    done, whole = run([str(images)], tmp_path / "out")
    assert done.state == whole.state == "written"
    said = "1 of 20 chunks of a.ome.zarr is not stored and is taken as empty."
    assert done.notes[-1] == said
    assert not any("chunks" in note for note in whole.notes)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Refuse to write into a folder, as a file system that is read-only does."""
    mkdir = os.mkdir

    def refuse(path: Any, what: Callable[..., Any], *more: Any, **how: Any) -> Any:
        if Path(path).is_relative_to(folder):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return what(path, *more, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "mkdir", lambda path, *more: refuse(path, mkdir, *more))
        patch.setattr(
            atomic,
            "open",
            lambda path, *more, **how: refuse(path, open, *more, **how),
            raising=False,
        )
        yield


@pytest.mark.parametrize("form", ["tiff", "ome-zarr"])
def test_storage_that_is_read_only(images: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with read_only(out):
        refused = run([str(images)], out, labels_form=form)
    assert [one.state for one in refused] == ["failed"] * 2
    for one in refused:
        assert str(out) in one.reason
        assert "cannot be written: Read-only file system." in one.reason
    assert not list(out.iterdir())


def test_an_image_that_is_read_only_and_should_hold_its_labels(
    images: Path, tmp_path: Path
) -> None:
    with read_only(images / "a.ome.zarr"):
        refused, done = run([str(images)], tmp_path / "out", labels_form="inside")
    assert (refused.state, done.state) == ("failed", "written")
    assert str(images / "a.ome.zarr") in refused.reason
    assert "cannot be written: Read-only file system." in refused.reason
    assert not (images / "a.ome.zarr" / "labels").exists()


def test_a_file_that_cannot_be_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "c.tif"
    write_tiff(path, np.stack([slide()] * 2))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    (failed,) = run([str(path)], tmp_path / "out")
    assert failed.state == "failed"
    assert "c.tif cannot be read: it is damaged or incomplete" in failed.reason
