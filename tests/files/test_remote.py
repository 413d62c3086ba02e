"""OME-Zarr images on servers: read in parts, and what happens when the server goes away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from batch.slides import write_zarr
from files.server import Server, serving
from files.test_ome_zarr import write_group, write_image
from napari_tinysam.errors import FileError
from napari_tinysam.files.formats import open_stack
from napari_tinysam.files.formats.ome_zarr import field_name, fields_of_plate
from napari_tinysam.files.planes import open_planes
from napari_tinysam.files.remote import RemotePath, is_address


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 999, (600, 500)).astype(np.uint16)


@pytest.fixture
def server(tmp_path: Path, pixels: np.ndarray) -> Iterator[Server]:
    write_zarr(tmp_path / "i.ome.zarr", pixels)
    with serving(tmp_path) as server:
        yield server


def test_addresses_are_used_like_paths() -> None:
    path = RemotePath.of("HTTPS://server:80/a b/i.ome.zarr/")
    assert str(path) == "https://server:80/a b/i.ome.zarr"
    assert path.name == "i.ome.zarr"
    assert str(path / "0" / "zarr.json") == f"{path}/0/zarr.json"
    assert str(path.parent) == "https://server:80/a b"
    assert [is_address(name) for name in ("s3://b/i", "C://i", "a.tif", "x:/y")] == [
        True, False, False, False
    ]  # fmt: skip


def test_only_the_part_is_read_that_is_asked_for(
    server: Server, pixels: np.ndarray
) -> None:
    planes = open_planes(RemotePath.of(f"{server.address}/i.ome.zarr"))
    plane = planes.open(())
    assert plane.size == (600, 500)
    assert not any("/c/" in path for path in server.asked)
    part = plane.pixels[130:250, 10:120]
    np.testing.assert_array_equal(part, pixels[130:250, 10:120])
    assert {path for path in server.asked if "/c/" in path} == {"/i.ome.zarr/0/c/1/0"}


@pytest.mark.parametrize("then", ["404", "500", "hang up"])
def test_a_server_that_goes_away_is_no_empty_image(server: Server, then: str) -> None:
    stack = open_stack(RemotePath.of(f"{server.address}/i.ome.zarr"))
    server.vanishes_after, server.then = len(server.asked) + 2, then
    with pytest.raises(FileError, match=r"http://127.*(vanished|cannot be read)"):
        stack.read((slice(0, 600), slice(0, 500)))


def test_what_cannot_be_reached_is_said(server: Server) -> None:
    for address in (f"{server.address}/nothing.zarr", "http://127.0.0.1:9/i.zarr"):
        with pytest.raises(FileError, match="cannot be reached, or is not an OME-Zarr"):
            open_stack(RemotePath.of(address))
    with pytest.raises(FileError, match="begin with nowhere:// are not known"):
        open_stack(RemotePath.of("nowhere://i.zarr"))


def test_object_stores_are_read_through_fsspec(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    write_zarr(tmp_path / "i.zarr", pixels)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "i.zarr"), "/bucket/i.zarr", recursive=True)
    try:
        stack = open_stack(RemotePath.of("memory://bucket/i.zarr"))
        part = stack.read((slice(100, 300), slice(0, 50)))
        np.testing.assert_array_equal(part, pixels[100:300, :50])
        memory.rm("/bucket/i.zarr", recursive=True)
        with pytest.raises(FileError, match=r"memory://bucket/i\.zarr vanished"):
            stack.read((None, None))
    finally:
        memory.store.clear()


def test_a_folder_that_vanishes_is_no_empty_image(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    write_zarr(tmp_path / "i.zarr", pixels)
    stack = open_stack(tmp_path / "i.zarr")
    (tmp_path / "i.zarr").rename(tmp_path / "elsewhere")
    with pytest.raises(FileError, match="vanished while it was read"):
        stack.read((None, None))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plates_on_servers(tmp_path: Path, pixels: np.ndarray, version: str) -> None:
    plate = tmp_path / "P.ome.zarr"
    write_group(plate, {"plate": {"wells": [{"path": "A/1"}]}}, version)
    write_group(plate / "A/1", {"well": {"images": [{"path": "0"}]}}, version)
    write_image(plate / "A/1/0", pixels, version=version)
    with serving(tmp_path) as server:
        (place,) = fields_of_plate(RemotePath.of(f"{server.address}/P.ome.zarr"))
        assert field_name(place) == "P_A01_0"
        assert open_stack(place).shape == (600, 500)
