"""Textured shapes on textured grounds: no particular technique, any kind of contrast."""

from __future__ import annotations

import numpy as np

from tinysam_training.synthetic import optics, shapes, textures
from tinysam_training.synthetic.draws import (
    happens,
    log_uniform,
    object_count,
    object_diameter,
)
from tinysam_training.synthetic.layout import Layout, place
from tinysam_training.synthetic.scene import Picture, Scene
from tinysam_training.synthetic.shapes import FloatArray, Outline


def textured_shapes(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Overlapping blobs, polygons, ellipses and stars of mixed sizes, each with its texture."""
    channels = 3 if happens(rng, 0.5) else 1
    unit = max(size) / 1024
    fields = _fields(rng, size, unit)
    ground = np.asarray(rng.uniform(0.1, 0.9, channels), np.float32)
    weights = rng.normal(0, 0.1, channels).astype(np.float32)
    image = ground + fields[rng.integers(len(fields))][..., None] * weights
    if happens(rng, 0.5):
        drift = textures.smooth_noise(rng, size, max(size) / rng.uniform(2, 8))
        image = image + np.float32(0.12) * drift[..., None]

    diameter = object_diameter(rng, size, 16, 300)
    count = object_count(size, diameter, log_uniform(rng, 0.05, 1.2), most=250)
    spread = rng.uniform(0.1, 0.7)
    radii = diameter / 2 * np.exp(rng.normal(0, spread, count))
    radii = np.clip(radii, 4 * unit, 200 * unit)
    radii = np.sort(np.maximum(radii, 3.0))[::-1]  # small ones on top
    crowd = Layout(
        clustering=rng.uniform(0, 0.4),
        touching=rng.uniform(0, 0.4),
        spacing=rng.uniform(0.4, 1.05),
    )
    scene = Scene(size)
    alike = rng.uniform(0, 1)  # whether the shapes of the image have one colour
    common = rng.uniform(0.05, 0.95, channels)
    outlined = happens(rng, 0.3)
    border = max(1.0, log_uniform(rng, 1.5, 8) * unit)
    for cy, cx, radius in place(rng, size, radii, crowd):
        patch = _outline(rng, (cy, cx), radius).patch(size)
        if patch is None or not scene.is_free(patch, 0.1):
            continue
        colour = alike * common + (1 - alike) * rng.uniform(0.02, 0.98, channels)
        row = int(np.clip(cy, 0, size[0] - 1))
        col = int(np.clip(cx, 0, size[1] - 1))
        here = image[row, col]
        if np.abs(colour - here).max() < 0.13:  # it would not show
            colour = here + np.where(here > 0.5, -1, 1) * rng.uniform(0.15, 0.5)
        field = textures.crop(rng, fields[rng.integers(len(fields))], patch.depth.shape)
        amount = rng.normal(0, 0.12, channels).astype(np.float32)
        value = colour.astype(np.float32) + field[..., None] * amount
        shade = rng.uniform(-0.25, 0.25)
        value = value * (1 + np.float32(shade) * (patch.u + 0.5 * patch.v))[..., None]
        if outlined:
            line = np.exp(-((patch.depth / np.float32(border)) ** 2))[..., None]
            value = value + np.float32(rng.choice([-0.4, 0.4])) * line
        scene.add_on_top(patch)
        sharp = np.float32(1 / log_uniform(rng, 0.8, 3.0))
        soft = np.clip(patch.depth * sharp + 0.5, 0, 1)[..., None]
        part = image[patch.rows, patch.cols]
        part *= 1 - soft
        part += soft * value
    light = optics.illumination(rng, size, 0.2)
    image = np.asarray(np.clip(image, 0.0, 1.0) * light[..., None], np.float32)
    if channels == 1:
        return optics.photograph(rng, image[..., 0], invert=0.1), scene.labels
    return optics.photograph(rng, image), scene.labels


def _fields(
    rng: np.random.Generator, size: tuple[int, int], unit: float
) -> list[FloatArray]:
    """Make a few textures of different scale and character."""
    fields = [
        textures.fractal_noise(rng, size, max(1.5, log_uniform(rng, 4, 40) * unit), 4),
        textures.smooth_noise(
            rng, size, max(1.5, log_uniform(rng, 2, 12) * unit), rng.uniform(1, 5)
        ),
    ]
    y = np.arange(size[0], dtype=np.float32)[:, None]
    x = np.arange(size[1], dtype=np.float32)[None, :]
    angle, period = rng.uniform(0, np.pi), max(4.0, log_uniform(rng, 8, 60) * unit)
    wave = np.float32(2 * np.pi / period)
    phase = wave * (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)))
    bent = phase + np.float32(rng.uniform(0, 2)) * fields[0]
    fields.append(np.asarray(np.sqrt(2) * np.sin(bent), np.float32))
    dots = textures.granules(
        rng, size, max(1.5, log_uniform(rng, 3, 16) * unit), rng.uniform(0.1, 0.4)
    )
    fields.append(textures.standardised(dots))
    return fields


def _outline(
    rng: np.random.Generator, centre: tuple[float, float], radius: float
) -> Outline:
    """Draw a shape of one of the families."""
    family = int(rng.integers(5))
    radial = None
    if family == 0:
        radial = shapes.lobed(rng, rng.uniform(0.03, 0.3))
    elif family == 1:
        radial = shapes.polygon(rng, int(rng.integers(3, 9)), rng.uniform(0, 0.5))
    elif family == 2:
        radial = shapes.spread(rng, int(rng.integers(2, 7)), rng.uniform(0.2, 1.0))
    elif family == 3:
        radial = shapes.kidney(rng, rng.uniform(0.1, 0.55))
    ratio = np.sqrt(log_uniform(rng, 1.0, 3.0))
    return Outline(
        *centre, radius * ratio, radius / ratio, rng.uniform(0, np.pi), radial
    )
