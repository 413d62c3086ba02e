"""kill -9 at any moment of a session: all but the last moment is restored, and can be undone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import scripted_session
from scripted_session import judged, states_of


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
@pytest.mark.parametrize(("seed", "lines"), [(1, 12), (2, 30)])
def test_killed_at_any_moment(seed: int, lines: int) -> None:
    with subprocess.Popen(
        [sys.executable, str(Path(scripted_session.__file__)), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        killed = time.time()
        told += process.stdout.read().splitlines()

    verdict = judged(states_of(told), killed)

    assert not verdict.problems
    assert verdict.restored
    assert verdict.undone
