"""Where labelled images come from: folders, SA-1B, COCO, arrays."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_tinysam.errors import DataError
from napari_tinysam.image import to_rgb
from tinysam_training.data import (
    FoundEntries,
    find_coco,
    find_pairs,
    find_sa1b,
    from_arrays,
)
from tinysam_training.data.sources.label_files import (
    labels_of_colours,
    read_label_plane,
)
from tinysam_training.data.sources.mask_layers import mask_layers
from tinysam_training.data.sources.pairing import pair_files

if TYPE_CHECKING:
    import numpy.typing as npt

HEIGHT, WIDTH = 20, 24
SIZE = (HEIGHT, WIDTH)


def picture(seed: int = 0, shape: tuple[int, ...] = SIZE, dtype: Any = np.uint8) -> Any:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def two_objects(dtype: Any = np.uint16, first: int = 3, second: int = 9) -> Any:
    labels = np.zeros(SIZE, dtype)
    labels[2:8, 3:9] = first
    labels[10:18, 4:20] = second
    return labels


NUMBERED = two_objects(np.int32, 1, 2)


def write(path: Path, array: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        colours = array.ndim == 3 and array.shape[-1] in (3, 4)
        tifffile.imwrite(path, array, photometric="rgb" if colours else "minisblack")
    elif path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, array)
    else:
        iio.imwrite(path, array)


def texts(found: FoundEntries) -> list[str]:
    return [finding.text for finding in found.findings]


def only_image(folder: Path) -> Any:
    (entry,) = find_pairs(folder)
    image = entry.read()
    assert (image.name, image.dataset) == (entry.name, entry.dataset)
    assert image.complete == entry.complete
    return image


# ---------------------------------------------------------------- names


def paired(*names: str, labels: list[str] | None = None) -> dict[str, list[str]]:
    pairs, _ = pair_files(
        [Path(name) for name in names],
        [Path("labels", name) for name in labels or ()],
        separate=labels is not None,
    )
    return {p.image.name: [label.name for label in p.labels] for p in pairs}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("a.png", "a_label.png"),
        ("a.png", "a_labels.tif"),
        ("a.jpg", "a_mask.png"),
        ("a.JPG", "a_masks.PNG"),
        ("a.tif", "a_seg.npy"),
        ("a.png", "a_gt.tiff"),
        ("a.tif", "a_cp_masks.tif"),
        ("a.png", "a-label.png"),
        ("a.ome.tif", "a_label.ome.tiff"),
        ("a.ome.tif", "a.label.png"),
        ("a_img.png", "a_masks.png"),
        ("a.b_1.png", "a.b_1_label.png"),
        ("well_gt.png", "well_gt_label.png"),
        ("cell mask.tif", "cell mask_label.tif"),
    ],
)
def test_labels_belong_to_the_image_of_the_same_name(image, label):
    assert paired(image, label) == {image: [label]}


def test_images_whose_names_begin_alike_keep_their_own_labels():
    names = ["a.png", "a_1.png", "a_label.png", "a_1_label.png", "a_10_label.png"]
    assert paired(*names) == {"a.png": ["a_label.png"], "a_1.png": ["a_1_label.png"]}


def test_numbered_labels_are_layers_in_their_order():
    names = ["a.png", "a_label3.png", "a_label2.tif", "a_label.png"]
    assert paired(*names) == {"a.png": ["a_label.png", "a_label2.tif", "a_label3.png"]}


def test_in_folders_of_their_own_names_may_be_the_same():
    labels = ["a.png", "b_label.tif", "c_mask.png"]
    assert paired("a.tif", "b.tif", "c_mask.tif", labels=labels) == {
        "a.tif": ["a.png"],
        "b.tif": ["b_label.tif"],
        "c_mask.tif": ["c_mask.png"],
    }


def test_an_image_called_mask_is_one_only_beside_a_folder_of_labels():
    assert paired("c_mask.tif", labels=["c_mask.png"]) == {"c_mask.tif": ["c_mask.png"]}
    assert paired("c_mask.tif", "c_mask.png") == {}
    _, findings = pair_files([Path("c_mask.tif")])
    assert [finding.kind for finding in findings] == ["labels without an image"]


def test_what_has_no_partner_or_a_better_one_is_said():
    names = [
        *("a.png", "a.jpg", "a_label.png", "a_label.tif", "a_mask.png"),
        *("alone.png", "lost_label.png", "notes.txt"),
    ]
    pairs, findings = pair_files([Path(name) for name in names])
    assert [(p.image.name, [n.name for n in p.labels]) for p in pairs] == [
        ("a.png", ["a_label.png"])
    ]
    said = {finding.text.split()[0]: finding.severity for finding in findings}
    assert said == {
        "a.jpg": "warning",
        "a_label.tif": "warning",
        "a_mask.png": "warning",
        "alone.png": "error",
        "lost_label.png": "error",
    }


# ---------------------------------------------------------------- file types


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".npz", ".ome.tif"])
@pytest.mark.parametrize("label_suffix", [".png", ".tif", ".npy", ".npz"])
def test_any_file_types_go_together(tmp_path, suffix, label_suffix):
    write(tmp_path / f"a{suffix}", picture())
    write(tmp_path / f"a_label{label_suffix}", two_objects())
    image = only_image(tmp_path)
    np.testing.assert_array_equal(image.rgb, to_rgb(picture()))
    np.testing.assert_array_equal(image.labels, NUMBERED[np.newaxis])


@pytest.mark.parametrize(
    ("suffix", "shape", "dtype"),
    [
        (".png", (*SIZE, 3), np.uint8),
        (".png", (*SIZE, 4), np.uint8),
        (".png", SIZE, np.uint16),
        (".tif", (*SIZE, 3), np.uint8),
        (".tif", (*SIZE, 3), np.uint16),
        (".tif", SIZE, np.float32),
        (".tif", SIZE, np.int16),
        (".npy", SIZE, np.float64),
        (".npy", (*SIZE, 4), np.uint8),
        (".npy", (2, *SIZE), np.uint16),
        (".npz", (2, *SIZE), np.uint16),
        (".npz", (*SIZE, 3), np.float32),
        (".npz", (*SIZE, 5), np.uint8),
    ],
)
def test_images_of_any_kind_look_as_at_inference(tmp_path, suffix, shape, dtype):
    pixels = picture(1, shape, dtype)
    write(tmp_path / f"a{suffix}", pixels)
    write(tmp_path / "a_label.png", two_objects())
    np.testing.assert_array_equal(only_image(tmp_path).rgb, to_rgb(pixels))


def test_jpeg_images_are_read_and_jpeg_labels_refused(tmp_path):
    write(tmp_path / "a.jpg", picture())
    write(tmp_path / "a_label.png", two_objects())
    write(tmp_path / "b.png", picture())
    write(tmp_path / "b_label.jpg", two_objects(np.uint8))
    first, second = find_pairs(tmp_path)
    expected = to_rgb(iio.imread(tmp_path / "a.jpg"))
    np.testing.assert_array_equal(first.read().rgb, expected)
    with pytest.raises(DataError, match="is a JPEG"):
        second.read()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("image", "label"), [("img", "masks"), ("X", "y")])
def test_an_archive_may_hold_image_and_labels(tmp_path, image, label, compressed):
    save = np.savez_compressed if compressed else np.savez
    arrays = {
        image: picture(),
        label: two_objects(),
        f"{label}2": two_objects() > 5,
        "notes": np.array(["unused"]),
    }
    save(tmp_path / "a.npz", **arrays)
    found = only_image(tmp_path)
    np.testing.assert_array_equal(found.rgb, to_rgb(picture()))
    np.testing.assert_array_equal(found.labels, [NUMBERED, NUMBERED == 2])


def test_an_archive_of_labels_goes_with_the_image_of_its_name(tmp_path):
    write(tmp_path / "a.png", picture())
    np.savez(tmp_path / "a.npz", labels=two_objects())
    np.testing.assert_array_equal(only_image(tmp_path).labels[0], NUMBERED)


def test_arrays_in_columns_are_read_in_rows(tmp_path):
    pixels = np.asfortranarray(picture(0, (3, *SIZE), np.uint16))
    labels = np.asfortranarray(np.stack([two_objects()] * 3))
    np.savez(tmp_path / "a.npz", image=pixels, labels=labels)
    last = find_pairs(tmp_path)[2].read()
    np.testing.assert_array_equal(last.rgb, to_rgb(pixels[2]))
    np.testing.assert_array_equal(last.labels[0], NUMBERED)


class _Bomb:
    def __reduce__(self) -> Any:
        return os.makedirs, ("unpickled",)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = np.array([_Bomb()], object)
    write(tmp_path / "data" / "a.png", picture())
    np.savez(tmp_path / "data" / "a_label.npz", labels=objects)
    write(tmp_path / "data" / "b.png", picture())
    np.save(tmp_path / "data" / "b_seg.npy", objects)
    np.savez(tmp_path / "data" / "c.npz", image=objects, labels=two_objects())
    found = find_pairs(tmp_path / "data")
    assert not found
    assert len(found.findings) == 3
    assert sum("Python objects" in text for text in texts(found)) == 2
    assert not Path("unpickled").exists()


# ---------------------------------------------------------------- labels as colours


def coloured(ids: npt.NDArray[Any], colours: list[tuple[int, ...]]) -> Any:
    return np.array(colours, np.uint8)[ids]


COLOURS = {
    "RGB": [(0, 0, 0), (255, 0, 0), (255, 0, 1)],
    "opaque": [(0, 0, 0, 255), (1, 2, 3, 255), (3, 2, 1, 255)],
    "transparent background": [(9, 9, 9, 0), (1, 2, 3, 255), (3, 2, 1, 255)],
}
GRAY = {
    "gray": [(0, 0, 0), (7, 7, 7), (9, 9, 9)],
    "gray, opaque": [(0, 0, 0, 255), (7, 7, 7, 255), (9, 9, 9, 255)],
    "gray with alpha": [(5, 0), (7, 255), (9, 255)],
    "two equal channels": [(0, 0), (7, 7), (9, 9)],
}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("colours", COLOURS.values(), ids=COLOURS)
def test_each_colour_is_an_object_where_that_is_said(tmp_path, colours, suffix):
    if suffix == ".bmp" and len(colours[0]) == 4:
        pytest.skip("no transparency")
    write(tmp_path / "a.png", picture())
    write(tmp_path / f"a_label{suffix}", coloured(NUMBERED, colours))
    with pytest.raises(DataError, match=r"may be objects or kinds.*colours: objects"):
        only_image(tmp_path)
    (tmp_path / "annotation.yaml").write_text("colours: objects")
    labels = only_image(tmp_path).labels[0]
    assert labels.max() == 2
    np.testing.assert_array_equal(labels == 0, NUMBERED == 0)
    assert len(np.unique(labels[NUMBERED == 1])) == 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("kind", GRAY)
def test_equal_channels_are_one(tmp_path, kind, suffix):
    colours = GRAY[kind]
    if (kind == "two equal channels") == (suffix == ".png"):
        pytest.skip("in a PNG the second of two is alpha")
    if suffix == ".npy" and kind != "gray" and kind != "two equal channels":
        pytest.skip("nothing says which channel is alpha")
    write(tmp_path / "a.png", picture())
    array = coloured(NUMBERED, colours)
    if len(colours[0]) == 2 and suffix == ".tif":
        tifffile.imwrite(tmp_path / "a_label.tif", array, planarconfig="contig")
    else:
        write(tmp_path / f"a_label{suffix}", array)
    np.testing.assert_array_equal(only_image(tmp_path).labels[0], NUMBERED)


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".npz"])
@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_channels_that_differ_are_refused(tmp_path, suffix, count):
    """The second channel holds 0 and 255 only, as transparency would."""
    write(tmp_path / "a.png", picture())
    values = np.repeat(two_objects(np.uint8)[..., np.newaxis], count, axis=2)
    values[..., 1] = np.where(NUMBERED == 1, 255, 0)
    if suffix == ".tif":
        tifffile.imwrite(
            tmp_path / "a_label.tif",
            values,
            planarconfig="contig",
            photometric="minisblack",
        )
    elif suffix == ".npy":
        np.save(tmp_path / "a_label.npy", values)
    else:
        np.savez(tmp_path / "a_label.npz", labels=values)
    with pytest.raises(DataError, match=r"a single number|labels have 20"):
        read_or_say(tmp_path)


def read_or_say(folder: Path) -> None:
    """Read the image of a folder, or raise what is said about it."""
    found = find_pairs(folder)
    if not found:
        raise DataError(" ".join(texts(found)))
    found[0].read()


def indexed(
    path: Path, palette: list[int], numbers: Any = NUMBERED, **saved: Any
) -> None:
    picture = Image.fromarray(numbers.astype(np.uint8)).convert("P")
    picture.putpalette(palette)
    picture.save(path, **saved)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif"])
@pytest.mark.parametrize(
    "palette",
    [[5, 5, 5, 200, 0, 0, 200, 0, 0], [0, 0, 0, 200, 0, 0, 0, 0, 0]],
    ids=["no black", "black twice"],
)
def test_the_index_of_a_palette_is_the_label(tmp_path, palette, suffix):
    """Two entries of the palette may have the same colour."""
    write(tmp_path / "a.png", picture())
    options = {"optimize": False} if suffix == ".gif" else {}
    path = tmp_path / f"a_label{suffix}"
    indexed(path, palette, **options)
    np.testing.assert_array_equal(read_label_plane(path), NUMBERED)
    if suffix != ".gif":  # not among the names of data files
        np.testing.assert_array_equal(only_image(tmp_path).labels[0], NUMBERED)


def test_a_palette_with_another_background_is_refused(tmp_path):
    """As programs leave it that sort colours by how frequent they are."""
    write(tmp_path / "a.png", picture())
    sorted_otherwise = np.array([2, 0, 1])[NUMBERED]
    indexed(tmp_path / "a_label.png", [200, 0, 0, 0, 200, 0, 0, 0, 0], sorted_otherwise)
    with pytest.raises(DataError, match="2 is black or transparent and 0 is not"):
        only_image(tmp_path)
    indexed(
        tmp_path / "a_label.png",
        [200, 0, 0, 0, 200, 0, 9, 9, 9],
        sorted_otherwise,
        transparency=2,
    )
    with pytest.raises(DataError, match="2 is black or transparent and 0 is not"):
        only_image(tmp_path)


def voc_palette() -> list[int]:
    """As PASCAL VOC's development kit makes it."""
    palette = []
    for index in range(256):
        colour, rest = [0, 0, 0], index
        for bit in range(7, -1, -1):
            for channel in range(3):
                colour[channel] |= ((rest >> channel) & 1) << bit
            rest >>= 3
        palette += colour
    return palette


