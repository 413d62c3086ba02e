"""Stacks judged with a simulated user: discs that are followed, end too late, or are lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_tinysam.errors import DataError, FileError
from napari_tinysam.masks import BoxedMask
from tinysam_training.evaluation.volumes import (
    VolumeSettings,
    _Clicked,
    find_volumes,
    judge_volume,
    mean_of,
)
from volume.stack_of_discs import SHAPE, Disc, Stack, disc

CLICKED = VolumeSettings(objects=0, clicks=4, automatic=False)


def judged(seen: list[list[Disc]], true: list[list[Disc]]) -> object:
    """Judge a model that sees some discs, where others are true."""
    labels = np.zeros((len(true), *SHAPE), np.int64)
    for plane, discs in enumerate(true):
        for number, one in enumerate(discs, start=1):
            if one[2]:
                labels[plane][disc(*one).to_full()] = number
    planes = [np.full((*SHAPE, 3), plane, np.uint8) for plane in range(len(true))]
    return judge_volume(Stack(seen).predictor, "discs", planes, labels, CLICKED)


def test_one_click_for_an_object_that_is_seen_in_all_planes() -> None:
    stack: list[list[Disc]] = [
        [(300 + 4 * n, 300, 100), (700, 700, 80)] for n in range(6)
    ]
    found = judged(stack, stack)
    assert (found.objects, found.followed, found.planes, found.noc90) == (2, 1, 6, 1)
    assert found.click1_iou > 0.97
    assert found.last_iou == found.click1_iou
    assert found.msa is None


def test_an_object_that_is_followed_too_far_needs_a_click_to_end() -> None:
    """The model sees a column of discs, of which only half belong to the object."""
    seen: list[list[Disc]] = [[(300, 300, 100)] for _ in range(8)]
    true: list[list[Disc]] = [[(300, 300, 100 if n < 4 else 0)] for n in range(8)]
    found = judged(seen, true)
    assert found.followed == 1
    assert found.click1_iou == pytest.approx(0.5, abs=0.02)
    assert found.noc90 == 2
    assert found.last_iou > 0.97


def test_an_object_that_is_lost_needs_more_clicks() -> None:
    """From a plane on it is elsewhere; what lies between two anchors is interpolated."""
    stack: list[list[Disc]] = [
        [(250, 250, 90)] if n < 4 else [(750, 750, 90)] for n in range(7)
    ]
    found = judged(stack, stack)
    assert found.planes == 4
    assert found.followed == pytest.approx(4 / 7)
    assert found.click1_iou < 0.7
    assert 1 < found.noc90 <= 4
    assert found.last_iou > 0.9


def test_an_object_that_no_click_finds() -> None:
    seen: list[list[Disc]] = [[(800, 800, 30)] for _ in range(4)]
    true: list[list[Disc]] = [[(300, 300, 100)] for _ in range(4)]
    found = judged(seen, true)
    assert found.planes == 0
    assert found.noc90 == CLICKED.clicks + 1


def test_objects_of_few_planes_are_not_clicked() -> None:
    stack: list[list[Disc]] = [[(300, 300, 90 if n < 2 else 0)] for n in range(4)]
    with pytest.raises(DataError, match="3 planes"):
        judged(stack, stack)


volumes = arrays(bool, (4, 5, 6), elements=st.booleans())


@given(true=volumes, found=volumes)
@settings(deadline=None, max_examples=60)
def test_iou_in_three_dimensions(true: np.ndarray, found: np.ndarray) -> None:
    """Over all planes at once, and wrong pixels of each."""

    def masks(volume: np.ndarray) -> dict[int, BoxedMask]:
        shown = [plane for plane in range(4) if volume[plane].any()]
        return {plane: BoxedMask.from_full(volume[plane]) for plane in shown}

    each = _Clicked(masks(true), (5, 6))
    each.found = masks(found)
    if true.any() or found.any():
        assert each.iou == pytest.approx((true & found).sum() / (true | found).sum())
    for plane in range(4):
        wrong = np.count_nonzero(true[plane] ^ found[plane])
        assert each.wrong(plane) == pytest.approx(wrong)


def test_planes_before_failure() -> None:
    """Planes beyond a failure do not count, nor does one that is wrong where it was clicked."""
    one, small = disc(300, 300, 100), disc(300, 300, 40)
    each = _Clicked(dict.fromkeys(range(7), one), SHAPE)
    each.true[3] = disc(300, 300, 110)
    each.found = dict.fromkeys(range(7), one)
    assert each.reached() == (7, 7)
    each.found[5] = small
    assert each.reached() == (5, 7)
    del each.found[1]
    assert each.reached() == (3, 7)
    each.found[3] = small
    assert each.reached() == (0, 7)


def test_means() -> None:
    stack: list[list[Disc]] = [[(300, 300, 100)] for _ in range(4)]
    one = judged(stack, stack)
    both = mean_of([one, one])
    assert both.objects == 2
    assert (both.name, both.noc90, both.msa) == ("mean", one.noc90, None)


def save(path: Path, pixels: np.ndarray, axes: str = "ZYX") -> None:
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": axes})


def test_stacks_are_found_by_their_names(tmp_path: Path) -> None:
    labels = np.zeros((3, 16, 20), np.uint16)
    labels[:, 3:9, 3:9] = 4
    save(tmp_path / "a.tif", labels * 20)
    save(tmp_path / "a_labels.tif", labels)
    save(tmp_path / "b_image.tif", labels * 20)
    np.save(tmp_path / "b_masks.npy", labels)
    save(tmp_path / "alone.tif", labels)
    (tmp_path / "notes.txt").write_text("nothing")
    found = find_volumes(tmp_path)
    assert [each.name for each in found] == ["a", "b"]
    planes, read = found[0].read()
    assert planes[0].shape == (16, 20, 3)
    np.testing.assert_array_equal(read, labels)


def test_folders_without_stacks(tmp_path: Path) -> None:
    labels = np.zeros((3, 16, 20), np.uint16)
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileError, match="no stack"):
            find_volumes(folder)
    save(tmp_path / "a.tif", labels)
    save(tmp_path / "a_label.tif", labels[:2])
    with pytest.raises(FileError, match="does not fit"):
        find_volumes(tmp_path)
    save(tmp_path / "a_label.tif", labels[0], "YX")
    with pytest.raises(FileError, match="single plane"):
        find_volumes(tmp_path)
    save(tmp_path / "a_label.tif", np.zeros((2, 3, 16, 20), "u2"), "TZYX")
    with pytest.raises(FileError, match="more axes"):
        find_volumes(tmp_path)
    save(tmp_path / "a_label.tif", np.full((3, 16, 20), 0.5, "f4"))
    with pytest.raises(FileError, match="whole numbers"):
        find_volumes(tmp_path)[0].read()
