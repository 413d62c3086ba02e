"""What people reported of files goes well. (What they reported of the window: `tests/ui`.)

=============================  ============================================================
next image hidden              `ui/test_images_and_labels.py`
prompt layers wiped            `ui/test_nothing_lost.py`
committed objects reopened     `ui/test_images_and_labels.py`
commit, then the next frame    `ui/test_nothing_lost.py`
keys on a prompt layer         `ui/test_nothing_lost.py`
channels on an inner axis      `ui/test_images_and_labels.py`
labels in zarr and dask        `ui/test_session.py`, `ui/test_images_and_labels.py`
=============================  ============================================================
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from cases import reported
from command import run_command
from napari_tinysam.files.planes import read_plane


@pytest.mark.parametrize(
    "case",
    [
        reported.planar_lzw,
        reported.deep_png,
        reported.deep_lzw,
        reported.channels_last_lzw,
    ],
    ids=lambda case: case.__name__,
)
def test_files_are_read_as_what_they_hold(case: Any, tmp_path: Path) -> None:
    path, pixels = case(tmp_path)
    found = read_plane(path)
    assert found.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(found.pixels, pixels)
    if pixels.shape[-1] == 2:
        assert "has 2 channels; channel 0 is used" in found.notes[0]
        assert read_plane(path, channel=(1,)).channel == 1


@pytest.fixture
def auto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_command(capsys, "auto", *arguments)


def test_images_of_one_name_in_two_folders_and_exported_again(
    auto: Callable[..., Any],
) -> None:
    for folder, seed in (("wellA", 3), ("wellB", 9)):
        Path(folder).mkdir()
        shape = (128, 160) if folder == "wellA" else (150, 120)
        tifffile.imwrite(f"{folder}/field1.tif", reported.cells(*shape, seed)[0])
    assert auto("wellA", "-o", "results").code == 0
    assert auto("wellB", "-o", "results").code == 0
    assert tifffile.imread("results/field1_labels.tif").shape == (128, 160)
    assert tifffile.imread("results/field1_2_labels.tif").shape == (150, 120)
    tifffile.imwrite("wellA/field1.tif", reported.cells(140, 130, 5)[0])
    assert "1 file segmented" in auto("wellA", "-o", "results").out
    assert tifffile.imread("results/field1_labels.tif").shape == (140, 130)


def test_an_overlay_that_is_wanted_later_and_a_table_that_was_deleted(
    auto: Callable[..., Any],
) -> None:
    tifffile.imwrite("field1.tif", reported.cells(128, 160)[0])
    assert auto("field1.tif", "-o", "r").code == 0
    labels = Path("r/field1_labels.tif").read_bytes()
    Path("r/field1_objects.csv").unlink()
    done = auto("field1.tif", "-o", "r", "--overlay")
    assert done.code == 0
    assert "1 completed." in done.out
    assert Path("r/field1_overlay.png").is_file()
    assert Path("r/field1_objects.csv").is_file()
    assert Path("r/field1_labels.tif").read_bytes() == labels


def test_results_are_not_taken_for_images(auto: Callable[..., Any]) -> None:
    image, labels = reported.cells(128, 160)
    Path("images").mkdir()
    tifffile.imwrite("images/img1.tif", image)
    tifffile.imwrite("images/img1_label.tif", labels)
    Picture.fromarray(labels).save("images/img1_cp_masks.png")
    np.save("images/img1_seg.npy", labels, allow_pickle=False)
    done = auto("images", "-o", "out")
    assert done.code == 0
    assert "1 file segmented" in done.out
    assert [path.name for path in Path("out").glob("*_labels.tif")] == [
        "img1_labels.tif"
    ]