@pytest.mark.parametrize("voc", [True, False])
def test_void_of_pascal_voc_is_no_object(tmp_path, voc):
    palette = voc_palette()
    assert palette[3 * 255 :] == [224, 224, 192]
    if not voc:
        palette[3 * 255] = 1
    write(tmp_path / "a.png", picture())
    with_border = NUMBERED.copy()
    with_border[1, 3:9] = 255
    indexed(tmp_path / "a_label.png", palette, with_border)
    labels = only_image(tmp_path).labels[0]
    assert labels.max() == (2 if voc else 3)
    assert (labels[1, 3:9] == (0 if voc else 3)).all()


def test_the_palette_of_a_tiff_is_for_showing_it(tmp_path):
    write(tmp_path / "a.png", picture())
    colours = np.full((3, 256), 65535, np.uint16)
    colours[:, 1] = 0
    path = tmp_path / "a_label.tif"
    tifffile.imwrite(
        path, NUMBERED.astype(np.uint8), photometric="palette", colormap=colours
    )
    np.testing.assert_array_equal(only_image(tmp_path).labels[0], NUMBERED)


@pytest.mark.parametrize("kind", ["webp", "webp without loss", "jp2", "jpeg in tiff"])
def test_labels_that_lost_something_are_refused(tmp_path, kind):
    """What is in the file decides, not its name."""
    path, values = tmp_path / "a_label.png", two_objects(np.uint8)
    if kind.startswith("webp"):
        whole = kind == "webp without loss"
        rgb = np.repeat(values[..., np.newaxis], 3, axis=2)
        Image.fromarray(rgb).save(path, "webp", lossless=whole)
    elif kind == "jp2":
        path.write_bytes(imagecodecs.jpeg2k_encode(values))
    else:
        tifffile.imwrite(path, values, compression="jpeg")
    if kind == "webp without loss":
        np.testing.assert_array_equal(read_label_plane(path), values)
        return
    with pytest.raises(DataError, match="whose compression changes labels"):
        read_label_plane(path)


