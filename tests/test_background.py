"""Threads aside: Python waits for them when it ends, but not for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(script: str, *arguments: str) -> None:
    """Run a program to its end, which must be a good one."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_begun_is_finished(tmp_path: Path) -> None:
    run(
        """
import sys, time
from pathlib import Path
from napari_tinysam.background import ending, start_thread
def work():
    ending.wait()
    time.sleep(0.3)
    Path(sys.argv[1]).write_text("whole")
start_thread(work, "work")
""",
        str(tmp_path / "file"),
    )
    assert (tmp_path / "file").read_text() == "whole"


def test_what_never_ends_is_left() -> None:
    run("""
import time
from napari_tinysam import background
background.EXIT_WAIT = 0.2
background.start_thread(lambda: time.sleep(1e6), "endless")
""")
