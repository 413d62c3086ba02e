"""Batches of augmented windows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from napari_tinysam.frame import CELL, FRAME
from tinysam_training.data import ImageStore, window_batches
from tinysam_training.data.pool import ImagePool, Place, PoolWindows
from tinysam_training.data.sampling import (
    BatchRequest,
    Sources,
)
from tinysam_training.data.window_batches import (
    AROUND_OBJECT,
    WindowBatches,
    drawn_scale,
)
from tinysam_training.labelled_image import ImageEntry, LabelledImage
from tinysam_training.recipe import Augmentation, Stage
from training.small_runs import RECIPE, discs, same


def test_the_same_request_is_the_same_batch() -> None:
    recipe = replace(RECIPE, augmentation=Augmentation())
    batches = WindowBatches(Sources.even(discs(2)), recipe)
    first = batches[BatchRequest(3, 0)]
    assert first.number == 3
    batches[BatchRequest(4, 0)]
    assert same(first, batches[BatchRequest(3, 0)])
    # Another dataset object, as another process has it.
    assert same(
        first, WindowBatches(Sources.even(discs(2)), recipe)[BatchRequest(3, 0)]
    )
    assert not same(first, batches[BatchRequest(4, 0)])
    seeded = WindowBatches(Sources.even(discs(2)), replace(recipe, seed=1))
    assert not torch.equal(
        first.windows.image, seeded[BatchRequest(3, 0)].windows.image
    )


def test_outlines_of_prompted_objects_are_wide_or_tight_and_maps_are_not() -> None:
    found = []
    for changes in (
        Augmentation.none(),
        replace(Augmentation.none(), outline_probability=1.0, outline=3.0),
    ):
        stage = replace(RECIPE.stages[0], objects=100)  # all: none is left to chance
        recipe = replace(RECIPE, augmentation=changes, stages=(stage,))
        batches = WindowBatches(Sources.even(discs(2)), recipe)
        found.append([batches[BatchRequest(n, 0)].windows for n in range(8)])
    areas = []
    for plain, moved in zip(*found, strict=True):
        assert torch.equal(plain.image, moved.image)
        assert torch.equal(plain.maps, moved.maps)
        for window in range(len(plain)):
            rows = [each.window == window for each in (plain, moved)]
            if all(row.any() for row in rows):
                areas.append(
                    [
                        float(each.targets[row].sum(0).clamp(max=1).sum())
                        for each, row in zip((plain, moved), rows, strict=True)
                    ]
                )
    before, after = np.array(areas).T
    assert (after > before).any()
    assert (after < before).any()


def test_a_batch_is_of_the_stage_that_is_asked_for() -> None:
    stages = (RECIPE.stages[0], Stage(windows=((96, 1, 1.0),), objects=1))
    batches = WindowBatches(Sources.even(discs(2)), replace(RECIPE, stages=stages))
    assert batches[BatchRequest(0, 0)].windows.image.shape == (2, 3, 64, 64)
    later = batches[BatchRequest(0, 1)].windows
    assert later.image.shape == (1, 3, 96, 96)
    assert len(later.window) <= 1


def test_a_stage_may_show_everything_smaller() -> None:
    def extent(zoom: tuple[float, float] | None) -> float:
        stage = Stage(windows=((256, 2, 1.0),), objects=8, zoom=zoom)
        recipe = replace(RECIPE, stages=(stage,))
        batches = WindowBatches(Sources.even(discs(2)), recipe)
        boxes = np.concatenate(
            [batches[BatchRequest(i, 0)].windows.boxes for i in range(6)]
        )
        return float(np.median(boxes[:, 2:] - boxes[:, :2] + 1))

    inference = extent(None)
    assert extent((1.0, 1.0)) == pytest.approx(inference, rel=0.1)
    assert extent((0.5, 0.5)) == pytest.approx(inference / 2, rel=0.2)


class Watched(ImagePool):
    """A pool that remembers what it was asked for last."""

    place: Place
    found: PoolWindows

    def windows(self, place: Place, side: int) -> PoolWindows:
        self.place, self.found = place, super().windows(place, side)
        return self.found


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_batches, "ImagePool", Watched)


def pool_of(batches: WindowBatches) -> Watched:
    assert isinstance(batches.pool, Watched)
    return batches.pool


def means(plane: np.ndarray, stride: int) -> np.ndarray:
    side = plane.shape[-1] // stride
    parts = plane.astype(np.float64).reshape(side, stride, side, stride)
    return parts.mean(axis=(1, 3))


def two_layers(number: int, *, complete: bool = True) -> LabelledImage:
    image = discs(number + 1)[number]
    second = np.zeros_like(image.labels)
    second[0, 100:140, 60:90] = 1
    labels = np.concatenate([image.labels, second])
    return LabelledImage(image.name, "layers", image.rgb, labels, complete)


@pytest.mark.parametrize("map_stride", [2, 4])
@pytest.mark.usefixtures("watched")
def test_batches_say_what_their_windows_show(map_stride: int) -> None:
    images = [*discs(1), two_layers(1), two_layers(2, complete=False)]
    stage = Stage(windows=((96, 3, 1.0),), objects=4, zoom=(0.3, 1.5))
    recipe = replace(RECIPE, stages=(stage,), augmentation=Augmentation.full())
    batches = WindowBatches(Sources.even(images), recipe, map_stride=map_stride)
    objects, partly = 0, 0
    for number in range(8):
        made = batches[BatchRequest(number, 0)]
        assert made.prompted
        batch, pool = made.windows, pool_of(batches)
        found = pool.found
        assert batch.image.dtype == torch.float32
        assert batch.offset.min() >= 0
        assert batch.offset.max() <= (FRAME - 96) // CELL
        for row, which in enumerate(pool.place.image):
            layers, inside = found.labels[row].numpy(), found.inside[row].numpy()
            assert (batch.image[row].numpy()[:, ~inside] == 0).all()
            planes = (layers[0] > 0, found.centre_distance[row].numpy())
            planes = (*planes, found.boundary_distance[row].numpy())
            for share, plane in zip(batch.maps[row].numpy(), planes, strict=True):
                np.testing.assert_allclose(share, means(plane, map_stride), atol=1e-6)
            known, trusted = inside, inside
            if not images[which].complete:
                partly += 1
                of_all = ndi.maximum_filter(layers.any(axis=0), 9, mode="constant")
                of_first = ndi.maximum_filter(layers[0] > 0, 9, mode="constant")
                known, trusted = known & of_all, trusted & of_first
            for share, plane, stride in (
                (batch.valid, inside, 4),
                (batch.known, known, 4),
                (batch.maps_weight, trusted, map_stride),
            ):
                np.testing.assert_allclose(
                    share[row, 0].numpy(), means(plane, stride), atol=1e-6
                )
        assert batch.window.tolist() == sorted(batch.window.tolist())
        assert len(batch.window) == len(batch.targets) == len(batch.boxes)
        assert np.bincount(batch.window, minlength=3).max(initial=0) <= 4
        seen = set()
        for owner, target, box in zip(
            batch.window.tolist(), batch.targets.numpy(), batch.boxes, strict=True
        ):
            layers = found.labels[owner].numpy()
            x0, y0, x1, y1 = box.int().tolist()
            same = [
                (layer, label)
                for layer, labels in enumerate(layers)
                for label in np.unique(labels[y0 : y1 + 1, x0 : x1 + 1])
                if label and np.array_equal(means(labels == label, 4), target)
            ]
            assert len(same) == 1
            layer, label = same[0]
            ys, xs = np.nonzero(layers[layer] == label)
            assert (x0, y0, x1, y1) == (xs.min(), ys.min(), xs.max(), ys.max())
            seen.add((owner, layer, label))
        assert len(seen) == len(batch.window)
        objects += len(seen)
    assert objects > 20
    assert partly > 2


@pytest.mark.usefixtures("watched")
def test_without_augmentation_pixels_are_the_images() -> None:
    images = discs(2, size=1024)  # inference does not resize them
    batches = WindowBatches(Sources.even(images), RECIPE)
    assert not RECIPE.augmentation.changes_intensities
    batch = batches[BatchRequest(0, 0)].windows
    pool = pool_of(batches)
    assert (pool.place.scale == 1).all()
    assert (pool.place.angle == 0).all()
    assert not pool.place.mirrored.any()
    mean = np.array([123.675, 116.28, 103.53])[:, None, None]
    std = np.array([58.395, 57.12, 57.375])[:, None, None]
    wanted = (pool.found.rgb.numpy() - mean) / std
    np.testing.assert_allclose(batch.image, wanted, atol=1e-4)


def test_a_stage_without_objects_prompts_nothing() -> None:
    recipe = replace(RECIPE, stages=(replace(RECIPE.stages[0], objects=0),))
    batch = WindowBatches(Sources.even(discs(2)), recipe)[BatchRequest(0, 0)]
    assert not batch.prompted
    assert batch.windows.window.shape == (0,)
    assert batch.windows.window.dtype == torch.int64
    assert batch.windows.targets.shape == (0, 16, 16)
    assert batch.windows.boxes.shape == (0, 4)
    assert batch.windows.maps[:, 0].any()


@pytest.mark.usefixtures("watched")
def test_windows_lie_in_the_image_and_mostly_around_an_object() -> None:
    image = discs(1)[0]
    labels = (image.labels == 3).astype(np.int32)
    one = LabelledImage("o", "s", image.rgb, labels)
    stage = Stage(windows=((96, 8, 1.0),), objects=1)
    recipe = replace(RECIPE, stages=(stage,), augmentation=Augmentation.full())
    batches = WindowBatches(Sources.even([one]), recipe)
    seen, angles, mirrored = [], [], []
    for number in range(25):
        batches[BatchRequest(number, 0)]
        pool = pool_of(batches)
        place, found = pool.place, pool.found
        half = 96 / 2 / place.scale[:, None]
        low = np.minimum(half, 256)
        assert (place.centre >= low - 1e-6).all()
        assert (place.centre <= 512 - low + 1e-6).all()
        seen += (found.labels > 0).flatten(1).any(1).tolist()
        angles += place.angle.tolist()
        mirrored += place.mirrored.tolist()
    assert AROUND_OBJECT - 0.1 < np.mean(seen) <= 1
    turns = np.array(angles) / (np.pi / 2)
    whole = np.isclose(turns, np.round(turns))
    assert 0.35 < whole.mean() < 0.65
    assert {0, 1, 2, 3} == set(turns[whole].round().astype(int) % 4)
    assert 0.35 < np.mean(mirrored) < 0.65


def test_specks_are_not_looked_for_beside_objects() -> None:
    labels = np.zeros((64, 1024), np.int32)
    labels[20:40, 10:40] = 1
    labels[30, 900] = 2
    rgb = np.zeros((64, 1024, 3), np.uint8)
    recipe = replace(RECIPE, stages=(Stage(windows=((64, 1, 1.0),)),))

    def shown(labels: np.ndarray) -> float:
        image = LabelledImage("s", "s", rgb, labels[None])
        batches = WindowBatches(Sources.even([image]), recipe)
        maps = [batches[BatchRequest(n, 0)].windows.maps[0, 0] for n in range(40)]
        small = [0 < float(plane.sum()) * 16 <= 1.5 for plane in maps]
        return float(np.mean(small))

    assert shown(labels) < 0.15  # where a window lies anywhere
    assert shown(np.where(labels == 2, 1, 0).astype(np.int32)) > 0.5


def test_an_image_without_objects_gives_windows() -> None:
    image = discs(1)[0]
    empty = LabelledImage("e", "s", image.rgb, np.zeros_like(image.labels))
    recipe = replace(RECIPE, augmentation=Augmentation.full())
    batch = WindowBatches(Sources.even([empty]), recipe)[BatchRequest(0, 0)]
    assert batch.prompted
    assert len(batch.windows.window) == 0
    assert not batch.windows.maps[:, 0].any()
    assert batch.windows.valid.any()


def test_images_are_read_once_and_not_kept() -> None:
    reads = Counter[str]()

    def read() -> LabelledImage:
        reads["a"] += 1
        return discs(1)[0]

    store = ImageStore([ImageEntry("a", "b", True, read, "0")])
    WindowBatches(Sources.even(store), RECIPE)
    assert reads["a"] == 1
    store[0]  # nothing of it was left in the store
    assert reads["a"] == 2


def test_only_shares_are_balanced() -> None:
    bright = [LabelledImage(i.name, "discs", 255 - i.rgb, i.labels) for i in discs(1)]
    images = [*discs(3), *bright]
    even = WindowBatches(Sources.even(images), RECIPE)
    np.testing.assert_allclose(even.weights, 0.25)
    shared = WindowBatches(Sources.by_share(images, [1, 1, 1, 1]), RECIPE)
    root = np.sqrt(3)
    np.testing.assert_allclose(shared.weights[:3].sum(), root / (1 + root))


@given(
    size=st.tuples(st.integers(8, 5000), st.integers(8, 5000)),
    zoom=st.tuples(st.floats(0.1, 1), st.floats(1, 4)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=100, deadline=None)
def test_scales_are_between_those_of_inference(
    size: tuple[int, int], zoom: tuple[float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    inference = FRAME / max(size)
    changes = replace(Augmentation.none(), zoom=zoom)
    scale = drawn_scale(size, None, 64, changes, rng)
    assert min(inference, 2) * zoom[0] * 0.999 <= scale
    assert scale <= max(inference, 1) * zoom[1] * 1.001
    as_inference = drawn_scale(size, None, 64, Augmentation.none(), rng)
    assert as_inference == inference


@given(
    size=st.tuples(st.integers(64, 3000), st.integers(64, 3000)),
    extent=st.integers(1, 60),
    side=st.sampled_from([64, 256, 512]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=100, deadline=None)
def test_objects_take_their_extent_and_mostly_fit(
    size: tuple[int, int], extent: int, side: int, seed: int
) -> None:
    box = np.array([3, 4, 3 + extent // 2, 4 + extent])
    changes = replace(Augmentation.none(), zoom=(0.5, 2.0), extent=(8.0, 400.0))

    def shown(fit: float) -> float:
        rng = np.random.default_rng(seed)
        fitting = replace(changes, fit_probability=fit)
        return extent * drawn_scale(size, box, side, fitting, rng)

    assert 7.999 <= shown(0.0) <= 400.001
    # What would not fit is made smaller, but not smaller than the zoom allows.
    least = 0.5 * min(FRAME / max(size), 2.0) * extent
    assert shown(1.0) <= max(0.9 * side, min(least, shown(0.0))) * 1.001
    assert shown(1.0) <= shown(0.0) * 1.001
