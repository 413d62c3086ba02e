"""A folder of images for a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of noise."""
    folder = tmp_path / "cells"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(4):
        tifffile.imwrite(
            folder / f"{number}.tif", noise.integers(0, 255, (60, 80), "u1")
        )
    return folder
