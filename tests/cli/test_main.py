"""The command line: what it writes, what it says, and how it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from analytic_runtime import analytic_predictor
from command import Run, run_command, run_refused
from napari_tinysam.cli import demo as cli_demo
from napari_tinysam.cli import main as cli
from napari_tinysam.cli import prompt_options as cli_prompts
from napari_tinysam.errors import CheckpointError
from napari_tinysam.inference import load, predictor

HEIGHT, WIDTH = 60, 100


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Replace the model by geometry; return what was asked of `load_model`."""
    asked: list[tuple[str, str]] = []

    def load_model(name: str = "default", *, device: str = "auto", **_: object):
        asked.append((name, device))
        if name == "no-such-model":
            raise CheckpointError("There is no model called 'no-such-model'.")
        return analytic_predictor()

    monkeypatch.setattr(load, "load_model", load_model)
    return asked


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    loaded: list[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Run]:
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    return partial(run_command, capsys)


@pytest.fixture
def refused(
    run: Callable[..., Run], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., str]:
    """Run a command that must fail: one sentence on stderr, no file touched."""

    def call(*arguments: object, code: int) -> str:
        (only,) = run_refused(capsys, tmp_path, *arguments, code=code)
        return only

    return call


def picture(name: str = "image.png", array: np.ndarray | None = None) -> Path:
    if array is None:
        array = np.random.default_rng(0).integers(
            0, 255, (HEIGHT, WIDTH), dtype=np.uint8
        )
    iio.imwrite(name, array)
    return Path(name)


def rectangle(labels: np.ndarray, number: int) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of a label's first and last pixels."""
    ys, xs = np.nonzero(labels == number)
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


# ------------------------------------------------------------------- segmenting


def test_each_box_is_an_object_in_its_order(run: Callable[..., Run]) -> None:
    picture()
    done = run(
        *("segment", "image.png", "-o", "labels.tif"),
        *("--box", "60,10,80,40", "--box", "10,10,30,40"),
    )
    assert done.code == 0, done.err
    labels = tifffile.imread("labels.tif")
    assert labels.shape == (HEIGHT, WIDTH)
    assert labels.dtype == np.uint16
    assert np.allclose(rectangle(labels, 1), (60, 10, 80, 40), atol=1)
    assert np.allclose(rectangle(labels, 2), (10, 10, 30, 40), atol=1)
    assert "2 objects" in done.out
    assert "100 × 60" in done.out
    for number in (1, 2):
        assert str(np.count_nonzero(labels == number)) in done.out


@pytest.mark.parametrize("name", ["l.tif", "l.TIFF", "l.png", "l.npy"])
def test_labels_can_be_written_as(name: str, run: Callable[..., Run]) -> None:
    picture()
    assert run("segment", "image.png", "-o", name, "--box", "10,10,30,40").code == 0
    labels = np.load(name) if name.endswith("npy") else iio.imread(name)
    assert labels.dtype == np.uint16
    assert labels.shape == (HEIGHT, WIDTH)
    assert set(np.unique(labels)) == {0, 1}
    assert sorted(p.name for p in Path().iterdir()) == sorted(["image.png", name])


def test_labels_are_compressed_and_readable_by_others(run: Callable[..., Run]) -> None:
    picture()
    umask_file = Path("ordinary")
    umask_file.touch()
    run("segment", "image.png", "-o", "labels.tif", "--box", "10,10,30,40")
    with tifffile.TiffFile("labels.tif") as tiff:
        assert tiff.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert tiff.series[0].axes == "YX"
    assert Path("labels.tif").stat().st_mode == umask_file.stat().st_mode


def test_an_existing_file_is_replaced_through_a_link(run: Callable[..., Run]) -> None:
    picture()
    target = Path("target.npy")
    np.save(target, np.zeros(3))
    Path("link.npy").symlink_to(target)
    assert run("segment", "image.png", "-o", "link.npy", "--point", "5,5").code == 0
    assert Path("link.npy").is_symlink()
    assert np.load(target).shape == (HEIGHT, WIDTH)


def test_points_without_a_box_are_one_object(run: Callable[..., Run]) -> None:
    picture()
    done = run(
        *("segment", "image.png", "-o", "labels.npy", "--negative", "50,30"),
        *("--point", "50,30", "--point", "70,30"),
    )
    assert done.code == 0
    labels = np.load("labels.npy")
    assert set(np.unique(labels)) == {0, 1}
    assert labels[30, 70] == 1
    assert labels[30, 50] == 0  # the negative point


