"""Batches: turned images, windows of frames, embeddings cut along their cells."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from napari_tinysam.frame import CELL, FRAME
from napari_tinysam.model import ImageFeatures
from tinysam_training.data import ImageStore, batching
from tinysam_training.data.augmentation import Augmentation
from tinysam_training.data.batching import (
    TURNS,
    EmbeddedFrame,
    FrameBatches,
    Sources,
    WindowBatches,
    balanced_weights,
    drawn_scale,
    drawn_window,
    placed,
    turned,
)
from tinysam_training.data.labelled_image import ImageEntry, LabelledImage
from tinysam_training.data.pool import ImagePool, Place, PooledImage, PoolWindows
from tinysam_training.data.windows import frame_window
from tinysam_training.recipe import Stage
from tinysam_training.run.loop import BatchRequest
from training.small_runs import RECIPE, discs

if TYPE_CHECKING:
    from tinysam_training.learning.objective import TrainingBatch

GRID = FRAME // CELL


@st.composite
def images(draw: st.DrawFn) -> LabelledImage:
    """Random rectangles in two layers of an image of any shape."""
    height, width = draw(st.integers(5, 40)), draw(st.integers(5, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.zeros((2, height, width), np.int32)
    for layer in labels:
        for label in (1, 2):
            y, x = rng.integers(height), rng.integers(width)
            layer[y : y + 6, x : x + 9] = label
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return LabelledImage.from_arrays("a", "b", pixels, labels)


# ------------------------------------------------------------------------- turning


@pytest.mark.parametrize("turn", TURNS)
@given(image=images())
@settings(max_examples=15, deadline=None)
def test_labels_and_distances_follow_the_image(turn: str, image: LabelledImage) -> None:
    found = turned(image, turn)
    # Where each pixel went, told by the image itself.
    places = np.arange(image.labels[0].size, dtype=np.int64).reshape(
        image.labels[0].shape
    )
    where = TURNS[turn](places)
    assert np.array_equal(found.rgb, image.rgb.reshape(-1, 3)[where])
    for layer, before in zip(found.labels, image.labels, strict=True):
        assert np.array_equal(layer, before.ravel()[where])
    for name in ("boundary_distance", "centre_distance"):
        before = getattr(image, name)
        assert np.array_equal(getattr(found, name), before.ravel()[where])
    # The same as if it were computed from the turned labels (a centre between two pixels is not).
    fresh = LabelledImage("c", "b", found.rgb, found.labels)
    assert np.array_equal(found.boundary_distance, fresh.boundary_distance)
    assert np.array_equal(found.boxes, fresh.boxes)
    assert found.rgb.flags.c_contiguous
    assert found.complete == image.complete


def test_there_are_eight_different_turns() -> None:
    plane = np.arange(6).reshape(2, 3)
    found = {
        TURNS[turn](plane).tobytes() + str(TURNS[turn](plane).shape).encode()
        for turn in TURNS
    }
    assert len(found) == len(TURNS) == 8
    kept = [turn for turn in TURNS if TURNS[turn](plane).shape == plane.shape]
    assert kept == list(TURNS)[:4]


def test_partly_annotated_images_stay_so() -> None:
    image = discs(1)[0]
    partly = LabelledImage("p", "b", image.rgb, image.labels, complete=False)
    assert not turned(partly, "transposed").complete
    assert turned(partly, "identity") is partly


# ------------------------------------------------------------------------- placing


@given(
    images(),
    st.sampled_from([32, 64, 224, 512, 1024]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_windows_lie_in_the_frame_with_an_object_in_view(
    image: LabelledImage, side: int, seed: int
) -> None:
    cells = side // CELL
    top, left = placed(image, cells, np.random.default_rng(seed))
    assert 0 <= top <= GRID - cells
    assert 0 <= left <= GRID - cells
    # No more padding than there must be: the window begins where the image still fills it.
    height, width = image.rgb.shape[:2]
    scale = GRID / max(height, width)
    assert top == 0 or top + cells < height * scale + 1
    assert left == 0 or left + cells < width * scale + 1
    centres = [
        ((y0 + y1) / 2 * scale, (x0 + x1) / 2 * scale)
        for _, x0, y0, x1, y1 in image.boxes
    ]
    assert any(
        top - 0.5 <= y <= top + cells + 0.5 and left - 0.5 <= x <= left + cells + 0.5
        for y, x in centres
    )


def test_an_image_without_objects_is_looked_at_somewhere() -> None:
    image = discs(1)[0]
    empty = LabelledImage("e", "b", image.rgb, np.zeros_like(image.labels))
    top, left = placed(empty, 4, np.random.default_rng(0))
    assert 0 <= top <= GRID - 4
    assert 0 <= left <= GRID - 4


# ------------------------------------------------------------------------- drawing


def test_images_are_drawn_by_their_shares() -> None:
    sources = Sources.by_share(discs(3), [6, 3, 1])
    assert sources.weights.sum() == pytest.approx(1)
    rng = np.random.default_rng(0)
    drawn = Counter(sources.draw(rng) for _ in range(4000))
    found = [drawn[i] / 4000 for i in range(3)]
    assert found == pytest.approx([0.6, 0.3, 0.1], abs=0.03)
    assert Sources.even(discs(4)).weights == pytest.approx([0.25] * 4)


def test_windows_are_drawn_by_their_weights() -> None:
    stage = Stage(windows=((64, 4, 3.0), (128, 1, 1.0)))
    rng = np.random.default_rng(0)
    drawn = Counter(drawn_window(stage, rng) for _ in range(4000))
    assert set(drawn) == {(64, 4), (128, 1)}
    assert drawn[64, 4] / 4000 == pytest.approx(0.75, abs=0.03)


def same(one: TrainingBatch, two: TrainingBatch) -> bool:
    return (
        one.number == two.number
        and all(
            torch.equal(getattr(one.windows, f.name), getattr(two.windows, f.name))
            for f in fields(one.windows)
        )
        and (one.features is None) is (two.features is None)
        and all(map(torch.equal, tensors_of(one.features), tensors_of(two.features)))
    )


def tensors_of(features: ImageFeatures | None) -> list[torch.Tensor]:
    return [] if features is None else [features.embedding, *features.details]


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


# ----------------------------------------------------------------- windows of a pool


class Watched(ImagePool):
    """A pool that remembers what it was asked for last."""

    place: Place
    found: PoolWindows

    def windows(self, place: Place, side: int) -> PoolWindows:
        self.place, self.found = place, super().windows(place, side)
        return self.found


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "ImagePool", Watched)


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
    assert batching.AROUND_OBJECT - 0.1 < np.mean(seen) <= 1
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


# ------------------------------------------------------------------ how often, how large


def pooled(dataset: str, gray: bool, mean: float) -> PooledImage:
    boxes = np.zeros((0, 5), np.int64)
    return PooledImage(dataset, (8, 8), boxes, True, gray, mean)


def test_rare_looks_of_a_set_are_drawn_more_often() -> None:
    images = [pooled("a", True, 0.1)] * 100 + [pooled("a", True, 0.8)] * 4
    images += [pooled("a", False, 0.8)] + [pooled("b", True, 0.1)] * 5
    shares = np.array([0.7 / 105] * 105 + [0.3 / 5] * 5)
    found = balanced_weights(shares, images)
    assert found.sum() == pytest.approx(1)
    assert found[:105].sum() == pytest.approx(0.7)
    assert found[105:].sum() == pytest.approx(0.3)
    np.testing.assert_allclose(found[105:], 0.3 / 5)
    groups = [found[:100].sum(), found[100:104].sum(), found[104]]
    np.testing.assert_allclose(np.array(groups) / 0.7, np.array([10, 2, 1]) / 13)
    np.testing.assert_allclose(found[:100], found[0])


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


# ---------------------------------------------------------------------- embeddings


def with_details(frame: EmbeddedFrame) -> ImageFeatures:
    """A batch of one; each cell's code at two, four and eight times the resolution, too."""
    code = coded(frame)[None]
    finer = [
        code.repeat_interleave(n, 2).repeat_interleave(n, 3)[:, :2] for n in (2, 4, 8)
    ]
    return ImageFeatures(code, tuple(finer))


