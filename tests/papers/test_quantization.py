"""The simulation of the paper's quantization, and the table of ways."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from napari_tinysam import Prompts
from napari_tinysam.model import SegmentAnything
from official_models import random_values
from papers import compare_quantization as comparison
from papers.quantization import explicit
from papers.quantization.simulation import (
    collected,
    paper_scheme,
    roundings,
    simulated,
    simulated_predictor,
)
from tinysam_training.labelled_image import ImageEntry, LabelledImage
from tinysam_training.quantize import products
from tinysam_training.quantize.quantizing import Collected, searched
from tinysam_training.quantize.search import ScaleSearch
from tinysam_training.quantize.sensitivity import sensitivities, task_loss
from training.small_runs import discs

MINMAX = ScaleSearch(rounds=0)
FEW = ScaleSearch(candidates=4, rounds=1, coarse=2, starts=1)
SIDE = 1024


def entry(image: LabelledImage) -> ImageEntry:
    return ImageEntry(image.name, image.dataset, True, lambda: image, image.name)


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    found = SegmentAnything("tiny_vit_2m", SIDE, object_head=True, details=True)
    found.load_state_dict(random_values(found.state_dict()))
    found.dense_prompts = True
    return found.eval()


@pytest.fixture(scope="module", autouse=True)
def few_rows() -> Iterator[None]:
    """Keep a tenth of the rows: some gigabytes less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_KEPT", 100_000)
        patch.setattr(explicit, "_MATRICES", 1)
        yield


@pytest.fixture(scope="module")
def shown(model: SegmentAnything) -> Collected:
    return collected(model, [entry(image) for image in discs(1)])


def test_expected_costs_are_those_that_are_measured(shown: Collected) -> None:
    """One layer alone is rounded; its expected KL beside the one that it makes.

    With 8 bits errors are small, as a KL near its minimum wants them. Those of neighbouring places
    go together, which a sum of single ones does not know: it says up to six times too little.
    """
    scheme = paper_scheme(8)
    scales = searched(shown, FEW, operands=scheme.operands)
    expected = {each.name: each for each in sensitivities(shown, scales)}
    everything = roundings(shown, scheme, scales)
    checked = 0
    for name in (
        "image_encoder.body.stages.1.blocks.0.mlp.fc2",
        "image_encoder.body.stages.2.downsample.conv3.conv",
        "image_encoder.neck.2",
        "object_head.layers.6",
    ):
        rounded = simulated(shown.model, {name: everything[name]})
        measured = task_loss(rounded, shown.model, shown.seen)
        assert measured > 0
        assert 1 / 8 < expected[name].after / measured < 5, name
        assert expected[name].after <= expected[name].before * (1 + 1e-6)
        checked += 1
    assert checked == 4
    order = [each.after for each in sensitivities(shown, scales)]
    assert order == sorted(order, reverse=True)


def test_more_bits_cost_less_and_searching_pays(shown: Collected) -> None:
    losses = {}
    for bits, settings in ((4, FEW), (8, FEW), (4, ScaleSearch(rounds=0))):
        scheme = paper_scheme(bits)
        made = roundings(
            shown, scheme, searched(shown, settings, operands=scheme.operands)
        )
        losses[bits, settings.rounds] = task_loss(
            simulated(shown.model, made), shown.model, shown.seen
        )
    assert losses[8, 1] < 0.2 * losses[4, 1]
    assert losses[4, 1] < losses[4, 0]


def test_every_operation_is_rounded(shown: Collected) -> None:
    scheme = paper_scheme(8)
    names = set(searched(shown, MINMAX, operands=scheme.operands))
    assert any(name.endswith(".attn.mix") for name in names)
    assert any(name.startswith("mask_decoder.output_upscaling") for name in names)
    assert "mask_decoder.drawing" in names
    assert "prompt_encoder.mask_downscaling.0" in names
    assert names == {operation.name for operation in shown.operations}


def test_a_simulation_is_judged_like_any_model(shown: Collected) -> None:
    fine = paper_scheme(16)
    made = roundings(shown, fine, searched(shown, MINMAX, operands=fine.operands))
    exact = simulated_predictor(shown.model, {}, name="exact")
    rounded = simulated_predictor(shown.model, made, name="W16A16")
    assert "simulated" in rounded.runtime_name
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    answers = []
    for predictor in (exact, rounded):
        embedding = predictor.encode(image)
        assert predictor.object_maps(embedding) is not None
        points = np.array([[[30, 40]], [[80, 20]]], np.float32)
        answers.append(predictor.predict(embedding, Prompts(points=points)).scores)
    np.testing.assert_allclose(*answers, atol=0.05)


def test_the_table_of_ways() -> None:
    figures = dict.fromkeys(comparison.FIGURES, 0.5)
    ways = {
        "bf16": {**figures, "size": 22.0, "encode": 0.4, "prompt": 0.02},
        "W6A6": {**figures, "size": 8.5},
    }
    lines = comparison.table(ways).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert "400.0" in lines[2]
    assert "simulated" in lines[3]