@pytest.mark.parametrize(
    ("colours", "message"),
    [
        (coloured(NUMBERED, [(9, 0, 0), (0, 9, 0), (0, 0, 9)]), "no black"),
        (picture(0, (*SIZE, 3)), "looks like a picture"),
        (picture(0, (*SIZE, 4)), "looks like a picture|half transparent"),
        (picture(0, (*SIZE, 3), np.float32), "a single number"),
        (picture(0, (*SIZE, 6)), "a single number"),
        (coloured(NUMBERED, [(0, 0), (7, 255), (9, 128)]), "half transparent"),
    ],
)
def test_colours_that_leave_doubt_are_refused(colours, message):
    with pytest.raises(DataError, match=message):
        labels_of_colours(colours, objects=True)


# ---------------------------------------------------------------- layouts


def fill(folder: Path, *stems: str) -> None:
    for number, stem in enumerate(stems):
        write(folder / f"{stem}.png", picture(number))
        write(folder / f"{stem}_label.png", two_objects())


def test_a_folder_of_sets(tmp_path):
    fill(tmp_path / "nuclei" / "train", "a", "b")
    fill(tmp_path / "nuclei" / "val", "c")
    fill(tmp_path / "yeast" / "train", "a")
    (tmp_path / "nuclei" / "INFO.md").write_text("words")
    train = find_pairs(tmp_path, "train")
    assert [(e.dataset, e.name) for e in train] == [
        ("nuclei", "nuclei/train/a"),
        ("nuclei", "nuclei/train/b"),
        ("yeast", "yeast/train/a"),
    ]
    assert [e.name for e in find_pairs(tmp_path, "val")] == ["nuclei/val/c"]
    assert len(find_pairs(tmp_path)) == 4
    assert {e.dataset for e in find_pairs(tmp_path, dataset="all")} == {"all"}
    assert not train.findings


