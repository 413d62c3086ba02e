"""What is learnt from a batch, what of the model learns, and what is left alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tinysam_training.data.batches import TrainingBatch, make_batch
from tinysam_training.data.sampling import BatchRequest, Sources
from tinysam_training.data.window_batches import WindowBatches
from tinysam_training.data.windows import Window
from tinysam_training.labelled_image import LabelledImage
from tinysam_training.learning import losses
from tinysam_training.learning.decoding import Decoded, decode
from tinysam_training.learning.objective import (
    FIGURES,
    LOSSES,
    Objective,
    parameter_groups,
    valid_cells,
    weights_by_name,
)
from tinysam_training.recipe import (
    LossSettings,
    ModelSettings,
    Recipe,
    TeacherSettings,
)
from tinysam_training.run.starting import new_model
from training.small_runs import RECIPE, discs, settle

if TYPE_CHECKING:
    from napari_tinysam.model import SegmentAnything

HEAD = {"foreground", "dice", "centre", "boundary"}
DISTILLED = LossSettings(embedding=1.0, token=1.0, output=1.0)
TEACHER = TeacherSettings("somebody")


@pytest.fixture(scope="module")
def base() -> SegmentAnything:
    torch.manual_seed(0)
    model = new_model("tiny_vit_2m")
    settle(model)
    return model.eval()


@pytest.fixture
def student(base: SegmentAnything) -> SegmentAnything:
    return copy.deepcopy(base)


def partly(image: LabelledImage) -> LabelledImage:
    return LabelledImage(image.name, image.dataset, image.rgb, image.labels, False)


def batch_of(images: list[LabelledImage] | None = None, number: int = 0) -> Any:
    batches = WindowBatches(Sources.even(images or discs()), RECIPE)
    return batches[BatchRequest(number, 0)]


def model_settings(**changes: Any) -> Recipe:
    settings = {"batch_norm": "frozen", **changes}
    return replace(RECIPE, model=ModelSettings(**settings))


def taught(batch: TrainingBatch, model: SegmentAnything) -> TrainingBatch:
    """The batch with a model's embeddings as the teacher's."""
    with torch.no_grad():
        embedding = model.image_encoder(batch.windows.image)
    return replace(batch, teacher=embedding)


def learn(objective: Objective, batch: TrainingBatch, steps: int = 1) -> None:
    groups = parameter_groups(objective)
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    weights = weights_by_name(objective.recipe)
    objective.train()
    for _ in range(steps):
        found = objective(batch, 1, 0)
        sum(weights[n] * v for n, v in found.items() if n in weights).backward()
        optimizer.step()
        optimizer.zero_grad()


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(
    one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    return {n: v for n, v in two.items() if n in one and not torch.equal(one[n], v)}


# -------------------------------------------------------------------------- counts


def nothing() -> Window:
    """Padding around eight rows of an image without objects."""
    shape = (64, 64)
    labels = np.zeros((1, *shape), np.int32)
    rgb = np.zeros((3, *shape), np.float32)
    ones = np.ones(shape, np.float32)
    return Window(rgb, labels, 0 * ones, ones, 8, 64, True, "none")


@pytest.mark.parametrize("images", [discs(), [partly(discs(1)[0])]], ids=["all", "few"])
@pytest.mark.parametrize("rim", [0.0, 3.0])
def test_counts_are_what_the_losses_are_means_over(
    student: SegmentAnything, images: list[LabelledImage], rim: float
) -> None:
    batch = batch_of(images)
    batch = replace(batch, teacher=torch.randn(2, 256, 4, 4))
    settings = replace(DISTILLED, rim=rim)
    objective = Objective(student, replace(RECIPE, losses=settings, teacher=TEACHER))
    counts = objective.counts(batch)
    windows = batch.windows
    maps = torch.randn(2, 3, 16, 16)
    known = losses.with_rims(windows.maps, windows.maps_weight, rim)
    terms = losses.object_head_losses(maps, windows.maps, known)
    assert terms.keys() == HEAD
    for name, (_, count) in terms.items():
        assert float(counts[name]) == pytest.approx(float(count)), name
    _, count = losses.embedding_loss(
        torch.randn(2, 256, 4, 4), batch.teacher, valid_cells(windows.valid)
    )
    assert float(counts["embedding"]) == pytest.approx(float(count))
    assert counts.keys() == {*LOSSES, *FIGURES}
    for name in ("mask", "iou", "token", *FIGURES):
        assert counts[name] == len(windows.window)
    assert counts["output"] == len(
        windows.image
    )  # a sum over masks, a mean over images


def test_a_stage_without_prompts_teaches_the_head_alone(
    student: SegmentAnything,
) -> None:
    stage = replace(RECIPE.stages[0], objects=0)
    recipe = replace(RECIPE, stages=(stage,))
    batch = WindowBatches(Sources.even(discs()), recipe)[BatchRequest(0, 0)]
    assert not batch.prompted
    assert len(batch.windows.window) == 0
    objective = Objective(student, recipe).train()
    assert objective(batch, 2, 0).keys() == HEAD
    before = state(student.mask_decoder)
    encoder = state(student.image_encoder)
    learn(objective, batch)
    assert not changed(before, student.mask_decoder.state_dict())
    assert changed(encoder, student.image_encoder.state_dict())
    assert objective(replace(batch, prompted=True), 2, 0).keys() > HEAD


@pytest.mark.parametrize("prompted", [True, False])
def test_an_encoder_with_finer_details_learns_from_finer_maps(prompted: bool) -> None:
    torch.manual_seed(0)
    student = new_model("efficientnet_lite0")
    student.dense_prompts = True
    stage = replace(RECIPE.stages[0], objects=2 if prompted else 0)
    recipe = replace(RECIPE, stages=(stage,))
    batches = WindowBatches(Sources.even(discs()), recipe, map_stride=2)
    batch = batches[BatchRequest(0, 0)]
    assert batch.windows.maps.shape == (2, 3, 32, 32)
    objective = Objective(student, recipe).train()
    found = objective(batch, 1, 0)
    assert found.keys() == HEAD | ({"mask", "iou", *FIGURES} if prompted else set())
    weights = weights_by_name(recipe)
    sum(weights[n] * v for n, v in found.items() if n in weights).backward()
    learnt = {n for n, p in student.named_parameters() if p.grad is not None}
    for name in ("image_encoder.efficientnet.conv_stem.weight", "object_head."):
        assert any(other.startswith(name) for other in learnt)
    assert any(n.startswith("mask_decoder.details.") for n in learnt) == prompted
    assert all(
        torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None
    )


def test_padding_counts_for_nothing(student: SegmentAnything) -> None:
    windows = make_batch([nothing()], 2, np.random.default_rng(0))
    batch = TrainingBatch(windows, 0, teacher=torch.zeros(1, 256, 4, 4))
    counts = Objective(student, RECIPE).counts(batch)
    assert counts["foreground"] == 2 * 16  # logits of 4 pixels in 8 rows
    assert counts["embedding"] == 4 * 256  # one row of cells shows anything
    assert counts["mask"] == 0


def test_a_batch_without_objects_gives_the_same_losses(
    student: SegmentAnything,
) -> None:
    objective = Objective(student, RECIPE).train()
    windows = make_batch([nothing(), nothing()], 2, np.random.default_rng(0))
    empty = objective(TrainingBatch(windows, 0), 2, 0)
    assert empty.keys() == objective(batch_of(), 0, 0).keys()
    assert all(bool(value.isfinite()) for value in empty.values())
    assert empty["mask"].item() == 0
    sum(empty.values()).backward()


# -------------------------------------------------------------------------- weights

#: Weights that are 0, the names that are missing then, and what must not even be called.
OFF = {
    "object head": ({"object_head": 0}, HEAD, "object_head_losses"),
    "mask": ({"focal": 0, "dice": 0}, {"mask"}, "best_of_three"),
    "iou": ({"iou": 0}, {"iou"}, "iou_loss"),
    "embedding": ({"embedding": 0}, {"embedding"}, "embedding_loss"),
    "token": ({"token": 0}, {"token"}, "token_loss"),
    "output": ({"output": 0}, {"output"}, "output_loss"),
    "hardness": ({"hard_mask_weights": False}, set(), "hard_mask_weights"),
}


@pytest.mark.parametrize("case", OFF)
def test_what_is_switched_off_is_not_computed(
    student: SegmentAnything, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, missing, function = OFF[case]

    def called(*_: Any, **__: Any) -> None:
        raise AssertionError(f"{function} is switched off")

    monkeypatch.setattr(losses, function, called)
    settings = replace(DISTILLED, **weights)
    recipe = replace(RECIPE, losses=settings, teacher=TEACHER)
    objective = Objective(student, recipe, copy.deepcopy(student)).train()
    found = objective(taught(batch_of(), student), 0, 0)
    assert found.keys() == {*LOSSES, *FIGURES} - missing


def test_without_a_teacher_there_are_no_losses_against_one(
    student: SegmentAnything,
) -> None:
    found = Objective(student, RECIPE)(batch_of(), 0, 0)
    assert found.keys() == {*LOSSES, *FIGURES} - {"embedding", "token", "output"}
    assert set(LOSSES) == set(weights_by_name(RECIPE))


def test_the_weights_of_the_mask_loss_are_in_its_sum(student: SegmentAnything) -> None:
    def mask(**weights: float) -> float:
        settings = LossSettings(**{"focal": 0, "dice": 0, "others": 1.0, **weights})
        recipe = replace(RECIPE, losses=settings)
        objective = Objective(copy.deepcopy(student), recipe)
        return objective(batch_of(), 0, 0)["mask"].item()

    focal, dice = mask(focal=1), mask(dice=1)
    assert mask(focal=20, dice=3) == pytest.approx(20 * focal + 3 * dice, rel=1e-5)


def test_prompts_follow_seed_and_number(student: SegmentAnything) -> None:
    objective = Objective(student, RECIPE)
    batch = batch_of()

    def mask(batch: TrainingBatch, seed: int) -> float:
        with torch.no_grad():
            return objective(batch, 2, seed)["mask"].item()

    assert mask(batch, 0) == mask(batch, 0)
    assert mask(batch, 0) != mask(batch, 1)
    assert mask(batch, 0) != mask(replace(batch, number=1), 0)


# ------------------------------------------------------------------------- teachers


def distillation(student: SegmentAnything, teacher: SegmentAnything) -> Objective:
    recipe = replace(RECIPE, losses=DISTILLED, teacher=TEACHER)
    return Objective(student, recipe, teacher)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it(
    student: SegmentAnything,
) -> None:
    objective = distillation(student, copy.deepcopy(student)).train()
    batch = taught(batch_of(), student)
    found, counts = objective(batch, 1, 0), objective.counts(batch)
    # Means of float32 that was computed with another layout in memory.
    for name in ("embedding", "token", "output"):
        mean = found[name] / counts[name]
        assert mean.item() == pytest.approx(0, abs=1e-5), name
    assert found["mask"].item() > 0.01


def test_another_teacher_is_something_to_learn_from(student: SegmentAnything) -> None:
    torch.manual_seed(1)
    teacher = new_model("tiny_vit_2m")
    settle(teacher)
    before = state(teacher)
    objective = distillation(student, teacher)
    batch = taught(batch_of(), teacher.eval())
    found = objective.train()(batch, 1, 0)
    for name in ("embedding", "token", "output"):
        assert found[name].item() > 0, name

    # A teacher neither learns nor is a part of what is trained and saved.
    learn(objective, batch)
    assert not changed(before, teacher.state_dict())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not teacher.training
    owned = {id(p) for p in objective.parameters()}
    assert not owned & {id(p) for p in teacher.parameters()}
    assert all(name.startswith("student.") for name in objective.state_dict())


@pytest.mark.parametrize("hard", [True, False], ids=["hard masks", "even"])
def test_the_terms_against_the_teacher_are_those_of_the_paper(
    student: SegmentAnything, hard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """β L_token + γ Σ_i H_i L_out,i, restated; H is a constant for the gradient."""
    torch.manual_seed(1)
    teacher = new_model("tiny_vit_2m").eval()
    answers: list[Decoded] = []

    def kept(*arguments: Any) -> Decoded:
        answers.append(decode(*arguments))
        if answers[-1].logits.requires_grad:
            answers[-1].logits.retain_grad()
        return answers[-1]

    monkeypatch.setattr("tinysam_training.learning.objective.decode", kept)
    settings = replace(DISTILLED, token=3.0, output=5.0, hard_mask_weights=hard)
    recipe = replace(RECIPE, losses=settings, teacher=TEACHER)
    objective = Objective(student, recipe, teacher).train()
    batch = taught(batch_of(), teacher)
    found = objective(batch, 0, 0)
    ours, theirs = answers
    s, t = ours.logits.detach().numpy(), theirs.logits.numpy()
    windows = batch.windows
    valid = windows.valid[windows.window, 0].numpy() > 0
    truth = windows.targets.numpy() > 0.5
    count = len(s)

    def best_iou(masks: np.ndarray) -> float:
        return max(
            (mask & wanted & inside).sum() / ((mask | wanted) & inside).sum()
            for mask in masks
        )

    total, slopes = 0.0, np.zeros_like(s)
    for i in range(count):
        wanted, inside = truth[i], valid[i]
        ratio = best_iou(t[i] > 0) / (best_iou(s[i] > 0) + 1e-6)
        weight = 1 / (1 + np.exp(1 - ratio)) if hard else 0.5
        total += weight * np.abs(s[i] - t[i])[:, inside].mean()
        slopes[i] = weight * np.sign(s[i] - t[i]) * inside / (3 * inside.sum())
    assert found["output"].item() == pytest.approx(total, rel=1e-5)
    tokens = np.abs(ours.tokens.detach().numpy() - theirs.tokens.numpy())
    assert found["token"].item() == pytest.approx(tokens.mean((1, 2)).sum(), rel=1e-5)

    # What is minimised: a sum over the masks of an image, a mean over images.
    weights, counts = weights_by_name(recipe), objective.counts(batch)
    assert (weights["embedding"], weights["token"], weights["output"]) == (1, 3, 5)
    assert counts["output"] == len(windows.image)
    even = replace(recipe, losses=replace(settings, sum_over_masks=False))
    assert Objective(student, even).counts(batch)["output"] == count

    found["output"].backward()
    assert ours.logits.grad is not None
    np.testing.assert_allclose(ours.logits.grad, slopes, atol=1e-7)


# ---------------------------------------------------------------- what is trained


@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
def test_decoder_training_leaves_the_encoder_alone(
    student: SegmentAnything, batch_norm: str
) -> None:
    before = state(student)
    recipe = model_settings(trained="decoder", batch_norm=batch_norm)
    learn(Objective(student, recipe), batch_of())
    parts = {name.partition(".")[0] for name in changed(before, student.state_dict())}
    assert parts == {"prompt_encoder", "mask_decoder", "object_head"}


def test_the_object_head_learns_alone(student: SegmentAnything) -> None:
    before = state(student)
    objective = Objective(student, model_settings(trained="head"))
    assert objective(batch_of(), 2, 0).keys() == HEAD  # no prompt is answered
    learn(objective, batch_of())
    after = changed(before, student.state_dict())
    assert {name.partition(".")[0] for name in after} == {"object_head"}
    assert any(name.startswith("object_head.details") for name in after)


def test_known_features_take_the_place_of_the_encoder(
    student: SegmentAnything,
) -> None:
    batch = batch_of()
    objective = Objective(student, model_settings(trained="decoder")).train()
    with torch.no_grad():
        expected = objective(batch, 1, 0)
        features = student.features(batch.windows.image)
        student.image_encoder = torch.nn.Identity()  # of the wrong shape
        found = objective(replace(batch, features=features), 1, 0)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5), name


def test_lora_leaves_the_encoders_own_weights_alone(student: SegmentAnything) -> None:
    before = state(student.image_encoder)
    objective = Objective(student, model_settings(trained="lora", lora_rank=2))
    learn(objective, batch_of())
    after = {
        name.replace("parametrizations.weight.original", "weight"): value
        for name, value in student.image_encoder.state_dict().items()
    }
    assert before.keys() <= after.keys()
    assert not changed(before, after)
    additions = [value for name, value in after.items() if name.endswith(".up")]
    assert additions
    assert any(bool(value.any()) for value in additions)


@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
def test_batch_norms_follow_the_batches_or_do_not(
    student: SegmentAnything, batch_norm: str
) -> None:
    before = state(student.image_encoder)
    learn(Objective(student, model_settings(batch_norm=batch_norm)), batch_of())
    names = changed(before, student.image_encoder.state_dict())
    statistics = [n for n in names if "running" in n or "num_batches" in n]
    assert bool(statistics) == (batch_norm == "train")
    assert any(name.endswith("conv.weight") for name in names)


def test_where_nothing_is_known_nothing_is_learnt(student: SegmentAnything) -> None:
    """Of a partly annotated image, the head's answer on pixels without label is free."""
    batch = batch_of([partly(image) for image in discs()])
    answers: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        answers.append(output)

    assert student.object_head is not None
    student.object_head.register_forward_hook(keep)
    found = Objective(student, RECIPE).train()(batch, 0, 0)
    sum(found[name] for name in HEAD).backward()
    gradient = answers[0].grad
    assert gradient is not None
    known = batch.windows.maps_weight[:, 0] > 0
    assert known.any()
    assert not known.all()
    size = gradient.abs().sum(1)
    assert (size[~known] == 0).all()
    assert (size[known] > 0).float().mean() > 0.9


