"""What adapting gives, with several seeds: who learns from what, and what is not repeated."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from papers import adapted_sets as module
from training.small_runs import discs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set with five images to train on and two to judge on, all different."""
    for number, image in enumerate(discs(7, 128)):
        folder = tmp_path / "data" / "discs" / ("train" if number < 5 else "val")
        folder.mkdir(parents=True, exist_ok=True)
        iio.imwrite(folder / f"{number}.png", image.rgb[..., 0])
        labels = image.labels[0].astype(np.uint16)
        iio.imwrite(folder / f"{number}_label.png", labels)
    return tmp_path / "data"


@pytest.mark.parametrize("images", [3, 1])
def test_each_seed_learns_from_other_images_and_is_judged_on_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    learnt: list[list[str]] = []
    judged: list[list[str]] = []

    def finetune(train: Any, held: Any, path: Path, settings: Any) -> Any:
        assert held
        names = [entry.name for entry in [*train, *held]]
        assert len(set(names)) == len(names)
        learnt.append(names)
        outcome = SimpleNamespace(steps=7, best={"step": 5.0})
        return SimpleNamespace(outcome=outcome, after="after", better=True)

    def judge(
        model: Any, entries: Any, settings: Any, rows: Any, notes: Any
    ) -> dict[str, float]:
        judged.append([entry.name for entry in entries])
        assert notes == ({"calibrated": "yes"} if model == "after" else {})
        return dict.fromkeys(rows, 0.75 if model == "after" else 0.5)

    def calibrated(model: Any, notes: Any, entries: Any) -> dict[str, str]:
        assert [entry.name for entry in entries] == learnt[-1]
        return {"calibrated": "yes"}

    monkeypatch.setattr(module, "_calibrated", calibrated)
    loaded = SimpleNamespace(model="start", notes={})
    monkeypatch.setattr(module.checkpoints, "load", lambda _: loaded)
    monkeypatch.setattr(module, "finetune", finetune)
    monkeypatch.setattr(module, "judged", judge)
    out = tmp_path / "out"
    for seeds in (2, 3):
        rows = module.adapted_sets(
            data, "start", ["discs"], out, seeds=seeds, images=images
        )
    assert [row["seed"] for row in rows] == ["before", 0, 1, 2]
    assert [row["msa"] for row in rows] == [0.5, 0.75, 0.75, 0.75]
    assert len(learnt) == 3  # the first two were there
    assert len({tuple(names) for names in learnt}) > 1
    assert all("val" not in name for names in learnt for name in names)
    assert len({tuple(names) for names in judged}) == 1
    assert "| discs | before |" in (out / "adapted.md").read_text()
