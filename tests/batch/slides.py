"""A slide of bright discs, and a model for it that any process can load."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tifffile
import zarr

from everything.plane_of_discs import BrightRuntime, field
from files.test_ome_zarr import write_group
from napari_tinysam.inference.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np

if TYPE_CHECKING:
    import numpy as np

#: Height and width; in tiles of 256 pixels there are 6.
SHAPE = (420, 560)
TILES = 6


class LoggedBright(BrightRuntime):
    """Writes a line for each look that it encodes, and dies at the one that a file says.

    Parameters
    ----------
    folder : Path
        Holds ``encoded``, the process and a sum of each look; ``die`` may hold a number: the
        process that writes this line kills itself.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def encode(self, rgb: np.ndarray) -> Any:
        with (self.folder / "encoded").open("a") as file:
            file.write(f"{os.getpid()} {int(rgb.sum())}\n")
        die = self.folder / "die"
        if die.exists() and len(encoded(self.folder)) >= int(die.read_text()):
            die.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(rgb)


def load_bright(folder: Path, threads: int = 0) -> Predictor:
    return Predictor(LoggedBright(folder), name="bright", model_id="bright/cpu")


def encoded(folder: Path) -> list[str]:
    """A line for each look that was encoded: process and sum."""
    path = folder / "encoded"
    return path.read_text().splitlines() if path.exists() else []


def slide(seed: int = 0) -> np.ndarray:
    """Discs of all sizes; some are larger than what tiles share, and cut by all tiles."""
    image, _ = field(SHAPE, 80, 16, seed)
    large, _ = field(SHAPE, 300, 70, seed)
    image[:300, :300] = large[:300, :300]
    return image


def write_zarr(path: Path, pixels: np.ndarray, levels: int = 1) -> None:
    """Write an OME-Zarr image of version 0.5, (Y, X), in chunks of 128 pixels."""
    datasets = []
    for level in range(levels):
        step = 2**level
        how = [{"type": "scale", "scale": [float(step)] * 2}]
        datasets.append({"path": str(level), "coordinateTransformations": how})
    scales = {"axes": [{"name": "y"}, {"name": "x"}], "datasets": datasets}
    write_group(path, {"multiscales": [scales]}, "0.5")
    for level in range(levels):
        part = pixels[:: 2**level, :: 2**level]
        array: Any = zarr.create_array(
            str(path / str(level)),
            shape=part.shape,
            chunks=(128, 128),
            dtype=part.dtype,
        )
        array[...] = part


def write_tiff(path: Path, pixels: np.ndarray, axes: str = "ZYX") -> None:
    """Write a compressed TIFF file in tiles of 128 pixels."""
    tifffile.imwrite(
        path,
        pixels,
        tile=(128, 128),
        compression="zlib",
        photometric="minisblack",
        metadata={"axes": axes},
    )