def test_all_points_refine_the_only_box(run: Callable[..., Run]) -> None:
    picture()
    arguments = ("segment", "image.png", "-o", "labels.npy", "--box", "10,10,40,40")
    assert run(*arguments, "--point", "80,30", "--negative", "25,25").code == 0
    labels = np.load("labels.npy")
    assert set(np.unique(labels)) == {0, 1}
    assert labels[30, 80] == 1  # outside the box, and still the same object
    assert labels[25, 25] == 0


def test_with_several_boxes_points_go_where_they_lie(run: Callable[..., Run]) -> None:
    picture()
    done = run(
        *("segment", "image.png", "-o", "labels.npy"),
        *("--box", "5,5,25,55", "--box", "35,5,60,55"),
        *("--negative", "45,30", "--point", "85,30"),
    )
    assert done.code == 0
    labels = np.load("labels.npy")
    assert labels[30, 15] == 1
    assert labels[30, 45] == 0
    assert labels[10, 45] == 2
    assert labels[30, 85] == 3  # in no box: a further object
    assert "3 objects" in done.out


def test_of_nested_boxes_the_smaller_takes_the_point(run: Callable[..., Run]) -> None:
    picture()
    run(
        *("segment", "image.png", "-o", "labels.npy", "--negative", "50,30"),
        *("--box", "45,20,55,40", "--box", "5,5,95,55"),
    )
    labels = np.load("labels.npy")
    assert labels[30, 50] == 2  # the hole in object 1 shows the larger one
    assert labels[22, 46] == 1


def test_the_order_of_nested_boxes_does_not_matter_to_points() -> None:
    large, small, point = (5.0, 5.0, 95.0, 55.0), (45.0, 20.0, 55.0, 40.0), (50.0, 30.0)
    for boxes in ((large, small), (small, large)):
        for prompt in cli_prompts.group([point], [point], boxes):
            assert prompt.positive == ((point,) if prompt.box == small else ())
            assert prompt.negative == prompt.positive


def test_a_pixel_belongs_to_the_object_given_first(run: Callable[..., Run]) -> None:
    picture()
    done = run(
        *("segment", "image.png", "-o", "labels.npy"),
        *("--box", "10,10,60,50", "--box", "30,10,90,50", "--box", "20,20,40,40"),
    )
    assert done.code == 0
    labels = np.load("labels.npy")
    assert labels[30, 45] == 1
    assert labels[30, 75] == 2
    assert 3 not in labels
    assert "Object 3" in done.err  # the user is told
    assert "2 objects" in done.out


def test_corners_in_any_order_and_beyond_the_border(run: Callable[..., Run]) -> None:
    picture()
    done = run("segment", "image.png", "-o", "a.npy", "--box", "110,70,70,30")
    assert done.code == 0, done.err
    assert np.allclose(rectangle(np.load("a.npy"), 1), (70, 30, 99, 59), atol=1)


def test_more_objects_than_one_batch(run: Callable[..., Run]) -> None:
    picture("wide.png", np.zeros((20, 1000), np.uint8))
    boxes = [f"{x},2,{x + 9},16" for x in range(0, 980, 14)]
    assert len(boxes) == 70
    arguments = [word for box in boxes for word in ("--box", box)]
    assert run("segment", "wide.png", "-o", "labels.tif", *arguments).code == 0
    labels = tifffile.imread("labels.tif")
    assert [labels[8, 14 * i + 4] for i in range(70)] == list(range(1, 71))


def test_the_best_candidate_is_written(run: Callable[..., Run]) -> None:
    picture(array=np.zeros((HEIGHT, WIDTH), np.uint8))
    done = run("segment", "image.png", "-o", "labels.npy", "--box", "20,20,60,50")
    assert "0.90" in done.out
    area = np.count_nonzero(np.load("labels.npy"))
    assert abs(area - 40 * 30) < 150  # neither the smaller nor the larger mask


def test_model_and_device_are_passed_on(
    run: Callable[..., Run], loaded: list[tuple[str, str]]
) -> None:
    picture()
    run(
        *("segment", "image.png", "-o", "labels.npy", "--point", "5,5"),
        *("--model", "mobile_sam", "--device", "cpu"),
    )
    assert loaded == [("mobile_sam", "cpu")]


