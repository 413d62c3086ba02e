"""The command that puts a run's model into the package."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.everything.thresholds import NOTE
from papers.bundling import bundle
from training.small_runs import training

CARD = "# Card\n\n<!-- figures: file -->\n<!-- end of figures -->\n\nText.\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one step, as `napari-tinysam train` leaves it."""
    folder = tmp_path / "run"
    made = training(folder)
    made.run(max_minutes=1e-9)
    notes = {"made_by": "napari-tinysam train", "step": "1.0", NOTE: "{}"}
    checkpoints.save(made.average, folder / "best.safetensors", notes)
    return folder


def test_the_model_and_its_card_are_written(run: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "MODEL_CARD.md").write_text(CARD)
    path = bundle(run, weights)

    loaded = checkpoints.load(path)
    before = checkpoints.load(run / "best.safetensors").model.state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert torch.allclose(tensor, before[name], rtol=1e-3, atol=1e-6), name
    assert loaded.notes["steps"] == "1"
    assert loaded.notes["recipe"] == "small"
    assert NOTE in loaded.notes
    assert path.stat().st_size < 0.6 * (run / "best.safetensors").stat().st_size

    card = (weights / "MODEL_CARD.md").read_text()
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    assert json.loads((run / "run.json").read_text())["data"] in card
    assert card.endswith("Text.\n")


def test_a_card_without_a_place_leaves_the_model_alone(
    run: Path, tmp_path: Path
) -> None:
    (tmp_path / "MODEL_CARD.md").write_text("# Card\n")
    with pytest.raises(DataError, match="no place"):
        bundle(run, tmp_path)
    assert not (tmp_path / "default.safetensors").exists()


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MODEL_CARD.md").write_text(CARD)
    with pytest.raises(DataError, match="cannot be read"):
        bundle(tmp_path / "nothing", tmp_path)
