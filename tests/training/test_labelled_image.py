"""Labelled images: ids of any kind become numbers without gaps, and memory has a bound."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_tinysam.errors import DataError
from napari_tinysam.image import to_rgb
from napari_tinysam.objects import maps as object_maps
from tinysam_training.data import ImageEntry, ImageStore, LabelledImage
from tinysam_training.labelled_image import relabelled

ID_TYPES = st.sampled_from(
    ["u1", "u2", "<u4", ">u4", "<i8", ">i2", "<u8", "<i4", "<f4", "<f8", "?"]
)


def plain_relabelling(labels: np.ndarray) -> np.ndarray:
    """Number ids by their rank, one at a time."""
    ids = sorted(set(labels.ravel().tolist()) - {0})
    numbers = {0: 0} | {value: rank for rank, value in enumerate(ids, start=1)}
    flat = [numbers[value] for value in labels.ravel().tolist()]
    return np.array(flat).reshape(labels.shape)


@settings(deadline=None, max_examples=60)
@given(st.data(), ID_TYPES)
def test_objects_are_numbered_by_rank_of_their_ids(data, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind in "fb":
        elements = st.integers(0, 1 if dtype.kind == "b" else 2**20)
    else:
        elements = st.integers(0, np.iinfo(dtype).max) | st.integers(0, 20)
    shape = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
    labels = data.draw(hnp.arrays(dtype, shape, elements=elements))

    found = relabelled(labels)

    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, plain_relabelling(labels))


def test_ids_that_float64_cannot_tell_apart_stay_apart():
    labels = np.array([[0, 2**63], [2**63 + 1, 2**63]], np.uint64)
    np.testing.assert_array_equal(relabelled(labels), [[0, 1], [2, 1]])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[0, -1]]), "negative"),
        (np.array([[0.0, 1.5]]), r"whole numbers \(1\.5"),
        (np.array([[0.0, np.nan]]), "not finite"),
        (np.array([[0.0, np.inf]], np.float16), "not finite"),
        (np.array([[0.0, 1e300]]), "too large"),
        (np.array([["a", "b"]]), "whole numbers"),
        (np.array([[1j, 0]]), "whole numbers"),
    ],
)
def test_values_that_are_no_ids_are_refused(labels, message):
    with pytest.raises(DataError, match=message) as caught:
        LabelledImage.from_arrays("nuclei/7", "nuclei", np.eye(1, 2), labels)
    assert str(caught.value).startswith("nuclei/7: ")


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (np.arange(48, dtype=np.uint8).reshape(4, 4, 3), {}),
        (np.arange(64, dtype=np.uint8).reshape(4, 4, 4), {}),
        (np.arange(16, dtype=np.uint16).reshape(4, 4) * 999, {}),
        (np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4), {}),
        (np.arange(60.0).reshape(2, 5, 6) ** 2, {"channel": [1, 0]}),
        (np.arange(32).reshape(4, 4, 2), {"channel_axis": 2, "channel": 1}),
    ],
    ids=["RGB", "RGBA", "16-bit", "float", "channels first", "channels last"],
)
def test_training_sees_what_inference_sees(image, options):
    expected = to_rgb(image, **options)
    labels = np.ones(expected.shape[:2], int)
    found = LabelledImage.from_arrays("a", "s", image, labels, **options)
    np.testing.assert_array_equal(found.rgb, expected)


def test_layers_are_numbered_by_themselves():
    labels = np.array([[[0, 7], [9, 7]], [[7, 7], [0, 0]]])
    found = LabelledImage.from_arrays("a", "s", np.eye(2), labels, complete=False)
    assert not found.complete
    np.testing.assert_array_equal(found.labels, [[[0, 1], [2, 1]], [[1, 1], [0, 0]]])


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        ((4, 6), (6, 4), "the image has 6 × 4 pixels, its labels have 4 × 6"),
        ((4, 6), (2, 4, 5), "its labels have 5 × 4"),
        ((4, 6), (4,), r"labels \(H, W\)"),
        ((4, 6), (1, 1, 4, 6), r"labels \(H, W\)"),
        ((4, 6), (0, 4, 6), r"labels \(H, W\)"),
        ((0, 6), (0, 6), "no pixels"),
        ((4,), (4, 4), "two axes"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(image, labels, message):
    with pytest.raises(DataError, match=message):
        LabelledImage.from_arrays("a", "s", np.zeros(image), np.zeros(labels, np.uint8))


def test_arrays_of_another_type_are_refused():
    rgb, labels = np.zeros((2, 3, 3), np.uint8), np.zeros((1, 2, 3), np.int32)
    LabelledImage("a", "s", rgb, labels)
    for bad_rgb, bad_labels in [
        (rgb.astype(float), labels),
        (rgb[..., 0], labels),
        (rgb, labels[0]),
        (rgb, labels.astype(np.int64)),
        (rgb[:1], labels),
    ]:
        with pytest.raises(DataError):
            LabelledImage("a", "s", bad_rgb, bad_labels)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.uint8, (2, 5, 6), elements=st.integers(0, 4)))
def test_boxes_hold_exactly_their_objects(labels):
    image = LabelledImage.from_arrays("a", "s", np.zeros((5, 6)), labels)
    expected = []
    for layer, plane in enumerate(image.labels):
        for number in range(1, plane.max() + 1):
            ys, xs = np.nonzero(plane == number)
            box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            expected.append((layer, *box))
    assert image.boxes.dtype == np.int64
    assert image.boxes.shape == (len(expected), 5)
    assert [tuple(row) for row in image.boxes] == expected


def test_distance_maps_are_those_of_the_main_layer():
    labels = np.zeros((2, 9, 9), np.uint8)
    labels[0, 2:7, 1:8] = 3
    labels[1, 0:2] = 1
    image = LabelledImage.from_arrays("a", "s", np.zeros((9, 9)), labels)
    for name in ("boundary_distance", "centre_distance"):
        expected = getattr(object_maps, name)(image.labels[0])
        np.testing.assert_array_equal(getattr(image, name), expected)
        assert getattr(image, name) is getattr(image, name), "computed once"


# ---------------------------------------------------------------- the store

READS: list[int] = []


def numbered_image(number: int) -> LabelledImage:
    READS.append(number)
    labels = np.eye(10, dtype=np.uint8)
    return LabelledImage.from_arrays(
        str(number), "s", np.full((10, 10), number), labels
    )


def numbered_entry(number: int) -> ImageEntry:
    return ImageEntry(
        str(number), "s", True, partial(numbered_image, number), f"{number:x}"
    )


@pytest.fixture(autouse=True)
def _no_reads() -> None:
    READS.clear()


IMAGE_BYTES = 10 * 10 * (3 + 4 + 1 + 1)  # rgb, one layer, two maps


def test_the_store_keeps_what_was_used_last():
    store = ImageStore([numbered_entry(i) for i in range(4)], 2 * IMAGE_BYTES)
    for number in (0, 1, 0, 2, 0, 1, 2):
        assert store[number].name == str(number)
    # 0 and 1 are read, 2 replaces 1, then 1 replaces 2, and 2 replaces 0.
    assert READS == [0, 1, 2, 1, 2]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 5), max_size=30),
    st.integers(0, 4 * IMAGE_BYTES),
)
def test_the_store_never_keeps_more_than_its_memory(numbers, memory):
    READS.clear()
    store = ImageStore([numbered_entry(i) for i in range(6)], memory)
    recent: list[int] = []  # a plain statement of "least recently used"
    expected = []
    room = memory // IMAGE_BYTES
    for number in numbers:
        if number not in recent:
            expected.append(number)
        recent = [*(n for n in recent if n != number), number]
        recent = recent[max(0, len(recent) - room) :] if room else []
        assert store[number].name == str(number)
    assert expected == READS


def test_memory_counts_the_maps_before_they_are_computed():
    image = numbered_image(1)
    assert image.nbytes == IMAGE_BYTES
    assert image.boundary_distance.nbytes + image.centre_distance.nbytes == 200
    assert image.nbytes == IMAGE_BYTES


def test_the_store_is_a_sequence():
    store = ImageStore([numbered_entry(i) for i in range(3)])
    assert len(store) == 3
    assert [image.name for image in store] == ["0", "1", "2"]
    assert store[-1].name == "2"
    with pytest.raises(IndexError):
        store[3]
    assert [entry.name for entry in store.entries] == ["0", "1", "2"]


def test_a_copy_for_a_worker_starts_empty():
    store = ImageStore([numbered_entry(i) for i in range(2)])
    image = store[0]
    copy = pickle.loads(pickle.dumps(store))
    READS.clear()
    assert copy[0].name == image.name
    assert READS == [0]
    assert copy.memory_bytes == store.memory_bytes
