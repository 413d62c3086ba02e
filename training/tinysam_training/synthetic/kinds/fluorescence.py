"""Exposure and display of fluorescence micrographs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tinysam_training.synthetic import optics
from tinysam_training.synthetic.draws import (
    happens,
)

if TYPE_CHECKING:
    from tinysam_training.synthetic.shapes import FloatArray

#: Red, green and blue with which viewers and papers show a dye.
DYES = (
    (0.05, 0.15, 1.0),
    (0.1, 0.5, 1.0),
    (0.05, 1.0, 0.1),
    (1.0, 0.08, 0.08),
    (1.0, 0.1, 0.9),
    (0.1, 0.9, 1.0),
    (1.0, 0.85, 0.15),
)


def exposed(
    rng: np.random.Generator, image: FloatArray, coloured: float = 0.12
) -> npt.NDArray[np.generic]:
    """Expose a fluorescence image, sometimes in the colour of a dye or as a negative.

    Parameters
    ----------
    rng : numpy Generator
    image : ndarray of float32, (H, W)
        Light, in any unit.
    coloured : float
        Probability of the colour of a dye.

    Returns
    -------
    ndarray of uint8 or uint16, (H, W), or of uint8, (H, W, 3)
    """
    # A percentile below the maximum: the brightest parts saturate now and then.
    top = max(float(np.quantile(image[::4, ::4], rng.uniform(0.985, 1.0))), 1e-3)
    image = image / np.float32(top)
    if happens(rng, coloured):
        dye = np.array(DYES[rng.integers(len(DYES))], np.float32)
        gray = np.asarray(optics.photograph(rng, image, deep=0.0), np.float32)
        return np.asarray(np.rint(gray[..., None] * dye), np.uint8)
    return optics.photograph(rng, image, invert=0.07)
