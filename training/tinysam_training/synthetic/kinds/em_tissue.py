"""Sectioned tissue in an electron microscope: membranes, organelles, myelin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinysam_training.synthetic import optics, shapes, textures
from tinysam_training.synthetic.draws import (
    happens,
    log_uniform,
    object_count,
    object_diameter,
)
from tinysam_training.synthetic.layout import Layout, packed, place
from tinysam_training.synthetic.scene import LabelArray, Picture, Scene
from tinysam_training.synthetic.shapes import FloatArray, Outline


def em_tissue(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Sections in an electron microscope: packed cells or neurites, or myelinated axons.

    Labels are (H, W), or (2, H, W) with axons, and with fibres (axon and myelin).
    """
    if happens(rng, 0.5):
        return _axons(rng, size)
    return _neuropil(rng, size)


def _scan(
    rng: np.random.Generator, image: FloatArray, invert: float = 0.1
) -> npt.NDArray[np.generic]:
    """Expose an image of 0–1 with the artefacts of a section and of a scan."""
    size = (image.shape[0], image.shape[1])
    if happens(rng, 0.2):  # relief of the section, as if lit from a side
        relief = optics.interference_contrast(image, rng.uniform(0, 6.3), 2.0, 1.0) - 1
        steep = np.float32(rng.uniform(0.5, 1.2))
        image = image * np.float32(0.7) + steep * relief + np.float32(0.1)
    image = image * optics.illumination(rng, size, 0.15)
    if happens(rng, 0.1):  # bands of a drifting beam
        bands = textures.smooth_noise(rng, (size[0], 8), 1.5)[:, :1]
        image = image + np.float32(rng.uniform(0.005, 0.03)) * bands
    image = np.clip(image, 0, 1.2)
    return optics.photograph(
        rng,
        np.asarray(image, np.float32),
        photons=(40, 3000),
        read_noise=(0.005, 0.05),
        blur=(0.3, 1.1),
        invert=invert,
        deep=0.15,
    )


