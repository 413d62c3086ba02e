"""Timings of training and evaluation: data, network, whole steps. Weights are random.

``extra_info`` has the number of images in a round: divided by the time, it gives images a second.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

from napari_tinysam.model import ImageFeatures
from tinysam_training.commands.finetune import FinetuneSettings, Way, finetune_recipe
from tinysam_training.data.frame_batches import FrameBatches
from tinysam_training.data.sampling import BatchRequest, Sources
from tinysam_training.data.window_batches import WindowBatches
from tinysam_training.labelled_image import ImageEntry
from tinysam_training.recipe import Recipe, Stage
from tinysam_training.run.loop import Training
from tinysam_training.synthetic import SYNTHETIC_KINDS, synthetic_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.labelled_image import LabelledImage

SIDE, COUNT, OBJECTS = 224, 4, 4
ROUNDS = 3


@pytest.fixture(scope="module")
def device() -> Any:
    from napari_tinysam.inference.runtime.torch_runtime import choose_device

    return choose_device()


@pytest.fixture(scope="module")
def images() -> list[LabelledImage]:
    """Synthetic images of the first kind, with distance maps."""
    rng = np.random.default_rng(0)
    found = [synthetic_image(rng, SYNTHETIC_KINDS[0]) for _ in range(4)]
    for image in found:
        assert image.boundary_distance.shape == image.centre_distance.shape
    return found


@pytest.fixture
def model() -> SegmentAnything:
    import torch

    from tinysam_training.run.starting import new_model

    torch.manual_seed(0)
    return new_model("tiny_vit")


def timed(
    benchmark: BenchmarkFixture,
    function: Callable[[], object],
    device: Any = None,
    **counted: int,
) -> Any:
    """Run a few rounds, waiting for the device; record the work of a round."""
    import torch

    def run() -> object:
        result = function()
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize()
        return result

    benchmark.extra_info |= counted
    return benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)


# ---------------------------------------------------------------------------- data


@pytest.mark.parametrize("kind", SYNTHETIC_KINDS)
def test_synthetic_image(benchmark: BenchmarkFixture, kind: str) -> None:
    rng = np.random.default_rng(0)
    image = timed(benchmark, lambda: synthetic_image(rng, kind), images=1)
    assert image.labels.any()


@pytest.mark.parametrize(("side", "count"), [(256, 16), (512, 3), (1024, 1)])
def test_augmented_windows(
    benchmark: BenchmarkFixture,
    images: list[LabelledImage],
    device: Any,
    side: int,
    count: int,
) -> None:
    """Time pixels and object maps alone, as in the bundled model's first stage."""
    stage = Stage(windows=((side, count, 1.0),), objects=0)
    recipe = Recipe(steps=1, stages=(stage,))
    batches = WindowBatches(Sources.even(images), recipe, device=device)
    batch = timed(benchmark, lambda: batches[BatchRequest(0, 0)], device, windows=count)
    assert batch.windows.image.shape == (count, 3, side, side)


# ------------------------------------------------------------------------- network


def test_encoder_forward_and_backward(
    benchmark: BenchmarkFixture, model: SegmentAnything, device: Any
) -> None:
    import torch

    encoder = model.image_encoder.to(device, memory_format=torch.channels_last)
    image = torch.randn(COUNT, 3, SIDE, SIDE, device=device)

    def step() -> None:
        encoder.zero_grad()
        encoder(image).square().mean().backward()

    timed(benchmark, step, device, windows=COUNT)


@pytest.mark.parametrize("count", [1, 16])
def test_decoder_forward_and_backward(
    benchmark: BenchmarkFixture, model: SegmentAnything, device: Any, count: int
) -> None:
    import torch

    from tinysam_training.learning.decoding import decode

    model.to(device)
    cells = SIDE // 16
    embedding = torch.randn(1, 256, cells, cells, device=device, requires_grad=True)
    offset = torch.zeros(1, 2, dtype=torch.int64, device=device)
    window = torch.zeros(count, dtype=torch.int64, device=device)
    points = SIDE * torch.rand(count, 1, 2, device=device)
    labels = torch.ones(count, 1, dtype=torch.int64, device=device)
    boxes = torch.full((count, 4), float("nan"), device=device)

    def step() -> None:
        model.zero_grad()
        features = ImageFeatures(embedding)
        decoded = decode(model, features, offset, window, points, labels, boxes)
        (decoded.logits.square().mean() + decoded.scores.mean()).backward()

    timed(benchmark, step, device, prompts=count)


