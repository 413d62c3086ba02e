"""A batch that is killed at any moment goes on, with the same result and nothing done twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batch.discs import load_discs
from napari_tinysam.batch.run import segment_files
from napari_tinysam.batch.runners.here import Here
from napari_tinysam.batch.settings import BatchSettings
from napari_tinysam.batch.work import Worker

if TYPE_CHECKING:
    from napari_tinysam.batch.jobs import Job

_RUN = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from batch.discs import load_discs
from napari_tinysam.batch.jobs import find_images, jobs_for
from napari_tinysam.batch.lock import sole_run
from napari_tinysam.batch.run import segment_files
from napari_tinysam.batch.runners.here import Here
from napari_tinysam.batch.settings import BatchSettings
from napari_tinysam.batch.work import Worker
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
jobs = jobs_for(find_images([str(folder / "images")]).images, out)
with sole_run(out):
    worker = Worker(load_discs(folder), BatchSettings(also=("coco",)))
    for outcome in segment_files(jobs, Here(worker)):
        assert outcome.state in ("written", "there", "completed")
"""


def encoded(folder: Path) -> int:
    path = folder / "encoded"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_the_result_is_that_of_a_run_that_was_not_killed(
    jobs: Callable[..., list[Job]], tmp_path: Path
) -> None:
    paths = [path for path in sys.path if path]
    arguments = [sys.executable, "-c", _RUN, str(tmp_path), str(tmp_path / "out")]
    jobs("out")
    for begun in (2, 6, 8):  # in the stack, and in two files
        with subprocess.Popen([*arguments, *paths]) as process:
            while encoded(tmp_path) < begun and process.poll() is None:
                time.sleep(0.002)
            process.kill()
    subprocess.run([*arguments, *paths], check=True)
    # At most the plane that each kill interrupted.
    assert 9 <= encoded(tmp_path) <= 9 + 3
    worker = Worker(load_discs(tmp_path), BatchSettings(also=("coco",)))
    list(segment_files(jobs("whole"), Here(worker)))
    # Half-written files under temporary names may be left, and nothing takes them for results.
    found = {
        path.name: path.read_bytes()
        for path in (tmp_path / "out").iterdir()
        if not path.name.startswith(".tinysam-")
    }
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert found == expected