# ------------------------------------------------------------------------- groups


@pytest.mark.parametrize("trained", ["whole", "lora", "decoder"])
def test_groups_hold_every_trained_parameter_once(
    student: SegmentAnything, trained: str
) -> None:
    objective = Objective(student, model_settings(trained=trained, encoder_rate=0.1))
    groups = parameter_groups(objective)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    names = {n: p for n, p in objective.named_parameters() if p.requires_grad}
    assert set(grouped) == {id(p) for p in names.values()}

    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    rate = {id(p): g["rate"] for g in groups for p in g["params"]}
    for name, parameter in names.items():
        if parameter.ndim < 2 or "attention_biases" in name:
            assert decay[id(parameter)] == 0, name
        slow = trained == "whole" and "image_encoder" in name
        assert rate[id(parameter)] == (0.1 if slow else 1.0), name
        assert not name.startswith(("image_encoder.head", "image_encoder.norm_head"))


def test_matrices_decay_and_embeddings_do_not(student: SegmentAnything) -> None:
    objective = Objective(student, RECIPE)
    groups = parameter_groups(objective)
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    found = {n: decay.get(id(p)) for n, p in objective.named_parameters()}
    wanted = {
        "image_encoder.body.patch_embed.conv1.conv.weight": 0.05,
        "image_encoder.neck.0.weight": 0.05,
        "mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight": 0.05,
        "mask_decoder.iou_token.weight": 0,
        "mask_decoder.mask_tokens.weight": 0,
        "prompt_encoder.point_embeddings.0.weight": 0,
        "prompt_encoder.not_a_point_embed.weight": 0,
        "prompt_encoder.no_mask_embed.weight": 0,
        "image_encoder.neck.1.bias": 0,
    }
    assert {name: found[f"student.{name}"] for name in wanted} == wanted