@pytest.mark.parametrize(
    "command",
    [
        ("segment", "image.png", "-o", "labels.npy", "--point", "5,5"),
        ("auto", "image.png", "-o", "out"),
        ("evaluate", "default", "data"),
    ],
    ids=lambda command: command[0],
)
def test_how_a_model_runs_is_passed_on(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    picture()
    Path("data").mkdir()
    iio.imwrite("data/one.png", np.zeros((9, 9), np.uint8))
    iio.imwrite("data/one_label.png", np.ones((9, 9), np.uint8))
    asked: list[dict[str, object]] = []

    def load_model(name: str, **options: object) -> object:
        asked.append(options)
        raise ValueError("Enough.")

    monkeypatch.setattr(load, "load_model", load_model)
    assert "Enough." in run(*command).err
    done = run(*command, "--device", "cpu", "--precision", "f32", "--threads", "2")
    assert "Enough." in done.err
    names = ("device", "precision", "threads")
    assert [[options[name] for name in names] for options in asked] == [
        ["auto", "auto", 0],
        ["cpu", "f32", 2],
    ]
    assert run(*command, "--threads", "-1").code == 2


def test_an_overlay_shows_outlines_and_prompts(run: Callable[..., Run]) -> None:
    picture(array=np.full((HEIGHT, WIDTH), 128, np.uint8))
    done = run(
        *("segment", "image.png", "-o", "labels.npy", "--overlay", "seen.png"),
        *("--box", "10,10,40,40", "--point", "80,30"),
    )
    assert done.code == 0
    seen = iio.imread("seen.png").astype(int)
    assert seen.shape == (614, 1024, 3)
    scale = 1024 / WIDTH
    y, x = round(30.5 * scale), round(80.5 * scale)
    assert seen[y, x, 1] > seen[y, x, 0] + 100  # the point is green
    assert np.ptp(seen[300, 5]) == 0  # beside everything the image is as it was
    coloured = np.ptp(seen, axis=-1) > 30
    assert 0.02 < coloured.mean() < 0.6


# ------------------------------------------------------------------- image files


def encoded_plane(
    run: Callable[..., Run], *arguments: object
) -> tuple[np.ndarray, Run]:
    """What the model is shown for a file; read back from the overlay-free labels."""
    seen: list[np.ndarray] = []
    original = predictor.Predictor.encode

    def encode(self: predictor.Predictor, image: object, **options: object):
        from napari_tinysam.image import to_rgb

        seen.append(to_rgb(image, **options))
        return original(self, image, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor.Predictor, "encode", encode)
        done = run("segment", *arguments, "-o", "labels.npy", "--point", "3,2")
    assert done.code == 0, done.err
    labels = np.load("labels.npy")
    assert labels.shape == seen[0].shape[:2]
    return seen[0], done


def ramp(*shape: int, dtype: type = np.uint16) -> np.ndarray:
    """An array whose planes all look different."""
    return np.random.default_rng(sum(shape)).integers(0, 250, shape).astype(dtype)


def stretched(plane: np.ndarray) -> np.ndarray:
    from napari_tinysam.image import to_rgb

    return to_rgb(plane)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("axes", "shape"), [("ZYX", (5, 20, 30)), ("TZYX", (3, 4, 20, 30))]
)
def test_a_plane_of_an_ome_stack(
    axes: str, shape: tuple[int, ...], compression: str | None, run: Callable[..., Run]
) -> None:
    stack = ramp(*shape)
    tifffile.imwrite(
        "s.ome.tif", stack, metadata={"axes": axes}, compression=compression
    )
    seen, done = encoded_plane(run, "s.ome.tif")
    assert np.array_equal(seen, stretched(stack[(0,) * (stack.ndim - 2)]))
    assert "--plane" in done.err
    assert axes[:-2] in done.err
    index = tuple(n - 1 for n in shape[:-2])
    seen, done = encoded_plane(run, "s.ome.tif", "--plane", ",".join(map(str, index)))
    assert np.array_equal(seen, stretched(stack[index]))
    assert done.err == ""


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_channel_of_an_ome_image(
    compression: str | None, run: Callable[..., Run]
) -> None:
    image = ramp(3, 20, 30)  # three channels, not colours
    tifffile.imwrite(
        *("c.ome.tif", image),
        metadata={"axes": "CYX"},
        photometric="minisblack",
        compression=compression,
    )
    seen, done = encoded_plane(run, "c.ome.tif")
    assert np.array_equal(seen, stretched(image[0]))
    assert "3 channels" in done.err
    seen, done = encoded_plane(run, "c.ome.tif", "--channel", "2")
    assert np.array_equal(seen, stretched(image[2]))
    assert done.err == ""
    seen, _ = encoded_plane(run, "c.ome.tif", "--channel", "2,0")
    assert np.array_equal(seen[..., 0], stretched(image[2])[..., 0])
    assert np.array_equal(seen[..., 1], stretched(image[0])[..., 0])
    assert not seen[..., 2].any()