def coded(frame: EmbeddedFrame) -> torch.Tensor:
    """An embedding whose values say which image, turn and cell they are of."""
    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    turn = list(TURNS).index(frame.turn)
    planes = [y, x, torch.full_like(y, frame.image), torch.full_like(y, turn)]
    return torch.stack(planes).half()


@pytest.mark.parametrize("own", [True, False])
def test_embeddings_are_cut_where_the_windows_are(
    own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []

    def window(image: LabelledImage, side: int, top: int, left: int) -> object:
        seen.append((image.name, top, left))
        return frame_window(image, side, top, left)

    monkeypatch.setattr(batching, "frame_window", window)
    images = discs(3)
    batches = FrameBatches(
        Sources.even(images),
        ("identity", "transposed"),
        with_details if own else coded,
        RECIPE,
        own=own,
    )
    names: set[str] = set()
    for number in range(6):
        seen.clear()
        batch = batches[BatchRequest(number, 0)]
        assert (batch.features is None) is not own
        assert (batch.teacher is None) is own
        given = batch.teacher
        if batch.features is not None:
            given, details = batch.features
            for n, finer in zip((2, 4, 8), details, strict=True):
                wanted = given.repeat_interleave(n, 2).repeat_interleave(n, 3)
                assert torch.equal(finer, wanted[:, :2])
        assert given is not None
        assert given.dtype == torch.float32
        assert given.shape == (2, 4, 4, 4)
        for cut, offset, (name, top, left) in zip(
            given, batch.windows.offset.tolist(), seen, strict=True
        ):
            names.add(name)
            assert offset == [top, left]
            assert cut[0, :, 0].tolist() == list(range(top, top + 4))
            assert cut[1, 0].tolist() == list(range(left, left + 4))
            image, turn = images[int(cut[2, 0, 0])], list(TURNS)[int(cut[3, 0, 0])]
            assert name == turned(image, turn).name
    assert len(names) > 3  # different images, different turns


def test_maps_of_frames_have_the_stride_of_the_head() -> None:
    batches = FrameBatches(
        Sources.even(discs(1)), ("identity",), coded, RECIPE, own=False, map_stride=2
    )
    windows = batches[BatchRequest(0, 0)].windows
    assert windows.maps.shape == (2, 3, 32, 32)
    assert windows.maps_weight.shape == (2, 1, 32, 32)
    assert windows.valid.shape == (2, 1, 16, 16)


def test_the_same_request_is_the_same_cut() -> None:
    def make() -> FrameBatches:
        return FrameBatches(
            Sources.even(discs(2)), tuple(TURNS), with_details, RECIPE, own=True
        )

    assert same(make()[BatchRequest(5, 0)], make()[BatchRequest(5, 0)])
    assert not same(make()[BatchRequest(5, 0)], make()[BatchRequest(6, 0)])