def test_teacher_embedding(
    benchmark: BenchmarkFixture,
    model: SegmentAnything,
    images: list[LabelledImage],
    device: Any,
) -> None:
    from tinysam_training.distill.teacher import Teacher

    teacher = Teacher(model, device=device)
    found = timed(benchmark, lambda: teacher.embed([images[0].rgb]), device, images=1)
    assert found.shape == (1, 256, 64, 64)


# -------------------------------------------------------------------- whole steps


def training(
    way: Way, model: SegmentAnything, images: list[LabelledImage], device: Any
) -> Training:
    """A fine-tuning as the command does it, with windows of one size."""
    import torch

    from tinysam_training.learning.objective import Objective
    from tinysam_training.run.folder import RunFolder
    from tinysam_training.run.starting import launched

    recipe = finetune_recipe(FinetuneSettings(way=way, steps=1000), 1.0)
    stage = Stage(windows=((SIDE, COUNT, 1.0),), objects=OBJECTS)
    recipe = replace(recipe, stages=(stage,))
    sources = Sources.even(images)
    batches: WindowBatches | FrameBatches
    batches = WindowBatches(sources, recipe, device=device)
    if way == "frozen":
        with torch.no_grad():
            frame = model.features(torch.randn(1, 3, 1024, 1024))
        batches = FrameBatches(
            sources, ("identity",), lambda _: frame, recipe, own=True
        )
    with tempfile.TemporaryDirectory() as folder:  # nothing is written by a step
        return Training(
            Objective(model, recipe),
            batches,
            recipe,
            RunFolder(Path(folder), recipe),
            launched(device.type),
        )


@pytest.mark.parametrize("way", get_args(Way))
def test_training_step(
    benchmark: BenchmarkFixture,
    model: SegmentAnything,
    images: list[LabelledImage],
    device: Any,
    way: Way,
) -> None:
    run = training(way, model, images, device)
    batches = run._made()
    timed(
        benchmark,
        lambda: run._step(batches),
        device,
        windows=COUNT,
        prompts=COUNT * OBJECTS,
    )
    assert run.steps > 0


@pytest.mark.parametrize("own", [True, False], ids=["embedding", "pixels"])
def test_batch(
    benchmark: BenchmarkFixture, images: list[LabelledImage], own: bool
) -> None:
    """Time what a step waits for."""
    import torch

    recipe = finetune_recipe(FinetuneSettings(way="whole", steps=1), 1.0)
    stage = Stage(windows=((SIDE, COUNT, 1.0),), objects=OBJECTS)
    recipe = replace(recipe, stages=(stage,))
    sources = Sources.even(images)
    batches: WindowBatches | FrameBatches = WindowBatches(sources, recipe)
    if own:
        frame = ImageFeatures(torch.randn(1, 256, 64, 64).half())
        batches = FrameBatches(
            sources, ("identity",), lambda _: frame, recipe, own=True
        )
    batch = timed(benchmark, lambda: batches[BatchRequest(0, 0)], windows=COUNT)
    assert len(batch.windows) == COUNT


# ----------------------------------------------------------------------- evaluation


def test_validation(
    benchmark: BenchmarkFixture,
    model: SegmentAnything,
    images: list[LabelledImage],
    device: Any,
) -> None:
    """Time the validation of a run: a box and a click for eight objects."""
    from tinysam_training.run.judging import Judge

    judge = Judge(images, device, limit=1, objects=8)
    model.to(device).eval()
    found = timed(benchmark, lambda: judge(model), device, images=1)
    assert 0 <= found["score"] <= 1


def test_evaluation(
    benchmark: BenchmarkFixture,
    model: SegmentAnything,
    images: list[LabelledImage],
    device: Any,
) -> None:
    """Time ``napari-tinysam evaluate --no-automatic`` with fewer objects and clicks."""
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
    from tinysam_training.evaluation.evaluate import EvaluationSettings, evaluate

    runtime = TorchRuntime(model.eval(), device)
    predictor = Predictor(runtime, name="random", model_id="random")
    entry = ImageEntry("a", "b", True, lambda: images[0], "0")
    settings = EvaluationSettings(objects=4, clicks=3, automatic=False)
    found = timed(
        benchmark, lambda: evaluate(predictor, [entry], settings), device, images=1
    )
    assert len(found.results) == 1
