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

from napari_tinysam.model import ImageFeatures
from tinysam_training import batching
from tinysam_training.batching import (
    TURNS,
    EmbeddedFrame,
    FrameBatches,
    Sources,
    WindowBatches,
    drawn_window,
    placed,
    turned,
)
from tinysam_training.data.augmentation import Augmentation
from tinysam_training.data.labelled_image import LabelledImage
from tinysam_training.data.windows import frame_window
from tinysam_training.frame import CELL, FRAME
from tinysam_training.loop import Request
from tinysam_training.recipes import Stage
from training.small_runs import RECIPE, discs

if TYPE_CHECKING:
    from tinysam_training.objective import TrainingBatch

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
    first = batches[Request(3, 0)]
    assert first.number == 3
    batches[Request(4, 0)]
    assert same(first, batches[Request(3, 0)])
    # Another dataset object, as another process has it.
    assert same(first, WindowBatches(Sources.even(discs(2)), recipe)[Request(3, 0)])
    assert not same(first, batches[Request(4, 0)])
    seeded = WindowBatches(Sources.even(discs(2)), replace(recipe, seed=1))
    assert not torch.equal(first.windows.image, seeded[Request(3, 0)].windows.image)


def test_a_batch_is_of_the_stage_that_is_asked_for() -> None:
    stages = (RECIPE.stages[0], Stage(windows=((96, 1, 1.0),), objects=1))
    batches = WindowBatches(Sources.even(discs(2)), replace(RECIPE, stages=stages))
    assert batches[Request(0, 0)].windows.image.shape == (2, 3, 64, 64)
    later = batches[Request(0, 1)].windows
    assert later.image.shape == (1, 3, 96, 96)
    assert len(later.window) <= 1


def test_a_stage_may_show_everything_smaller() -> None:
    def extent(zoom: tuple[float, float] | None) -> float:
        stage = Stage(windows=((256, 2, 1.0),), objects=8, zoom=zoom)
        recipe = replace(RECIPE, stages=(stage,))
        batches = WindowBatches(Sources.even(discs(2)), recipe)
        boxes = np.concatenate([batches[Request(i, 0)].windows.boxes for i in range(6)])
        return float(np.median(boxes[:, 2:] - boxes[:, :2] + 1))

    inference = extent(None)
    assert extent((1.0, 1.0)) == pytest.approx(inference, rel=0.1)
    assert extent((0.5, 0.5)) == pytest.approx(inference / 2, rel=0.2)


# ---------------------------------------------------------------------- embeddings


def with_details(frame: EmbeddedFrame) -> ImageFeatures:
    """A batch of one; each cell's code at twice and four times the resolution, too."""
    code = coded(frame)[None]
    finer = [
        code.repeat_interleave(n, 2).repeat_interleave(n, 3)[:, :2] for n in (2, 4)
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
        batch = batches[Request(number, 0)]
        assert (batch.features is None) is not own
        assert (batch.teacher is None) is own
        given = batch.teacher
        if batch.features is not None:
            given, details = batch.features
            for n, finer in zip((2, 4), details, strict=True):
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


def test_the_same_request_is_the_same_cut() -> None:
    def make() -> FrameBatches:
        return FrameBatches(
            Sources.even(discs(2)), tuple(TURNS), with_details, RECIPE, own=True
        )

    assert same(make()[Request(5, 0)], make()[Request(5, 0)])
    assert not same(make()[Request(5, 0)], make()[Request(6, 0)])
