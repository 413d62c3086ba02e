"""Training that was killed is noted, with the command that goes on with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from killed import killed_at_the_end
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
    with killed_at_the_end(code, tmp_path):
        assert not RunningNotes().cut()  # it goes on

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
