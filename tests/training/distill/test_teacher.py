"""The teacher: frozen, shown images as inference shows them, known by its weights."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.inference.predictor import Predictor
from napari_tinysam.inference.runtime.torch_runtime import TorchRuntime
from napari_tinysam.model import SegmentAnything
from tinysam_training.distill.teacher import Teacher, weights_fingerprint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    """Not to be changed."""
    torch.manual_seed(0)
    return SegmentAnything("tiny_vit_2m", image_size=64, object_head=True).eval()


@pytest.fixture
def teacher(model: SegmentAnything) -> Teacher:
    return Teacher(copy.deepcopy(model), "small")


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_teacher_is_frozen(model: SegmentAnything) -> None:
    given = copy.deepcopy(model).train()
    assert any(parameter.requires_grad for parameter in given.parameters())
    teacher = Teacher(given)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert not any(module.training for module in teacher.model.modules())
    assert not teacher.embed([image(64, 64)]).requires_grad


def test_training_a_student_changes_the_student_only(
    teacher: Teacher, model: SegmentAnything
) -> None:
    student = copy.deepcopy(model).train()
    before, fingerprint = teacher.model.state_dict(), teacher.fingerprint
    before = {name: tensor.clone() for name, tensor in before.items()}
    optimizer = torch.optim.AdamW(student.parameters(), 1e-2)
    frames = [image(64, 64, seed) for seed in (1, 2)]
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()
    points, labels = torch.tensor([[[20.0, 30.0]]]), torch.ones(1, 1)
    for _ in range(2):
        target = teacher.embed(frames).float()
        embedding = student.encode(pixels)
        wanted, _ = teacher.model.decode(target[:1], points=points, labels=labels)
        logits, _ = student.decode(embedding[:1], points=points, labels=labels)
        loss = (embedding - target).abs().mean() + (logits - wanted).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert weights_fingerprint(student) != fingerprint
    assert weights_fingerprint(teacher.model) == fingerprint == teacher.fingerprint
    after = teacher.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    assert not any(module.training for module in teacher.model.modules())


def test_embeds_as_inference_does(teacher: Teacher, model: SegmentAnything) -> None:
    frames = [image(48, 100), image(64, 64), image(31, 20)]
    found = teacher.embed(frames)
    assert (found.dtype, found.shape) == (torch.float16, (3, 256, 4, 4))
    predictor = Predictor(
        TorchRuntime(model, torch.device("cpu")), name="m", model_id="m"
    )
    for embedding, frame in zip(found, frames, strict=True):
        expected = predictor.encode(frame).features.embedding[0]
        assert expected.std() > 0.1
        # Half a unit in the last of float16's 11 binary places.
        torch.testing.assert_close(embedding.float(), expected, rtol=2**-11, atol=1e-4)


def test_batches_change_nothing(teacher: Teacher) -> None:
    frames = [image(40, 64, seed) for seed in range(3)]
    torch.testing.assert_close(
        teacher.embed(frames, batch=2), teacher.embed(frames), rtol=2e-3, atol=1e-4
    )


def test_large_values_are_clipped_and_others_refused(teacher: Teacher) -> None:
    norm = teacher.model.image_encoder.neck[3]
    with torch.no_grad():
        norm.bias[0], norm.bias[1] = 1e6, -1e6
    embedding = teacher.embed([image(64, 64)])
    assert embedding[0, 0].unique().tolist() == [65504.0]
    assert embedding[0, 1].unique().tolist() == [-65504.0]
    with torch.no_grad():
        norm.bias[0] = torch.nan
    with pytest.raises(DataError, match="small predicts values that are not finite"):
        teacher.embed([image(64, 64)])


def test_the_encoder_can_be_dropped(teacher: Teacher) -> None:
    frame = image(64, 64)
    embedding = teacher.embed([frame]).float()
    points, labels = torch.tensor([[[20.0, 30.0]]]), torch.ones(1, 1)
    before = teacher.model.decode(embedding, points=points, labels=labels)
    encoder = weakref.ref(teacher.model.image_encoder)
    teacher.drop_encoder()
    gc.collect()
    assert encoder() is None
    after = teacher.model.decode(embedding, points=points, labels=labels)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    with pytest.raises(RuntimeError, match="encoder was dropped"):
        teacher.embed([frame])


def test_the_fingerprint_follows_weights_and_input(model: SegmentAnything) -> None:
    fingerprint = weights_fingerprint(model)
    assert weights_fingerprint(copy.deepcopy(model)) == fingerprint
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.mask_decoder.iou_token.weight[0, 0] += 1e-6
    assert weights_fingerprint(changed) != fingerprint
    larger = copy.deepcopy(model)
    larger.image_size = 128
    assert weights_fingerprint(larger) != fingerprint


def test_loaded_from_any_kind_of_file(model: SegmentAnything, tmp_path: Path) -> None:
    names = ("teacher.pth", "teacher.safetensors")
    for name in names:
        checkpoints.save(model, tmp_path / name)
    teachers = [Teacher.load(tmp_path / name) for name in names]
    assert teachers[0].fingerprint == teachers[1].fingerprint
    assert [teacher.name for teacher in teachers] == list(names)
    assert teachers[0].model.architecture == "tiny_vit_2m"
    assert teachers[0].model.image_size == 1024
    assert not any(
        parameter.requires_grad for parameter in teachers[0].model.parameters()
    )


def test_what_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^The teacher cannot be loaded: There is no"):
        Teacher.load(tmp_path / "missing.pth")
    with pytest.raises(DataError, match="no model and no file called 'sam_vit_x'"):
        Teacher.load("sam_vit_x")
