"""Starts that are made of other models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from tinysam_training.run.starting import new_model, starting_model


def test_a_student_begins_with_the_decoder_of_another(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    other = new_model("tiny_vit_2m")
    other.dense_prompts = True
    checkpoints.save(other, path)
    torch.manual_seed(2)
    student = starting_model("random", architecture="tiny_vit", decoder=str(path))
    assert student.architecture == "tiny_vit"
    assert student.dense_prompts
    for name, tensor in other.state_dict().items():
        if not name.startswith(("image_encoder.", "object_head.details.")):
            torch.testing.assert_close(student.state_dict()[name], tensor)
    torch.manual_seed(2)
    alone = new_model("tiny_vit")
    torch.testing.assert_close(
        student.image_encoder.state_dict(), alone.image_encoder.state_dict()
    )
    assert not starting_model(
        "random", architecture="tiny_vit", decoder=str(path), dense_prompts=False
    ).dense_prompts


def test_a_start_keeps_its_architecture(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    checkpoints.save(new_model("tiny_vit"), path)
    for same in (None, "tiny_vit"):
        assert starting_model(str(path), architecture=same).architecture == "tiny_vit"  # type: ignore[arg-type]
    with pytest.raises(DataError, match="is a tiny_vit model, not tiny_vit_11m"):
        starting_model(str(path), architecture="tiny_vit_11m")
