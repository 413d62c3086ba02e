"""The inputs that people reported, made anew: each is one of a kind that once went wrong."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile


def cells(
    height: int = 200, width: int = 280, seed: int = 3
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Bright discs on dark ground: image and labels, (Y, X)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width), 20.0)
    labels = np.zeros((height, width), np.uint16)
    while labels.max() < 8:
        cy, cx = rng.integers(20, height - 20), rng.integers(20, width - 20)
        radius = rng.integers(9, 15)
        distance = np.hypot(y - cy, x - cx)
        if labels[distance <= radius + 4].any():
            continue
        labels[distance <= radius] = labels.max() + 1
        image[distance <= radius] = 160
    image += rng.normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def colours(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Give (Y, X) three different channels, (Y, X, 3)."""
    return np.dstack([pixels // 4, pixels, pixels // 2])


def planar_lzw(folder: Path) -> tuple[Path, npt.NDArray[np.generic]]:
    """RGB in planes, compressed with LZW."""
    path, rgb = folder / "planar_lzw.tif", colours(cells()[0])
    tifffile.imwrite(
        path,
        np.moveaxis(rgb, -1, 0),
        photometric="rgb",
        planarconfig="separate",
        compression="lzw",
    )
    return path, rgb


def deep_png(folder: Path) -> tuple[Path, npt.NDArray[np.generic]]:
    """RGB of 16 bits, ten of them used, as PNG."""
    path, rgb = folder / "rgb16.png", colours(cells()[0].astype(np.uint16) * 4)
    path.write_bytes(imagecodecs.png_encode(rgb))
    return path, rgb


def deep_lzw(folder: Path) -> tuple[Path, npt.NDArray[np.generic]]:
    """The same as TIFF, compressed with LZW."""
    path, rgb = folder / "rgb16_lzw.tif", colours(cells()[0].astype(np.uint16) * 4)
    tifffile.imwrite(path, rgb, photometric="rgb", compression="lzw")
    return path, rgb


def channels_last_lzw(folder: Path) -> tuple[Path, npt.NDArray[np.generic]]:
    """Two channels behind the columns, compressed with LZW: once called damaged."""
    path, pixels = folder / "yxc2_lzw.tif", cells()[0]
    two = np.dstack([pixels, pixels[::-1]])
    tifffile.imwrite(
        path, two, photometric="minisblack", planarconfig="contig", compression="lzw"
    )
    return path, two
