"""Movies in files and in folders: which axis is time, and labels that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_tinysam.errors import FileError
from napari_tinysam.files.movie import find_axis, open_movie


def save(path: Path, pixels: np.ndarray, axes: str) -> Path:
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": axes})
    return path


@pytest.mark.parametrize(
    ("axes", "letter", "axis", "remarks"),
    [
        ("T", "t", 0, False),
        ("TZ", "z", 1, False),
        ("ZT", "t", 1, False),
        ("PZT", "z", 1, False),
        # What a file does not name is what the caller says.
        ("Q", "z", 0, False),
        ("Q", "t", 0, False),
        ("QQ", "t", 0, False),
        ("QQ", "z", 1, False),
        ("QZ", "t", 0, False),
        ("TQ", "z", 1, False),
        # A single axis is what the caller says, and that is said.
        ("Z", "t", 0, True),
        ("T", "z", 0, True),
        ("A", "z", 0, True),
    ],
)
def test_axes(axes: str, letter: str, axis: int, remarks: bool) -> None:
    found, notes = find_axis("it", axes, letter)  # type: ignore[arg-type]
    assert found == axis
    assert bool(notes) == remarks


@pytest.mark.parametrize(("axes", "letter"), [("", "z"), ("PT", "z"), ("PZ", "t")])
def test_axes_that_are_not_there(axes: str, letter: str) -> None:
    with pytest.raises(FileError, match="it has no axis of"):
        find_axis("it", axes, letter)  # type: ignore[arg-type]


@pytest.mark.parametrize("axes", ["TZYX", "ZTYX"])
def test_frames_of_a_file(tmp_path: Path, axes: str) -> None:
    pixels = np.arange(3 * 2 * 4 * 5, dtype=np.uint16).reshape(3, 2, 4, 5)
    given = pixels if axes == "TZYX" else pixels.swapaxes(0, 1)
    movie = open_movie(save(tmp_path / "a.tif", given, axes))
    assert movie.shape == (3, 2, 4, 5)
    for number, frame in enumerate(pixels):
        np.testing.assert_array_equal(movie.frame(number), frame)
        np.testing.assert_array_equal(movie.labels(number), frame)
    assert movie.some(1, 2).shape == (2, 2, 4, 5)
    np.testing.assert_array_equal(movie.some(1, 2).frame(0), pixels[1])
    for first, last in ((2, 1), (0, 3), (-1, 1)):
        with pytest.raises(FileError, match="no range of them"):
            movie.some(first, last)


def test_frames_of_a_folder(tmp_path: Path) -> None:
    """Volumes; every eighth frame is a movie, too."""
    pixels = np.arange(3 * 2 * 4 * 5, dtype=np.uint8).reshape(3, 2, 4, 5)
    paths = [
        save(tmp_path / f"x_{8 * number:03d}_c1.tif", frame, "ZYX")
        for number, frame in enumerate(pixels)
    ]
    movie = open_movie(tmp_path, paths)
    assert movie.deep
    assert movie.shape == (3, 2, 4, 5)
    np.testing.assert_array_equal(movie.frame(2), pixels[2])
    with pytest.raises(FileError, match="a frame is missing between x_000_c1"):
        open_movie(tmp_path, [paths[0], paths[2], *_more(tmp_path, 24)])
    other = save(tmp_path / "y.tif", pixels[0, :1], "ZYX")
    with pytest.raises(FileError, match="Frames of one size"):
        open_movie(tmp_path, [paths[0], other])
    many = save(tmp_path / "z.tif", pixels, "TZYX")
    with pytest.raises(FileError, match="depth, Y and X at most"):
        open_movie(tmp_path, [many, many])


def _more(folder: Path, number: int) -> list[Path]:
    return [
        save(folder / f"x_{number:03d}_c1.tif", np.zeros((2, 4, 5), np.uint8), "ZYX")
    ]


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((2, 4, 5), 0.5, np.float32),
        np.full((2, 4, 5), np.nan, np.float32),
        np.full((2, 4, 5), -1, np.int16),
    ],
)
def test_what_is_no_label(tmp_path: Path, pixels: np.ndarray) -> None:
    movie = open_movie(save(tmp_path / "a.tif", pixels, "TYX"))
    with pytest.raises(FileError, match="frame 1, holds no labels"):
        movie.labels(1)


def test_labels_as_imagej_writes_them(tmp_path: Path) -> None:
    pixels = np.full((2, 4, 5), 3, np.float32)
    movie = open_movie(save(tmp_path / "a.tif", pixels, "TYX"))
    assert movie.labels(0).dtype == np.int64
    assert movie.labels(0).max() == 3


def test_colours_are_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.zeros((2, 4, 5, 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", metadata={"axes": "TYXS"})
    movie = open_movie(path)
    assert movie.frame(0).shape == (4, 5, 3)
    with pytest.raises(FileError, match="it has channels"):
        movie.labels(0)