def test_a_single_set_and_one_split_of_it(tmp_path):
    folder = tmp_path / "nuclei"
    fill(folder / "train", "a")
    fill(folder / "validation", "c")
    assert [e.name for e in find_pairs(folder, "val")] == ["nuclei/validation/c"]
    (entry,) = find_pairs(folder / "train")
    assert (entry.dataset, entry.name) == ("nuclei", "nuclei/a")


@pytest.mark.parametrize("labels", ["labels", "masks"])
@pytest.mark.parametrize(
    ("images_in", "labels_in"),
    [("images", "{}"), ("train/images", "train/{}"), ("images/train", "{}/train")],
)
def test_images_and_labels_in_folders_of_their_own(
    tmp_path, labels, images_in, labels_in
):
    write(tmp_path / images_in / "a.tif", picture())
    write(tmp_path / labels_in.format(labels) / "a.png", two_objects())
    image = only_image(tmp_path)
    assert image.name.endswith("train/a" if "train" in images_in else "/a")
    np.testing.assert_array_equal(image.labels[0], NUMBERED)


def test_labels_in_a_folder_beside_the_images(tmp_path):
    write(tmp_path / "a.tif", picture())
    write(tmp_path / "labels" / "a.tif", two_objects())
    np.testing.assert_array_equal(only_image(tmp_path).labels[0], NUMBERED)


