"""Images of a kind that the bundled model is poor at: to walk through adapting, and to show it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from scipy import ndimage as ndi

if TYPE_CHECKING:
    import numpy.typing as npt


def sheathed(
    seed: int, side: int = 256, count: int = 16
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Draw fibres with dark sheaths, whose labels are the whole fibres.

    The bundled model outlines the bright inside, or the sheath.

    Returns
    -------
    image : ndarray of uint8, (side, side)
    labels : ndarray of uint16, (side, side)
    """
    noise = np.random.default_rng((seed, 27))
    rough = ndi.gaussian_filter(noise.normal(0, 1, (side, side)), 4)
    image = 150 + 22 * rough / rough.std()
    labels = np.zeros((side, side), np.uint16)
    y, x = np.mgrid[:side, :side]
    label = 0
    for _ in range(60 * count):
        if label == count:
            break
        cy, cx = noise.uniform(0.05 * side, 0.95 * side, 2)
        radius, ratio, turn = (
            noise.uniform(13, 24),
            noise.uniform(1, 1.4),
            noise.uniform(0, np.pi),
        )
        along = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        across = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        angle = np.arctan2(across * ratio, along / ratio)
        waves = 1 + 0.07 * np.sin(3 * angle + noise.uniform(0, 6))
        away = np.hypot(along / ratio, across * ratio) / (radius * waves)
        mask = away <= 1
        if (ndi.binary_dilation(mask, iterations=2) & (labels > 0)).any():
            continue
        label += 1
        labels[mask] = label
        thick = noise.uniform(0.3, 0.45)
        image[mask] = 55
        image[away <= 1 - thick] = 165 + noise.uniform(-15, 15)
    image = ndi.gaussian_filter(image, 0.8) + noise.normal(0, 7, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_sheathed(folder: Path, count: int = 10, **drawn: Any) -> list[Any]:
    """Write images of fibres; return their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = []
    for number in range(count):
        image, truth = sheathed(number, **drawn)
        tifffile.imwrite(folder / f"fibres_{number:02}.tif", image)
        labels.append(truth)
    return labels