def _axons(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Draw myelinated axons across a nerve or a tract."""
    diameter = max(13.0, object_diameter(rng, size, 30, 170))
    count = object_count(size, diameter, rng.uniform(0.6, 1.8), most=320)
    radii = diameter / 2 * np.exp(rng.normal(-0.15, rng.uniform(0.2, 0.6), count))
    radii = np.sort(np.clip(radii, 3.5, 0.3 * min(size)))[
        ::-1
    ]  # small ones fill the gaps
    places = place(rng, size, radii, Layout(spacing=rng.uniform(0.78, 1.02)))
    bright_myelin = happens(rng, 0.65)
    grain = textures.fractal_noise(rng, size, max(3.0, diameter / 4), 4, 0.75)
    ground = 0.45 + 0.1 * grain
    if happens(rng, 0.6):  # unmyelinated fibres and glia between them
        half = (-(-size[0] // 2), -(-size[1] // 2))
        small = packed(rng, half, max(8.0, 0.3 * diameter), spread=0.4, regularity=0.3)
        # Mirrored to the full size: little of it shows, and many cells take time.
        mirror = ((0, size[0] - half[0]), (0, size[1] - half[1]))
        gap = np.pad(optics.blurred(small.edge, 0.7), mirror, mode="symmetric")
        walls = np.exp(-((gap / np.float32(1.4)) ** 2))
        level = np.clip(rng.normal(0, 0.08, len(small.radii) + 1), -0.2, 0.2)
        shade = level.astype(np.float32)[small.labels]
        ground = ground + np.pad(shade, mirror, mode="symmetric")
        ground = ground + (0.3 if bright_myelin else -0.3) * (walls - 0.3)
    ground = np.asarray(ground, np.float32)
    ratio = rng.uniform(0.55, 0.8)  # the g-ratio: axon to fibre
    roundness = rng.uniform(0.02, 0.09)
    inner_level = np.float32(
        rng.uniform(0.1, 0.25) if bright_myelin else rng.uniform(0.6, 0.8)
    )
    if bright_myelin and happens(rng, 0.2):
        inner_level = np.float32(rng.uniform(0.4, 0.6))
    myelin = np.float32(
        rng.uniform(0.75, 0.95) if bright_myelin else rng.uniform(0.05, 0.2)
    )
    fine = textures.fractal_noise(rng, size, max(1.5, diameter / 20), 2)
    waves = textures.smooth_noise(rng, size, max(4.0, 0.4 * diameter))
    lamellae = rng.uniform(0, 0.05)
    fibres, axons = Scene(size), Scene(size)
    image = ground.copy()
    for cy, cx, radius in places:
        stretch = np.sqrt(np.exp(abs(rng.normal(0, 0.3))))
        angle = rng.uniform(0, np.pi)
        radial = shapes.lobed(rng, roundness, 4)
        if happens(rng, 0.1):
            radial = radial * shapes.kidney(rng, rng.uniform(0.1, 0.35))
        a, b = radius * stretch, radius / stretch
        patch = Outline(cy, cx, a, b, angle, radial).patch(size)
        if patch is None:
            continue
        # The sheath is about equally wide all around.
        sheath = radius * (1 - np.clip(rng.normal(ratio, 0.06), 0.4, 0.88))
        uneven = textures.crop(rng, grain, patch.depth.shape)
        bumpy = textures.crop(rng, waves, patch.depth.shape)
        inner = patch.depth - np.float32(sheath) * (1 + np.float32(0.2) * bumpy)
        fibre_won = fibres.add_beside(patch)
        shade = myelin * (1 + 0.05 * textures.crop(rng, fine, patch.depth.shape))
        if sheath > 5 and lamellae:
            wave = np.sin(patch.depth * np.float32(2 * np.pi / 3.1) + uneven)
            shade = shade + np.float32(lamellae) * wave
        axon = inner_level * (1 + 0.18 * textures.crop(rng, grain, patch.depth.shape))
        axon = axon + 0.04 * textures.crop(rng, fine, patch.depth.shape)
        if (
            happens(rng, 0.15) and sheath > 3
        ):  # the axon has shrunk away from its sheath
            gap = np.exp(-(((inner - 0.25 * sheath) / (0.2 * sheath)) ** 2))
            axon = axon + np.float32(0.5) * gap * (
                ground[patch.rows, patch.cols] - axon
            )
        inside = np.clip(inner + 0.5, 0, 1)
        value = axon * inside + shade * (1 - inside)
        part = image[patch.rows, patch.cols]
        soft = patch.soft
        np.copyto(part, value * soft + part * (1 - soft), where=fibre_won)
        mine = fibre_won & (inner > 0)
        axons.count += 1
        region = axons.labels[patch.rows, patch.cols]
        region[fibre_won] = 0
        region[mine] = axons.count
        if radius > 7:
            _organelles(
                rng, image, axons, (cy, cx), 0.6 * ratio * radius, bright_myelin
            )
    labels = np.stack([axons.labels, fibres.labels])
    return _scan(rng, image, invert=0.0), labels


def _organelles(
    rng: np.random.Generator,
    image: FloatArray,
    scene: Scene,
    centre: tuple[float, float],
    extent: float,
    bright: bool,
    number: int | None = None,
) -> None:
    """Draw mitochondria and vesicles into one cell, in place."""
    size = scene.shape
    own = scene.count if number is None else number
    sign = np.float32(1 if bright else -1)
    for _ in range(int(rng.poisson(min(5.0, 0.06 * extent + 0.4)))):
        turn, away = rng.uniform(0, 2 * np.pi), extent * np.sqrt(rng.random())
        long = max(2.0, min(0.35 * extent, 14.0)) * rng.uniform(0.6, 1.2)
        outline = Outline(
            centre[0] + away * np.sin(turn),
            centre[1] + away * np.cos(turn),
            long,
            long * rng.uniform(0.4, 0.8),
            rng.uniform(0, np.pi),
        )
        patch = outline.patch(size)
        if patch is None:
            continue
        mine = scene.labels[patch.rows, patch.cols] == own
        body = 0.16 * patch.soft
        rim = 0.14 * np.exp(-((patch.depth / 1.1) ** 2))
        cristae = 0.05 * np.sin(patch.u * np.float32(rng.uniform(6, 14))) * patch.soft
        change = sign * np.asarray(body + rim + cristae, np.float32)
        if happens(rng, 0.3):  # a vesicle or vacuole: a pale middle
            change = sign * np.asarray(rim * 1.4 - 0.5 * body, np.float32)
        image[patch.rows, patch.cols] += change * mine


def _neuropil(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Draw cells or neurites packed between dark membranes."""
    diameter = max(14.0, object_diameter(rng, size, 52, 320))
    tissue = packed(
        rng,
        size,
        diameter,
        regularity=rng.uniform(0.0, 0.6),
        spread=rng.uniform(0.2, 0.6),
        elongation=log_uniform(rng, 1.0, 2.2),
        warp=rng.uniform(0.04, 0.1),
        free=rng.uniform(0.05, 0.3) if happens(rng, 0.15) else 0.0,
    )
    labels, edge = tissue.labels, optics.blurred(tissue.edge, 0.7)
    count = len(tissue.radii)
    inside = labels > 0
    base = rng.uniform(0.6, 0.8)
    level = np.clip(rng.normal(base, rng.uniform(0.01, 0.09), count + 1), 0.35, 0.95)
    level[0] = rng.uniform(0.75, 0.95)  # resin
    texture = textures.fractal_noise(rng, size, max(2.5, diameter / 8), 4, 0.85)
    image = level.astype(np.float32)[labels]
    image += np.float32(rng.uniform(0.02, 0.08)) * texture * inside
    if happens(rng, 0.6):  # ribosomes, filaments
        dots = textures.granules(rng, size, rng.uniform(1.2, 2.5), 0.15)
        image -= np.float32(rng.uniform(0.05, 0.25)) * dots * inside
    scene = Scene(size)
    scene.labels[...] = labels
    small = labels[::3, ::3]
    ys, xs = np.nonzero(small)
    for index in rng.permutation(len(ys))[: min(80, int(1.5 * count))]:
        row, col = 3 * int(ys[index]), 3 * int(xs[index])
        extent = float(np.clip(0.35 * diameter, 4, 40))
        own = int(labels[row, col])
        _organelles(rng, image, scene, (row, col), extent, False, own)
    width = max(0.9, min(3.5, diameter * rng.uniform(0.015, 0.05)))
    wall = np.exp(-((edge / np.float32(width)) ** 2)) * inside
    # Membranes cut at a slant are wide and faint.
    slant = textures.smooth_noise(rng, size, 0.7 * diameter)
    dark = rng.uniform(0.3, 0.6)
    wall *= np.clip(1 + np.float32(0.25) * slant, 0.35, 1.3)
    image -= np.float32(dark) * wall
    if diameter > 60 and happens(rng, 0.4):
        _dark_nuclei(rng, image, scene, labels, edge, diameter)
    return _scan(rng, image), labels


def _dark_nuclei(
    rng: np.random.Generator,
    image: FloatArray,
    scene: Scene,
    labels: LabelArray,
    edge: FloatArray,
    diameter: float,
) -> None:
    """Draw nuclei with clumps of chromatin along their envelope into the cells, in place."""
    size = scene.shape
    ys, xs = np.nonzero(edge[::4, ::4] > 0.28 * diameter)
    clumps = textures.fractal_noise(rng, size, diameter / 9, 3)
    seen: set[int] = set()
    for index in rng.permutation(len(ys)):
        row, col = 4 * int(ys[index]), 4 * int(xs[index])
        own = int(labels[row, col])
        if own in seen:
            continue
        seen.add(own)
        radius = 0.27 * diameter
        outline = Outline(
            row,
            col,
            radius * rng.uniform(0.9, 1.2),
            radius,
            rng.uniform(0, 3),
            shapes.lobed(rng, 0.05),
        )
        patch = outline.patch(size)
        if patch is None:
            continue
        mine = labels[patch.rows, patch.cols] == own
        chromatin = np.clip(
            clumps[patch.rows, patch.cols] + patch.rho * 1.2 - 0.8, 0, 1
        )
        change = -0.18 * chromatin * patch.soft
        change -= 0.25 * np.exp(-((patch.depth / 1.3) ** 2))
        image[patch.rows, patch.cols] += np.asarray(change, np.float32) * mine
