"""Adherent cells in phase contrast."""

from __future__ import annotations

import numpy as np

from tinysam_training.synthetic import optics, shapes, textures
from tinysam_training.synthetic.draws import (
    happens,
    log_uniform,
    object_count,
    object_diameter,
)
from tinysam_training.synthetic.kinds.transmitted import exposed
from tinysam_training.synthetic.layout import Layout, packed, place
from tinysam_training.synthetic.scene import LabelArray, Picture, Scene
from tinysam_training.synthetic.shapes import FloatArray, Outline, Patch


def phase_contrast(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Adherent cells in phase contrast: spread, spindle-shaped, rounded; sparse to confluent."""
    diameter = max(12.0, object_diameter(rng, size, 36, 320))
    scene = Scene(size)
    phase = np.zeros(size, np.float32)
    grain = textures.fractal_noise(rng, size, max(2.0, diameter / 7), 4, 0.8)
    bits = textures.granules(
        rng, size, max(1.3, diameter / rng.uniform(18, 40)), rng.uniform(0.02, 0.12)
    )
    style = _Cytoplasm(
        grain=grain * np.float32(rng.uniform(0.1, 0.45)),
        bits=bits * np.float32(rng.uniform(0.4, 2.0)),
        thickness=log_uniform(rng, 0.2, 0.9),
        rim=rng.uniform(0.05, 0.5),
    )
    if happens(rng, 0.3):
        labels = _monolayer(rng, size, diameter, phase, style)
    else:
        _single_cells(rng, scene, diameter, phase, style)
        labels = scene.labels
    halo = float(np.clip(diameter * rng.uniform(0.04, 0.1), 1.5, 9))
    image = optics.phase_contrast(
        optics.blurred(phase, rng.uniform(0.3, 0.8)), halo, rng.uniform(0.75, 1.05)
    )
    # Fine lines along edges: images are never exactly in focus.
    image += np.float32(rng.uniform(0.2, 1.2)) * (
        optics.blurred(phase, 1.8) - optics.blurred(phase, 0.7)
    )
    if happens(rng, 0.08):
        _wall(rng, image)
    return exposed(rng, image, level=rng.uniform(0.3, 0.55), dirt=0.6), labels


class _Cytoplasm:
    """Appearance inside the cells of one image."""

    def __init__(
        self, grain: FloatArray, bits: FloatArray, thickness: float, rim: float
    ) -> None:
        self.grain, self.bits = grain, bits
        self.thickness, self.rim = thickness, rim

    def of(self, rng: np.random.Generator, patch: Patch, radius: float) -> FloatArray:
        """Phase of a spread cell: flat, thicker around the nucleus, with granules."""
        shape = patch.depth.shape
        middle = np.clip(1 - patch.rho, 0, 1)
        body = 0.35 + 0.65 * middle
        body = body * (1 + textures.crop(rng, self.grain, shape))
        # Granules gather around the nucleus.
        body = body + textures.crop(rng, self.bits, shape) * np.sqrt(middle)
        edge = np.exp(-((patch.depth / np.float32(max(1.0, 0.05 * radius))) ** 2))
        return np.asarray(
            (np.float32(self.thickness) * body + np.float32(self.rim) * edge)
            * patch.soft
        )


def _single_cells(
    rng: np.random.Generator,
    scene: Scene,
    diameter: float,
    phase: FloatArray,
    style: _Cytoplasm,
) -> None:
    """Draw spread and rounded cells into the scene and the phase."""
    size = scene.shape
    count = object_count(size, diameter, log_uniform(rng, 0.04, 0.7), most=200)
    radii = diameter / 2 * np.exp(rng.normal(0, 0.22, count))
    crowd = Layout(
        clustering=rng.uniform(0, 0.8),
        touching=rng.uniform(0, 0.4),
        spacing=rng.uniform(0.65, 1.0),
    )
    rounded = rng.uniform(0, 0.25) if happens(rng, 0.8) else rng.uniform(0.5, 1.0)
    spindle = rng.random()
    direction = rng.uniform(0, np.pi)
    aligned = happens(rng, 0.3)
    for cy, cx, radius in place(rng, size, radii, crowd):
        if happens(rng, rounded):
            _rounded_cell(rng, scene, phase, (cy, cx), radius * rng.uniform(0.4, 0.65))
            continue
        if happens(rng, spindle):
            tips, ratio = int(rng.integers(2, 4)), rng.uniform(1.6, 4.0)
        else:
            tips, ratio = int(rng.integers(2, 6)), rng.uniform(1.0, 2.2)
        radial = shapes.spread(rng, tips, rng.uniform(0.3, 1.4))
        if happens(rng, 0.3):
            radial = shapes.lobed(rng, 0.14) * shapes.rough(rng, 0.03, 40)
        radial = radial * shapes.rough(rng, 0.015, 30)
        angle = direction + rng.normal(0, 0.3) if aligned else rng.uniform(0, np.pi)
        a, b = 0.85 * radius * np.sqrt(ratio), 0.85 * radius / np.sqrt(ratio)
        patch = Outline(cy, cx, a, b, angle, radial).patch(size)
        if patch is None or not scene.is_free(patch, 0.5):
            continue
        won = scene.add_beside(patch)
        body = style.of(rng, patch, radius)
        body *= np.float32(rng.uniform(0.7, 1.4))
        part = phase[patch.rows, patch.cols]
        np.copyto(part, body, where=won)
        _nucleus(rng, scene, phase, (cy, cx), (0.42 * np.sqrt(a * b), b), angle)


def _nucleus(
    rng: np.random.Generator,
    scene: Scene,
    phase: FloatArray,
    centre: tuple[float, float],
    radii: tuple[float, float],
    angle: float,
) -> None:
    """Draw a nucleus with a fine rim and nucleoli into the last cell."""
    along = radii[0] * rng.uniform(0.95, 1.3)
    across = min(radii[0] * rng.uniform(0.7, 1.0), 0.6 * radii[1])
    if across < 2:
        return
    turned = angle + rng.normal(0, 0.2)
    patch = Outline(*centre, along, across, turned).patch(scene.shape)
    if patch is None:
        return
    own = (scene.labels[patch.rows, patch.cols] == scene.count).astype(np.float32)
    part = phase[patch.rows, patch.cols]
    level = np.float32(rng.uniform(0.15, 0.35))
    smooth = patch.soft * own * np.float32(0.75)
    part *= 1 - smooth
    part += smooth * level
    rim = np.exp(-((patch.depth / np.float32(max(0.7, 0.08 * across))) ** 2)) * own
    part += np.float32(rng.uniform(0.03, 0.15)) * rim
    for _ in range(int(rng.integers(1, 4))):
        turn, away = rng.uniform(0, 2 * np.pi), across * rng.uniform(0, 0.55)
        spot = Outline(
            centre[0] + away * np.sin(turn),
            centre[1] + away * np.cos(turn),
            max(0.8, across * rng.uniform(0.12, 0.22)),
            max(0.8, across * rng.uniform(0.1, 0.2)),
            turn,
        ).patch(scene.shape)
        if spot is not None:
            mine = scene.labels[spot.rows, spot.cols] == scene.count
            phase[spot.rows, spot.cols] += np.float32(0.25) * spot.soft * mine


def _rounded_cell(
    rng: np.random.Generator,
    scene: Scene,
    phase: FloatArray,
    centre: tuple[float, float],
    radius: float,
) -> None:
    """Draw a mitotic, detached or dying cell: thick, with a bright halo."""
    radius = max(3.0, radius)
    radial = shapes.lobed(rng, rng.uniform(0.01, 0.08), 3)
    patch = Outline(*centre, radius, radius, 0.0, radial).patch(
        scene.shape, 0.5 * radius
    )
    if patch is None:
        return
    scene.add_on_top(patch)
    # Thick enough to reverse the contrast: bright inside a dark ring and a bright one.
    inner = np.float32(rng.uniform(-1.4, 0.9))
    box = (patch.depth.shape[0], patch.depth.shape[1])
    mottle = 1 + 0.4 * textures.smooth_noise(rng, box, max(1.5, 0.3 * radius))
    ring = np.exp(-(((patch.rho - 0.88) / np.float32(rng.uniform(0.07, 0.16))) ** 2))
    glow = np.exp(-(((patch.rho - 1.12) / 0.13) ** 2))
    body = inner * mottle * patch.dome(0.5) + np.float32(rng.uniform(0.4, 1.3)) * ring
    part = phase[patch.rows, patch.cols]
    part *= 1 - patch.soft
    part += body * patch.soft - np.float32(rng.uniform(0.2, 1.0)) * glow


def _monolayer(
    rng: np.random.Generator,
    size: tuple[int, int],
    diameter: float,
    phase: FloatArray,
    style: _Cytoplasm,
) -> LabelArray:
    """Draw a confluent or nearly confluent layer into the phase; return its labels."""
    diameter = max(diameter, 0.05 * max(size), 18.0)
    layer = packed(
        rng,
        size,
        diameter,
        regularity=rng.uniform(0.2, 0.8),
        spread=rng.uniform(0.1, 0.3),
        elongation=log_uniform(rng, 1.0, 3.0),
        warp=rng.uniform(0.03, 0.09),
        free=rng.uniform(0.1, 0.5) if happens(rng, 0.6) else 0.0,
    )
    labels, edge = layer.labels, optics.blurred(layer.edge, 0.7)
    inside = (labels > 0).astype(np.float32)
    count = len(layer.radii)
    level = np.clip(rng.normal(1, 0.12, count + 1), 0.6, 1.5).astype(np.float32)
    middle = np.clip(edge / np.float32(0.35 * diameter), 0, 1)
    body = (0.6 + 0.4 * middle) * (1 + style.grain) * level[labels]
    body += style.bits * np.sqrt(middle)
    # Neighbours overlap in a thin seam, dark with a bright line beside it.
    seam = np.exp(-((edge / np.float32(max(0.8, 0.02 * diameter))) ** 2))
    sign = 1.0 if happens(rng, 0.6) else -1.0
    phase += np.float32(style.thickness) * body * inside
    phase += np.float32(sign * rng.uniform(0.12, 0.4)) * seam * inside
    scene = Scene(size)
    scene.labels[...] = labels
    ys, xs = np.nonzero(labels[::3, ::3])
    owner = labels[::3, ::3][ys, xs]
    area = np.bincount(owner, minlength=count + 1)
    middle_y = np.bincount(owner, 3 * ys, count + 1) / np.maximum(area, 1)
    middle_x = np.bincount(owner, 3 * xs, count + 1) / np.maximum(area, 1)
    for number in np.flatnonzero(area > 6):
        scene.count = int(number)  # the cell that the nucleus is cut to
        radius = 0.4 * float(np.sqrt(9 * area[number] / np.pi))
        centre = (float(middle_y[number]), float(middle_x[number]))
        _nucleus(rng, scene, phase, centre, (radius, 2 * radius), rng.uniform(0, np.pi))
    return labels


def _wall(rng: np.random.Generator, image: FloatArray) -> None:
    """Draw the wall of a channel along one side of the image, in place."""
    height, width = image.shape
    depth = int(height * rng.uniform(0.06, 0.2))
    turns = int(rng.integers(4))
    view = np.rot90(image, turns)[-depth:]
    across = np.arange(view.shape[1])
    y = np.linspace(0, 1, view.shape[0], dtype=np.float32)[:, None]
    wavy = 0.03 * np.sin(across / width * rng.uniform(10, 60))[None, :]
    y = y + wavy.astype(np.float32)
    noise = textures.fractal_noise(rng, (view.shape[0], view.shape[1]), 6.0, 3)
    bands = np.exp(-(((y - 0.2) / 0.12) ** 2)) * (noise * 0.5 - 0.9)
    bands += np.exp(-(((y - 0.5) / 0.15) ** 2)) * (0.5 * noise + 0.6)
    view += bands + np.float32(0.5) * (y > 0.6)
    np.clip(view, 0.05, None, out=view)
