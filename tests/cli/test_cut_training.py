"""Training that was killed is noted, with the command that goes on with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_tinysam.cli.cut_training import noted
from napari_tinysam.journal.running import TRAINING, RunningNotes


@pytest.fixture
def _command(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["napari-tinysam", "train", "my recipe.yaml", "-o", "run"]
    monkeypatch.setattr(sys, "argv", words)


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
@pytest.mark.usefixtures("_command")
def test_a_killed_training_is_noted_until_it_goes_on(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from napari_tinysam.cli.cut_training import noted
sys.argv = ["x", "train", "my recipe.yaml", "-o", "run"]
with noted(Path("run")):
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert not RunningNotes().cut()  # it goes on
        process.kill()

    (work,) = RunningNotes().cut()
    assert work.kind == TRAINING
    assert work.told["output"] == str(tmp_path / "run")
    assert work.told["folder"] == str(tmp_path)
    assert work.told["command"] == (
        "napari-tinysam train 'my recipe.yaml' -o run --resume"
    )
    with noted(tmp_path / "other"):
        assert len(RunningNotes().cut()) == 1
    with noted(tmp_path / "run"):
        assert not RunningNotes().cut()
    assert not RunningNotes().cut()


@pytest.mark.usefixtures("_command")
def test_a_training_that_failed_or_was_stopped_is_not_noted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), noted(tmp_path):
        raise KeyboardInterrupt

    assert not list(RunningNotes().folder.iterdir())


def test_training_goes_on_where_no_note_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NAPARI_TINYSAM_JOURNALS", str(tmp_path / "file"))
    with noted(tmp_path):
        pass