def test_channels_and_planes_of_a_hyperstack(run: Callable[..., Run]) -> None:
    stack = ramp(2, 3, 4, 20, 30)
    tifffile.imwrite("h.tif", stack, imagej=True, metadata={"axes": "TZCYX"})
    seen, _ = encoded_plane(run, "h.tif", "--channel", "3", "--plane", "1,2")
    assert np.array_equal(seen, stretched(stack[1, 2, 3]))


@pytest.mark.parametrize("planar", [False, True])
def test_colours_stay_colours(planar: bool, run: Callable[..., Run]) -> None:
    rgb = ramp(20, 30, 3, dtype=np.uint8)
    tifffile.imwrite(
        *("rgb.tif", np.moveaxis(rgb, -1, 0) if planar else rgb),
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
    )
    seen, done = encoded_plane(run, "rgb.tif")
    assert np.array_equal(seen, rgb)
    assert done.err == ""
    seen, _ = encoded_plane(run, "rgb.tif", "--channel", "1")
    assert np.array_equal(seen, stretched(rgb[..., 1]))


def test_a_tiled_pyramid_is_read_at_full_size(run: Callable[..., Run]) -> None:
    image = ramp(256, 512)
    with tifffile.TiffWriter("p.ome.tif", ome=True) as tiff:
        tiff.write(image, subifds=1, tile=(64, 64), compression="zlib")
        tiff.write(image[::2, ::2], subfiletype=1, tile=(64, 64), compression="zlib")
    seen, _ = encoded_plane(run, "p.ome.tif")
    assert np.array_equal(seen, stretched(image))


def test_lzw_is_read(run: Callable[..., Run]) -> None:
    from PIL import Image

    frames = [Image.fromarray(ramp(20, 30 + 0 * i) + np.uint16(i)) for i in range(3)]
    frames[0].save(
        "lzw.tif", compression="tiff_lzw", save_all=True, append_images=frames[1:]
    )
    seen, done = encoded_plane(run, "lzw.tif", "--plane", "2")
    assert np.array_equal(seen, stretched(np.asarray(frames[2])))
    assert done.err == ""


def test_a_compression_that_is_not_read(refused: Callable[..., str]) -> None:
    from PIL import Image

    Image.fromarray(ramp(20, 30)).save("lzw.tif", compression="tiff_lzw")
    tag = np.array([259, 3, 1, 0, 5], "<u2").tobytes()  # Compression, SHORT, 1, LZW
    other = np.array([259, 3, 1, 0, 40404], "<u2").tobytes()  # nobody's
    content = Path("lzw.tif").read_bytes()
    assert content.count(tag) == 1
    Path("odd.tif").write_bytes(content.replace(tag, other))
    message = refused("segment", "odd.tif", "-o", "l.tif", "--point", "1,1", code=1)
    assert "compression" in message


@pytest.mark.parametrize(
    ("shape", "options", "index"),
    [
        ((20, 30), [], ...),
        ((5, 20, 30), [], 0),
        ((5, 20, 30), ["--plane", "3"], 3),
        ((5, 20, 30), ["--channel", "3"], 3),  # an axis without a name is either
        ((20, 30, 2), ["--channel", "1"], (..., 1)),
        ((2, 5, 20, 30), ["--plane", "1,4"], (1, 4)),
        ((2, 5, 20, 30), ["--plane", "1", "--channel", "4"], (1, 4)),
    ],
)
@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
def test_axes_without_names(
    shape: tuple[int, ...],
    options: list[str],
    index: object,
    name: str,
    run: Callable[..., Run],
) -> None:
    array = ramp(*shape, dtype=np.float32)
    if name.endswith("npy"):
        np.save(name, array)
    else:
        tifffile.imwrite(name, array)
    seen, _ = encoded_plane(run, name, *options)
    assert np.array_equal(seen, stretched(array[index]))


