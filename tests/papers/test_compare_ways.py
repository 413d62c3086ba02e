"""The comparison of the ways of fine-tuning: who is judged on what, and the tables."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from papers import compare_ways, shared
from papers.compare_ways import BEFORE, COLUMNS
from tinysam_training.commands import finetune as module
from training.small_runs import RisingJudge, discs, shortened, write_start


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set with five images to train on and two to judge on, all different."""
    for number, image in enumerate(discs(7, 128)):
        folder = tmp_path / "data" / "discs" / ("train" if number < 5 else "val")
        folder.mkdir(parents=True, exist_ok=True)
        iio.imwrite(folder / f"{number}.png", image.rgb[..., 0])
        labels = image.labels.astype(np.uint16)
        iio.imwrite(folder / f"{number}_label.png", labels)
    return tmp_path / "data"


def test_ways_are_compared_on_images_that_nothing_else_has_seen(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = write_start(tmp_path / "start.safetensors")
    monkeypatch.setattr(module, "Judge", RisingJudge)
    monkeypatch.setattr(module, "finetune_recipe", shortened(module.finetune_recipe))
    asked: list[tuple[list[str], list[str]]] = []
    judged: list[list[str]] = []
    finetune, evaluate = compare_ways.finetune, shared.evaluate

    def short(
        train: Any, held_out: Any, output: Path, settings: Any, **more: Any
    ) -> Any:
        asked.append(([e.name for e in train], [e.name for e in held_out]))
        return finetune(train, held_out, output, settings, **more)

    def watched(predictor: Any, entries: Any, settings: Any) -> Any:
        judged.append([e.name for e in entries])
        return evaluate(predictor, entries[:1], replace(settings, objects=1))

    monkeypatch.setattr(compare_ways, "finetune", short)
    monkeypatch.setattr(shared, "evaluate", watched)
    out = tmp_path / "out"

    def compared(way: str) -> list[dict[str, Any]]:
        return compare_ways.compare_ways(
            data, str(start), ["discs"], out, ways=[way], minutes=1.0
        )

    compared("whole")
    (before,) = compared(BEFORE)  # another process, which shares the folder

    ((train, held_out),) = asked
    assert len(train) == 4
    assert len(held_out) == 1
    assert not set(train) & set(held_out)
    assert judged[0] == judged[1]
    assert len(judged[0]) == 2
    assert not set(judged[0]) & {*train, *held_out}

    assert "steps" not in before
    with (out / "ways.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["way"] for row in rows] == [BEFORE, "whole"]
    assert tuple(rows[0]) == COLUMNS
    assert int(rows[1]["steps"]) == 2
    whole = json.loads((out / "discs-whole.json").read_text("utf-8"))
    assert float(rows[1]["click1_iou"]) == whole["click1_iou"]
    table = (out / "ways.md").read_text("utf-8").splitlines()
    assert len(table) == 4
    assert all(line.count("|") == len(COLUMNS) + 1 for line in table)
