"""The check of training data: it names what is wrong, leaves out what is, and never crashes."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from tinysam_training.data import (
    DataReport,
    FoundEntries,
    ImageEntry,
    LabelledImage,
    check_data,
    find_pairs,
    fingerprints,
    from_arrays,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = (40, 48)


def picture(seed: int = 0, shape: tuple[int, ...] = SIZE) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def grid(rows: int = 3, columns: int = 3, side: int = 6) -> Any:
    """Squares with a number each."""
    labels = np.zeros(SIZE, np.uint16)
    for number in range(rows * columns):
        y, x = 10 * (number // columns) + 2, 10 * (number % columns) + 2
        labels[y : y + side, x : x + side] = number + 1
    return labels


def good(folder: Path, *seeds: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        iio.imwrite(folder / f"good{seed}.png", picture(seed))
        iio.imwrite(folder / f"good{seed}_label.png", grid())


def arrays(*pairs: tuple[Any, Any], dataset: str = "set") -> FoundEntries:
    images, labels = zip(*pairs, strict=True)
    return from_arrays(images, labels, dataset=dataset)


def kinds(report: DataReport, severity: str | None = None) -> set[str]:
    return {f.kind for f in report.findings if severity in (None, f.severity)}


# ---------------------------------------------------------------- nothing crashes it


def truncated(folder: Path) -> None:
    iio.imwrite(folder / "bad.png", picture(9, (200, 200)))
    iio.imwrite(folder / "bad_label.png", np.ones((200, 200), np.uint8))
    data = (folder / "bad.png").read_bytes()
    (folder / "bad.png").write_bytes(data[: len(data) // 2])


def truncated_label(folder: Path) -> None:
    iio.imwrite(folder / "bad.png", picture(9, (200, 200)))
    label = folder / "bad_label.png"
    iio.imwrite(label, picture(8, (200, 200)))
    label.write_bytes(label.read_bytes()[:9000])


def file_with(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)
        iio.imwrite(folder / "bad_label.png", grid())

    return write


def label_with(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        iio.imwrite(folder / "bad.png", picture(9))
        (folder / name).write_bytes(content)

    return write


def folder_called(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).mkdir()
        other = "bad_label.png" if name == "bad.png" else "bad.png"
        iio.imwrite(folder / other, grid().astype(np.uint8))

    return write


def labels_of(labels: Any, suffix: str = ".tif") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        iio.imwrite(folder / "bad.png", picture(9))
        path = folder / f"bad_label{suffix}"
        if suffix == ".tif":
            tifffile.imwrite(path, labels, photometric="minisblack")
        elif suffix == ".npy":
            np.save(path, labels)
        else:
            iio.imwrite(path, labels)

    return write


def image_of(image: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        np.save(folder / "bad.npy", image)
        iio.imwrite(folder / "bad_label.png", grid())

    return write


def dangling(folder: Path) -> None:
    os.symlink(folder / "nowhere.png", folder / "bad.png")
    iio.imwrite(folder / "bad_label.png", grid())


BAD = {
    "truncated PNG": truncated,
    "truncated label": truncated_label,
    "empty PNG": file_with("bad.png", b""),
    "empty TIFF": file_with("bad.tif", b""),
    "empty NPZ": file_with("bad.npz", b""),
    "text as TIFF": file_with("bad.tif", b"these are words"),
    "text as NPZ": file_with("bad.npz", b"these are words"),
    "text as NPY": file_with("bad.npy", b"these are words"),
    "TIFF without pages": file_with("bad.tif", b"II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "empty label": label_with("bad_label.png", b""),
    "text as label": label_with("bad_label.tif", b"words"),
    "text as NPZ label": label_with("bad_label.npz", b"PK words"),
    "folder as image": folder_called("bad.png"),
    "folder as label": folder_called("bad_label.png"),
    "link to nowhere": dangling,
    "other size": labels_of(np.ones((9, 9), np.uint8)),
    "no objects": labels_of(np.zeros(SIZE, np.uint8)),
    "fractions": labels_of(np.full(SIZE, 0.5, np.float32)),
    "NaN": labels_of(np.full(SIZE, np.nan, np.float32)),
    "negative": labels_of(np.full(SIZE, -3, np.int16)),
    "3-D labels": labels_of(np.ones((5, *SIZE), np.uint8)),
    "labels of text": labels_of(np.full(SIZE, "a"), ".npy"),
    "labels of one axis": labels_of(np.ones(5, np.uint8), ".npy"),
    "photo as label": labels_of(picture(1, (*SIZE, 3)), ".png"),
    "classes": labels_of((grid() > 0).astype(np.uint8) * 255, ".png"),
    "two classes": labels_of(np.where(grid() > 4, 2, grid() > 0).astype(np.uint8)),
    "black": image_of(np.zeros(SIZE, np.uint8)),
    "image of text": image_of(np.full(SIZE, "a")),
    "image of one axis": image_of(np.arange(9)),
    "image without pixels": image_of(np.zeros((0, 9))),
    "structured": image_of(np.zeros(SIZE, [("a", "u1"), ("b", "f4")])),
}


@pytest.mark.parametrize("write", BAD.values(), ids=BAD)
def test_bad_files_are_left_out_and_named(tmp_path, write):
    folder = tmp_path / "cells"
    good(folder, 1)
    write(folder)
    report = check_data(find_pairs(folder))
    assert [entry.name for entry in report.usable_train] == ["cells/good1"]
    errors = [f for f in report.findings if f.severity == "error"]
    assert errors
    for finding in errors:
        assert "bad" in finding.text
        assert finding.text in report.text()
    assert report.refused is None


@pytest.mark.parametrize(
    "labels",
    [
        labels_of(grid().astype(np.int64) * 2**40),
        labels_of(grid().astype(np.uint64) + (grid() > 0) * np.uint64(2**63), ".npy"),
        labels_of(grid().astype(np.float32)),
        labels_of(grid().astype(">u2"), ".npy"),
        labels_of(grid() == 1),
    ],
    ids=[
        "64-bit",
        "above int64",
        "whole floats",
        "other byte order",
        "a single object",
    ],
)
def test_unusual_labels_are_used(tmp_path, labels):
    labels(tmp_path)
    report = check_data(find_pairs(tmp_path))
    assert len(report.usable_train) == 1
    assert not report.findings


def test_files_that_may_not_be_read_are_left_out(tmp_path, monkeypatch):
    def refuse(path: Path, mode: str) -> Any:
        if path.name == "good2.png":
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, mode)

    monkeypatch.setattr(fingerprints, "open", refuse, raising=False)
    good(tmp_path / "cells", 1, 2)
    report = check_data(find_pairs(tmp_path))
    assert len(report.usable_train) == 1
    assert [f.text for f in report.findings] == [
        f"{tmp_path / 'cells' / 'good2.png'} cannot be read: Permission denied."
    ]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden here"
)
def test_folders_that_may_not_be_read_are_named(tmp_path):
    good(tmp_path / "one", 1)
    good(tmp_path / "two", 2)
    (tmp_path / "two").chmod(0)
    try:
        report = check_data(find_pairs(tmp_path))
    finally:
        (tmp_path / "two").chmod(0o700)
    assert len(report.usable_train) == 1
    assert str(tmp_path / "two") in report.text()


def fail(error: Exception) -> LabelledImage:
    raise error


@pytest.mark.parametrize("error", [RuntimeError("disk on fire"), MemoryError()])
def test_whatever_reading_raises_is_a_finding(error):
    entry = ImageEntry("set/odd", "set", True, partial(fail, error), "00")
    report = check_data([entry, *arrays((picture(), grid()))])
    assert len(report.usable_train) == 1
    assert "set/odd" in report.text()


def test_files_that_change_after_they_were_found_are_left_out(tmp_path):
    good(tmp_path, 1, 2)
    found = find_pairs(tmp_path)
    (tmp_path / "good1.png").unlink()
    report = check_data(found)
    assert len(report.usable_train) == 1
    assert "good1.png does not exist" in report.text()


# ---------------------------------------------------------------- what is found in images


def test_good_data_gives_no_findings():
    report = check_data(
        arrays((picture(1), grid()), (picture(2), grid())),
        arrays((picture(3), grid()), dataset="val"),
    )
    assert not report.findings
    assert report.refused is None
    assert len(report.usable_train) == 2
    assert len(report.usable_val) == 1


def test_pieces_and_specks_are_warnings():
    labels = grid()
    labels[labels == 9] = 8  # two far apart
    labels[39, 40:44] = 20  # 4 pixels
    report = check_data(arrays((picture(), labels)))
    assert len(report.usable_train) == 1
    found = {f.kind: f.text for f in report.findings}
    assert "1 of 9 objects, with up to 2 pieces" in found["objects in pieces"]
    assert "1 of 9 objects have fewer than 10" in found["tiny objects"]
    assert kinds(report, "warning") == set(found)


def test_a_speck_beside_its_object_and_corners_are_no_pieces():
    labels = grid()
    labels[0, 0] = 9
    labels[8:10, 8:10] = 1  # touches object 1 at a corner
    assert not check_data(arrays((picture(), labels))).findings


def test_objects_of_exactly_ten_pixels_are_no_specks():
    labels = grid()
    labels[39, 30:40] = 20
    assert not check_data(arrays((picture(), labels))).findings
    labels[39, 30] = 0
    assert kinds(check_data(arrays((picture(), labels)))) == {"tiny objects"}


def test_contrast():
    faint = np.full(SIZE, 100, np.uint8)
    faint[5:10] = 103
    rgb = np.repeat(faint[..., None], 3, axis=-1)  # RGB keeps its contrast
    report = check_data(arrays((rgb, grid()), (picture(), grid())))
    assert len(report.usable_train) == 2
    assert kinds(report, "warning") == {"images with little contrast"}
    report = check_data(arrays((np.full_like(rgb, 9), grid()), (picture(), grid())))
    assert len(report.usable_train) == 1
    assert kinds(report, "error") == {"images without contrast"}


def test_very_large_images_are_named():
    wide = np.zeros((20, 5000), np.uint8)
    wide[:, ::3] = 200
    labels = np.zeros(wide.shape, np.uint8)
    labels[2:9, 3:14] = 1
    report = check_data(arrays((wide, labels)))
    assert kinds(report) == {"very large images"}
    assert "5000 × 20 pixels" in report.text()
    assert len(report.usable_train) == 1


def test_files_without_a_partner_are_in_the_report(tmp_path):
    good(tmp_path / "cells", 1)
    iio.imwrite(tmp_path / "cells" / "alone.png", picture(5))
    iio.imwrite(tmp_path / "cells" / "lost_label.png", grid())
    report = check_data(find_pairs(tmp_path))
    assert kinds(report) == {"images without a label file", "labels without an image"}
    for name in ("alone.png", "lost_label.png"):
        assert name in report.text()


# ---------------------------------------------------------------- duplicates


def test_validation_images_are_taken_out_of_training():
    same = picture(1)
    report = check_data(
        arrays((same, grid()), (picture(2), grid())),
        arrays((same, grid(2)), (picture(3), grid()), dataset="val"),
    )
    assert [e.name for e in report.usable_train] == ["set/image 2"]
    assert len(report.usable_val) == 2
    assert report.refused is None
    (finding,) = report.findings
    assert finding.severity == "warning"
    assert "set/image 1" in finding.text
    assert "val/image 1" in finding.text


def test_validation_on_training_images_alone_is_refused():
    data = arrays((picture(1), grid()), (picture(2), grid()))
    report = check_data(data, data)
    assert report.refused is not None
    assert "also training images" in report.refused
    assert kinds(report, "fatal") == {"validation on training images"}
    assert report.refused in report.text()


def test_all_training_images_in_the_validation_leave_nothing_to_train_on():
    data = arrays((picture(1), grid()), (picture(2), grid()))
    report = check_data(data[:1], data)
    assert kinds(report, "fatal") == {"nothing to train on"}


def test_repeated_training_images_are_a_warning():
    report = check_data(arrays((picture(1), grid()), (picture(1), grid(2))))
    assert len(report.usable_train) == 2
    assert kinds(report, "warning") == {"duplicate images"}


def blocks(seed: int) -> Any:
    """160 × 192 pixels; the blocks are not those of JPEG, which would keep them."""
    return np.kron(picture(seed, (16, 16)), np.ones((10, 12), np.uint8))


def test_resized_and_compressed_copies_are_named(tmp_path):
    labels = np.kron(grid(), np.ones((4, 4), np.uint16))
    iio.imwrite(tmp_path / "a.jpg", blocks(1), quality=90)
    copies = [blocks(1)[::2, ::2], iio.imread(tmp_path / "a.jpg"), blocks(2)]
    val = arrays(
        (copies[0], labels[::2, ::2]), (copies[1], labels), (copies[2], labels)
    )
    report = check_data(arrays((blocks(1), labels), (blocks(3), labels)), val)
    found = [f for f in report.findings if "looks like" in f.text]
    assert [f.text.split(" looks")[0] for f in found] == ["set/image 1", "set/image 2"]
    assert len(report.usable_train) == 2


# ---------------------------------------------------------------- the report


def test_nothing_to_train_on_is_refused():
    report = check_data([])
    assert report.refused == "There is no image to train on."
    report = check_data(arrays((picture(), np.zeros(SIZE, int))))
    assert report.refused == "There is no image to train on: all were left out."
    assert "no images" in report.text()


def test_validation_data_without_a_usable_image_is_a_warning():
    report = check_data(
        arrays((picture(), grid())), arrays((picture(1), np.zeros(SIZE, int)))
    )
    assert report.refused is None
    assert "nothing to validate on" in kinds(report, "warning")


def test_the_summary_counts_and_measures_what_is_used():
    discs = np.zeros((512, 256), np.uint8)
    y, x = np.mgrid[:512, :256]
    for number, (top, radius) in enumerate([(50, 10), (150, 20), (300, 40)], start=1):
        discs[np.hypot(y - top, x - 100) <= radius] = number
    report = check_data(arrays((picture(0, (512, 256)), discs)))
    assert report.objects == 3
    summary = report.text().splitlines()[0]
    assert summary == (
        "Training: 1 image, 3 objects, median diameter 40 px (80 px in the frame of 1024)."
    )


def test_sets_have_a_line_each_and_findings_few_examples():
    many = arrays(
        *[(picture(i), np.zeros(SIZE, int)) for i in range(9)], dataset="none"
    )
    train = arrays((picture(20), grid()), dataset="one")
    train += arrays((picture(21), grid()), dataset="two")
    text = check_data(train + many).text()
    assert "  one: 1 image, 9 objects" in text
    assert "  two: 1 image, 9 objects" in text
    assert "no objects (9):" in text
    assert text.count("has no objects.") == 3
    assert "and 6 more" in text


def test_the_fingerprint_depends_on_what_is_used_only(tmp_path):
    good(tmp_path / "one", 1, 2)
    first = check_data(find_pairs(tmp_path / "one"))
    good(tmp_path / "two", 1)
    good(tmp_path / "other", 2)
    (tmp_path / "two" / "broken.png").write_bytes(b"")
    moved = check_data(find_pairs(tmp_path / "other") + find_pairs(tmp_path / "two"))
    assert moved.fingerprint == first.fingerprint
    split = check_data(find_pairs(tmp_path / "other"), find_pairs(tmp_path / "two"))
    assert split.fingerprint != first.fingerprint
    iio.imwrite(tmp_path / "two" / "good1_label.png", grid(2))
    changed = check_data(find_pairs(tmp_path / "other") + find_pairs(tmp_path / "two"))
    assert changed.fingerprint != first.fingerprint


def test_progress_is_told_and_can_stop_it():
    data = arrays((picture(1), grid()), (picture(2), np.zeros(SIZE, int)))
    told: list[tuple[int, int]] = []
    check_data(data, data[:1], progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        check_data(data, progress=stop)


def test_images_without_objects_are_background_where_that_is_wanted() -> None:
    found = arrays((picture(1), grid()), (picture(2), 0 * grid()))
    assert "no objects" in kinds(check_data(found), "error")
    report = check_data(found, background=True)
    assert not kinds(report, "error")
    assert [len(facts.diameters) for facts in report.train_facts] == [9, 0]
    assert report.objects == 9
    # Of partly annotated images nobody knows.
    partly = from_arrays([picture(2)], [0 * grid()], complete=False)
    assert "no objects" in kinds(check_data(partly, background=True), "error")


def test_keys_depend_on_pixels_and_not_on_labels() -> None:
    one, other = grid(), grid(2)
    report = check_data(arrays((picture(1), one), (picture(2), one)))
    again = check_data(arrays((picture(2), other), (picture(3), other)))
    first, second = (
        [entry.pixels for entry in each.keyed(each.usable_train)]
        for each in (report, again)
    )
    assert first[1] == second[0]
    assert len({*first, *second}) == 3
