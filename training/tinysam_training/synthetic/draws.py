"""Random numbers and choices for all kinds of synthetic images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def happens(rng: np.random.Generator, probability: float) -> bool:
    """Return True with this probability."""
    return bool(rng.random() < probability)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform: 4–8 is as likely as 40–80.

    Parameters
    ----------
    rng : numpy Generator
    low, high : float
        Both > 0.

    Returns
    -------
    float
    """
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def one_of(
    rng: np.random.Generator, choices: Sequence[T], weights: Sequence[float]
) -> T:
    """Draw one of the choices by their weights, which need not sum to 1."""
    shares = np.asarray(weights, float)
    return choices[int(rng.choice(len(choices), p=shares / shares.sum()))]


def object_diameter(
    rng: np.random.Generator, size: tuple[int, int], low: float, high: float
) -> float:
    """Draw the typical diameter of an image's objects.

    Parameters
    ----------
    rng : numpy Generator
    size : (int, int)
        Height and width of the image.
    low, high : float
        Limits in pixels of the model's frame, whose longer side is 1024.

    Returns
    -------
    float
        Pixels of the image, at least 6: smaller objects look like noise.
    """
    scale = max(size) / 1024
    return max(6.0, log_uniform(rng, low, high) * scale)


def object_count(
    size: tuple[int, int], diameter: float, coverage: float, most: int = 500
) -> int:
    """Count the discs of a diameter that cover a share of the image: 1 to `most`."""
    area = np.pi / 4 * diameter**2
    return int(np.clip(round(coverage * size[0] * size[1] / area), 1, most))
