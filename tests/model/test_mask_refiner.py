"""The refiner of masks: what it is shown, where it is not asked, and that old files know none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from efficient_models import efficient_model
from napari_tinysam import checkpoints
from napari_tinysam.dense_prompts import draw_boxes
from napari_tinysam.model import (
    ImageFeatures,
    MaskRefiner,
    SegmentAnything,
    refined,
    refines,
)
from tinysam_training.run.starting import starting_model

CELLS = 4


@pytest.fixture
def model() -> SegmentAnything:
    return efficient_model(64)


def details(count: int = 1) -> tuple[Tensor, ...]:
    return tuple(
        torch.randn(count, channels, factor * CELLS, factor * CELLS)
        for channels, factor in ((64, 2), (32, 4), (16, 8))
    )


def told(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, drawn prompts, boxes."""
    side = 4 * CELLS
    corners = torch.tensor([[4.0, 8.0, 40.0, 50.0]]).repeat(count, 1)
    return (
        5 * torch.randn(count, 3, side, side),
        6 * torch.randn(count, 1, side, side),
        corners,
    )


def test_it_computes_what_is_stated_here(model: SegmentAnything) -> None:
    """Convolutions one after the other, as the docstrings say."""
    refiner: Any = model.mask_decoder.refiner
    logits, drawn, corners = told(2)
    pyramid = details(2)
    boxes = draw_boxes(torch, (16, 16), corners)
    w: dict[str, Any] = refiner.state_dict()

    def conv(x: Tensor, name: str, **how: Any) -> Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **how)

    shown = torch.cat(
        [
            (logits + 0.5 * drawn.clamp(-8, 8)).clamp(-32, 32) / 8,
            drawn.clamp(-16, 16) / 8,
            boxes[:, None] / 8,
        ],
        dim=1,
    )
    half = conv(shown, "told_half", stride=2, padding=1)
    half = F.relu(half + conv(pyramid[0], "details.0"))
    for i in range(2):
        x = conv(half, f"blocks.{i}.around", padding=3, groups=48)
        x = F.relu(conv(x, f"blocks.{i}.first"))
        half = half + conv(x, f"blocks.{i}.second")
    whole = F.conv_transpose2d(half, w["to_whole.weight"], w["to_whole.bias"], stride=2)
    whole = whole + conv(shown, "told_whole", padding=1) + conv(pyramid[1], "details.1")
    expected = conv(F.relu(whole), "last", padding=1)
    with torch.no_grad():
        found = refiner(logits, drawn[:, 0], boxes, refiner.projected(pyramid))
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0.1


def test_rows_without_a_drawn_prompt_are_left_alone(model: SegmentAnything) -> None:
    logits, drawn, corners = told(3)
    drawn[1] = torch.nan
    corners[2] = torch.nan
    features = ImageFeatures(torch.zeros(1, 256, CELLS, CELLS), details())
    with torch.no_grad():
        found = refined(model.mask_decoder, features, logits, drawn, corners)
        alone = refined(
            model.mask_decoder, features, logits[2:], drawn[2:], corners[2:]
        )
        without = refined(model.mask_decoder, features, logits[2:], drawn[2:], None)
    assert torch.equal(found[1], logits[1])
    assert not torch.allclose(found[0], logits[0])
    torch.testing.assert_close(found[2:], alone)
    torch.testing.assert_close(alone, without)


def test_a_new_one_adds_nothing() -> None:
    refiner = MaskRefiner((64, 32, 16))
    logits, drawn, corners = told(2)
    boxes = draw_boxes(torch, (16, 16), corners)
    added = refiner(logits, drawn[:, 0], boxes, refiner.projected(details(2)))
    assert not added.any()
    assert not refiner.is_blank


def test_a_file_without_one_is_read_and_can_be_trained(tmp_path: Path) -> None:
    """Version 0.5 had none."""
    whole, old = tmp_path / "whole.safetensors", tmp_path / "old.safetensors"
    checkpoints.save(efficient_model(1024), whole)
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(whole, "pt") as file:
        notes = file.metadata()
        names = [n for n in file.keys() if "refiner" not in n]  # noqa: SIM118
        save_file({n: file.get_tensor(n) for n in names}, old, notes)
    read = checkpoints.load(old).model
    assert read.mask_decoder.refiner.is_blank
    assert not refines(read.mask_decoder, read.dense_prompts)
    begun = starting_model(str(old))
    assert not begun.mask_decoder.refiner.is_blank
    assert refines(begun.mask_decoder, begun.dense_prompts)
    assert not refines(begun.mask_decoder, False)
    logits, drawn, corners = told(1)
    features = ImageFeatures(torch.zeros(1, 256, CELLS, CELLS), details())
    for each in (read, begun):
        with torch.no_grad():
            found = refined(each.mask_decoder, features, logits, drawn, corners)
        assert torch.equal(found, logits)


def test_a_file_with_a_part_of_one_is_refused(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    whole, part = tmp_path / "whole.safetensors", tmp_path / "part.safetensors"
    checkpoints.save(efficient_model(1024), whole)
    with safe_open(whole, "pt") as file:
        names = [n for n in file.keys() if "refiner.last" not in n]  # noqa: SIM118
        save_file({n: file.get_tensor(n) for n in names}, part, file.metadata())
    with pytest.raises(checkpoints.CheckpointError, match=r"refiner\.last"):
        checkpoints.load(part)
