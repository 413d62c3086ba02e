"""The command line, run within the tests' process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from napari_tinysam.cli import main as cli

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Run:
    """What a command left behind."""

    code: int
    out: str
    err: str


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> Run:
    """Run ``napari-tinysam`` with these arguments, until it exits."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return Run(int(ended.value.code or 0), said.out, said.err)


def run_refused(
    capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object, code: int
) -> list[str]:
    """Run what must fail: nothing on stdout, a sentence last on stderr, no file touched.

    Returns
    -------
    list of str
        The lines on stderr.
    """
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = run_command(capsys, *arguments)
    assert done.code == code, done
    assert done.out == ""
    assert "Traceback" not in done.err
    lines = done.err.splitlines()
    assert lines[-1].startswith("Error: ")
    assert lines[-1].endswith(".")
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert after == before
    return lines
