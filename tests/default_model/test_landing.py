"""When a run's model takes the place of the bundled one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from default_model import landing
from default_model.comparing import ModelComparison, set_figures
from default_model.landing import Landing, land
from default_model.state import RefusedError
from napari_tinysam import checkpoints
from tinysam_training.evaluation.evaluate import (
    Evaluation,
    EvaluationSettings,
    ImageResult,
)
from training.small_runs import training, write_pairs

CARD = (
    "# Card\n\n<!-- figures: file -->\n<!-- end of figures -->\n"
    "<!-- figures: quantized -->\n<!-- end of figures -->\n"
)


def figures(*means: float) -> dict[str, dict[str, float | None]]:
    return {
        f"set{number}": {"msa": mean, "box_iou": mean, "click1_iou": mean}
        for number, mean in enumerate(means)
    }


def test_a_better_mean_is_enough_while_no_set_falls_back() -> None:
    better = ModelComparison(figures(0.5, 0.5), figures(0.6, 0.485))
    assert better.objections == []
    assert "set1" in better.table()
    assert "+0.100" in better.table()


def test_a_set_that_falls_back_is_an_objection() -> None:
    (objection,) = ModelComparison(figures(0.5, 0.5), figures(0.9, 0.47)).objections
    assert objection.startswith("set1 loses 0.030")


def test_an_equal_model_is_not_better() -> None:
    (objection,) = ModelComparison(figures(0.5), figures(0.5)).objections
    assert "not better" in objection


def test_what_is_not_there_counts_as_nothing() -> None:
    old: dict[str, Any] = figures(0.5)
    old["set0"]["msa"] = None
    assert ModelComparison(old, figures(0.5)).objections == []


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Landing:
    """A run of a step, and a package; only the slow parts are left out."""
    run = tmp_path / "run"
    made = training(run)
    made.run(max_minutes=1e-9)
    checkpoints.save(made.average, run / "best.safetensors", {"step": "1.0"})
    package = tmp_path / "repository" / landing.WEIGHTS
    package.mkdir(parents=True)
    (package / "MODEL_CARD.md").write_text(CARD)
    (package / "default.safetensors").write_bytes(b"before")
    (package / "default-int8.safetensors").write_bytes(b"before")
    for split in ("train", "val"):
        write_pairs(tmp_path / "data" / "discs" / split, 1)
    monkeypatch.setattr(
        landing,
        "_calibrated",
        lambda weights, folders, path, say, keep_thresholds: path.write_bytes(
            weights.read_bytes()
        ),
    )
    return Landing(
        run,
        run / "best.safetensors",
        tmp_path / "data",
        images=1,
        repository=tmp_path / "repository",
    )


def judging(worth: dict[str, float]) -> Any:
    """In place of judging: every figure of a model is what its folder says."""

    def judged(model: Path, entries: Any, say: Any) -> Evaluation:
        value = worth[model.parent.name]
        nothing = np.zeros(0)
        names = ("msa", "box_iou", "click1_iou")
        result = ImageResult(
            "disc", "discs", 1, dict.fromkeys(names, value), nothing, nothing, None
        )
        return Evaluation(model.name, "test", EvaluationSettings(), (result,))

    return judged


def test_both_models_are_judged_by_what_auto_segment_gives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[EvaluationSettings] = []

    def evaluate(predictor: Any, entries: Any, settings: Any, progress: Any) -> None:
        asked.append(settings)

    monkeypatch.setattr(landing, "load_model", lambda *_, **__: None)
    monkeypatch.setattr(landing, "evaluate", evaluate)
    for name in ("default", "new"):
        landing.judged(tmp_path / name, [], lambda line: None)
    assert asked[0] == asked[1]
    assert asked[0].automatic
    nothing = np.zeros(0)
    names = {"msa": 0.5, "head_msa": 0.9, "box_iou": 0.2, "click1_iou": 0.1}
    result = ImageResult("disc", "discs", 1, dict(names), nothing, nothing, None)
    found = set_figures(Evaluation("m", "test", EvaluationSettings(), (result,)))
    assert found == {"discs": {"msa": 0.5, "box_iou": 0.2, "click1_iou": 0.1}}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_that_is_not_better_changes_nothing(
    asked: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "judged", judging({"weights": 0.5, "landing": 0.4}))
    package = asked.repository / landing.WEIGHTS
    before, said = contents(package), list[str]()
    with pytest.raises(RefusedError, match=r"stays: .*not better.*loses.*--anyway"):
        land(asked, said.append)
    assert contents(package) == before
    assert any("0.500 → 0.400" in line for line in said)


def test_a_better_model_takes_the_place(
    asked: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "judged", judging({"weights": 0.5, "landing": 0.6}))

    def command(module: str, *arguments: Any) -> None:
        assert arguments[0] == "quantize"
        Path(arguments[-1]).write_bytes(b"integers")

    monkeypatch.setattr(landing, "_command", command)
    land(asked, lambda line: None)
    package = asked.repository / landing.WEIGHTS
    loaded = checkpoints.load(package / "default.safetensors")
    assert loaded.notes["name"] == "default"
    assert checkpoints.is_half(package / "default.safetensors")
    assert (package / "default-int8.safetensors").read_bytes() == b"integers"
    card = (package / "MODEL_CARD.md").read_text()
    assert "| sha256 |" in card
    assert f"`{hashlib.sha256(b'integers').hexdigest()}`" in card


def test_a_model_without_integers_changes_nothing(
    asked: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "judged", judging({"weights": 0.5, "landing": 0.6}))

    def command(module: str, *arguments: Any) -> None:
        raise RefusedError("quantize failed.")

    monkeypatch.setattr(landing, "_command", command)
    package = asked.repository / landing.WEIGHTS
    before = contents(package)
    with pytest.raises(RefusedError, match="quantize failed"):
        land(asked, lambda line: None)
    assert contents(package) == before


def test_what_is_missing_is_named(asked: Landing, tmp_path: Path) -> None:
    for wrong, said in (
        (Landing(asked.run, tmp_path / "none.safetensors", asked.data), "no weights"),
        (Landing(tmp_path, asked.weights, asked.data), "not a run's folder"),
        (Landing(asked.run, asked.weights, tmp_path / "none"), "no data"),
    ):
        with pytest.raises(RefusedError, match=said):
            land(wrong, lambda line: None)
