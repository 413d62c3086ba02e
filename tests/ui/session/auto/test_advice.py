"""What is said where auto-segmentation went poorly, and that nothing is where it went well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_tinysam.everything import (
    LabelSettings,
    Proposal,
    Proposals,
    Segmentation,
)
from napari_tinysam.everything.choosing import shapes_of
from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.auto.advice import AutoOutcome, advice
from napari_tinysam.ui.session.embedding.triton_guard import triton_kept_out

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictor import Predictor


def outcome(
    diameters: list[float],
    scores: list[float],
    kept: int,
    side: int = 1024,
    coverage: float | None = None,
) -> AutoOutcome:
    """Candidates by their diameters in the frame, the kept ones first."""
    if coverage is None:
        coverage = sum(np.pi * d**2 / 4 for d in diameters[:kept]) / 1024**2
    return AutoOutcome(
        np.array(scores), np.array(diameters), np.arange(kept), coverage, side
    )


@pytest.mark.parametrize(
    "well",
    [
        # Means of images that the bundled model segments well.
        outcome([16] * 577, [0.71] * 399 + [0.48] * 178, 399, 924),  # axons
        outcome([13] * 291, [0.7] * 291, 287, 3000),  # small, but found
        outcome([108] * 6, [0.86] * 6, 6, 432),  # few large cells
        outcome([44] * 54, [0.75] * 34 + [0.43] * 20, 34, 512),  # stained tissue
        outcome([31] * 71, [0.7] * 59 + [0.46] * 12, 59, 1024),  # phase contrast
        outcome([393], [0.87], 1, 512),  # one cell in half of the picture
        outcome([20, 20, 20], [0.85] * 3, 3),  # a sparse plane
        outcome([600, 620], [0.9, 0.9], 2, 512),  # large, and found
    ],
)
def test_nothing_is_said_of_what_went_well(well: AutoOutcome) -> None:
    assert advice(well) is None


@pytest.mark.parametrize(
    ("poor", "words"),
    [
        (outcome([], [], 0, 300), ["Found little", "another model", "fine-tune"]),
        (outcome([], [], 0, 1000), ["Found little", "zoom in", "“View”", "model"]),
        (outcome([], [], 0, 3000), ["Found little", "this large", "“View”"]),
        (outcome([11, 10], [0.62, 0.6], 2, 3000), ["Found little", "“View”"]),
        (outcome([20] * 90, [0.4] * 90, 0), ["is sure of", "lower the confidence"]),
        (
            outcome([10] * 922, [0.63] * 413 + [0.52] * 509, 413),
            ["objects are small", "zoom in", "“View”"],
        ),
        (
            outcome([8] * 50, [0.6] * 50, 40, 256),
            ["too small for this model", "fine-tune"],
        ),
        (outcome([700, 80], [0.7, 0.8], 2), ["objects are large", "box"]),
        (
            outcome([25] * 80, [0.67] * 22 + [0.45] * 58, 22, 512),
            ["unsure", "another model", "fine-tune"],
        ),
    ],
)
def test_what_went_poorly_gets_the_step_that_helps(
    poor: AutoOutcome, words: list[str]
) -> None:
    said = advice(poor)
    assert said is not None
    assert said.count(".") == 1
    assert len(said) < 130
    for word in words:
        assert word in said


def test_sizes_are_those_that_the_model_saw_and_coverage_that_of_the_region() -> None:
    shape = (300, 400)
    mask = BoxedMask(np.ones((20, 30), bool), 10, 10, shape)
    proposals = Proposals([Proposal(mask, 0.9, (20, 20))], shape)
    shapes = shapes_of(proposals, LabelSettings())
    found = AutoOutcome.of(proposals, shapes, 100 * 100, side=100, frame=1024)
    assert found.coverage == pytest.approx(0.06)
    assert found.diameters == pytest.approx([2 * np.sqrt(600 / np.pi) * 10.24])
    assert found.scores.tolist() == [0.9]
    assert found.kept.tolist() == [0]


@pytest.fixture(scope="module")
def bundled() -> Predictor:
    from napari_tinysam import load_model

    with triton_kept_out():  # other tests of this process may have opened windows
        return load_model("default", device="cpu")


def said_of(predictor: Predictor, image: npt.NDArray[np.generic]) -> str | None:
    """Segment an image with a model, as the dock does."""
    segmentation = Segmentation(predictor, predictor.encode(image)).run()
    proposals = segmentation.proposals
    shown = shapes_of(proposals, segmentation.settings)
    outcome = AutoOutcome.of(proposals, shown, image.size, max(image.shape), 1024)
    return advice(outcome)


def discs(side: int, count: int, radius: int) -> npt.NDArray[np.uint8]:
    """Draw bright discs on a grid, blurred and noisy."""
    rng = np.random.default_rng(0)
    image = np.full((side, side), 20.0)
    middles = np.linspace(2 * radius, side - 2 * radius, count)
    offsets = np.arange(-radius - 2, radius + 3)
    away = np.hypot(offsets[:, None], offsets)
    soft = 100 * np.clip(radius + 0.5 - away, 0, 1)
    for y in middles.astype(int):
        for x in middles.astype(int):
            box = slice(y + offsets[0], y + offsets[-1] + 1)
            image[box, x + offsets[0] : x + offsets[-1] + 1] += soft
    noisy = image + rng.normal(0, 4, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def test_noise_with_the_bundled_model(bundled: Predictor) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (512, 512), np.uint8)
    said = said_of(bundled, noise)
    assert said is not None
    assert said.startswith("Found little")


def test_tiny_objects_of_a_large_plane_with_the_bundled_model(
    bundled: Predictor,
) -> None:
    plane = discs(3000, 40, 6)
    said = said_of(bundled, plane)
    assert said is not None
    assert "small" in said
    assert "zoom in, choose “View”" in said
    # What it says helps.
    part = Segmentation(bundled, bundled.encode(plane[:500, :500])).run()
    assert len(part.labels().numbers) > 25  # of 49 or fewer


def test_discs_that_suit_the_bundled_model(bundled: Predictor) -> None:
    assert said_of(bundled, discs(512, 5, 16)) is None
