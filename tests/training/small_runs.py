"""A training small enough for tests: a small model, small windows, a few synthetic images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import torch
from hypothesis import strategies as st

from napari_tinysam import checkpoints
from napari_tinysam.everything.thresholds import NOTE
from tinysam_training.data.sampling import Sources
from tinysam_training.data.window_batches import WindowBatches
from tinysam_training.labelled_image import LabelledImage
from tinysam_training.learning.objective import Objective
from tinysam_training.recipe import (
    Augmentation,
    ModelSettings,
    OptimizerSettings,
    Recipe,
    Stage,
    ValidationSettings,
)
from tinysam_training.run.folder import RunFolder
from tinysam_training.run.loop import Training
from tinysam_training.run.starting import Hardware, launched, new_model

if TYPE_CHECKING:
    from napari_tinysam.model import Architecture, ImageFeatures, SegmentAnything
    from tinysam_training.data.batches import TrainingBatch
    from tinysam_training.run.starting import Precision

RECIPE = Recipe(
    name="small",
    steps=6,
    stages=(Stage(windows=((64, 2, 1.0),), objects=2, rounds=1),),
    model=ModelSettings(architecture="tiny_vit_2m", batch_norm="frozen"),
    optimizer=OptimizerSettings(learning_rate=1e-3, warmup=0.0),
    augmentation=Augmentation.none(),
    judging=ValidationSettings(every=0.5),
)


def discs(count: int = 4, size: int = 512) -> list[LabelledImage]:
    """Bright discs on a dark ground, the same every time."""
    images = []
    for number in range(count):
        rng = np.random.default_rng(number)
        y, x = np.mgrid[:size, :size]
        labels = np.zeros((size, size), np.int32)
        for label in range(1, 41):
            cy, cx, radius = *rng.uniform(15, size - 15, 2), rng.uniform(5, 9)
            labels[np.hypot(y - cy, x - cx) < radius] = label
        image = 40 + 150 * (labels > 0) + rng.normal(0, 5, labels.shape)
        images.append(
            LabelledImage.from_arrays(
                f"disc {number}",
                "discs",
                np.clip(image, 0, 255).astype(np.uint8),
                labels,
            )
        )
    return images


def training(
    folder: Path,
    recipe: Recipe = RECIPE,
    *,
    judge: Callable[[SegmentAnything], Mapping[str, float]] | None = None,
    export: Callable[[SegmentAnything, Mapping[str, float]], None] | None = None,
    resume: bool = False,
    clock: Callable[[], float] | None = None,
    images: list[LabelledImage] | None = None,
    precision: Precision = "auto",
) -> Training:
    """A run that is ready to start, or to go on."""
    fabric = launched(Hardware("cpu", precision=precision))
    torch.manual_seed(recipe.seed)
    student = new_model(recipe.model.architecture or "efficientnet_lite0")
    student.dense_prompts = bool(recipe.model.dense_prompts)
    if recipe.model.batch_norm == "frozen":
        settle(student)
    run_folder = RunFolder(folder, recipe, fingerprint="discs")
    run_folder.best = folder / "best.safetensors"
    run_folder.begin(resume=resume)
    options: dict[str, Any] = {} if clock is None else {"clock": clock}
    run = Training(
        Objective(student, recipe),
        WindowBatches(
            Sources.even(images or discs()), recipe, map_stride=student.map_stride
        ),
        recipe,
        run_folder,
        fabric,
        judge=judge,
        export=export,
        **options,
    )
    if resume:
        assert run.resume()
    return run


def settle(model: SegmentAnything) -> None:
    """Give batch norms the statistics of an image, or activations would vanish or explode."""
    generator = torch.Generator().manual_seed(0)
    model.image_encoder.train()
    with torch.no_grad():
        for _ in range(20):
            model.image_encoder(torch.randn(2, 3, 64, 64, generator=generator))


def with_steps(steps: int, **changes: Any) -> Recipe:
    return replace(RECIPE, steps=steps, **changes)


def write_start(
    path: Path, seed: int = 0, architecture: Architecture = "tiny_vit_2m"
) -> Path:
    """A small model in a file, to begin with or to learn from."""
    torch.manual_seed(seed)
    model = new_model(architecture)
    settle(model)
    notes = {NOTE: '{"labels": {"confidence": 0.33}}'}
    checkpoints.save(model.eval(), path, notes)
    return path


def write_pairs(folder: Path, count: int = 3, first: int = 0) -> Path:
    """PNG files of discs and of their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(discs(first + count)):
        if number >= first:
            iio.imwrite(folder / f"disc{number}.png", image.rgb[..., 0])
            iio.imwrite(
                folder / f"disc{number}_label.png", image.labels[0].astype(np.uint8)
            )
    return folder


class RisingJudge:
    """In place of `Judge`: no image is looked at, and each model is better than the one before."""

    def __init__(self, images: Any, device: Any, **options: Any) -> None:
        assert len(images)
        self.numbers = [0]
        self.calls = 0

    def __call__(self, model: SegmentAnything) -> dict[str, float]:
        assert not model.training
        self.calls += 1
        return {"score": self.calls / 10, "box_iou": 0.5}


class FallingJudge(RisingJudge):
    """No model is better than the start."""

    def __call__(self, model: SegmentAnything) -> dict[str, float]:
        return {"score": -super().__call__(model)["score"]}


def shortened(make: Callable[..., Recipe], steps: int = 2) -> Callable[..., Recipe]:
    """Let a function that makes recipes make small ones."""

    def small(*arguments: Any) -> Recipe:
        recipe = make(*arguments)
        return replace(recipe, stages=RECIPE.stages, steps=steps, minutes=0.0)

    return small


@st.composite
def rectangles(draw: st.DrawFn) -> LabelledImage:
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
