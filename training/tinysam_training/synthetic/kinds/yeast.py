"""Budding yeast in phase contrast, DIC and bright field."""

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
from tinysam_training.synthetic.kinds.transmitted import exposed
from tinysam_training.synthetic.layout import Layout, place
from tinysam_training.synthetic.scene import Picture, Scene
from tinysam_training.synthetic.shapes import FloatArray, Outline


def yeast(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Budding yeast: mothers with buds, clusters, vacuoles; phase contrast, DIC, bright field."""
    diameter = max(10.0, object_diameter(rng, size, 22, 180))
    count = object_count(size, diameter, log_uniform(rng, 0.03, 0.75), most=250)
    radii = diameter / 2 * np.exp(rng.normal(0, 0.14, count))
    crowd = Layout(
        touching=rng.uniform(0.2, 0.85), clustering=0.1, spacing=rng.uniform(0.88, 0.98)
    )
    places = place(rng, size, radii, crowd)
    budding = rng.uniform(0.1, 0.6)
    ratio = rng.uniform(1.02, 1.35)
    outlines = []
    for cy, cx, radius in places:
        stretch = np.sqrt(rng.uniform(1.0, 2 * ratio - 1))
        angle = rng.uniform(0, 2 * np.pi)
        radial = shapes.lobed(rng, 0.015, 4)
        outlines.append(
            Outline(cy, cx, radius * stretch, radius / stretch, angle, radial)
        )
        if happens(rng, budding):
            bud = radius * rng.uniform(0.28, 0.75)
            turn = angle + rng.normal(0, 0.4)
            away = radius * stretch + 0.88 * bud
            outlines.append(
                Outline(
                    cy + away * np.sin(turn),
                    cx + away * np.cos(turn),
                    bud * rng.uniform(1.0, 1.2),
                    bud,
                    turn,
                )
            )
    scene = Scene(size)
    phase = np.zeros(size, np.float32)
    grain = textures.fractal_noise(rng, size, max(1.5, diameter / 7), 3, 0.8)
    grain *= np.float32(rng.uniform(0.05, 0.35))
    bits = textures.granules(rng, size, max(1.3, diameter / 14), rng.uniform(0.02, 0.1))
    vacuolated = rng.uniform(0.2, 0.95)
    power = rng.uniform(0.15, 0.5)
    for outline in outlines:
        patch = outline.patch(size)
        if patch is None or not scene.is_free(patch, 0.6):
            continue
        won = scene.add_beside(patch)
        body = patch.dome(power) * (1 + textures.crop(rng, grain, patch.depth.shape))
        spots = textures.crop(rng, bits, patch.depth.shape)
        body += np.float32(rng.uniform(0, 0.7)) * spots * (patch.rho < 0.9)
        np.copyto(phase[patch.rows, patch.cols], body, where=won)
        if happens(rng, vacuolated) and outline.a > 4:
            _vacuoles(rng, scene, phase, outline)
    technique = one_of(rng, ("phase", "bright field", "dic"), (5, 3, 3))
    if technique == "phase":
        image = _yeast_in_phase(rng, phase, scene, diameter)
        level = rng.uniform(0.2, 0.6)
    elif technique == "dic":
        image = optics.interference_contrast(
            optics.blurred(phase, 0.04 * diameter),
            rng.uniform(0, 2 * np.pi),
            max(1.0, 0.06 * diameter),
            rng.uniform(0.7, 1.6),
        )
        level = rng.uniform(0.4, 0.6)
    else:
        defocus = rng.uniform(0.6, 1.6) * (1 if happens(rng, 0.5) else -1)
        image = optics.bright_field(
            0.8 * phase, defocus * max(1.0, diameter / 25), rng.uniform(0, 0.25)
        )
        level = rng.uniform(0.45, 0.75)
    return exposed(rng, image, level=level, dirt=0.3), scene.labels


def _yeast_in_phase(
    rng: np.random.Generator, phase: FloatArray, scene: Scene, diameter: float
) -> FloatArray:
    """Draw phase contrast of thick cells: a bright ring around any gray."""
    width = np.float32(max(0.9, diameter * rng.uniform(0.025, 0.06)))
    halo = optics.phase_contrast(
        np.float32(rng.uniform(0.4, 0.9)) * phase, 0.12 * diameter, rng.uniform(0.7, 1)
    )
    if happens(rng, 0.7):
        # Where the phase of a thick cell passes half a turn its contrast turns too, which
        # leaves a bright line along the outline.
        outside = np.asarray(scene.labels == 0)
        near = optics.blurred(outside.astype(np.float32), float(width) * 1.4)
        ring = 4 * near * (1 - near)
        halo = halo + np.float32(rng.uniform(0.5, 2.5)) * ring**2
    return np.asarray(halo)


def _vacuoles(
    rng: np.random.Generator, scene: Scene, phase: FloatArray, outline: Outline
) -> None:
    """Draw one to three vacuoles, thinner than the cytoplasm, into the last cell."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        radius = outline.b * rng.uniform(0.2, 0.5)
        turn, away = rng.uniform(0, 2 * np.pi), outline.b * rng.uniform(0, 0.4)
        patch = Outline(
            outline.cy + away * np.sin(turn),
            outline.cx + away * np.cos(turn),
            radius,
            radius * rng.uniform(0.8, 1.0),
            turn,
        ).patch(scene.shape)
        if patch is None:
            continue
        own = scene.labels[patch.rows, patch.cols] == scene.count
        depth = np.float32(rng.uniform(0.3, 0.9) * (-0.4 if happens(rng, 0.2) else 1))
        phase[patch.rows, patch.cols] *= 1 - depth * patch.soft * own
