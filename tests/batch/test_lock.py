"""One run at a time in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from napari_tinysam.batch.lock import sole_run
from napari_tinysam.errors import FileError

_HOLD = """
import sys, time
from pathlib import Path
from napari_tinysam.batch.lock import sole_run
with sole_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        refused = pytest.raises(FileError, match=rf"process {other.pid} on .*\) writes")
        with refused, sole_run(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir())  # what a killed run leaves behind
    with sole_run(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    with (
        pytest.raises(FileError, match="cannot be written to"),
        sole_run(tmp_path / "missing"),
    ):
        pass
