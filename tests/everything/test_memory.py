"""Memory is bounded: a thousand masks in an image of 4096² pixels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no peak of memory")
@pytest.mark.parametrize("mode", ["dense", "guided"])
def test_a_thousand_masks_of_a_large_image_fit_into_2_gigabytes(mode: str) -> None:
    paths = [str(TESTS), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(TESTS / "everything" / "large_scene.py"), mode],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    objects, proposals, megabytes = map(int, done.stdout.split())
    assert objects > 900
    assert proposals >= 1000
    assert megabytes < 2000
