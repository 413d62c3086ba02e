"""A note of training that goes on: if it is cut, the dock names it, and how to go on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_tinysam.cli.console import speaks
from napari_tinysam.journal.running import TRAINING, RunningNotes


@contextmanager
def noted(output: Path) -> Iterator[None]:
    """Keep a note while training goes on; it stays where the process is killed.

    Parameters
    ----------
    output : Path
        What the training writes: one note for each.
    """
    if not speaks():  # another process of the same run has the note
        yield
        return
    notes, place = RunningNotes(), str(output.absolute())
    for work in notes.cut():
        if work.kind == TRAINING and work.told.get("output") == place:
            notes.forget(work)  # it goes on, or another one takes its place
    command = ["napari-tinysam", *sys.argv[1:]]
    if "--resume" not in command:
        command.append("--resume")
    told = {"output": place, "command": shlex.join(command), "folder": str(Path.cwd())}
    note = notes.begin(TRAINING, told)
    try:
        yield
    finally:  # an error is said, and who stops it knows it
        if note is not None:
            note.done()
