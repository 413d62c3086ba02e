"""Nuclei with a fluorescent DNA stain."""

from __future__ import annotations

import numpy as np

from tinysam_training.synthetic import optics, shapes, textures
from tinysam_training.synthetic.draws import (
    happens,
    log_uniform,
    object_count,
    object_diameter,
    one_of,
)
from tinysam_training.synthetic.kinds.fluorescence import exposed
from tinysam_training.synthetic.layout import Layout, place
from tinysam_training.synthetic.scene import Picture, Scene
from tinysam_training.synthetic.shapes import FloatArray, Outline, Patch


def nuclei(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Nuclei with a DNA stain: interphase, mitotic and dying ones, out-of-focus haze."""
    diameter = object_diameter(rng, size, 9, 260)
    coverage = log_uniform(rng, 0.02, 0.7)
    count = object_count(size, diameter, coverage, most=350)
    radii = diameter / 2 * np.exp(rng.normal(0, rng.uniform(0.05, 0.25), count))
    crowd = Layout(
        clustering=rng.uniform(0, 0.7),
        touching=rng.uniform(0, 0.3),
        spacing=rng.uniform(0.62, 1.05),
    )
    places = place(rng, size, radii, crowd)
    look = _Chromatin(rng, size, diameter)
    ratio = rng.uniform(1.05, 1.7)
    irregularity = rng.uniform(0.01, 0.07)
    direction = rng.uniform(0, np.pi)
    aligned = happens(rng, 0.35)
    dying, dividing = rng.uniform(0, 0.15, 2) * rng.integers(0, 2, 2)
    variation = rng.uniform(0.08, 0.5)
    flatness = rng.uniform(0.06, 0.5)
    opacity = np.float32(rng.uniform(0.1, 0.9))

    scene = Scene(size)
    sharp = np.zeros(size, np.float32)
    soft = np.zeros(size, np.float32)
    softened = rng.uniform(0, 0.4) * rng.integers(0, 2)
    for cy, cx, radius in places:
        brightness = float(np.clip(np.exp(rng.normal(0, variation)), 0.25, 3.0))
        stretch = np.sqrt(1 + (ratio - 1) * rng.uniform(0, 1.6))
        angle = direction + rng.normal(0, 0.25) if aligned else rng.uniform(0, np.pi)
        fate = rng.random()
        if fate < dividing:
            _division(rng, scene, sharp, (cy, cx), radius, 2.0 * brightness, look)
            continue
        radial = shapes.lobed(rng, irregularity, 5)
        if happens(rng, 0.12):
            radial = radial * shapes.kidney(rng, rng.uniform(0.1, 0.35))
        if fate < dividing + dying:
            radius *= rng.uniform(0.4, 0.75)
            brightness *= rng.uniform(1.6, 3.0)
            if happens(rng, 0.5):  # karyorrhexis: condensed lobes
                radial = shapes.lobed(rng, 0.32, 5)
        outline = Outline(cy, cx, radius * stretch, radius / stretch, angle, radial)
        patch = outline.patch(size, margin=3)
        if patch is None:
            continue
        scene.add_on_top(patch)
        layer = soft if happens(rng, softened) else sharp
        signal = patch.soft * (0.25 + 0.75 * patch.dome(flatness))
        signal *= np.clip(1 + look(rng, patch), 0.15, 2.2) * np.float32(brightness)
        part = layer[patch.rows, patch.cols]
        part *= 1 - opacity * patch.soft
        part += signal
    image = optics.blurred(sharp, rng.uniform(0.3, max(0.6, 0.03 * diameter)))
    if softened:
        image = image + optics.blurred(soft, rng.uniform(0.03, 0.08) * diameter)
    image = _with_background(rng, image, diameter)
    return exposed(rng, image), scene.labels


class _Chromatin:
    """Draw the texture of an image's nuclei, relative to their brightness."""

    def __init__(
        self, rng: np.random.Generator, size: tuple[int, int], diameter: float
    ) -> None:
        self.contrast = np.float32(one_of(rng, (0.0, 0.12, 0.3), (1, 3, 3)))
        grain = textures.fractal_noise(rng, size, max(1.5, diameter / 5), 3, 0.8)
        self.grain = grain * self.contrast
        self.spots: FloatArray | None = None
        self.spot_sign = np.float32(rng.uniform(-0.6, -0.3))  # nucleoli
        if happens(rng, 0.3):
            self.spot_sign = np.float32(rng.uniform(0.8, 2.0))  # chromocentres
        if happens(rng, 0.6) and diameter > 10:
            self.spots = textures.granules(
                rng, size, diameter / rng.uniform(6, 11), rng.uniform(0.05, 0.15)
            )
        self.rim = np.float32(rng.uniform(0.1, 0.6) if happens(rng, 0.2) else 0)

    def __call__(self, rng: np.random.Generator, patch: Patch) -> FloatArray:
        relative = textures.crop(rng, self.grain, patch.depth.shape)
        if self.spots is not None:
            spots = textures.crop(rng, self.spots, patch.depth.shape)
            relative = relative + self.spot_sign * spots * (patch.rho < 0.85)
        if self.rim:
            relative = relative + self.rim * np.clip(patch.rho - 0.6, 0, None)
        return relative


def _division(
    rng: np.random.Generator,
    scene: Scene,
    image: FloatArray,
    centre: tuple[float, float],
    radius: float,
    brightness: float,
    look: _Chromatin,
) -> None:
    """Draw a metaphase plate, or the two plates of an anaphase."""
    angle = rng.uniform(0, np.pi)
    apart = rng.uniform(0.45, 1.1) * radius if happens(rng, 0.5) else 0.0
    for side in (-1, 1) if apart else (0,):
        cy = centre[0] + side * apart * np.cos(angle)
        cx = centre[1] - side * apart * np.sin(angle)
        length, width = radius * rng.uniform(0.7, 1.0), radius * rng.uniform(0.2, 0.38)
        radial = shapes.lobed(rng, 0.1, 9)
        patch = Outline(cy, cx, length, width, angle, radial).patch(scene.shape)
        if patch is None:
            continue
        scene.add_on_top(patch)
        part = image[patch.rows, patch.cols]
        bright = patch.soft * np.clip(1 + 0.5 * look(rng, patch), 0.5, 1.5)
        np.maximum(part, bright * np.float32(brightness), out=part)


def _with_background(
    rng: np.random.Generator, image: FloatArray, diameter: float
) -> FloatArray:
    """Add light from other planes, autofluorescence and uneven illumination."""
    size = (image.shape[0], image.shape[1])
    typical = max(float(np.quantile(image[::5, ::5], 0.98)), 0.2)
    if happens(rng, 0.5):  # out-of-focus light of the objects themselves
        haze = optics.blurred(image, rng.uniform(0.3, 1.2) * diameter)
        image = image + np.float32(rng.uniform(0.05, 0.5)) * haze
    if happens(rng, 0.25):  # objects of another plane
        other = np.zeros(size, np.float32)
        for _ in range(int(rng.integers(1, 20))):
            at = rng.uniform(0, 1, 2) * size
            blob = Outline(at[0], at[1], 0.7 * diameter, 0.5 * diameter)
            patch = blob.patch(size)
            if patch is not None:
                other[patch.rows, patch.cols] += patch.soft
        other = optics.blurred(other, rng.uniform(0.45, 0.8) * diameter)
        image = image + np.float32(rng.uniform(0.05, 0.3) * typical) * other
    floor = log_uniform(rng, 0.003, 0.15) * typical
    image = image + np.float32(floor)
    if happens(rng, 0.35):  # autofluorescent cytoplasm
        veil = textures.fractal_noise(rng, size, max(8.0, 2.5 * diameter), 3)
        veil = np.clip(veil + np.float32(rng.uniform(-0.5, 1.0)), 0, None)
        image = image + np.float32(log_uniform(rng, 0.01, 0.1) * typical) * veil
    if happens(rng, 0.15):
        _debris(rng, image, diameter, typical)
    light = optics.illumination(rng, size, float(rng.choice([0.05, 0.2, 0.5])))
    return np.asarray(image * light)


def _debris(
    rng: np.random.Generator, image: FloatArray, diameter: float, typical: float
) -> None:
    """Add small bright specks and threads, which are no objects, in place."""
    size = (image.shape[0], image.shape[1])
    for _ in range(int(rng.integers(1, 12))):
        width = max(0.8, 0.05 * diameter) * rng.uniform(0.5, 1.5)
        length = width * (rng.uniform(6, 25) if happens(rng, 0.2) else 1.2)
        at = rng.uniform(0, 1, 2) * size
        patch = shapes.rod(
            size,
            (at[0], at[1]),
            length,
            width,
            rng.uniform(0, np.pi),
            rng.normal(0, 0.1),
        )
        if patch is not None:
            light = np.float32(typical * rng.uniform(0.2, 1.2))
            image[patch.rows, patch.cols] += light * patch.soft