def test_pictures(run: Callable[..., Run]) -> None:
    rgb = ramp(20, 30, 3, dtype=np.uint8)
    rgba = np.dstack([rgb, np.full((20, 30), 255, np.uint8)])
    for name, array, shown in (
        ("rgb.png", rgb, rgb),
        ("rgba.png", rgba, rgb),
        ("gray16.png", ramp(20, 30), stretched(ramp(20, 30))),
        ("rgb.bmp", rgb, rgb),
        ("actually_png.tif", rgb, rgb),
    ):
        iio.imwrite(name, array, extension=".png" if "actually" in name else None)
        assert np.array_equal(encoded_plane(run, name)[0], shown), name
    smooth = np.dstack([np.tile(np.arange(0, 240, 8, dtype=np.uint8), (20, 1))] * 3)
    iio.imwrite("photo.jpg", smooth, quality=100)
    assert np.abs(encoded_plane(run, "photo.jpg")[0].astype(int) - smooth).max() < 10


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1), (1, 300, 3)])
def test_images_one_pixel_wide(shape: tuple[int, ...], run: Callable[..., Run]) -> None:
    iio.imwrite("thin.png", np.full(shape, 7, np.uint8))
    done = run("segment", "thin.png", "-o", "labels.npy", "--point", "0,0")
    assert done.code == 0, done.err
    assert np.load("labels.npy").shape == shape[:2]


# ------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--point", "12;5"], "x,y"),
        (["--point", "12"], "x,y"),
        (["--point", "1,2,3"], "x,y"),
        (["--point", "a,b"], "x,y"),
        (["--point", ""], "x,y"),
        (["--point", "nan,3"], "x,y"),
        (["--negative", "inf,3", "--point", "1,1"], "x,y"),
        (["--box", "1,2,3"], "x0,y0,x1,y1"),
        (["--box", "1,2,3,4,5"], "x0,y0,x1,y1"),
        (["--point", "100.6,5"], "outside"),
        (["--point", "-3,5"], "outside"),
        (["--point", "5,1e300"], "outside"),
        (["--negative", "5,99", "--point", "1,1"], "outside"),
        (["--box", "200,10,250,20"], "outside"),
        (["--box", "10,10,10,40"], "no area"),
        ([], "at least one"),
        (["--negative", "5,5"], "Negative points alone"),
        (
            ["--negative", "5,5", "--box", "10,10,20,20", "--box", "30,30,40,40"],
            "none of the boxes",
        ),
        (["--point", "5,5", "--channel", "x"], "channel"),
        (["--point", "5,5", "--channel", "-1"], "channel"),
        (["--point", "5,5", "--channel", "1"], "no channels"),
        (["--point", "5,5", "--plane", "0"], "single plane"),
        (["--point", "5,5", "--plane", "²"], "plane"),
        (["--point", "5,5", "--nonsense"], "--nonsense"),
        (["--point"], "--point"),
    ],
)
def test_prompts_that_make_no_sense(
    arguments: list[str], words: str, refused: Callable[..., str]
) -> None:
    picture()
    message = refused("segment", "image.png", "-o", "l.tif", *arguments, code=2)
    assert words in message


def test_prompts_are_read_before_the_model(
    refused: Callable[..., str], loaded: list[tuple[str, str]]
) -> None:
    picture()
    refused("segment", "image.png", "-o", "l.tif", "--point", "1000,5", code=2)
    assert loaded == []


@pytest.mark.parametrize(
    ("plane", "words"),
    [("5", "5 planes"), ("1,1", "1 number"), ("4294967296", "whole")],
)
def test_planes_that_are_not_there(
    plane: str, words: str, refused: Callable[..., str]
) -> None:
    tifffile.imwrite("s.tif", ramp(5, 20, 30), metadata={"axes": "ZYX"})
    arguments = ("segment", "s.tif", "-o", "l.tif", "--point", "1,1")
    assert words in refused(*arguments, "--plane", plane, code=2)


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (None, "missing.tif", "does not exist"),
        (b"", "empty.tif", "is empty"),
        (b"not an image at all\n", "text.tif", "cannot be read"),
        (b"not an image at all\n", "text.png", "cannot be read"),
        (b"II*\0", "head.tif", "cannot be read"),
        (b"II*\0\xff\xff\xff\x7f", "far.tif", "holds no image"),
        (b"\x93NUMPY\1\0\xff\xff", "head.npy", "cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "head.png", "cannot be read"),
        (b"PK\3\4", "a.npz", "cannot be read"),
    ],
)
def test_files_that_are_no_images(
    content: bytes | None, name: str, words: str, refused: Callable[..., str]
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    message = refused("segment", name, "-o", "l.tif", "--point", "1,1", code=1)
    assert name in message
    assert words in message


def test_a_folder_is_no_image(refused: Callable[..., str]) -> None:
    Path("folder.tif").mkdir()
    message = refused("segment", "folder.tif", "-o", "l.tif", "--point", "1,1", code=1)
    assert "is a folder" in message


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, {}]),
        np.zeros((4, 4), complex),
        np.zeros((0, 5)),
        np.zeros(7),
        np.float64(3),
        np.array([["a", "b"]]),
    ],
)
def test_arrays_that_are_no_images(
    array: np.ndarray, refused: Callable[..., str]
) -> None:
    np.save("a.npy", array, allow_pickle=True)
    refused("segment", "a.npy", "-o", "l.tif", "--point", "0,0", code=1)


