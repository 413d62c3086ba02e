"""OME-Zarr: images and plates of 0.4 and 0.5 are read, labels are written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats import open_stack
from napari_tinysam.files.formats.ome_zarr import field_name, fields_of_plate
from napari_tinysam.files.ome_zarr import (
    read_label_pyramid,
    read_note,
    write_label_pyramid,
)
from napari_tinysam.files.planes import open_planes, read_plane


def write_group(path: Path, described: dict[str, Any], version: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps(described))
        return
    attributes = {"ome": {"version": version, **described}} if described else {}
    known = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (path / "zarr.json").write_text(json.dumps(known))


def write_image(
    path: Path, pixels: np.ndarray, axes: str = "yx", version: str = "0.5"
) -> np.ndarray:
    how = [{"type": "scale", "scale": [0.5] * len(axes)}]
    scales = {
        "axes": [{"name": axis} for axis in axes],
        "datasets": [{"path": "0", "coordinateTransformations": how}],
        "version": version,
    }
    write_group(path, {"multiscales": [scales]}, version)
    array = zarr.create_array(
        str(path / "0"),
        shape=pixels.shape,
        chunks=(1,) * (pixels.ndim - 2) + (32, 32),
        dtype=pixels.dtype,
        zarr_format=2 if version == "0.4" else 3,
        overwrite=True,
    )
    array[...] = pixels
    return pixels


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 999, (2, 3, 40, 50)).astype(np.uint16)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_are_read_plane_by_plane(
    tmp_path: Path, pixels: np.ndarray, version: str
) -> None:
    path = tmp_path / "i.ome.zarr"
    write_image(path, pixels, "tcyx", version)
    planes = open_planes(path, [2])
    assert (planes.axes, planes.counts) == ("T", (2,))
    np.testing.assert_array_equal(planes.read((1,)).pixels, pixels[1, 2])


def test_a_folder_of_several_images(tmp_path: Path, pixels: np.ndarray) -> None:
    write_group(tmp_path / "b", {"bioformats2raw.layout": 3}, "0.5")
    for number in (0, 1):
        write_image(tmp_path / "b" / str(number), pixels[number, 0])
    plane = read_plane(tmp_path / "b", series=1)
    np.testing.assert_array_equal(plane.pixels, pixels[1, 0])
    with pytest.raises(FileError, match="there is no series 2"):
        open_stack(tmp_path / "b", 2)


def test_what_is_no_image_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    write_group(tmp_path / "group", {}, "0.5")
    with pytest.raises(FileError, match="does not describe an image"):
        open_stack(tmp_path / "group")
    write_image(tmp_path / "half", pixels[0, 0])
    os.rename(tmp_path / "half" / "0", tmp_path / "half" / "elsewhere")
    with pytest.raises(FileError, match="its level 0 is missing"):
        open_stack(tmp_path / "half")
    (tmp_path / "group" / "zarr.json").write_text("{")
    with pytest.raises(FileError, match="does not describe an image"):
        open_stack(tmp_path / "group")


def test_a_damaged_chunk_is_said(tmp_path: Path, pixels: np.ndarray) -> None:
    write_image(tmp_path / "i.zarr", pixels[0, 0])
    chunk = next(p for p in (tmp_path / "i.zarr" / "0" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(b"noise")
    with pytest.raises(FileError, match="damaged or incomplete"):
        read_plane(tmp_path / "i.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_fields_of_a_plate(
    tmp_path: Path, pixels: np.ndarray, version: str
) -> None:
    plate = tmp_path / "P1.ome.zarr"
    wells = [{"path": "A/1"}, {"path": "B/12"}, {"path": "C/1"}]
    write_group(plate, {"plate": {"wells": wells}}, version)
    for well in ("A/1", "B/12"):
        described = {"well": {"images": [{"path": "0"}, {"path": "1"}]}}
        write_group(plate / well, described, version)
        write_image(plate / well / "0", pixels[0, 0], version=version)
    write_image(plate / "A/1/1", pixels[1, 0], version=version)
    fields = fields_of_plate(plate)
    assert [field_name(path) for path in fields] == ["P1_A01_0", "P1_A01_1", "P1_B12_0"]
    np.testing.assert_array_equal(read_plane(fields[1]).pixels, pixels[1, 0])
    assert field_name(plate) is None


@pytest.mark.parametrize("size", [(40, 50), (1500, 5000)])
def test_labels_are_a_pyramid(tmp_path: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 70_000, size).astype(np.uint32) for _ in range(2)]
    path = tmp_path / "x_labels.ome.zarr"
    write_label_pyramid(path, planes, (2,), "Z", "from here")
    group = zarr.open_group(str(path), mode="r")
    described: Any = group.attrs["ome"]
    assert described["version"] == "0.5"
    assert "image-label" in described
    (scales,) = described["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["z", "y", "x"]
    assert len(scales["datasets"]) == (4 if size[1] == 5000 else 1)
    for level, dataset in enumerate(scales["datasets"]):
        (how,) = dataset["coordinateTransformations"]
        assert how["scale"] == [1, 2**level, 2**level]
        array = zarr.open_array(str(path / dataset["path"]), mode="r")
        assert array.dtype == np.uint32
        assert array.chunks == (1, 1024, 1024)
        step = 2**level
        np.testing.assert_array_equal(array[1], planes[1][::step, ::step])
        assert (array.shards is not None) == (max(array.shape[1:]) > 1024)
    np.testing.assert_array_equal(read_label_pyramid(path), planes)
    assert open_stack(path).axes == "ZYX"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_inside_an_image(
    tmp_path: Path, pixels: np.ndarray, version: str
) -> None:
    path = tmp_path / "i.ome.zarr"
    write_image(path, pixels, "tcyx", version)
    labels = [np.ones((40, 50), np.uint16), np.full((40, 50), 7, np.uint16)]
    for _ in range(2):  # the second replaces the first
        write_label_pyramid(
            path / "labels" / "mine", labels, (2,), "T", "note", image=path
        )
    group = zarr.open_group(str(path / "labels"), mode="r")
    attributes: Any = group.attrs.asdict()
    described = attributes if version == "0.4" else attributes["ome"]
    assert described["labels"] == ["mine"]
    stack = open_stack(path / "labels" / "mine")
    assert stack.axes == "TYX"
    np.testing.assert_array_equal(stack.read((1, None, None)), labels[1])
    inner: Any = zarr.open_group(str(path / "labels" / "mine"), mode="r").attrs.asdict()
    inner = inner if version == "0.4" else inner["ome"]
    assert inner["image-label"]["source"] == {"image": "../../"}
    how = inner["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert how == [{"type": "scale", "scale": [0.5, 0.5, 0.5]}]
    np.testing.assert_array_equal(read_plane(path).pixels, pixels[0, 0])


def test_labels_inside_have_the_levels_of_the_image(tmp_path: Path) -> None:
    """As the specification demands, also where depth is halved and lengths are odd."""
    path = tmp_path / "i.ome.zarr"
    shapes = [(2, 4, 101, 90), (2, 2, 51, 45), (2, 1, 25, 23)]
    datasets = []
    for level in range(3):
        scale = {"type": "scale", "scale": [1.0, 2.0 * 2**level, 0.5 * 2**level, 0.25]}
        shift = {"type": "translation", "translation": [0.0, 0.5 * level, 0.1, 0.2]}
        how = [scale, shift]
        datasets.append({"path": f"s{level}", "coordinateTransformations": how})
    axes = [{"name": axis} for axis in "czyx"]
    write_group(path, {"multiscales": [{"axes": axes, "datasets": datasets}]}, "0.5")
    for level, shape in enumerate(shapes):
        zarr.create_array(str(path / f"s{level}"), shape=shape, dtype="uint16")
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 9, (101, 90)).astype(np.uint16) for _ in range(4)]
    labels = path / "labels" / "mine"
    write_label_pyramid(labels, planes, (4,), "Z", "note", image=path)
    described: Any = zarr.open_group(str(labels), mode="r").attrs["ome"]
    (scales,) = described["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["z", "y", "x"]
    assert len(scales["datasets"]) == 3
    for level, dataset in enumerate(scales["datasets"]):
        array = zarr.open_array(str(labels / dataset["path"]), mode="r")
        assert array.shape == shapes[level][1:]
        assert dataset["coordinateTransformations"] == [
            {"type": "scale", "scale": [2.0 * 2**level, 0.5 * 2**level, 0.25]},
            {"type": "translation", "translation": [0.5 * level, 0.1, 0.2]},
        ]
        step = 2**level
        depth, height, width = array.shape
        expected = np.stack(planes)[::step, ::step, ::step]
        np.testing.assert_array_equal(array, expected[:depth, :height, :width])


def test_axes_that_do_not_fit(tmp_path: Path) -> None:
    labels = [np.ones((4, 5), np.uint16)]
    with pytest.raises(FileError, match="use --labels tiff"):
        write_label_pyramid(tmp_path / "l.zarr", labels, (1, 1), "ZT", "")
    assert not list(tmp_path.iterdir())


def test_the_note_is_that_of_unchanged_labels(tmp_path: Path) -> None:
    path = tmp_path / "l.ome.zarr"
    write_label_pyramid(path, [np.ones((4, 5), np.uint16)], (), "", "from here")
    assert read_note(path) == "from here"
    chunk = next(p for p in (path / "0" / "c").rglob("*") if p.is_file())
    later = path.stat().st_mtime + 60
    os.utime(chunk, (later, later))
    assert read_note(path) == ""
    assert read_note(tmp_path) == ""
