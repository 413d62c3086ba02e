"""Files are read as the numbers that they hold, or refused with the reason."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats import open_stack
from napari_tinysam.files.planes import read_plane
from napari_tinysam.files.quiet import MAX_PIXELS, read_quietly
from tinysam_training.data.sources.label_files import read_label_plane

DTYPES = ("uint8", "uint16", "uint32", "int16", "float32", "float64")


def noise(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Smooth enough to compress, with all bytes of each number in use."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**15, shape).cumsum(axis=-1)
    return (values % 60_000).astype(dtype)


def whole(path: Path) -> np.ndarray:
    stack = open_stack(path)
    return stack.read((None,) * len(stack.shape))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "compression", [None, "lzw", "zlib", "zstd", "packbits", "lzma"]
)
@pytest.mark.parametrize("kind", ["gray", "rgb", "planar rgb", "stack", "channels"])
def test_tiff_files_are_read_as_they_are(
    tmp_path: Path, kind: str, compression: str | None, dtype: str, byteorder: str
) -> None:
    """Compressions × colours × planar or interleaved × types × byte orders."""
    how: dict[str, Any] = {"photometric": "rgb" if "rgb" in kind else "minisblack"}
    shape = {"gray": (37, 50), "rgb": (37, 50, 3), "planar rgb": (3, 37, 50)}.get(
        kind, (4, 37, 50)
    )
    if kind == "planar rgb":
        how["planarconfig"] = "separate"
    if kind == "channels":
        how["metadata"] = {"axes": "CYX"}
    if kind == "gray" and compression in ("lzw", "zlib", "zstd"):
        floating = np.dtype(dtype).kind == "f"
        how["predictor"] = 3 if floating else 2
    if kind == "rgb":
        how |= {"tile": (16, 32)}
    expected = noise(shape, dtype)
    path = tmp_path / "image.tif"
    tifffile.imwrite(
        path, expected, compression=compression, byteorder=byteorder, **how
    )
    found = whole(path)
    assert found.dtype.newbyteorder("=") == expected.dtype
    np.testing.assert_array_equal(found, expected)
    plane = read_plane(path).pixels
    first = {"stack": expected[0], "channels": expected[0]}.get(kind, expected)
    if kind == "planar rgb":
        first = np.moveaxis(expected, 0, -1)
    np.testing.assert_array_equal(plane, first)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 2), (20, 30, 3), (20, 30, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_files_are_read_as_they_are(
    tmp_path: Path, shape: tuple[int, ...], dtype: str
) -> None:
    expected = noise(shape, dtype)
    path = tmp_path / "image.png"
    path.write_bytes(imagecodecs.png_encode(expected))
    found = whole(path)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_jpeg_2000_files_are_read_as_they_are(
    tmp_path: Path, shape: tuple[int, ...], dtype: str
) -> None:
    expected = noise(shape, dtype)
    path = tmp_path / "image.jp2"
    path.write_bytes(imagecodecs.jpeg2k_encode(expected, reversible=True))
    np.testing.assert_array_equal(whole(path), expected)


def test_two_interleaved_channels_in_lzw(tmp_path: Path) -> None:
    """These were called damaged."""
    expected = noise((30, 40, 2), "uint16")
    path = tmp_path / "two.tif"
    tifffile.imwrite(
        path,
        expected,
        compression="lzw",
        planarconfig="contig",
        photometric="minisblack",
        metadata={"axes": "YXC"},
    )
    np.testing.assert_array_equal(whole(path), expected)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("kind", ["separated", "cielab", "icclab"])
def test_colours_that_are_no_colours_of_ours_are_refused(
    tmp_path: Path, kind: str
) -> None:
    channels = 4 if kind == "separated" else 3
    path = tmp_path / "image.tif"
    values = noise((30, 40, channels), "uint8")
    tifffile.imwrite(path, values, photometric=kind, planarconfig="contig")
    with pytest.raises(FileError, match=kind.upper()):
        open_stack(path)


def test_pictures_that_would_be_cut_are_refused(tmp_path: Path) -> None:
    deep = tmp_path / "deep.ppm"
    values = noise((8, 9, 3), "uint16")
    deep.write_bytes(b"P6\n# by hand\n9 8\n65535\n" + values.astype(">u2").tobytes())
    with pytest.raises(FileError, match="save it as TIFF or PNG"):
        open_stack(deep)
    plain = tmp_path / "plain.ppm"
    iio.imwrite(plain, values.astype(np.uint8))
    np.testing.assert_array_equal(whole(plain), values.astype(np.uint8))
    other = tmp_path / "image.sgi"
    Image.fromarray(values.astype(np.uint8)).save(other)
    with pytest.raises(FileError, match="SGI"):
        open_stack(other)


def test_a_missing_codec_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, noise((30, 40), "uint8"), compression="lzw")

    def missing(*_: Any, **__: Any) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    with pytest.raises(FileError, match=r"compression of .* \(LZW\) is not supported"):
        whole(path)


def test_a_damaged_file_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, noise((300, 400), "uint8"), compression="zlib")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(FileError, match="damaged"):
        whole(path)


# ---------------------------------------------------------------- several images


def test_frames_are_several_images(tmp_path: Path) -> None:
    path = tmp_path / "frames.gif"
    frames = [np.full((20, 30), value, np.uint8) for value in (0, 255, 128)]
    iio.imwrite(path, frames)
    assert open_stack(path).images == 3
    plane = read_plane(path)
    assert "holds 3 images" in plane.notes[0]
    assert read_plane(path, series=1).pixels.max() == 255
    assert not read_plane(path, series=1).notes
    with pytest.raises(FileError, match="no series 3"):
        read_plane(path, series=3)


def test_a_single_image_has_no_second(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((20, 30), np.uint8))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30), np.uint8))
    for name in ("a.npy", "a.tif"):
        assert open_stack(tmp_path / name).images == 1
        with pytest.raises(FileError, match="single image"):
            open_stack(tmp_path / name, 1)


# ---------------------------------------------------------------- several threads


def test_readers_on_several_threads_leave_everything_as_it_was(tmp_path: Path) -> None:
    """Also those of labels, which ask Pillow themselves."""
    logger = logging.getLogger("tifffile")
    path, labels = tmp_path / "image.tif", tmp_path / "labels.png"
    expected = noise((64, 64), "uint16")
    tifffile.imwrite(path, expected, compression="zlib")
    iio.imwrite(labels, np.arange(64, dtype=np.uint8).reshape(8, 8))
    limit = Image.MAX_IMAGE_PIXELS

    def read(number: int) -> None:
        if number % 2:
            np.testing.assert_array_equal(whole(path), expected)
        else:
            assert read_label_plane(labels).max() == 63

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(400)))
    assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.warns(UserWarning, match="as before"):
        warnings.warn("as before", UserWarning, stacklevel=1)
    assert logger.filter(record())
    assert not logger.disabled


def record() -> logging.LogRecord:
    return logging.LogRecord("tifffile", logging.ERROR, "", 1, "a message", (), None)


@contextmanager
def reader_beside() -> Iterator[None]:
    """Another thread that reads all the time within the block."""
    inside, leave = threading.Event(), threading.Event()

    def read() -> None:
        with read_quietly():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=read)
    thread.start()
    assert inside.wait(10)
    try:
        yield
    finally:
        leave.set()
        thread.join()


def test_the_first_reader_that_ends_does_not_end_the_silence_of_another() -> None:
    logger = logging.getLogger("tifffile")
    before = Image.MAX_IMAGE_PIXELS
    with reader_beside():
        with read_quietly():
            pass
        assert not logger.filter(record())
        assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS // 2
    assert logger.filter(record())
    assert before == Image.MAX_IMAGE_PIXELS


def test_warnings_of_others_arrive_while_a_file_is_read() -> None:
    with reader_beside(), pytest.warns(UserWarning, match="of another thread"):
        warnings.warn("of another thread", UserWarning, stacklevel=1)


def test_a_reader_that_ends_within_anothers_filters_leaves_none_behind() -> None:
    """In the order that goes wrong where filters are kept and set back."""
    reading = reader_beside()
    with warnings.catch_warnings():
        reading.__enter__()
    reading.__exit__(None, None, None)
    other = reader_beside()
    other.__enter__()
    with warnings.catch_warnings():
        other.__exit__(None, None, None)
    with pytest.raises(UserWarning, match="is an error here"):
        warnings.warn("is an error here", UserWarning, stacklevel=1)


def test_a_reader_is_quiet_whatever_filters_are_set() -> None:
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        with read_quietly():
            warnings.warn("of a reader", UserWarning, stacklevel=1)


def test_a_limit_that_another_sets_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with reader_beside():
        Image.MAX_IMAGE_PIXELS = None
    assert Image.MAX_IMAGE_PIXELS is None
