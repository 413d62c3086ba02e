"""kill -9 at any moment: what is restored is the state after one of the last actions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from journal_cases import about, box, put
from napari_tinysam.journal.reading import labels_of, read_journal

SHAPE = (2, 300, 300)


def step(number: int):
    """Return the window of an action: boxes that overlap, of changing ids, also erased."""
    at = (number % 2, number * 7 % 250, number * 13 % 250)
    return box(at, (1, 40, 40), number % 11)


def write(folder: Path) -> None:
    """Write for ever; tell the number of each action that is flushed."""
    from napari_tinysam.journal.writing import Journal

    journal = Journal(folder, about(SHAPE), roll=4000)
    number = 0
    while True:
        number += 1
        journal.note("commit", windows=[step(number)], at_once=number % 10 == 0)
        if number % 10 == 0 and journal.flush():
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
@pytest.mark.parametrize("lines", [1, 4, 9, 20, 37])
def test_killed_at_any_moment(tmp_path, lines):
    code = f"""
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
spec = spec_from_file_location("killed", {__file__!r})
module = module_from_spec(spec)
spec.loader.exec_module(module)
module.write(Path({str(tmp_path)!r}))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            flushed = int(process.stdout.readline())
        time.sleep(lines % 5 * 0.003)
        process.kill()
        flushed = max([flushed, *map(int, process.stdout.read().split())])

    found = read_journal(tmp_path)

    assert len(found.actions) >= flushed
    assert [action.number for action in found.actions] == list(
        range(1, len(found.actions) + 1)
    )
    wanted = np.zeros(SHAPE, np.uint32)
    for number in range(1, len(found.actions) + 1):
        put(wanted, step(number))
    np.testing.assert_array_equal(labels_of(found), wanted)