def test_names_are_unique(tmp_path):
    fill(tmp_path / "one" / "cells", "a")
    fill(tmp_path / "two" / "cells", "a")
    assert [e.name for e in find_pairs(tmp_path)] == ["cells/a", "cells/a (2)"]
    names = [e.read().name for e in find_pairs(tmp_path)]
    assert names == ["cells/a", "cells/a (2)"]


def test_hidden_files_and_other_files_are_ignored(tmp_path):
    fill(tmp_path, "a")
    fill(tmp_path / ".thumbnails", "a")
    (tmp_path / "._a.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("words")
    found = find_pairs(tmp_path)
    assert len(found) == 1
    assert not found.findings


def test_no_data_is_an_error(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        find_pairs(tmp_path / "missing")
    with pytest.raises(DataError, match="does not hold images with labels"):
        find_pairs(tmp_path)
    fill(tmp_path, "a")
    with pytest.raises(DataError, match="does not hold a folder 'train'"):
        find_pairs(tmp_path, "train")


# ---------------------------------------------------------------- annotation.yaml


def test_the_nearest_annotation_file_counts(tmp_path):
    for name in ("one", "two", "two/train"):
        fill(tmp_path / name, "a")
    (tmp_path / "annotation.yaml").write_text("complete: false\n")
    (tmp_path / "two" / "train" / "annotation.yaml").write_text("complete: true")
    found = {entry.name: entry.complete for entry in find_pairs(tmp_path)}
    assert found == {"one/a": False, "two/a": False, "two/train/a": True}
    for entry in find_pairs(tmp_path):
        assert entry.read().complete == entry.complete


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".npz"])
@pytest.mark.parametrize(("line", "channel"), [("1", 1), ("[2, 0]", [2, 0])])
def test_channels_are_chosen_by_the_annotation_file(tmp_path, suffix, line, channel):
    pixels = picture(0, (3, *SIZE), np.uint16)
    write(tmp_path / f"a{suffix}", pixels)
    write(tmp_path / "a_label.png", two_objects())
    (tmp_path / "annotation.yaml").write_text(f"channel: {line}")
    expected = to_rgb(pixels, channel=channel, channel_axis=0)
    np.testing.assert_array_equal(only_image(tmp_path).rgb, expected)


@pytest.mark.parametrize(
    "content",
    [
        "complet: false",
        "complete: 0",
        "channel: -1",
        "channel: [0, 1, 2, 3]",
        "channel: true",
        "channel: red",
        "colours: true",
        "colours: classes",
        "- complete",
        "complete: [",
        "!!python/object/apply:os.getcwd []",
        "\0",
    ],
)
def test_a_wrong_annotation_file_is_an_error(tmp_path, content):
    fill(tmp_path, "a")
    (tmp_path / "annotation.yaml").write_text(content)
    with pytest.raises(DataError, match=r"annotation\.yaml"):
        find_pairs(tmp_path)


# ---------------------------------------------------------------- stacks


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".npz"])
def test_every_labelled_plane_of_a_stack_is_an_image(tmp_path, suffix):
    pixels = picture(0, (4, *SIZE), np.uint16)
    labels = np.stack([two_objects()] * 4)
    labels[1] = 0
    write(tmp_path / f"a{suffix}", pixels)
    write(tmp_path / f"a_label{suffix}", labels)
    found = find_pairs(tmp_path)
    name = f"{tmp_path.name}/a"
    assert [e.name for e in found] == [f"{name}/plane {z}" for z in (0, 2, 3)]
    assert len({e.fingerprint for e in found}) == 3
    for entry, z in zip(found, (0, 2, 3), strict=True):
        image = entry.read()
        np.testing.assert_array_equal(image.rgb, to_rgb(pixels[z]))
        np.testing.assert_array_equal(image.labels[0], NUMBERED)
    assert texts(found) == [f"{name}: 1 of 4 planes have no labels."]


def test_time_and_channels_of_an_ome_tiff_are_kept_apart(tmp_path):
    pixels = picture(0, (2, 3, 2, *SIZE), np.uint16)
    labels = np.zeros((2, 3, *SIZE), np.uint16)
    labels[1, 2] = two_objects()
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels, metadata={"axes": "TZCYX"}, ome=True)
    tifffile.imwrite(
        tmp_path / "a_label.ome.tif", labels, metadata={"axes": "TZYX"}, ome=True
    )
    (tmp_path / "annotation.yaml").write_text("channel: 1")
    image = only_image(tmp_path)
    assert image.name.endswith("/plane 1,2")
    np.testing.assert_array_equal(image.rgb, to_rgb(pixels[1, 2, 1]))


