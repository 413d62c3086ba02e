"""Fitting the scores changes nothing else, and makes them truer."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from napari_tinysam import checkpoints
from tinysam_training.data.labelled_image import DataError
from tinysam_training.fit_scores import Examples, collect, fit_scores
from tinysam_training.starting import new_model
from training.small_runs import discs, settle, write_pairs, write_start

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tinysam.model import SegmentAnything


@pytest.fixture
def model() -> SegmentAnything:
    torch.manual_seed(0)
    model = new_model("tiny_vit_2m")
    settle(model)
    model.dense_prompts = True
    return model.eval()


def test_examples_are_of_first_and_corrected_prompts(model: SegmentAnything) -> None:
    images = discs(3)
    found = collect(model, images, objects=2, rounds=2)
    count = sum(min(2, int(image.labels.max())) for image in images)
    assert found.tokens.shape == (2 * count, 256)
    assert found.iou.shape == (2 * count, 3)
    assert sorted(set(found.image.tolist())) == [0, 1, 2]
    assert ((found.iou >= 0) & (found.iou <= 1)).all()
    # What the head says of a token is what the decoder says.
    again = collect(model, images, objects=2, rounds=2)
    assert torch.equal(found.tokens, again.tokens)


def test_scores_get_truer_and_choose_better(model: SegmentAnything) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn((600, 256), generator=generator)
    iou = torch.sigmoid(tokens[:, :3] * 2)
    examples = Examples(tokens, iou, torch.arange(600) % 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit = fit_scores(model, examples, steps=200)
    assert fit.after < 0.5 * fit.before
    assert fit.iou_after > fit.iou_before + 0.05
    changed = {
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed
    assert all("iou_prediction_head" in name for name in changed)


def test_a_fit_that_helps_nobody_is_not_kept(model: SegmentAnything) -> None:
    head = model.mask_decoder.iou_prediction_head
    tokens = torch.randn((100, 256), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        iou = head(tokens)[:, 1:]
    examples = Examples(tokens, iou, torch.arange(100) % 10)
    fit = fit_scores(model, examples, steps=100)
    assert fit.after == fit.before == 0


def test_images_without_objects_are_refused(model: SegmentAnything) -> None:
    image = discs(1)[0]
    image.labels[:] = 0
    with pytest.raises(DataError, match="no object"):
        collect(model, [image])


def test_the_command_keeps_the_notes(tmp_path: Path) -> None:
    start = write_start(tmp_path / "start.safetensors")
    data = tmp_path / "data"
    write_pairs(data / "train", 2)
    out = tmp_path / "fitted.safetensors"
    command = [sys.executable, "-m", "tinysam_training.fit_scores"]
    done = subprocess.run(
        [*command, str(start), str(data), "-o", str(out), "--objects", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "before" in done.stderr
    assert checkpoints.read_notes(out) == checkpoints.read_notes(start)
    gone = subprocess.run(
        [*command, str(start), str(tmp_path / "nothing"), "-o", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert gone.returncode == 1
    assert gone.stderr.startswith("Error: ")
    assert "Traceback" not in gone.stderr
