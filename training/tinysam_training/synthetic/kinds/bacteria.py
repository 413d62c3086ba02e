"""Rod-shaped bacteria in phase contrast, bright field and fluorescence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tinysam_training.synthetic import optics, textures
from tinysam_training.synthetic.draws import (
    happens,
    log_uniform,
    object_count,
    object_diameter,
    one_of,
)
from tinysam_training.synthetic.kinds.transmitted import exposed
from tinysam_training.synthetic.scene import Picture, Scene
from tinysam_training.synthetic.shapes import FloatArray, rod


def bacteria(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Rods: single, in chains and in microcolonies; phase contrast, bright field, fluorescence."""
    width = max(4.5, object_diameter(rng, size, 9, 48))
    aspect = rng.uniform(1.6, 5.0)
    rods = _rods(rng, size, width, aspect)
    grain = textures.fractal_noise(rng, size, max(1.5, 0.35 * width), 2)
    grain *= np.float32(rng.uniform(0.03, 0.16))
    poles = np.float32(rng.uniform(0.05, 0.35) if happens(rng, 0.4) else 0)
    septa = rng.uniform(0.1, 0.5)
    scene = Scene(size)
    phase = np.zeros(size, np.float32)
    variation = rng.uniform(0.03, 0.2)
    sharpness = rng.uniform(0.12, 0.45)
    for cy, cx, length, angle, bend in rods:
        thick = width * float(np.clip(rng.normal(1, 0.05), 0.85, 1.15))
        patch = rod(size, (cy, cx), length, thick, angle, bend, margin=2)
        if patch is None or not scene.is_free(patch, 0.8):
            continue
        won = scene.add_beside(patch)
        body = np.clip(1 - patch.rho * patch.rho, 0, 1) ** np.float32(sharpness)
        body = body * (1 + textures.crop(rng, grain, body.shape))
        if poles:
            body = body * (1 + poles * (np.abs(patch.u) > 0.6))
        if happens(rng, septa) and length > 2.8 * thick:
            cut = np.exp(-((patch.u * np.float32(length / thick) / 0.28) ** 2))
            body = body * (1 - np.float32(rng.uniform(0.1, 0.55)) * cut)
        if happens(rng, 0.05):  # a spore or an inclusion
            at = rng.uniform(-0.5, 0.5)
            spot = np.exp(-(((patch.u - at) * length / thick) ** 2 + patch.v**2) * 3)
            body = body * (1 - np.float32(rng.uniform(0.3, 0.8)) * spot)
        strength = np.float32(np.clip(rng.normal(1, variation), 0.5, 1.6))
        np.copyto(phase[patch.rows, patch.cols], body * strength, where=won)
    # A thin gap between cells that touch: walls scatter.
    technique = one_of(rng, ("phase", "bright field", "fluorescence"), (5, 4, 3))
    if technique == "fluorescence":
        return _glowing(rng, phase, scene.depth, width), scene.labels
    if technique == "phase":
        phase = optics.blurred(phase, rng.uniform(0.4, max(0.6, 0.1 * width)))
        strength = np.float32(rng.uniform(0.35, 0.9))
        image = optics.phase_contrast(
            phase * strength, rng.uniform(0.5, 1.3) * width, rng.uniform(0.5, 1.0)
        )
        level = rng.uniform(0.35, 0.7)
    else:
        defocus = rng.uniform(0.3, 1.3) * (1 if happens(rng, 0.7) else -1)
        absorption = rng.uniform(0.25, 0.7) if defocus > 0 else rng.uniform(0, 0.2)
        image = optics.bright_field(phase, defocus * max(1.0, width / 9), absorption)
        level = rng.uniform(0.6, 0.9)
    return exposed(rng, image, level=level, dirt=0.4), scene.labels


def _glowing(
    rng: np.random.Generator, phase: FloatArray, depth: FloatArray, width: float
) -> npt.NDArray[np.generic]:
    """Show the rods with a fluorescent cytoplasm or membrane."""
    light = phase
    if happens(rng, 0.35):
        rim = np.exp(-(((depth - 0.12 * width) / np.float32(0.12 * width)) ** 2))
        light = 0.25 * phase + rim * (depth > 0)
    light = optics.blurred(light, rng.uniform(0.4, max(0.7, 0.12 * width)))
    if happens(rng, 0.5):
        haze = optics.blurred(light, 2 * width)
        light = light + np.float32(rng.uniform(0.05, 0.35)) * haze
    size = (phase.shape[0], phase.shape[1])
    light = light + np.float32(log_uniform(rng, 0.005, 0.15))
    light = light * optics.illumination(rng, size, 0.2)
    return optics.photograph(rng, light / max(float(light.max()), 1e-3), invert=0.05)


def _rods(
    rng: np.random.Generator, size: tuple[int, int], width: float, aspect: float
) -> list[tuple[float, float, float, float, float]]:
    """Draw row, column, length, angle and bend of each rod."""
    length = aspect * width
    total = object_count(
        size, float(np.sqrt(length * width)), log_uniform(rng, 0.01, 0.6), most=350
    )
    rods: list[tuple[float, float, float, float, float]] = []
    colonies, chains = rng.dirichlet([0.4, 0.35, 0.8])[:2]
    curved = rng.uniform(0, 0.12)

    def one_length() -> float:
        # A cell doubles between birth and division; a few keep growing.
        grown = length * 2 ** rng.uniform(-0.5, 0.5)
        return float(max(1.25 * width, grown * (2.5 if happens(rng, 0.02) else 1)))

    while len(rods) < total:
        at = rng.uniform(0, 1, 2) * size
        angle = rng.uniform(0, np.pi)
        kind = rng.random()
        if kind < colonies:
            rods += _colony(rng, (at[0], at[1]), angle, one_length, width, total)
        elif kind < colonies + chains:
            y, x = at
            for _ in range(int(rng.integers(2, 12))):
                this = one_length()
                y, x = y + this / 2 * np.sin(angle), x + this / 2 * np.cos(angle)
                rods.append((y, x, this, angle, 0.0))
                y, x = y + this / 2 * np.sin(angle), x + this / 2 * np.cos(angle)
                angle += rng.normal(0, 0.22)
        else:
            bend = float(rng.normal(0, curved))
            rods.append((at[0], at[1], one_length(), angle, bend))
    return rods[:400]


def _colony(
    rng: np.random.Generator,
    centre: tuple[float, float],
    angle: float,
    one_length: Callable[[], float],
    width: float,
    most: int,
) -> list[tuple[float, float, float, float, float]]:
    """Lay out a microcolony: rods side by side in staggered rows within a disc."""
    extent = width * rng.uniform(2.5, 3 + 0.9 * np.sqrt(most))
    turning = rng.normal(0, 0.5) / extent
    rods = []
    for across in np.arange(-extent, extent, width * rng.uniform(0.98, 1.06)):
        half = np.sqrt(max(0.0, extent**2 - across**2))
        along = -half - rng.uniform(0, 1) * width
        while along < half:
            length = one_length()
            middle = along + length / 2
            turned = angle + turning * middle + rng.normal(0, 0.05)
            y = centre[0] + middle * np.sin(angle) + across * np.cos(angle)
            x = centre[1] + middle * np.cos(angle) - across * np.sin(angle)
            y += 0.5 * turning * middle**2 * np.cos(angle)
            x -= 0.5 * turning * middle**2 * np.sin(angle)
            rods.append((y, x, length, turned, 0.0))
            along += length + 0.04 * width
    return rods