@pytest.mark.parametrize(
    "kind", ["plain.tif", "zlib.tif", "tiled.tif", "a.npy", "p.png"]
)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
def test_truncated_files(kind: str, part: float, refused: Callable[..., str]) -> None:
    array = np.random.default_rng(1).integers(0, 2**16, (200, 300), dtype=np.uint16)
    if kind.endswith("npy"):
        np.save(kind, array)
    elif kind.endswith("png"):
        iio.imwrite(kind, array)
    else:
        tifffile.imwrite(
            *(kind, array),
            compression=None if kind == "plain.tif" else "zlib",
            tile=(64, 64) if kind == "tiled.tif" else None,
        )
    whole = Path(kind).read_bytes()
    Path(kind).write_bytes(whole[: int(len(whole) * part)])
    refused("segment", kind, "-o", "l.tif", "--point", "1,1", code=1)


def test_planes_too_large_for_the_model(refused: Callable[..., str]) -> None:
    with open("huge.npy", "wb") as file:  # sparse: a header and nothing
        header = {"descr": "|u1", "fortran_order": False, "shape": (40_000, 40_000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 40_000**2)
    message = refused("segment", "huge.npy", "-o", "l.tif", "--point", "1,1", code=1)
    assert "million pixels" in message


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [
        ("labels.jpg", 1, ".tif"),
        ("labels", 1, ".tif"),
        ("no/such/folder/labels.tif", 1, "does not exist"),
        ("folder.tif", 1, "is a folder"),
        ("image.png", 2, "replace the image"),
        ("./folder.tif/../image.png", 2, "replace the image"),
        ("hard_link.png", 2, "replace the image"),
        ("x" * 300 + ".tif", 1, "cannot be written"),
    ],
)
def test_outputs_that_cannot_be(
    output: str, code: int, words: str, refused: Callable[..., str]
) -> None:
    picture()
    Path("folder.tif").mkdir()
    Path("hard_link.png").hardlink_to("image.png")
    arguments = ("segment", "image.png", "--point", "1,1", "-o", output)
    assert words in refused(*arguments, code=code)


def test_labels_and_overlay_do_not_share_a_file(refused: Callable[..., str]) -> None:
    picture()
    arguments = ("segment", "image.png", "--point", "1,1", "-o", "a.png")
    assert "each" in refused(*arguments, "--overlay", "a.png", code=2)
    assert ".png" in refused(*arguments, "--overlay", "b.tif", code=1)


def test_what_was_there_stays_when_writing_fails(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture()
    Path("labels.tif").write_bytes(b"precious")

    def full_disk(file, *_: object, **__: object) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full_disk)
    arguments = ("segment", "image.png", "--point", "1,1", "-o", "labels.tif")
    assert "No space left" in refused(*arguments, code=1)
    assert Path("labels.tif").read_bytes() == b"precious"


