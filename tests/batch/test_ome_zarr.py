"""Batches of OME-Zarr: plates go in, labels come out beside the images or inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from batch.conftest import image
from batch.discs import load_discs
from files.test_ome_zarr import write_group, write_image
from napari_tinysam.batch import work
from napari_tinysam.batch.jobs import find_images, jobs_for
from napari_tinysam.batch.run import segment_files
from napari_tinysam.batch.runners.here import Here
from napari_tinysam.batch.settings import BatchSettings, FileOutcome
from napari_tinysam.batch.work import Worker
from napari_tinysam.errors import FileError
from napari_tinysam.files.formats import open_stack
from napari_tinysam.files.ome_zarr import read_label_pyramid


def run(
    tmp_path: Path, *names: str, settings: BatchSettings | None = None
) -> list[FileOutcome]:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    images = find_images([str(tmp_path / name) for name in names]).images
    worker = Worker(load_discs(tmp_path), settings or BatchSettings())
    return list(segment_files(jobs_for(images, out), Here(worker)))


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    path = tmp_path / "P.zarr"
    write_group(path, {"plate": {"wells": [{"path": "A/1"}]}}, "0.5")
    write_group(path / "A/1", {"well": {"images": [{"path": "0"}]}}, "0.5")
    write_image(path / "A/1/0", image(10))
    return path


def test_the_fields_of_plates_are_images(plate: Path, tmp_path: Path) -> None:
    for names in (("P.zarr",), ("*.zarr",), ("**/*",)):
        outcomes = run(tmp_path, *names)
        assert [outcome.job.stem for outcome in outcomes] == ["P_A01_0"]
    assert outcomes[0].state == "there"
    labels = tifffile.imread(tmp_path / "out" / "P_A01_0_labels.tif")
    assert labels.max() == 3


def test_an_image_that_changed_is_done_again(plate: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "P.zarr")[0].state == "written"
    write_image(plate / "A/1/0", image(20))
    assert run(tmp_path, "P.zarr")[0].state == "written"


def test_labels_of_large_planes_are_ome_zarr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_LARGE", 64 * 64)
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "large.tif", np.pad(image(10), (0, 1), mode="edge"))
    tifffile.imwrite(images / "small.tif", image(20))
    assert [one.state for one in run(tmp_path, "images")] == ["written"] * 2
    names = sorted(path.name for path in (tmp_path / "out").glob("*labels*"))
    assert names == ["large_labels.ome.zarr", "small_labels.tif"]
    stack = open_stack(tmp_path / "out" / "large_labels.ome.zarr")
    assert (stack.axes, stack.shape) == ("YX", (65, 65))
    (tmp_path / "out" / "large_objects.csv").unlink()
    assert [one.state for one in run(tmp_path, "images")] == ["completed", "there"]
    with pytest.raises(FileError, match="no images"):  # results are none
        find_images([str(tmp_path / "out")])


def test_labels_inside_the_image(plate: Path, tmp_path: Path) -> None:
    inside = BatchSettings(labels_form="inside")
    (outcome,) = run(tmp_path, "P.zarr", settings=inside)
    assert outcome.state == "written"
    labels = plate / "A/1/0/labels/tinysam"
    assert outcome.job.labels == labels
    assert read_label_pyramid(labels).max() == 3
    assert run(tmp_path, "P.zarr", settings=inside)[0].state == "there"
    # A run that was killed before the image listed them.
    (plate / "A/1/0/labels/zarr.json").unlink()
    assert run(tmp_path, "P.zarr", settings=inside)[0].state == "completed"
    assert run(tmp_path, "P.zarr", settings=inside)[0].state == "there"


def test_labels_inside_a_file_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image(10))
    inside = BatchSettings(labels_form="inside")
    (outcome,) = run(tmp_path, "a.tif", settings=inside)
    assert outcome.state == "failed"
    assert "a.tif is no OME-Zarr image" in outcome.reason
