"""Exposure of images in transmitted light.

Each kind draws a map of the phase that the specimen adds to the light; `optics` turns the map into
the image of a technique.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tinysam_training.synthetic import optics, textures
from tinysam_training.synthetic.draws import (
    happens,
    log_uniform,
)

if TYPE_CHECKING:
    from tinysam_training.synthetic.shapes import FloatArray


def exposed(
    rng: np.random.Generator,
    image: FloatArray,
    *,
    level: float,
    dirt: float,
    unevenness: float = 0.1,
) -> npt.NDArray[np.generic]:
    """Give a transmitted-light image its background, dirt, light and noise.

    Parameters
    ----------
    rng : numpy Generator
    image : ndarray of float32, (H, W)
        Intensity relative to the empty field, which is 1.
    level : float
        Brightness of the empty field; 1 is white.
    dirt : float
        Probability of dust.
    unevenness : float
        See `optics.illumination`.

    Returns
    -------
    ndarray of uint8 or uint16, (H, W), or of uint8, (H, W, 3)
    """
    size = (image.shape[0], image.shape[1])
    grain = textures.fractal_noise(rng, size, max(size) / rng.uniform(15, 120), 3)
    image = image + np.float32(log_uniform(rng, 0.001, 0.015)) * grain
    image = image * optics.illumination(rng, size, unevenness)
    if happens(rng, dirt):
        specks, rings = int(rng.integers(0, 40)), int(rng.integers(0, 8))
        optics.dust(rng, image, specks, rings, rng.uniform(0.1, 0.7))
    image = image * np.float32(level)
    tint = 0.08
    if happens(rng, tint):  # a colour camera, its white balance a little off
        balance = np.clip(rng.normal(1, 0.08, 3), 0.8, 1.2).astype(np.float32)
        return optics.photograph(rng, image[..., None] * balance, photons=(2000, 50000))
    return optics.photograph(rng, image, photons=(1500, 50000), invert=0.05, deep=0.25)
