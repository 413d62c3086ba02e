"""Means of two models' weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from papers.averaging import average
from training.small_runs import write_start


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A model, and the same with other weights."""
    folder = tmp_path_factory.mktemp("ends")
    start = write_start(folder / "start.safetensors")
    model = checkpoints.load(start).model
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter)
    trained = folder / "trained.safetensors"
    checkpoints.save(model, trained, {"made_by": "a test", "steps": "7"})
    return str(start), str(trained)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_every_weight_lies_between_both(
    share: float, ends: tuple[str, str], tmp_path: Path
) -> None:
    average(*ends, tmp_path / "between.safetensors", share)
    found = checkpoints.load(tmp_path / "between.safetensors")
    own, other = (checkpoints.load(end).model.state_dict() for end in ends)
    for name, value in found.model.state_dict().items():
        if value.is_floating_point():
            expected = (1 - share) * own[name] + share * other[name]
            torch.testing.assert_close(value, expected, msg=name)
    assert found.notes["steps"] == "7"


def test_nothing_is_between_different_models(
    ends: tuple[str, str], tmp_path: Path
) -> None:
    model = checkpoints.load(ends[0]).model
    model.object_head = None
    other = tmp_path / "other.safetensors"
    checkpoints.save(model, other)
    with pytest.raises(DataError, match="not of the same architecture"):
        average(ends[0], str(other), tmp_path / "between.safetensors")
    with pytest.raises(DataError, match="between 0 and 1"):
        average(*ends, tmp_path / "between.safetensors", 1.5)
    assert not (tmp_path / "between.safetensors").exists()


def test_the_command_refuses_in_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "papers.averaging", "default",
            str(tmp_path / "nothing.safetensors"), "-o", str(tmp_path / "out.safetensors"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