def test_three_planes_of_labels_are_not_colours(tmp_path):
    pixels, labels = picture(0, (3, *SIZE)), np.stack([two_objects()] * 3)
    write(tmp_path / "a.tif", pixels)
    tifffile.imwrite(
        tmp_path / "a_label.tif", labels, photometric="rgb", planarconfig="separate"
    )
    found = find_pairs(tmp_path)
    assert len(found) == 3
    np.testing.assert_array_equal(found[2].read().labels[0], NUMBERED)


def test_a_stack_without_names_for_its_axes_may_have_channels(tmp_path):
    pixels = picture(0, (3, 2, *SIZE), np.uint16)
    for suffix in (".npy", ".npz"):
        write(tmp_path / suffix[1:] / f"a{suffix}", pixels)
        write(tmp_path / suffix[1:] / "a_label.tif", np.stack([two_objects()] * 3))
        planes = find_pairs(tmp_path / suffix[1:])
        for z, entry in enumerate(planes):
            expected = to_rgb(pixels[z], channel_axis=0)
            np.testing.assert_array_equal(entry.read().rgb, expected)
        assert len(planes) == 3


@pytest.mark.parametrize(
    ("image", "labels"),
    [((3, *SIZE), (4, *SIZE)), (SIZE, (3, *SIZE)), ((30, *SIZE), SIZE)],
)
@pytest.mark.parametrize("suffix", [".tif", ".npz"])
def test_planes_that_do_not_fit_are_left_out(tmp_path, suffix, image, labels):
    write(tmp_path / f"a{suffix}", picture(0, image))
    write(tmp_path / f"a_label{suffix}", np.ones(labels, np.uint8))
    found = find_pairs(tmp_path)
    assert not found
    assert len(found.findings) == 1
    assert found.findings[0].severity == "error"
    assert f"{tmp_path.name}/a" in texts(found)[0]


# ---------------------------------------------------------------- fingerprints


def test_fingerprints_say_what_is_in_the_files(tmp_path):
    fill(tmp_path / "one", "a")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    os.rename(tmp_path / "two" / "a.png", tmp_path / "two" / "b.png")
    os.rename(tmp_path / "two" / "a_label.png", tmp_path / "two" / "b_label.png")
    (first,) = find_pairs(tmp_path / "one")
    (moved,) = find_pairs(tmp_path / "two")
    assert first.fingerprint == moved.fingerprint

    seen = {first.fingerprint}
    (tmp_path / "two" / "annotation.yaml").write_text("complete: false")
    seen.add(find_pairs(tmp_path / "two")[0].fingerprint)
    changed = two_objects()
    changed[0, 0] = 1
    write(tmp_path / "one" / "a_label.png", changed)
    seen.add(find_pairs(tmp_path / "one")[0].fingerprint)
    write(tmp_path / "one" / "a.png", picture(5))
    seen.add(find_pairs(tmp_path / "one")[0].fingerprint)
    assert len(seen) == 4