def test_an_unknown_model(refused: Callable[..., str]) -> None:
    picture()
    arguments = ("segment", "image.png", "--point", "1,1", "-o", "l.tif")
    assert "no-such-model" in refused(*arguments, "--model", "no-such-model", code=1)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "Stopped."),
        (MemoryError(), 1, "memory"),
        (
            RuntimeError("CUDA out of memory.\nTried to allocate"),
            1,
            "CUDA out of memory.",
        ),
        (ValueError("The device 'tpu' is not available."), 1, "tpu"),
    ],
)
def test_what_happens_while_the_model_works(
    error: BaseException,
    code: int,
    words: str,
    run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture()

    def encode(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(predictor.Predictor, "encode", encode)
    done = run("segment", "image.png", "--point", "1,1", "-o", "labels.tif")
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert [p.name for p in Path().iterdir()] == ["image.png"]


def test_errors_of_ours_are_not_hidden(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture()

    def encode(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(predictor.Predictor, "encode", encode)
    with pytest.raises(ZeroDivisionError):
        cli.main(["segment", "image.png", "--point", "1,1", "-o", "labels.tif"])


@pytest.mark.parametrize("arguments", [["segmnt"], ["segment"], ["demo", "x"]])
def test_commands_that_are_not_there(
    arguments: list[str], refused: Callable[..., str]
) -> None:
    assert "--help" in refused(*arguments, code=2)


# ------------------------------------------------------------------- models, demo


def test_models_says_where_each_is(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_tinysam.checkpoints import ENVIRONMENT_VARIABLE, REGISTRY

    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    local = tmp_path / REGISTRY["mobile_sam"].filename
    local.write_bytes(bytes(2_000_000))
    done = run("models")
    assert done.code == 0
    lines = {line.split()[0]: line for line in done.out.splitlines()[1:]}
    assert list(lines) == list(REGISTRY)
    for name, line in lines.items():
        assert REGISTRY[name].title in line
        assert REGISTRY[name].licence in line
    assert "2 MB" in lines["mobile_sam"]
    assert str(local) in lines["mobile_sam"]
    assert str(REGISTRY["sam_vit_b"].url) in lines["sam_vit_b"]
    assert "375 MB" in lines["sam_vit_b"]


def test_demo_writes_labels_and_an_overlay(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for arguments in ([], ["--no-viewer"]):  # a second time into the same folder
        done = run("demo", *arguments)
        assert done.code == 0, done.err
        assert ("no screen" in done.err) == (arguments == [])
    folder = Path("napari-tinysam-demo")
    assert sorted(p.name for p in folder.iterdir()) == ["labels.tif", "overlay.png"]
    labels = tifffile.imread(folder / "labels.tif")
    overlay = iio.imread(folder / "overlay.png")
    assert labels.shape == (256, 256)
    assert labels.max() == len(cli_demo.objects())
    assert overlay.shape == (1024, 1024, 3)


def test_demo_opens_napari_where_there_is_a_screen(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_tinysam.ui.contributions import demo as _demo

    opened = []
    monkeypatch.setenv("DISPLAY", ":1")
    monkeypatch.setattr(_demo, "open_demo", lambda *args: opened.append(args))
    assert run("demo", "--folder", "deep/er").code == 0
    (image, labels) = opened[0]
    assert image.shape == (256, 256)
    assert np.array_equal(labels, tifffile.imread("deep/er/labels.tif"))
    assert run("demo", "--no-viewer").code == 0
    assert len(opened) == 1


def test_demo_needs_a_folder_it_can_write_to(refused: Callable[..., str]) -> None:
    Path("taken").touch()
    assert "taken" in refused("demo", "--folder", "taken", "--no-viewer", code=1)


# ------------------------------------------------------------------- the process


def test_version_and_help(run: Callable[..., Run]) -> None:
    import napari_tinysam

    assert napari_tinysam.__version__ in run("--version").out
    for arguments in ([], ["--help"]):
        done = run(*arguments)
        assert done.code == 0
        for command in ("segment", "models", "demo"):
            assert command in done.out
    assert "smallest box" in run("segment", "--help").out


def test_help_and_models_are_quick() -> None:
    code = """
import sys
from napari_tinysam.cli.main import main
for arguments in (["--help"], ["segment", "--help"], ["models"]):
    try:
        main(arguments)
    except SystemExit as exit:
        assert exit.code == 0
heavy = {"torch", "timm", "napari", "qtpy", "skimage", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_has_enough() -> None:
    code = "from napari_tinysam.cli.main import main; main(['models'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # long before the first line is ready
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.skipif(sys.platform != "linux", reason="has no /dev/full")
def test_an_output_that_is_full() -> None:
    code = "from napari_tinysam.cli.main import main; main(['models'])"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "Error: No space left on device.\n"


@pytest.mark.parametrize("chosen", [None, "ACTIVE"])
def test_threads_wait_asleep_unless_the_user_wants_otherwise(
    chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen or "")
    if chosen is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == (chosen or "PASSIVE")
