"""Files of microscopes' makers: through bioio, or a sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats import vendors
from napari_tinysam.files.planes import open_planes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.czi"
    path.write_bytes(b"ZISRAWFILE" + bytes(100))
    return path


def test_without_bioio_a_sentence_says_what_to_install(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bioio", None)
    with pytest.raises(
        FileError, match="is CZI: to read it, pip install bioio bioio-czi"
    ):
        open_planes(file)


def test_a_damaged_file_is_not_said_to_need_a_reader(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class UnsupportedFileFormatError(Exception):
        """As bioio raises it for both."""

    def damaged(path: Path) -> None:
        raise UnsupportedFileFormatError

    module = ModuleType("bioio")
    module.BioImage = damaged  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bioio", module)
    monkeypatch.setattr(vendors, "find_spec", lambda name: True)
    with pytest.raises(FileError, match="is damaged or incomplete"):
        open_planes(file)
    monkeypatch.setattr(vendors, "find_spec", lambda name: name == "bioio")
    with pytest.raises(FileError, match="pip install bioio bioio-czi"):
        open_planes(file)


def test_scenes_and_planes_are_those_of_bioio(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    da = pytest.importorskip("dask.array")
    pixels = np.random.default_rng(0).integers(0, 99, (2, 1, 2, 3, 6, 5))

    class BioImage:
        scenes = ("one", "two")
        dims = SimpleNamespace(order="TCZYX")

        def __init__(self, path: Path) -> None:
            assert path == file

        def set_scene(self, number: int) -> None:
            self.scene = number

        @property
        def dask_data(self) -> Any:
            return da.from_array(pixels[self.scene])

    module = ModuleType("bioio")
    module.BioImage = BioImage  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bioio", module)
    planes = open_planes(file, [1], series=1)
    assert (planes.axes, planes.counts) == ("Z", (3,))
    np.testing.assert_array_equal(planes.read((2,)).pixels, pixels[1, 0, 1, 2])
    with pytest.raises(FileError, match="there is no series 2"):
        open_planes(file, series=2)
