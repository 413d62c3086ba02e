"""Automatic segmentation and Segment Anything's generator: same model, same points, one run.

A thread reads the peak memory of the process, without what the model takes; it is in the
benchmark's ``extra_info``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from napari_tinysam import checkpoints
from napari_tinysam.everything import (
    LabelSettings,
    Proposals,
    Segmentation,
    Thresholds,
    label_proposals,
)
from napari_tinysam.inference.load import load_model
from tinysam_training.synthetic import entries

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from napari_tinysam.inference.predictor import Predictor

#: Thresholds of the default model's scores, the same for both sides. The hierarchical search has
#: the model's own threshold for leaving out points.
SCORE, STABILITY = 0.5, 0.5

POINTS = 32


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """(1024, 1024, 3) synthetic nuclei of a seed that no training uses."""
    entry = entries(1, seed=2**31 - 1, kinds=("nuclei",), size=(1024, 1024))[0]
    return entry.read().rgb


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load_model("default", convert=lambda _: None)


def thresholds(predictor: Predictor, mode: str) -> Thresholds:
    """Return the model's thresholds, for a grid with the official generator's filters."""
    own = Thresholds.from_notes(predictor.notes)
    if mode == "guided":
        return own
    search = replace(
        own.search,
        points_per_side=POINTS,
        hierarchical=mode != "dense",
        score_threshold=SCORE,
        stability_threshold=STABILITY,
    )
    return replace(own, search=search, labels=LabelSettings(confidence=SCORE))


@contextmanager
def peak_memory(info: dict[str, Any]) -> Iterator[None]:
    """Measure how much more memory the process takes, in MB."""
    process = pytest.importorskip("psutil").Process()
    before, highest, over = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.01):
            highest = max(highest, process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        info["peak_mb"] = round((highest - before) / 1e6)


def test_official_generator(benchmark: BenchmarkFixture, image: np.ndarray) -> None:
    model: Any = checkpoints.load("default").model
    model.image_encoder.img_size = model.image_size
    parts = model.image_encoder, model.prompt_encoder, model.mask_decoder
    generator = SamAutomaticMaskGenerator(
        Sam(*parts).eval(),
        points_per_side=POINTS,
        pred_iou_thresh=SCORE,
        stability_score_thresh=STABILITY,
    )
    with peak_memory(benchmark.extra_info), torch.inference_mode():
        found = benchmark.pedantic(generator.generate, (image,), rounds=1)
    benchmark.extra_info["objects"] = len(found)


@pytest.mark.parametrize("mode", ["dense", "hierarchical", "guided"])
def test_segmentation(
    benchmark: BenchmarkFixture, predictor: Predictor, image: np.ndarray, mode: Any
) -> None:
    def run() -> Segmentation:
        embedding = predictor.encode(image)
        given = thresholds(predictor, mode)
        found = Segmentation(predictor, embedding, mode, thresholds=given).run()
        found.labels()
        return found

    with peak_memory(benchmark.extra_info):
        found = benchmark.pedantic(run, rounds=1)
    report = found.report
    benchmark.extra_info.update(decoded=report.decoded, skipped=report.skipped)
    benchmark.extra_info["objects"] = len(found.labels().numbers)


def test_filtering_a_thousand_proposals(benchmark: BenchmarkFixture) -> None:
    """Time a move of one of the dock's sliders."""
    proposals = discs(1000)
    _ = proposals.shared
    values = iter(np.tile(np.linspace(0.2, 0.8, 50), 1000))
    benchmark(
        lambda: label_proposals(proposals, LabelSettings(confidence=next(values)))
    )


def discs(count: int, side: int = 1024) -> Proposals:
    """Discs of 16 to 50 pixels at random places."""
    from napari_tinysam.everything import Proposal
    from napari_tinysam.masks import BoxedMask

    rng = np.random.default_rng(0)
    members = []
    for _ in range(count):
        y, x, radius = *rng.uniform(30, side - 30, 2), rng.uniform(8, 25)
        rows = np.arange(int(y - radius), int(y + radius) + 2)
        columns = np.arange(int(x - radius), int(x + radius) + 2)
        mask = np.hypot(rows[:, None] - y, columns - x) < radius
        boxed = BoxedMask(mask, int(rows[0]), int(columns[0]), (side, side))
        members.append(Proposal(boxed.trimmed(), rng.uniform(0.2, 1), (x, y)))
    return Proposals(members, (side, side))
