"""`script/train-default`: one training in the background, and what becomes of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from default_model import background
from default_model.__main__ import main
from default_model.beginning import begun_with
from default_model.code_copy import head
from default_model.processes import ProcessRecord
from default_model.state import (
    ENVIRONMENT_VARIABLE,
    RefusedError,
    State,
)

RECIPE = """\
name: tiny
data:
  - {kind: synthetic, count: 2, kinds: [nuclei], size: [96, 96]}
model: {architecture: tiny_vit_2m, start: random, batch_norm: frozen}
stages:
  - {windows: [[64, 1, 1.0]], objects: 1, rounds: 0}
steps: 100000
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "state"))
    found = State.usual()
    yield found
    record = ProcessRecord.read(found.process)
    if record is not None and record.condition != "gone":
        background.stop(found, patience=60)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command says that cannot do what it is asked."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Error: ")
    assert len(said.err.splitlines()) == 1
    return said.err


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def steps_done(state: State) -> int:
    log = state.run / "log.csv"
    return log.read_text().count("\n") - 1 if log.exists() else 0


def wait_for_steps(state: State, more_than: int) -> None:
    ends = time.monotonic() + 120
    while steps_done(state) <= more_than:
        assert time.monotonic() < ends, state.log.read_text()
        time.sleep(0.1)


def test_from_start_to_stop_and_on(
    state: State, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        commit = head()
    except RefusedError:
        pytest.skip("this tree is no git repository")
    said = answer(
        capsys, "start", "--data", tmp_path, "--threads", 1, "--recipe", recipe
    )
    assert "begins" in said
    assert commit[:10] in said
    record = ProcessRecord.read(state.process)
    assert record is not None
    assert record.condition == "running"
    assert os.getpriority(os.PRIO_PROCESS, record.pid) >= background.NICENESS
    assert "already" in refusal(capsys, "start")
    assert "not paused" in refusal(capsys, "resume")
    wait_for_steps(state, 1)

    answer(capsys, "pause")
    assert record.condition == "paused"
    assert "paused already" in refusal(capsys, "pause")
    assert "paused already" in refusal(capsys, "start")
    before = steps_done(state)
    time.sleep(0.5)
    assert steps_done(state) == before
    assert answer(capsys, "status").startswith(f"paused, process {record.pid}\n")
    answer(capsys, "resume")
    wait_for_steps(state, before)

    said = answer(capsys, "status")
    assert said.startswith("running")
    for part in (commit[:10], "of 100,000", "mean of the last", "time left", "loss "):
        assert part in said
    assert "checkpoint is kept" in answer(capsys, "stop")
    assert answer(capsys, "status").startswith("stopped\n")
    assert "No training" in refusal(capsys, "pause")
    assert "No training" in refusal(capsys, "stop")

    done = steps_done(state)
    kept = (state.code / "training" / "README.md").stat().st_ino
    assert "continues" in answer(capsys, "start")  # with the same data, code and recipe
    assert (state.code / "training" / "README.md").stat().st_ino == kept
    wait_for_steps(state, done)
    answer(capsys, "stop")


def test_without_data_nothing_starts(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--data" in refusal(capsys, "start")
    assert "is not a folder" in refusal(capsys, "start", "--data", tmp_path / "none")
    assert "No training was started" in refusal(capsys, "status")
    assert "No training" in refusal(capsys, "stop")
    assert not state.code.exists()


def test_what_begins_with_weights_skips_stages_without_prompts() -> None:
    content: dict[str, Any] = yaml.safe_load(RECIPE)
    without = {"windows": [[64, 1, 1.0]], "objects": 0, "share": 0.5}
    both = {**content, "stages": [without, *content["stages"]]}
    assert begun_with(both, "default")["stages"] == content["stages"]
    assert begun_with(both, "default")["model"]["start"] == "default"
    assert begun_with(both, None) == both
    rates = [
        begun_with({**both, "optimizer": given}, "default")["optimizer"]
        for given in ({"ema": 0.9}, {"ema": 0.9, "learning_rate": 2e-3})
    ]
    assert rates[0]["learning_rate"] < 1e-3
    assert rates == [{**rates[0], "ema": 0.9}, {"ema": 0.9, "learning_rate": 2e-3}]
    alone = {**content, "stages": [without]}  # of an object head's own training
    assert begun_with(alone, "default")["stages"] == [without]


def test_a_recipe_that_cannot_be_used_is_told(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("steps: 3\nspeed: great\n")
    said = refusal(capsys, "start", "--data", tmp_path, "--recipe", wrong)
    assert "speed is not known" in said
    assert not state.process.exists()


def test_a_process_of_the_same_number_is_another(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ProcessRecord.of(os.getpid())
    assert own is not None
    assert own.condition == "running"
    stale = ProcessRecord(own.pid, own.begun + "0")
    assert stale.condition == "gone"
    state.folder.mkdir()
    stale.write(state.process)
    assert "No training" in refusal(capsys, "stop")  # and this process lives on
    assert "--data" in refusal(capsys, "start")


def test_a_lock_that_cannot_be_read_starts_nothing(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state.folder.mkdir()
    state.process.write_text("{")
    assert "cannot be read" in refusal(capsys, "start", "--data", tmp_path)
    assert "cannot be read" in refusal(capsys, "stop")
    state.process.unlink()
    (state.folder / "orders.json").write_text(json.dumps({"data": 1}))
    assert "cannot be read" in refusal(capsys, "status")


def test_misuse_is_code_2(state: State) -> None:
    for words in ([], ["fly"], ["start", "--threads", "0"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
