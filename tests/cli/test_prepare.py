"""``napari-tinysam prepare``: what it prints, and how it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from command import Run, run_command
from napari_tinysam.inference.runtime import choice
from napari_tinysam.inference.runtime.openvino import store
from training.small_runs import write_start


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Run]:
    """Run the command in an empty folder, as nice as before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.nice", lambda more: None, raising=False)
    monkeypatch.setattr(store, "is_installed", lambda: True)

    return partial(run_command, capsys, "prepare")


def test_the_folder_of_the_converted_model_is_printed(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = write_start(tmp_path / "start.safetensors")
    asked: list[Path] = []

    def prepare(located: choice.checkpoints.LocatedCheckpoint) -> Path:
        asked.append(located.path)
        return tmp_path / "graphs"

    monkeypatch.setattr(choice, "prepare", prepare)
    done = run("start.safetensors")
    assert (done.code, done.out) == (0, f"{tmp_path / 'graphs'}\n")
    assert [path.resolve() for path in asked] == [start]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["weights.safetensors"], 1, "is a text file, not a file of weights"),
        (["nowhere"], 1, "no model and no file called 'nowhere'"),
        ([], 2, "MODEL"),
    ],
)
def test_what_is_no_model_is_refused(
    run: Callable[..., Run], arguments: list[str], code: int, sentence: str
) -> None:
    Path("weights.safetensors").write_text("no weights")
    done = run(*arguments)
    assert done.code == code
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1


def test_without_openvino_there_is_nothing_to_prepare(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "is_installed", lambda: False)
    done = run("default")
    assert done.code == 1
    assert done.err.startswith("Error: OpenVINO is not installed")
