"""Mean features within masks, and how alike objects are, against plain restatements."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tinysam.inference.likeness import (
    AREA,
    ComparedObjects,
    ObjectFeatures,
    mean_features,
)
from napari_tinysam.inference.predictions import Embedding
from napari_tinysam.masks import BoxedMask

NOISE = np.random.default_rng(3)


def embedding_of(shape: tuple[int, int]) -> Embedding:
    longest = max(shape)
    inside = tuple(max(1, round(side * 1024 / longest)) for side in shape)
    return Embedding(None, shape, (inside[0], inside[1]), 1024, "any")


def plain_mean(
    features: np.ndarray, embedding: Embedding, mask: np.ndarray
) -> np.ndarray:
    """Average over pixels: each has the features of the cell that its middle lies in."""
    cells = features.shape[1]
    rows, columns = np.nonzero(mask)
    height, width = embedding.original_size
    y = (rows + 0.5) * embedding.input_size[0] / height * cells / 1024
    x = (columns + 0.5) * embedding.input_size[1] / width * cells / 1024
    return features[:, y.astype(int), x.astype(int)].mean(axis=1, dtype=float)


@pytest.mark.parametrize(
    "shape", [(1024, 1024), (200, 300), (300, 200), (1500, 900), (7, 40)]
)
def test_each_pixel_of_a_mask_counts_once(shape: tuple[int, int]) -> None:
    embedding = embedding_of(shape)
    maps = [NOISE.random((c, m, m), np.float32) for c, m in ((5, 64), (3, 128))]
    masks = []
    for _ in range(4):
        mask = NOISE.random(shape) < 0.3
        mask[:, : int(NOISE.integers(0, shape[1] - 1))] = False
        mask[shape[0] // 2, -1] = True
        masks.append(mask)
    boxed = [BoxedMask.from_full(mask) for mask in masks]
    found = mean_features(maps, embedding, boxed)
    for features, means in zip(maps, found, strict=True):
        expected = [plain_mean(features, embedding, mask) for mask in masks]
        np.testing.assert_allclose(means, expected, rtol=1e-4)


def test_half_precision_and_empty_masks_are_read() -> None:
    features = NOISE.random((3, 64, 64)).astype(np.float16)
    embedding = embedding_of((64, 64))
    one = np.zeros((64, 64), bool)
    one[5, 7] = True
    masks = [BoxedMask.empty((64, 64)), BoxedMask.from_full(one)]
    (found,) = mean_features([features], embedding, masks)
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_array_equal(found[1], features[:, 5, 7])


def compared(means: np.ndarray, areas: list[int] | None = None) -> ComparedObjects:
    """Objects whose mean features are these: each lies in a cell of its own."""
    count, channels = means.shape
    features = np.zeros((channels, 64, 64), np.float32)
    masks = []
    for number, area in enumerate(areas or [16] * count):
        features[:, number] = means[number][:, None]
        mask = np.zeros((1024, 1024), bool)
        mask[16 * number : 16 * number + 16].flat[:area] = True
        masks.append(BoxedMask.from_full(mask))
    objects = ObjectFeatures(masks)
    objects.add([features], embedding_of((1024, 1024)), masks, range(count))
    return objects.compared()


def test_likeness_is_the_cosine_without_what_all_have_in_common() -> None:
    means = NOISE.normal(size=(6, 8)).astype(np.float32) + 100
    objects = compared(means)
    apart = means - means.mean(axis=0)
    for number in range(6):
        cosine = (apart @ apart[number]) / (
            np.linalg.norm(apart, axis=1) * np.linalg.norm(apart[number])
        )
        found = objects.likeness([number])
        np.testing.assert_allclose(found, (1 + cosine) / 2, atol=1e-4)
    assert objects.likeness([2])[2] == pytest.approx(1, abs=1e-5)
    raw = means @ means[0] / np.linalg.norm(means, axis=1) / np.linalg.norm(means[0])
    assert raw.min() > 0.99  # without that, all look the same


def test_another_area_makes_a_little_less_alike() -> None:
    means = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    found = compared(means, [100, 100, 200, 100]).likeness([0])
    assert found[1] == pytest.approx(1)
    assert found[2] < found[1]
    larger = np.log(2)
    assert found[1] - found[2] == pytest.approx(AREA / 2 * larger)
    assert found[3] == 0


def test_finer_maps_are_not_read() -> None:
    maps = [NOISE.random((4, 64, 64), np.float32), np.full((2, 128, 128), np.nan)]
    masks = [BoxedMask.from_full(NOISE.random((64, 64)) < 0.2) for _ in range(3)]
    objects = ObjectFeatures(masks)
    objects.add(maps, embedding_of((64, 64)), masks, range(3))
    assert np.isfinite(objects.compared().vectors).all()


def test_objects_that_no_look_shows_are_like_none() -> None:
    mask = np.zeros((64, 64), bool)
    mask[:20, :20] = True
    boxed = [BoxedMask.from_full(each) for each in (mask, mask.T, mask[::-1].copy())]
    features = ObjectFeatures(boxed)
    maps = [NOISE.random((4, 64, 64), np.float32)]
    features.add(maps, embedding_of((64, 64)), [boxed[0], boxed[2]], [0, 2])
    vectors = features.compared().vectors
    np.testing.assert_array_equal(vectors[1], 0)
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 2]], axis=1), 1, rtol=1e-5)
    assert features.compared().likeness([0])[1] == 0.5
    assert not ObjectFeatures(boxed).compared().vectors.any()


def test_looks_add_up_to_what_one_look_shows() -> None:
    maps = [NOISE.random((4, 64, 64), np.float32)]
    embedding = embedding_of((64, 64))
    masks = [BoxedMask.from_full(NOISE.random((64, 64)) < 0.2) for _ in range(5)]
    at_once, in_parts = ObjectFeatures(masks), ObjectFeatures(masks)
    at_once.add(maps, embedding, masks, range(5))
    for some in ([3, 1], [0], [4, 2]):
        in_parts.add(maps, embedding, [masks[n] for n in some], some)
    np.testing.assert_allclose(at_once.compared().vectors, in_parts.compared().vectors)


def test_several_examples_are_averaged_and_the_nearest_class_wins() -> None:
    directions = np.repeat(np.eye(3), 4, axis=0)
    objects = compared((directions + NOISE.normal(0, 0.05, (12, 3))).astype("f4"))
    classes = [[0, 1], [4], [8, 9, 10]]
    kinds = objects.most_alike(classes)
    np.testing.assert_array_equal(kinds, np.repeat(np.arange(3), 4))
    mean = objects.vectors[[8, 9, 10]].mean(axis=0)
    expected = (1 + objects.vectors @ (mean / np.linalg.norm(mean))) / 2
    np.testing.assert_allclose(objects.likeness([8, 9, 10]), expected, atol=1e-6)
