"""Particles in scanning and transmission electron microscopes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinysam_training.synthetic import optics, shapes, textures
from tinysam_training.synthetic.draws import (
    happens,
    log_uniform,
    object_count,
    object_diameter,
    one_of,
)
from tinysam_training.synthetic.kinds.lettering import annotate
from tinysam_training.synthetic.layout import Layout, place
from tinysam_training.synthetic.scene import Picture, Scene
from tinysam_training.synthetic.shapes import FloatArray, Outline


def em_particles(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Particles: spheres, rods, polyhedra, rough ones; scanning or transmission microscope."""
    scanning = happens(rng, 0.5)
    diameter = object_diameter(rng, size, 12, 400)
    coverage = log_uniform(rng, 0.02, 0.9 if scanning else 0.5)
    count = object_count(size, diameter, coverage, most=280)
    spread = rng.uniform(0.02, 0.12) if happens(rng, 0.6) else rng.uniform(0.2, 0.5)
    radii = diameter / 2 * np.exp(rng.normal(0, spread, count))
    radii = np.clip(radii, 3.0, 0.4 * max(size))
    lowest = 0.45 if scanning else 0.75
    crowd = Layout(
        clustering=rng.uniform(0, 0.5),
        touching=rng.uniform(0, 0.8),
        spacing=rng.uniform(lowest, 1.0),
    )
    places = place(rng, size, radii, crowd)
    form = _Form(rng)
    outlines = [form.outline(rng, (cy, cx), radius) for cy, cx, radius in places]
    scene = Scene(size)
    draw = _scanned if scanning else _transmitted
    image = draw(rng, scene, outlines, form, diameter)
    photo = _exposed(rng, image, scanning)
    labels = scene.labels
    if min(size) >= 128 and happens(rng, 0.3):
        annotate(rng, photo, labels)
    return photo, labels


class _Form:
    """The shape that the particles of one image share."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.name = one_of(
            rng, ("sphere", "polygon", "rough", "rod", "blob"), (5, 4, 2, 2, 2)
        )
        self.corners = int(rng.choice([3, 4, 4, 5, 6, 6, 8]))
        self.rounding = rng.uniform(0.0, 0.5)
        self.jitter = rng.uniform(0.0, 0.35)
        self.ratio = (
            rng.uniform(1.0, 1.25) if self.name != "rod" else rng.uniform(1.8, 6)
        )

    def outline(
        self, rng: np.random.Generator, centre: tuple[float, float], radius: float
    ) -> Outline:
        """Draw one particle of about this radius."""
        radial = None
        if self.name == "polygon":
            radial = shapes.polygon(rng, self.corners, self.jitter, self.rounding)
        elif self.name == "rough":
            radial = shapes.lobed(rng, 0.06) * shapes.rough(rng, 0.025, 60)
        elif self.name == "blob":
            radial = shapes.lobed(rng, 0.14, 4)
        stretch = np.sqrt(self.ratio * np.exp(rng.normal(0, 0.06)))
        a, b = radius * stretch, radius / stretch
        if self.name == "rod":
            # A superellipse: straight sides, blunt ends.
            turns = np.linspace(0, 2 * np.pi, shapes.ANGLES, endpoint=False)
            cos, sin = np.abs(np.cos(turns)), np.abs(np.sin(turns))
            radial = (cos**4 + sin**4) ** -0.25
        return Outline(*centre, a, max(1.5, b), rng.uniform(0, np.pi), radial)


def _scanned(
    rng: np.random.Generator,
    scene: Scene,
    outlines: list[Outline],
    form: _Form,
    diameter: float,
) -> FloatArray:
    """Draw secondary electrons: bright edges, surface relief, shade between particles."""
    size = scene.shape
    ground = rng.uniform(0.08, 0.45)
    scale = max(2.0, log_uniform(rng, 2, max(size) / 4))
    image = ground * (
        1 + rng.uniform(0.02, 0.3) * textures.fractal_noise(rng, size, scale)
    )
    image = np.asarray(np.clip(image, 0.02, None), np.float32)
    surface = textures.fractal_noise(
        rng, size, max(1.5, diameter / rng.uniform(4, 20)), 3, 0.8
    )
    surface *= np.float32(rng.uniform(0.02, 0.25))
    edge = np.float32(rng.uniform(0.15, 0.7))
    tilt = rng.uniform(0, 2 * np.pi)
    slope = np.float32(rng.uniform(0, 0.3))
    level = max(rng.uniform(0.35, 0.7), ground + 0.15)
    shadow = np.float32(rng.uniform(0.1, 0.6))
    # The camera looks from above: draw the nearest last.
    for outline in outlines:
        reach = float(min(0.35 * outline.b, 14))
        patch = outline.patch(size, margin=reach + 1)
        if patch is None:
            continue
        under = image[patch.rows, patch.cols]
        dark = np.exp(
            -np.clip(-patch.depth, 0, None) / np.float32(max(1.0, 0.4 * reach))
        )
        under *= 1 - shadow * dark
        if form.name == "polygon" and form.rounding < 0.3:
            relief = _facets(rng, patch.u, patch.v, form.corners)
        else:
            # Yield grows as 1 / cos of the slope: a sphere shines at its rim.
            cosine = np.sqrt(np.clip(1 - np.minimum(patch.rho, 1) ** 2, 0.02, 1))
            relief = edge * (np.minimum(0.28 / cosine, 1.6) - 0.28)
        light = patch.u * np.float32(np.cos(tilt - outline.angle))
        light = light + patch.v * np.float32(np.sin(tilt - outline.angle))
        value = np.float32(level * rng.uniform(0.85, 1.15)) * (
            1 + relief + slope * light + textures.crop(rng, surface, light.shape)
        )
        rim = np.exp(-((patch.depth / np.float32(max(1.0, 0.05 * outline.b))) ** 2))
        value = value + np.float32(0.35) * edge * rim
        scene.add_on_top(patch)
        soft = patch.soft
        under *= 1 - soft
        under += soft * value
    return image


def _facets(
    rng: np.random.Generator,
    u: FloatArray,
    v: FloatArray,
    corners: int,
) -> FloatArray:
    """Relative brightness of a crystal's faces: one for each sector, or one flat top."""
    turns = np.arctan2(v, u) * np.float32(corners / (2 * np.pi))
    sector = np.floor(turns).astype(np.int64) % corners
    shades = rng.uniform(-0.3, 0.3, corners).astype(np.float32)[sector]
    ridge = np.abs(turns - np.rint(turns))
    lines = np.exp(-((ridge * np.hypot(u, v) / np.float32(0.06)) ** 2))
    if happens(rng, 0.4):  # a top face
        top = np.maximum(np.abs(u), np.abs(v)) < rng.uniform(0.4, 0.7)
        shades = np.where(top, np.float32(0.15), shades)
        lines = np.where(top, np.float32(0), lines)
    return np.asarray(shades + np.float32(0.2) * lines, np.float32)


