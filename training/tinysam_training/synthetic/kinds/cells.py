"""Cells with a fluorescent membrane or cytoplasm: sheets, islands, single spread cells."""

from __future__ import annotations

import numpy as np

from tinysam_training.synthetic import optics, shapes, textures
from tinysam_training.synthetic.draws import (
    happens,
    log_uniform,
    object_count,
    object_diameter,
)
from tinysam_training.synthetic.kinds.fluorescence import DYES, exposed
from tinysam_training.synthetic.layout import Layout, packed, place
from tinysam_training.synthetic.scene import LabelArray, Picture, Scene
from tinysam_training.synthetic.shapes import FloatArray, Outline


def cells(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Cells with a fluorescent membrane or cytoplasm: sheets, islands, single spread cells."""
    if happens(rng, 0.5):
        stain, other, labels = _sheet(rng, size)
    else:
        stain, other, labels = _spread_cells(rng, size)
    light = optics.illumination(rng, size, float(rng.choice([0.05, 0.2, 0.5])))
    stain = (stain + np.float32(log_uniform(rng, 0.005, 0.1))) * light
    top = max(float(np.quantile(stain[::4, ::4], rng.uniform(0.99, 1.0))), 1e-3)
    stain = stain / np.float32(top)
    if happens(rng, 0.35):  # two dyes
        mix = np.array(
            [
                DYES[rng.integers(2, len(DYES))],
                DYES[rng.integers(2)] if happens(rng, 0.8) else DYES[3],
            ],
            np.float32,
        )
        colour = stain[..., None] * mix[0] + (other * light)[..., None] * mix[1]
        return optics.photograph(rng, colour), labels
    if happens(rng, 0.3):  # the nuclei show in the same channel
        stain = stain + np.float32(rng.uniform(0.2, 0.8)) * other
    return exposed(rng, stain), labels


def _sheet(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[FloatArray, FloatArray, LabelArray]:
    """Draw a packed epithelium or islands of one: stain, nuclei and labels."""
    diameter = max(14.0, object_diameter(rng, size, 40, 320))
    tissue = packed(
        rng,
        size,
        diameter,
        regularity=rng.uniform(0.3, 0.9),
        spread=rng.uniform(0.05, 0.3),
        elongation=log_uniform(rng, 1.0, 2.2),
        warp=rng.uniform(0.02, 0.09),
        free=rng.uniform(0.1, 0.7) if happens(rng, 0.4) else 0.0,
    )
    labels, edge = tissue.labels, optics.blurred(tissue.edge, 0.6)
    count = len(tissue.radii)
    inside = labels > 0
    level = np.exp(rng.normal(0, rng.uniform(0.05, 0.35), count + 1))
    level[0] = 0
    body = level.astype(np.float32)[labels]
    width = max(0.7, diameter * rng.uniform(0.012, 0.05))
    wall = np.exp(-((edge / np.float32(width)) ** 2)) * inside
    patchy = textures.smooth_noise(rng, size, 0.4 * diameter)
    wall *= np.clip(1 + np.float32(rng.uniform(0, 0.4)) * patchy, 0.25, None)
    grain = textures.fractal_noise(rng, size, max(2.0, diameter / 8), 3)
    body *= np.clip(1 + np.float32(rng.uniform(0.05, 0.3)) * grain, 0.1, None)
    nuclei_map = _nuclei_inside(rng, labels, edge, diameter)
    style = rng.random()
    if style < 0.6:  # membrane stain
        stain = wall + np.float32(log_uniform(rng, 0.02, 0.35)) * body
    elif style < 0.85:  # cytoplasm, darker towards the borders
        gap = np.clip(edge / np.float32(1.5 * width), 0, 1)
        stain = body * (0.15 + 0.85 * gap) + np.float32(0.1) * inside
    else:  # both
        stain = 0.6 * wall + 0.5 * body
    stain = stain * (1 - np.float32(rng.uniform(0, 0.7)) * nuclei_map)
    return optics.blurred(stain, rng.uniform(0.3, 1.0)), nuclei_map, labels


def _nuclei_inside(
    rng: np.random.Generator, labels: LabelArray, edge: FloatArray, diameter: float
) -> FloatArray:
    """Draw one soft nucleus near the middle of each cell, 0–1."""
    size = (labels.shape[0], labels.shape[1])
    small = labels[::2, ::2]
    ys, xs = np.nonzero(small)
    owner = small[ys, xs]
    area = np.bincount(owner)
    middle_y = np.bincount(owner, 2 * ys) / np.maximum(area, 1)
    middle_x = np.bincount(owner, 2 * xs) / np.maximum(area, 1)
    image = np.zeros(size, np.float32)
    share = rng.uniform(0.38, 0.6)
    for number in np.flatnonzero(area > 4):
        radius = share * np.sqrt(4 * area[number] / np.pi)
        away = rng.normal(0, 0.12 * diameter, 2)
        outline = Outline(
            middle_y[number] + away[0],
            middle_x[number] + away[1],
            radius * rng.uniform(0.9, 1.2),
            radius * rng.uniform(0.75, 1.0),
            rng.uniform(0, np.pi),
        )
        patch = outline.patch(size)
        if patch is not None:
            part = image[patch.rows, patch.cols]
            own = labels[patch.rows, patch.cols] == number
            shade = patch.soft * np.float32(rng.uniform(0.6, 1.0))
            np.maximum(part, shade * own, out=part)
    texture = textures.fractal_noise(rng, size, max(2.0, diameter / 12))
    image *= np.clip(1 + np.float32(0.15) * texture, 0.3, 1.5)
    return np.asarray(image * np.clip(edge / 2, 0, 1))


def _spread_cells(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[FloatArray, FloatArray, LabelArray]:
    """Draw single and touching cells on a substrate: stain, nuclei and labels."""
    diameter = max(10.0, object_diameter(rng, size, 30, 380))
    count = object_count(size, diameter, log_uniform(rng, 0.03, 0.8), most=200)
    radii = diameter / 2 * np.exp(rng.normal(0, 0.2, count))
    crowd = Layout(
        clustering=rng.uniform(0, 0.7),
        touching=rng.uniform(0, 0.4),
        spacing=rng.uniform(0.6, 0.95),
    )
    places = place(rng, size, radii, crowd)
    roundness = rng.random()
    thickness = rng.uniform(0.15, 0.6)
    rim = np.float32(rng.uniform(0, 0.8) if happens(rng, 0.5) else 0)
    rim_width = np.float32(max(0.8, 0.03 * diameter))
    hole = np.float32(rng.uniform(-0.7, 0.6))
    filaments = None
    if happens(rng, 0.5):
        filaments, _ = textures.fibres(rng, size, max(1.2, diameter / 30), diameter / 2)
    grain = textures.fractal_noise(rng, size, max(2.0, diameter / 6), 4, 0.7)
    grain *= np.float32(rng.uniform(0.1, 0.4))
    scene = Scene(size)
    stain = np.zeros(size, np.float32)
    nuclei_map = np.zeros(size, np.float32)
    variation = rng.uniform(0.1, 0.5)
    for cy, cx, radius in places:
        if happens(rng, roundness):
            radial = shapes.lobed(rng, rng.uniform(0.04, 0.16))
            ratio = np.sqrt(rng.uniform(1, 1.8))
        else:
            tips = int(rng.integers(2, 7))
            radial = shapes.spread(rng, tips, rng.uniform(0.4, 1.3))
            ratio = np.sqrt(rng.uniform(1, 2.5))
            radius = 0.8 * radius
        angle = rng.uniform(0, np.pi)
        outline = Outline(cy, cx, radius * ratio, radius / ratio, angle, radial)
        patch = outline.patch(size, margin=3)
        if patch is None:
            continue
        won = scene.add_beside(patch)
        texture = textures.crop(rng, grain, patch.depth.shape)
        if filaments is not None:
            # In place, so that fibres continue across neighbours as in a monolayer.
            texture = texture + np.float32(0.3) * filaments[patch.rows, patch.cols]
        height = 0.3 + 0.7 * np.clip(1 - patch.rho, 0, 1) ** np.float32(thickness)
        signal = height * np.clip(1 + texture, 0.2, 2)
        signal += rim * np.exp(-((patch.depth / rim_width) ** 2))
        nucleus = Outline(
            cy + rng.normal(0, 0.08 * radius),
            cx + rng.normal(0, 0.08 * radius),
            radius * rng.uniform(0.32, 0.45),
            radius * rng.uniform(0.26, 0.36),
            angle + rng.normal(0, 0.3),
        )
        inner = nucleus.patch(size)
        bright = np.float32(np.clip(np.exp(rng.normal(0, variation)), 0.3, 2.5))
        part = stain[patch.rows, patch.cols]
        np.copyto(part, signal * bright * patch.soft, where=won)
        if inner is not None:
            own = scene.labels[inner.rows, inner.cols] == scene.count
            light = inner.soft * own
            stain[inner.rows, inner.cols] *= 1 + hole * light
            shown = nuclei_map[inner.rows, inner.cols]
            np.maximum(shown, light * np.float32(rng.uniform(0.5, 1)), out=shown)
    stain = optics.blurred(stain, rng.uniform(0.4, max(0.6, 0.012 * diameter)))
    if happens(rng, 0.4):
        haze = optics.blurred(stain, 0.25 * diameter)
        stain = stain + np.float32(rng.uniform(0.05, 0.3)) * haze
    return stain, nuclei_map, scene.labels
