"""Where objects lie: scattered, in clusters, in touching colonies, or packed without gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinysam_training.synthetic import optics
from tinysam_training.synthetic.textures import smooth_noise

FloatArray = npt.NDArray[np.float32]
Places = npt.NDArray[np.float64]

#: Candidate places for each object.
_TRIES = 6


@dataclass(frozen=True)
class Layout:
    """How the objects of one image lie.

    Attributes
    ----------
    clustering : float
        Share of the objects that lie in loose groups.
    touching : float
        Share of the objects that are placed against another one.
    spacing : float
        Smallest distance of two centres, as a share of the sum of their radii: above 1 all objects
        lie apart, below 1 they may overlap.
    """

    clustering: float = 0.0
    touching: float = 0.0
    spacing: float = 0.8


def place(
    rng: np.random.Generator,
    shape: tuple[int, int],
    radii: npt.NDArray[np.float64],
    layout: Layout,
) -> Places:
    """Place discs.

    Parameters
    ----------
    rng : numpy Generator
    shape : (int, int)
        Height and width of the image; centres may lie a little outside.
    radii : ndarray of float64, (N,)
        In pixels.
    layout : Layout

    Returns
    -------
    ndarray of float64, (M, 3)
        Row, column and radius of the discs that fit, 1 ≤ M ≤ N.
    """
    count = len(radii)
    limits = np.array(shape, float)
    placed = np.empty((count, 3))
    done = 0
    groups = rng.uniform(0, 1, (max(1, count // 12), 2)) * limits
    extent = 2.5 * float(np.median(radii)) * np.sqrt(12)
    for radius in radii:
        kind = rng.random()
        if done and kind < layout.touching:
            other = placed[rng.integers(done, size=_TRIES)]
            turn = rng.uniform(0, 2 * np.pi, _TRIES)
            away = (other[:, 2] + radius) * rng.uniform(0.9, 1.04, _TRIES)
            away = np.maximum(away, (other[:, 2] + radius) * layout.spacing)
            found = other[:, :2] + away[:, None] * np.stack(
                [np.sin(turn), np.cos(turn)], axis=1
            )
        elif kind < layout.touching + layout.clustering:
            group = groups[rng.integers(len(groups))]
            found = group + rng.normal(0, extent / 2, (_TRIES, 2))
        else:
            found = rng.uniform(-0.02, 1.02, (_TRIES, 2)) * limits
        within = ((found > -0.4 * radius) & (found < limits + 0.4 * radius)).all(axis=1)
        if done:
            dy = found[:, :1] - placed[:done, 0]
            dx = found[:, 1:] - placed[:done, 1]
            needed = (0.999 * layout.spacing) * (placed[:done, 2] + radius)
            within &= (dy * dy + dx * dx >= needed * needed).all(axis=1)
        good = np.flatnonzero(within)
        if len(good):
            placed[done] = *found[good[0]], radius
            done += 1
    if done == 0:
        placed[0] = *(limits / 2), radii[0]
        done = 1
    return placed[:done]


@dataclass(frozen=True, eq=False)
class Packing:
    """Cells that fill the plane, with curved borders.

    Attributes
    ----------
    labels : ndarray of int32, (H, W)
        The number of the cell, from 1; 0 where the tissue has a gap.
    edge : ndarray of float32, (H, W)
        Distance to the nearest border (of two cells, or of the tissue), in pixels, to first order.
    radii : ndarray of float64, (N,)
        About half the diameter of cells 1…N in pixels; some may lie outside the image.
    """

    labels: npt.NDArray[np.int32]
    edge: FloatArray
    radii: npt.NDArray[np.float64]


def packed(
    rng: np.random.Generator,
    shape: tuple[int, int],
    diameter: float,
    *,
    regularity: float = 0.7,
    spread: float = 0.15,
    elongation: float = 1.2,
    warp: float = 0.12,
    free: float = 0.0,
) -> Packing:
    """Fill the plane with cells: a power diagram (Aurenhammer 1987), stretched and bent.

    Parameters
    ----------
    rng : numpy Generator
    shape : (int, int)
    diameter : float
        Typical, in pixels.
    regularity : float
        0 random centres, 1 nearly hexagonal.
    spread : float
        Spread of sizes; 0.15 is an epithelium.
    elongation : float
        Ratio of the cells' axes, which all have one direction.
    warp : float
        How far borders are bent, in diameters.
    free : float
        Approximate share of the plane without cells.

    Returns
    -------
    Packing
    """
    # Place in the straight diagram of each pixel of the bent image.
    turn, stretch = rng.uniform(0, np.pi), float(np.sqrt(max(1.0, elongation)))
    cos, sin = np.cos(turn), np.sin(turn)
    turned = np.array([[cos, -sin], [sin, cos]])  # (row, column) → (across, along)
    matrix = turned.T @ np.diag([stretch, 1 / stretch]) @ turned
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    x = np.arange(shape[1], dtype=np.float32)[None, :]
    from_y = np.float32(matrix[0, 0]) * y + np.float32(matrix[0, 1]) * x
    from_x = np.float32(matrix[1, 0]) * y + np.float32(matrix[1, 1]) * x
    if warp > 0:
        for scale, share in ((0.6, 1.0), (1.8, 2.0)):
            bend = np.float32(share * warp * diameter)
            from_y += bend * smooth_noise(rng, shape, scale * diameter)
            from_x += bend * smooth_noise(rng, shape, scale * diameter)
    from_y -= from_y.min()
    from_x -= from_x.min()
    at = from_y.astype(np.int64), from_x.astype(np.int64)
    domain = int(from_y.max()) + 1, int(from_x.max()) + 1

    centres = _lattice(rng, domain, diameter, regularity)
    if free > 0:
        # Gaps are larger than cells: a patchy culture, the edge of an explant.
        field = smooth_noise(rng, domain, max(2.5 * diameter, max(shape) / 8))
        place = np.clip(centres.astype(int), 0, np.array(domain) - 1)
        values = field[place[:, 0], place[:, 1]]
        centres = centres[values >= np.quantile(values, free)]
    reach = (0.72 if free > 0 else 1.25 + 0.5 * (1 - regularity)) * diameter
    weights = rng.normal(0, spread, len(centres)) * (0.5 * diameter**2)
    labels, nearest, second = _power_diagram(domain, centres, weights, reach)
    # The distance to the line between two centres is the difference of the powers over twice
    # the distance of the centres, which is about a diameter.
    edge = (second - nearest) * np.float32(0.5 / diameter)
    radii = diameter / 2 * np.sqrt(np.clip(1 + 2 * weights / diameter**2, 0.2, 3))
    bent, gap = labels[at], edge[at]
    if free > 0:
        # The outer border is as smooth as the power; stretching alone would leave steps.
        bent[optics.blurred(nearest[at], 1.0) > 0.97 * reach**2] = 0
    return Packing(bent, gap, radii)


def _lattice(
    rng: np.random.Generator,
    shape: tuple[int, int],
    diameter: float,
    regularity: float,
) -> npt.NDArray[np.float64]:
    """Return jittered centres of a hexagonal lattice: rows and columns, (N, 2)."""
    rows = np.arange(-1.0, shape[0] / (diameter * 0.87) + 1.5)
    cols = np.arange(-1.0, shape[1] / diameter + 1.5)
    grid_y, grid_x = np.meshgrid(rows, cols, indexing="ij")
    grid_x = grid_x + 0.5 * (np.arange(len(rows)) % 2)[:, None]
    centres = np.stack([grid_y.ravel() * 0.87, grid_x.ravel()], axis=1)
    centres += rng.uniform(0, 1, 2) - 0.5
    centres += rng.normal(0, (1 - regularity) * 0.45, centres.shape)
    return centres * diameter


def _power_diagram(
    shape: tuple[int, int],
    centres: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    reach: float,
) -> tuple[npt.NDArray[np.int32], FloatArray, FloatArray]:
    """Find the nearest centre by squared distance minus weight: its number, its power, the next.

    Each centre counts within `reach` pixels only; a pixel beyond all of them gets 0.
    """
    nearest = np.full(shape, reach**2, np.float32)
    second = nearest.copy()
    labels = np.zeros(shape, np.int32)
    for number, (cy, cx) in enumerate(centres, start=1):
        weight = min(weights[number - 1], 0.4 * reach**2)
        far = float(np.sqrt(reach**2 + max(weight, 0.0)))
        top, bottom = max(0, int(cy - far)), min(shape[0], int(cy + far) + 2)
        left, right = max(0, int(cx - far)), min(shape[1], int(cx + far) + 2)
        if top >= bottom or left >= right:
            continue
        y = np.arange(top, bottom, dtype=np.float32) - np.float32(cy)
        x = np.arange(left, right, dtype=np.float32) - np.float32(cx)
        power = (y * y - np.float32(weight))[:, None] + (x * x)[None, :]
        first = nearest[top:bottom, left:right]
        after = second[top:bottom, left:right]
        np.copyto(labels[top:bottom, left:right], number, where=power < first)
        # The second smallest of three, two of them in order.
        np.minimum(after, np.maximum(first, power), out=after)
        np.minimum(first, power, out=first)
    return labels, nearest, second
