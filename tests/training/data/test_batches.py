"""Batches: every tensor says of every window and object what the window says."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from tinysam_training.data.batches import Batch, make_batch
from tinysam_training.data.targets import (
    known,
    means,
    object_maps_targets,
    valid,
)
from tinysam_training.data.windows import Window, frame_window, whole_frame
from tinysam_training.labelled_image import LabelledImage

MEAN = np.array([123.675, 116.28, 103.53])[:, None, None]
STD = np.array([58.395, 57.12, 57.375])[:, None, None]

EMPTY = LabelledImage(
    "empty", "set", np.zeros((9, 9, 3), np.uint8), np.zeros((1, 9, 9), np.int32)
)


@pytest.fixture(scope="module")
def windows() -> list[Window]:
    """Four windows, padded, of an image of 60 squares of 10 to 30 pixels in the frame."""
    rng = np.random.default_rng(0)
    labels = np.zeros((1, 100, 90), np.int32)
    for number in range(1, 61):
        y, x = divmod(number - 1, 8)
        labels[0, 12 * y : 12 * y + 1 + number // 20, 11 * x + 1 : 11 * x + 4] = number
    rgb = rng.integers(1, 256, (100, 90, 3), np.uint8)
    return [
        frame_window(
            LabelledImage(str(number), "set", rgb, labels, number % 2 == 0),
            416,
            10 * number,
            35,  # the last of them in the padding
        )
        for number in range(3)
    ]


@pytest.fixture(scope="module")
def empty() -> Window:
    return frame_window(EMPTY, 416, 0, 0)


def test_images_are_normalised_and_padded_with_zeros(windows: list[Window]) -> None:
    padded = replace(windows[0], height=100, width=130)
    batch = make_batch([windows[1], padded], 4, np.random.default_rng(0))
    shown = np.s_[:, : windows[1].height, : windows[1].width]
    assert windows[1].width < 416
    np.testing.assert_allclose(
        batch.image[0][shown], ((windows[1].rgb - MEAN) / STD)[shown], atol=1e-5
    )
    assert (batch.image[1, :, 100:] == 0).all()
    assert (batch.image[1, :, :, 130:] == 0).all()
    np.testing.assert_allclose(
        batch.image[1, :, :100, :130],
        ((padded.rgb - MEAN) / STD)[:, :100, :130],
        atol=1e-5,
    )


def test_maps_are_those_of_the_windows(windows: list[Window]) -> None:
    batch = make_batch(windows, 4, np.random.default_rng(0))
    for number, window in enumerate(windows):
        maps, weight = object_maps_targets(window)
        np.testing.assert_array_equal(batch.maps[number], maps)
        np.testing.assert_array_equal(batch.maps_weight[number], weight)
        for share, plane in (
            (batch.valid[number, 0], valid(window)),
            (batch.known[number, 0], known(window)),
        ):
            np.testing.assert_array_equal(
                share, means(plane[None].astype(np.float32))[0]
            )
    assert batch.known[1].sum() < batch.valid[1].sum()  # partly annotated


def test_maps_may_be_finer_than_masks(windows: list[Window]) -> None:
    batch = make_batch(windows, 4, np.random.default_rng(0), map_stride=2)
    assert batch.maps.shape == (3, 3, 208, 208)
    assert batch.maps_weight.shape == (3, 1, 208, 208)
    assert batch.valid.shape == batch.known.shape == (3, 1, 104, 104)
    for number, window in enumerate(windows):
        maps, weight = object_maps_targets(window, 2)
        np.testing.assert_array_equal(batch.maps[number], maps)
        np.testing.assert_array_equal(batch.maps_weight[number], weight)


def test_objects_are_different_ones_of_their_windows(windows: list[Window]) -> None:
    batch = make_batch(windows, 5, np.random.default_rng(0))
    assert batch.window.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    found = set()
    for owner, target, box in zip(
        batch.window.tolist(), batch.targets, batch.boxes.int(), strict=True
    ):
        x0, y0, x1, y1 = box.tolist()
        labels = windows[owner].labels[0]
        numbers = np.unique(labels[y0 : y1 + 1, x0 : x1 + 1])
        areas = [
            np.isclose((labels == n).sum(), 16 * float(target.sum())) for n in numbers
        ]
        (number,) = (
            int(n) for n, same in zip(numbers, areas, strict=True) if same and n
        )
        ys, xs = np.nonzero(labels == number)
        assert (x0, y0, x1, y1) == (xs.min(), ys.min(), xs.max(), ys.max())
        found.add((owner, number))
    assert len(found) == 15


def test_few_objects_are_all_taken(windows: list[Window], empty: Window) -> None:
    batch = make_batch([empty, windows[0]], 1000, np.random.default_rng(0))
    visible = [n for n in np.unique(windows[0].labels) if n]
    areas = [(windows[0].labels == n).sum() for n in visible]
    assert batch.window.tolist() == [1] * sum(area >= 24 for area in areas)
    assert len(batch) == 2


def test_without_objects_a_batch_is_still_one(empty: Window) -> None:
    batch = make_batch([empty, empty], 3, np.random.default_rng(0))
    assert batch.targets.shape == (0, 104, 104)
    assert batch.boxes.shape == (0, 4)
    assert batch.window.shape == (0,)
    assert batch.image.shape == (2, 3, 416, 416)


def test_dtypes_and_shapes(windows: list[Window]) -> None:
    batch = make_batch(windows, 2, np.random.default_rng(0))
    shapes = {
        field.name: tuple(getattr(batch, field.name).shape) for field in fields(batch)
    }
    assert shapes == {
        "image": (3, 3, 416, 416),
        "maps": (3, 3, 104, 104),
        "maps_weight": (3, 1, 104, 104),
        "valid": (3, 1, 104, 104),
        "known": (3, 1, 104, 104),
        "offset": (3, 2),
        "window": (6,),
        "targets": (6, 104, 104),
        "boxes": (6, 4),
    }
    for field in fields(batch):
        whole = field.name in ("offset", "window")
        dtype = torch.int64 if whole else torch.float32
        assert getattr(batch, field.name).dtype == dtype


def test_offsets_are_random_but_within_the_frame(windows: list[Window]) -> None:
    rng = np.random.default_rng(0)
    tiny = frame_window(EMPTY, 32, 0, 0, whole_frame(EMPTY))
    offsets = make_batch([tiny] * 400, 1, rng).offset
    assert offsets.amin(dim=0).tolist() == [0, 0]
    assert offsets.amax(dim=0).tolist() == [62, 62]
    frame = make_batch([whole_frame(EMPTY)], 1, rng)
    assert frame.offset.tolist() == [[0, 0]]
    given = [(0, 38), (5, 6), (7, 0)]
    assert make_batch(windows, 1, rng, given).offset.tolist() == [
        list(o) for o in given
    ]


@pytest.mark.parametrize("offsets", [[(0, 0)], [(0, 39)] * 3, [(-1, 0)] * 3])
def test_offsets_outside_the_frame_are_refused(
    windows: list[Window], offsets: list[tuple[int, int]]
) -> None:
    with pytest.raises(ValueError, match="0 to 38"):
        make_batch(windows, 1, np.random.default_rng(0), offsets)


def test_windows_of_different_sizes_are_refused(windows: list[Window]) -> None:
    image = LabelledImage(
        "other", "set", np.zeros((9, 9, 3), np.uint8), np.ones((1, 9, 9), np.int32)
    )
    other = frame_window(image, 32, 0, 0)
    for some in ([windows[0], other], []):
        with pytest.raises(ValueError, match="one size"):
            make_batch(some, 1, np.random.default_rng(0))


def test_the_generator_decides(windows: list[Window]) -> None:
    first, second, other = (
        make_batch(windows, 3, np.random.default_rng(seed)) for seed in (4, 4, 5)
    )
    for field in fields(Batch):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name))
    assert not torch.equal(first.boxes, other.boxes)


def test_batches_move_as_a_whole(windows: list[Window]) -> None:
    batch = make_batch(windows, 3, np.random.default_rng(0))
    moved = batch.to("meta")
    assert all(getattr(moved, field.name).is_meta for field in fields(Batch))
    copy = pickle.loads(pickle.dumps(batch))
    assert torch.equal(copy.targets, batch.targets)