def _transmitted(
    rng: np.random.Generator,
    scene: Scene,
    outlines: list[Outline],
    form: _Form,
    diameter: float,
) -> FloatArray:
    """Draw absorption by thickness: dark particles on a grainy film, darker at overlaps."""
    size = scene.shape
    film = textures.fractal_noise(rng, size, rng.uniform(1.2, 4.0), 2)
    patches = textures.fractal_noise(rng, size, max(size) / rng.uniform(3, 20), 3)
    film = 0.7 * film + 0.5 * patches
    mass = np.zeros(size, np.float32)
    texture = textures.fractal_noise(rng, size, max(2.0, diameter / 4), 3, 0.7)
    texture *= np.float32(rng.uniform(0.03, 0.3))
    solid = rng.uniform(0.6, 2.2)
    flatness = rng.uniform(0.02, 0.5)
    shell = rng.uniform(0.15, 0.45) if happens(rng, 0.25) else 0.0
    banded = happens(rng, 0.2)
    variation = rng.uniform(0.03, 0.3)
    for outline in outlines:
        patch = outline.patch(size)
        if patch is None:
            continue
        body = patch.dome(flatness) * patch.soft
        if shell:  # hollow, or a core in a lighter shell
            core = np.clip(0.5 + (1 - shell - patch.rho) * outline.b / 2, 0, 1)
            body = body * (1 - np.float32(0.65) * core)
        if banded:  # lattice planes in Bragg position
            wave = np.sin(patch.u * np.float32(rng.uniform(4, 12)) + patch.v * 2)
            body = body * (1 + np.float32(rng.uniform(0.1, 0.3)) * wave)
        body = body * (1 + textures.crop(rng, texture, body.shape))
        strength = solid * float(np.clip(np.exp(rng.normal(0, variation)), 0.4, 2))
        mass[patch.rows, patch.cols] += np.float32(max(0.35, strength)) * body
        scene.add_on_top(patch)
    mass = optics.blurred(mass, rng.uniform(0.3, max(0.6, 0.015 * diameter)))
    image = np.exp(-mass) * rng.uniform(0.6, 0.9)
    image = image + np.float32(rng.uniform(0.01, 0.05)) * film
    if happens(rng, 0.4):  # a Fresnel fringe
        fringe = optics.blurred(mass, 2.5) - optics.blurred(mass, 1.0)
        image = image + np.float32(rng.uniform(0.1, 0.4)) * np.clip(fringe, 0, 0.5)
    return np.asarray(np.clip(image, 0, None), np.float32)


def _exposed(
    rng: np.random.Generator, image: FloatArray, scanning: bool
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Expose. A dark-field transmission image is roughly a negative."""
    light = optics.illumination(rng, (image.shape[0], image.shape[1]), 0.12)
    return optics.photograph(
        rng,
        np.asarray(image * light, np.float32),
        photons=(60, 4000),
        read_noise=(0.003, 0.05),
        blur=(0.3, 1.2),
        invert=0.03 if scanning else 0.1,
        deep=0.1,
    )
