"""Dense prompts in training are those of inference, and reach what shall learn from them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_tinysam import Predictor, Prompts
from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
from tinysam_training.data.batches import make_batch
from tinysam_training.data.sampling import BatchRequest, Sources
from tinysam_training.data.window_batches import WindowBatches
from tinysam_training.data.windows import whole_frame
from tinysam_training.learning.decoding import decode
from tinysam_training.learning.drawn_prompts import DrawnPrompts, regions_of
from tinysam_training.learning.objective import Objective
from tinysam_training.learning.prompt_batch import PromptBatch
from tinysam_training.recipe import ModelSettings, Stage
from tinysam_training.run.starting import new_model, starting_model
from training.small_runs import RECIPE, discs, settle, write_start

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tinysam.model import SegmentAnything


@pytest.fixture
def student() -> SegmentAnything:
    torch.manual_seed(0)
    model = new_model("tiny_vit_2m")
    settle(model)
    model.dense_prompts = True
    return model.eval()


@pytest.mark.parametrize("with_box", [False, True])
def test_training_draws_what_inference_draws(
    student: SegmentAnything, with_box: bool
) -> None:
    image = discs(1)[0]
    batch = make_batch(
        [whole_frame(image)],
        2,
        np.random.default_rng(0),
        offsets=np.zeros((1, 2), np.int64),
    )
    predictor = Predictor(
        TorchRuntime(student, torch.device("cpu")), name="student", model_id="student"
    )
    embedding = predictor.encode(image.rgb)
    assert embedding.regions is not None
    assert embedding.regions.max() > 0  # random maps, but something is seen
    place = np.argwhere(embedding.regions > 0)[100]  # y, x of a logit
    scale = max(image.rgb.shape[:2]) / 1024
    xy = (np.array([[place[::-1] * 4 + 1.5]]) * scale).astype(np.float32)
    box = np.array([[*(xy[0, 0] - 5), *(xy[0, 0] + 9)]], np.float32)
    wanted = predictor.predict(
        embedding, Prompts(points=xy, boxes=box if with_box else None)
    )

    with torch.inference_mode():
        features = student.features(batch.image)
        regions = regions_of(student, features, batch.valid)
        given = PromptBatch(
            torch.from_numpy(xy) / scale,
            torch.ones((1, 1), dtype=torch.int64),
            torch.from_numpy(box) / scale
            if with_box
            else torch.full((1, 4), torch.nan),
        )
        window = torch.zeros(1, dtype=torch.int64)
        draws = DrawnPrompts(regions, window)
        masks = draws(given, None)
        found = decode(
            student,
            features,
            batch.offset,
            window,
            given.points,
            given.labels,
            given.boxes,
            masks,
        )
        found = draws.added(found, masks)
    # Windows are resized by other code than images at inference, within a few gray values.
    assert np.abs(found.scores.numpy() - wanted.scores).max() < 0.05
    height, width = embedding.upscaler.valid_size
    inside = np.s_[..., :height, :width]
    agree = (found.logits.numpy()[inside] > 0) == (wanted.logits[inside] > 0)
    assert agree.mean() > 0.97


def prompts_of(count: int) -> PromptBatch:
    return PromptBatch(
        torch.full((count, 1, 2), 40.0),
        torch.ones((count, 1), dtype=torch.int64),
        torch.full((count, 4), torch.nan),
    )


def test_shares_say_how_many_are_drawn_and_how_many_as_regions() -> None:
    count = 400
    regions = torch.zeros((1, 32, 32), dtype=torch.int32)
    regions[0, 5:20, 5:30] = 1
    window = torch.zeros(count, dtype=torch.int64)
    rng = torch.Generator().manual_seed(1)
    drawn = DrawnPrompts(regions, window, 0.7, 0.4, rng)
    first = drawn(prompts_of(count), None)[:, 0]
    without = first.isnan().all(2).all(1)
    assert 0.62 < 1 - without.float().mean() < 0.78
    as_region = ((first > 0) == (regions > 0)).all(2).all(1)[~without]
    assert 0.32 < as_region.float().mean() < 0.48

    # The same objects again, some of them, with an earlier answer.
    rows = torch.tensor([3, 50, 51, 200])
    before = torch.full((4, 1, 32, 32), 2.0)
    again = drawn(prompts_of(count).take(rows), before, rows)[:, 0]
    for place, row in enumerate(rows.tolist()):
        assert bool((again[place] == 16).any()) is not bool(without[row])
        assert again[place, -1, -1] == 2


def test_no_region_where_the_model_has_no_head(student: SegmentAnything) -> None:
    features = student.features(torch.randn(2, 3, 64, 64))
    valid = torch.ones(2, 1, 16, 16)
    valid[1, :, :, 8:] = 0
    seen = regions_of(student, features, valid)
    assert seen.any()
    assert not seen[1, :, 8:].any()
    student.object_head = None
    assert not regions_of(student, features, valid).any()


def test_what_embeds_drawn_prompts_learns_from_the_first_round(
    student: SegmentAnything,
) -> None:
    batch = WindowBatches(Sources.even(discs()), RECIPE)[BatchRequest(0, 0)]
    objective = Objective(student, RECIPE).train()
    layer = student.prompt_encoder.mask_downscaling[0].weight

    def gradient(dense: float) -> float:
        student.zero_grad()
        objective(batch, 0, 0, dense, 0.5)["mask"].backward()
        return 0.0 if layer.grad is None else float(layer.grad.abs().sum())

    assert gradient(1.0) > 0
    assert gradient(0.0) == 0
    student.dense_prompts = False
    assert gradient(1.0) == 0


def test_a_start_keeps_its_kind_of_prompts_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    path = str(write_start(tmp_path / "plain.safetensors"))
    assert not starting_model(path).dense_prompts
    assert starting_model(path, dense_prompts=True).dense_prompts
    assert not starting_model("random", architecture="tiny_vit_2m").dense_prompts
    recipe = replace(RECIPE, model=ModelSettings(), stages=(Stage(),))
    assert recipe.model.dense_prompts is None
