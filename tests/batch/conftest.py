"""A folder of images, and batches of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_tinysam.batch.jobs import Job, find_images, jobs_for


def image(number: int) -> np.ndarray:
    """Gray values that `to_rgb` keeps, and a first pixel that tells the image."""
    pixels = np.random.default_rng(number).integers(0, 256, (64, 64)).astype(np.uint8)
    pixels[0, :2] = 0, 255
    pixels[1] = 128
    pixels[0, 0] = number
    return pixels


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five pictures and a stack of four planes."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(1, 6):
        iio.imwrite(folder / f"p{number}.png", image(10 * number))
    stack = np.stack([image(number) for number in (101, 102, 103, 104)])
    tifffile.imwrite(
        folder / "a_stack.tif",
        stack,
        photometric="minisblack",
        metadata={"axes": "ZYX"},
    )
    return folder


@pytest.fixture
def jobs(images: Path, tmp_path: Path) -> Callable[[str], list[Job]]:
    """The jobs of all images, into a folder."""

    def made(name: str = "out") -> list[Job]:
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        return jobs_for(find_images([str(images)]).images, out)

    return made