def test_large_files_are_known_by_their_ends(tmp_path, monkeypatch):
    from tinysam_training.data import fingerprints

    monkeypatch.setattr(fingerprints, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(fingerprints, "_END_BYTES", 100)
    data = bytearray(5000)
    seen = []
    for place in (None, 0, 2500, 4999):
        (tmp_path / "a").write_bytes(data)
        if place is not None:
            changed = data.copy()
            changed[place] = 1
            (tmp_path / "a").write_bytes(changed)
        seen.append(fingerprints.file_fingerprint(tmp_path / "a"))
    assert seen[0] == seen[2]
    assert len(set(seen)) == 3


def test_entries_can_be_sent_to_workers(tmp_path):
    fill(tmp_path, "a")
    (entry,) = pickle.loads(pickle.dumps(find_pairs(tmp_path)))
    np.testing.assert_array_equal(entry.read().labels[0], NUMBERED)


def test_added_lists_keep_what_was_found(tmp_path):
    fill(tmp_path / "one", "a")
    write(tmp_path / "two" / "alone.png", picture())
    one, two = find_pairs(tmp_path / "one"), find_pairs(tmp_path / "two")
    assert len(one + two) == 1
    assert (one + two).findings == two.findings
    assert not one.findings
    one += two
    assert one.findings == two.findings


# ---------------------------------------------------------------- arrays


def test_arrays_are_images_and_copied(tmp_path):
    labels, pixels = two_objects(), picture()
    (entry,) = from_arrays([pixels], [labels], ["cells"], complete=False)
    labels[:] = 0
    image = entry.read()
    assert (image.name, image.dataset, image.complete) == (
        "arrays/cells",
        "arrays",
        False,
    )
    np.testing.assert_array_equal(image.labels[0], NUMBERED)
    pixels[:] = 0
    assert image.rgb.any()


def test_lazy_arrays_are_read_plane_by_plane():
    dask = pytest.importorskip("dask.array")
    pixels = picture(0, (2, 3, *SIZE), np.uint16)
    labels = np.zeros((2, 3, *SIZE), np.uint16)
    labels[1, 0] = two_objects()
    lazy = dask.from_array(pixels, chunks=(1, 1, *SIZE))
    (entry,) = from_arrays([lazy], [labels])
    image = pickle.loads(pickle.dumps(entry)).read()
    assert image.name == "arrays/image 1/plane 1,0"
    np.testing.assert_array_equal(image.rgb, to_rgb(pixels[1, 0]))


def test_zarr_arrays_are_read():
    zarr = pytest.importorskip("zarr")
    pixels = zarr.array(picture(0, (2, *SIZE)))
    labels = zarr.array(np.stack([two_objects()] * 2))
    found = from_arrays([pixels], [labels])
    assert len(found) == 2
    np.testing.assert_array_equal(
        found[1].read().rgb, to_rgb(picture(0, (2, *SIZE))[1])
    )


@pytest.mark.parametrize(
    ("shape", "axis"), [((*SIZE, 3), None), ((2, *SIZE), 0), ((*SIZE, 2), 2)]
)
def test_channels_of_arrays(shape, axis):
    pixels = picture(0, shape)
    (entry,) = from_arrays([pixels], [two_objects()])
    np.testing.assert_array_equal(entry.read().rgb, to_rgb(pixels, channel_axis=axis))
    if axis is not None:
        (entry,) = from_arrays([pixels], [two_objects()], channel=[1, 0])
        expected = to_rgb(pixels, channel_axis=axis, channel=[1, 0])
        np.testing.assert_array_equal(entry.read().rgb, expected)


def test_arrays_that_do_not_fit_are_found():
    found = from_arrays(
        [picture(), picture(), picture()],
        [two_objects()[1:], np.stack([two_objects()] * 3), np.zeros(3)],
    )
    assert not found
    assert len(found.findings) == 3
    with pytest.raises(DataError, match="2 images, 1 labels"):
        from_arrays([picture()] * 2, [two_objects()])


def test_fingerprints_of_arrays_depend_on_values():
    prints = [
        from_arrays([pixels], [labels], complete=complete)[0].fingerprint
        for pixels, labels, complete in [
            (picture(), two_objects(), True),
            (picture(1), two_objects(), True),
            (picture(), two_objects(first=4), True),
            (picture(), two_objects(), False),
            (picture(), two_objects(), True),
        ]
    ]
    assert len(set(prints)) == 4
    assert prints[0] == prints[-1]


# ---------------------------------------------------------------- masks, SA-1B, COCO


def square(top: int, left: int, side: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def runs(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's uncompressed run lengths, by columns, beginning with zeros."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(np.concatenate(([False], flat)))).tolist()
    counts = np.diff([0, *changes, flat.size]).tolist()
    return {"size": [*mask.shape], "counts": counts}


def compressed(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    coder = pytest.importorskip("pycocotools.mask")
    encoded = coder.encode(np.asfortranarray(mask, np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


PARTS = [square(4, 4, 4), square(2, 2, 12), square(9, 9, 4), square(5, 5, 2)]


@pytest.mark.parametrize("encode", [runs, compressed])
def test_overlapping_masks_are_put_into_layers(encode):
    layers = mask_layers([encode(mask) for mask in PARTS], SIZE)
    whole, parts, inner = layers
    np.testing.assert_array_equal(whole, PARTS[1])
    np.testing.assert_array_equal(parts, PARTS[0] * 1 + PARTS[2] * 2)
    np.testing.assert_array_equal(inner, PARTS[3])


def test_masks_without_a_layer_left_are_left_out():
    layers = mask_layers([runs(mask) for mask in PARTS], SIZE, max_layers=2)
    assert [layer.max() for layer in layers] == [1, 2]
    empty = mask_layers([runs(np.zeros(SIZE, bool))], SIZE)
    assert empty.shape == (1, *SIZE)
    assert not empty.any()


def test_a_pixel_or_two_may_be_shared():
    first, second = square(0, 0, 6), square(5, 5, 5)
    layers = mask_layers([runs(first), runs(second)], SIZE)
    assert len(layers) == 1
    assert layers[0, 5, 5] == 1
    assert (layers[0] > 0).sum() == (first | second).sum()
    assert len(mask_layers([runs(first), runs(square(4, 4, 5))], SIZE)) == 2


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [9, 9], "counts": [81]},
        {"size": [*SIZE], "counts": [3, 4]},
        {"size": [*SIZE], "counts": [HEIGHT * WIDTH + 1, -1]},
        {"size": [*SIZE], "counts": [2**63 - 1, 2**63 - 1, HEIGHT * WIDTH + 2]},
        {"size": [*SIZE], "counts": [2**70]},
        {"size": [*SIZE], "counts": [[HEIGHT * WIDTH]]},
        {"size": [*SIZE], "counts": "zz"},
        {"size": [*SIZE], "counts": "\u00e9"},
        {"size": [*SIZE], "counts": "nnnnnnnn0"},
        {"size": [*SIZE], "counts": 7},
        {"size": "ab", "counts": "0"},
        {"counts": "0"},
        [["a"] * 6],
        [3],
        "0",
        None,
    ],
)
def test_broken_masks_are_refused(mask):
    pytest.importorskip("pycocotools")
    with pytest.raises(DataError):
        mask_layers([mask], SIZE)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_run_lengths_are_those_that_pycocotools_writes(share):
    coder = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(0).random((300, 200)) < share
    encoded = coder.encode(np.asfortranarray(mask, np.uint8))
    for counts in (encoded["counts"], encoded["counts"].decode()):
        layers = mask_layers([{"size": [300, 200], "counts": counts}], (300, 200))
        np.testing.assert_array_equal(layers, [mask])
    with pytest.raises(DataError, match="add up"):
        mask_layers([{"size": [300, 201], "counts": encoded["counts"]}], (300, 201))


def test_sa1b(tmp_path):
    write(tmp_path / "part" / "sa_1.jpg", picture(0, (*SIZE, 3)))
    content = {"annotations": [{"segmentation": compressed(m)} for m in PARTS]}
    (tmp_path / "part" / "sa_1.json").write_text(json.dumps(content))
    write(tmp_path / "sa_2.jpg", picture())
    (tmp_path / "sa_3.json").write_text("{}")
    write(tmp_path / "sa_4.jpg", picture())
    (tmp_path / "sa_4.json").write_text('{"annotations": 5}')
    found = find_sa1b(tmp_path)
    entry, broken = found
    image = pickle.loads(pickle.dumps(entry)).read()
    assert (image.name, image.complete) == ("sa1b/part/sa_1", False)
    assert image.labels.shape == (3, *SIZE)
    expected = iio.imread(tmp_path / "part" / "sa_1.jpg")
    np.testing.assert_array_equal(image.rgb, expected)
    with pytest.raises(DataError, match=r"sa_4\.json has no masks"):
        broken.read()
    assert [f.kind for f in found.findings] == [
        "images without a label file",
        "labels without an image",
    ]


def coco_file(folder: Path, annotations: list[dict[str, Any]]) -> Path:
    for number in (1, 2):
        write(folder / "images" / f"{number}.png", picture(number))
    listed = [{"id": n, "file_name": f"{n}.png"} for n in (1, 2, 3)]
    path = folder / "cells.json"
    path.write_text(json.dumps({"images": listed, "annotations": annotations}))
    return path


def test_coco(tmp_path):
    pytest.importorskip("pycocotools")
    polygon = [[2, 2, 14, 2, 14, 14, 2, 14]]
    path = coco_file(
        tmp_path,
        [
            {"image_id": 1, "segmentation": polygon},
            {"image_id": 1, "segmentation": compressed(PARTS[0])},
            {"image_id": 2, "segmentation": runs(PARTS[2])},
            {"image_id": 2, "segmentation": runs(PARTS[3]), "iscrowd": 1},
            {"image_id": 3, "segmentation": polygon},
        ],
    )
    found = find_coco(path, complete=True)
    first, second = (pickle.loads(pickle.dumps(entry)).read() for entry in found)
    assert (first.name, first.dataset, first.complete) == ("cells/1", "cells", True)
    np.testing.assert_array_equal(first.labels[0], PARTS[1])
    np.testing.assert_array_equal(first.labels[1], PARTS[0])
    # The crowd is no object, and its pixels are not surely background.
    assert not second.complete
    np.testing.assert_array_equal(second.labels, PARTS[2][np.newaxis])
    assert len(texts(found)) == 1
    assert texts(found)[0].startswith("3.png")
    assert not any(e.complete for e in find_coco(path, tmp_path / "images"))


def test_coco_images_without_objects_are_found(tmp_path):
    path = coco_file(tmp_path, [])
    found = find_coco(path)
    assert not found
    kinds = [finding.kind for finding in found.findings]
    assert kinds == ["no objects", "no objects", "labels without an image"]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"images": [1], "annotations": []}', "\xff", '{"images": []}'],
)
def test_files_of_another_format_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.json"):
        find_coco(tmp_path / "a.json")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(DataError, match="pip install pycocotools"):
        mask_layers([[[0, 0, 9, 0, 9, 9]]], SIZE)
    assert mask_layers([runs(PARTS[0])], SIZE).any()


def test_missing_folders_are_errors(tmp_path):
    with pytest.raises(DataError, match="no images of SA-1B"):
        find_sa1b(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        find_coco(tmp_path / "missing.json")
