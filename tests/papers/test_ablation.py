"""The ablation: what the rows leave out, that runs go on, and the tables."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_tinysam.errors import DataError
from papers import ablation
from papers.ablation import MEASURES, row_recipe, run_ablation, write_tables
from tinysam_training.recipe import LossSettings, Stage, TeacherSettings
from tinysam_training.run.outcome import TrainingOutcome
from training.small_runs import RECIPE

WHOLE = replace(
    RECIPE,
    teacher=TeacherSettings("default"),
    losses=LossSettings(embedding=1.0, token=2.0, output=3.0),
    stages=(Stage(rounds=3), Stage(rounds=0)),
)


def test_rows_add_one_measure_after_the_other() -> None:
    found = [row_recipe(WHOLE, row, 7) for row in MEASURES]
    assert [r.losses.output for r in found] == [0, 3, 3, 3, 3, 3]
    assert [r.losses.embedding for r in found] == [0, 0, 1, 1, 1, 1]
    assert [r.losses.token for r in found] == [0, 0, 0, 2, 2, 2]
    assert [[s.rounds for s in r.stages] for r in found] == 4 * [[0, 0]] + 2 * [[3, 0]]
    assert [r.losses.hard_mask_weights for r in found] == [False] * 5 + [True]
    assert {r.seed for r in found} == {7}
    # The last row is the whole recipe; and all see windows of frames that the teacher embedded.
    # Students begin with the teacher's decoder, also those that are not distilled.
    whole = replace(WHOLE, model=replace(WHOLE.model, decoder="default"))
    assert replace(found[-1], name=WHOLE.name, seed=WHOLE.seed) == whole
    assert all(r.teacher == WHOLE.teacher for r in found)
    assert all(r.model == whole.model for r in found)


def test_an_ablation_needs_a_teacher_and_a_length(tmp_path: Path) -> None:
    for recipe in (RECIPE, replace(WHOLE, steps=0, minutes=1.0)):
        with pytest.raises(DataError, match="names a teacher, and the number of steps"):
            run_ablation(recipe, tmp_path, tmp_path)


def test_runs_that_are_there_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int, bool]] = []

    def run(recipe: Any, data: Path, out: Path, **options: Any) -> TrainingOutcome:
        assert recipe.teacher.cache == str((tmp_path / "teacher").resolve())
        done.append((recipe.name, recipe.seed, options["resume"]))
        if len(done) == 3:
            out.mkdir(parents=True)  # before the first checkpoint
            raise KeyboardInterrupt
        out.mkdir(exist_ok=True)
        return TrainingOutcome(6, 60.0, True, {}, {})

    figures = dict.fromkeys(ablation.ROWS, 0.5)
    monkeypatch.setattr(ablation, "run_recipe", run)
    monkeypatch.setattr(ablation, "_judged", lambda *_: figures)
    rows = ("labels", "weights")
    with pytest.raises(KeyboardInterrupt):
        run_ablation(WHOLE, tmp_path, tmp_path, seeds=(0, 1), rows=rows)
    run_ablation(WHOLE, tmp_path, tmp_path, seeds=(0, 1), rows=rows)
    assert done == [
        ("small-labels", 0, False),
        ("small-weights", 0, False),
        ("small-labels", 1, False),
        ("small-labels", 1, True),
        ("small-weights", 1, False),
    ]
    with (tmp_path / "ablation.csv").open(encoding="utf-8") as file:
        assert [(r["row"], r["seed"]) for r in csv.DictReader(file)] == [
            ("labels", "0"),
            ("labels", "1"),
            ("weights", "0"),
            ("weights", "1"),
        ]


def test_the_table_has_means_and_spreads_over_seeds(tmp_path: Path) -> None:
    for seed, iou in enumerate((0.5, 0.6, 0.7)):
        folder = tmp_path / f"output-{seed}"
        folder.mkdir()
        figures: dict[str, Any] = dict.fromkeys(ablation.ROWS)
        figures |= {"row": "output", "seed": seed, "steps": 6, "minutes": 1.0}
        (folder / "figures.json").write_text(json.dumps({**figures, "box_iou": iou}))
    write_tables(tmp_path)
    table = (tmp_path / "ablation.md").read_text("utf-8").splitlines()
    assert len(table) == 3
    assert table[2].startswith("| + L_out | 3 | 0.600 ± 0.100 | – |")
