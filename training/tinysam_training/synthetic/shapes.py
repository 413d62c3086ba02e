"""Outlines of objects, and their depth maps drawn in boxes of their own.

A closed outline is given in polar form: an ellipse whose radius is multiplied by a table over the
angle. Everything that a kind of image needs of a shape (mask, soft edge, dome, rim, halo) follows
from the depth, the distance of each pixel to the outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

#: Entries of a table of radii over the full turn; a power of two, see `Outline.patch`.
ANGLES = 1024

_TURN = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)

#: Most bumps of a smooth outline.
_WAVES = 12

_COSINES = np.cos(np.arange(_WAVES + 1)[:, None] * _TURN)
_SINES = np.sin(np.arange(_WAVES + 1)[:, None] * _TURN)


@dataclass(frozen=True, eq=False)
class Patch:
    """A shape drawn in its box, cut to the image.

    Attributes
    ----------
    rows, cols : slice
        The box in the image.
    depth : ndarray of float32, (h, w)
        Distance to the outline in pixels, to first order; positive inside.
    rho : ndarray of float32, (h, w)
        Share of the way from the centre (0) to the outline (1).
    u, v : ndarray of float32, (h, w)
        Coordinates along the long and the short axis; ±1 is the end of the axis.
    """

    rows: slice
    cols: slice
    depth: FloatArray
    rho: FloatArray
    u: FloatArray
    v: FloatArray

    @property
    def inside(self) -> BoolArray:
        """Pixels whose centre is in the shape; bool (h, w)."""
        return np.asarray(self.depth > 0)

    @property
    def soft(self) -> FloatArray:
        """Share of each pixel covered by the shape, 0–1; float32 (h, w)."""
        return np.asarray(np.clip(self.depth + np.float32(0.5), 0, 1))

    def dome(self, power: float = 0.5) -> FloatArray:
        """Height of a dome over the shape: 1 at the centre, 0 outside.

        Parameters
        ----------
        power : float
            Of 1 − ρ²: 0.5 is an ellipsoid, less is flatter on top.

        Returns
        -------
        ndarray of float32, (h, w)
        """
        height = np.clip(1 - self.rho * self.rho, 0, 1)
        return np.asarray(height ** np.float32(power))


def _box(
    shape: tuple[int, int], cy: float, cx: float, reach: float
) -> tuple[slice, slice] | None:
    """Cut out the square of half side `reach` around a point, within the image."""
    top, bottom = max(0, int(cy - reach)), min(shape[0], int(cy + reach) + 2)
    left, right = max(0, int(cx - reach)), min(shape[1], int(cx + reach) + 2)
    if top >= bottom or left >= right:
        return None
    return slice(top, bottom), slice(left, right)


def _local(
    rows: slice, cols: slice, cy: float, cx: float, angle: float
) -> tuple[FloatArray, FloatArray]:
    """Coordinates in pixels along and across an axis through a point; (h, w) each."""
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(cy)
    x = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :] - np.float32(cx)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


@dataclass(frozen=True, eq=False)
class Outline:
    """A closed outline around a point.

    Attributes
    ----------
    cy, cx : float
        The centre in pixels; that of the first pixel is (0, 0).
    a, b : float
        Semi-axes in pixels.
    angle : float
        Of the first axis to the rows, in radians.
    radii : ndarray of float64, (ANGLES,), optional
        Multiplies the radius at each angle (in the coordinates where the ellipse is a circle); None
        is an ellipse.
    """

    cy: float
    cx: float
    a: float
    b: float
    angle: float = 0.0
    radii: npt.NDArray[np.float64] | None = None

    @property
    def reach(self) -> float:
        """Half side of a square around the centre that holds the outline."""
        longest = 1.0 if self.radii is None else float(self.radii.max())
        return max(self.a, self.b) * longest

    def patch(self, shape: tuple[int, int], margin: float = 2.0) -> Patch | None:
        """Draw the shape.

        Parameters
        ----------
        shape : (int, int)
            Height and width of the image.
        margin : float
            Pixels around the outline that the box holds too.

        Returns
        -------
        Patch or None
            None where the box lies outside the image.
        """
        box = _box(shape, self.cy, self.cx, self.reach + margin)
        if box is None:
            return None
        x, y = _local(*box, self.cy, self.cx, self.angle)
        u, v = x / np.float32(self.a), y / np.float32(self.b)
        uu, vv = u * u, v * v
        rho = np.sqrt(uu + vv) + np.float32(1e-4)
        # |∇ρ|: how much of the way to the outline one pixel is.
        slope = np.sqrt(uu / np.float32(self.a**2) + vv / np.float32(self.b**2))
        slope = (slope + np.float32(1e-4 / max(self.a, self.b))) / rho
        if self.radii is None:
            return Patch(*box, (1 - rho) / slope, rho, u, v)
        turned = np.arctan2(v, u) * np.float32(ANGLES / (2 * np.pi))
        index = turned.astype(np.int32) & (ANGLES - 1)
        radii = self.radii.astype(np.float32)
        # The radial distance to a curve r(θ) is the true one × √(1 + (r'/r)²).
        around = np.concatenate([radii[-1:], radii, radii[:1]])
        steepness = (
            (around[2:] - around[:-2]) * np.float32(ANGLES / (4 * np.pi)) / radii
        )
        shorter = 1 / np.sqrt(1 + steepness * steepness)
        limit = radii[index]
        depth = (limit - rho) / slope * shorter[index]
        return Patch(*box, depth, rho / limit, u, v)


def rod(
    shape: tuple[int, int],
    centre: tuple[float, float],
    length: float,
    width: float,
    angle: float,
    bend: float = 0.0,
    margin: float = 2.0,
) -> Patch | None:
    """Draw a rod with round ends.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image.
    centre : (float, float)
        Row and column in pixels.
    length, width : float
        In pixels, the round ends included.
    angle : float
        Of the rod to the rows, in radians.
    bend : float
        How far the ends lie off the straight line, as share of the length.
    margin : float
        As in `Outline.patch`.

    Returns
    -------
    Patch or None
        `rho` is 0 along the axis of the rod; `u` is ±1 at its ends, `v` at its sides.
    """
    box = _box(shape, *centre, length / 2 * (1 + abs(bend)) + margin)
    if box is None:
        return None
    x, y = _local(*box, *centre, angle)
    half = length / 2
    y = y - np.float32(bend * length / half**2) * (x * x - np.float32(half**2 / 3))
    straight = max(0.0, half - width / 2)
    beyond = np.maximum(np.abs(x) - np.float32(straight), 0)
    away = np.sqrt(beyond * beyond + y * y)
    radius = np.float32(width / 2)
    return Patch(
        *box, radius - away, away / radius, x / np.float32(half), y / np.float32(radius)
    )


def lobed(
    rng: np.random.Generator, irregularity: float, most: int = 7
) -> npt.NDArray[np.float64]:
    """Radii of a round shape with smooth random bumps.

    Parameters
    ----------
    rng : numpy Generator
    irregularity : float
        Size of the bumps: 0.05 a nucleus, 0.3 an amoeba.
    most : int
        Largest number of bumps around, 2 to 12.

    Returns
    -------
    ndarray of float64, (ANGLES,)
    """
    waves = np.arange(2, most + 1)
    sizes = rng.normal(0, irregularity, len(waves)) / np.sqrt(waves)
    phases = rng.uniform(0, 2 * np.pi, len(waves))
    bumps = (sizes * np.cos(phases)) @ _COSINES[2 : most + 1]
    bumps -= (sizes * np.sin(phases)) @ _SINES[2 : most + 1]
    return np.asarray(np.clip(1 + bumps, 0.35, 2.0))


def rough(
    rng: np.random.Generator, amplitude: float, waves: int
) -> npt.NDArray[np.float64]:
    """Radii of a circle with a rough rim of about `waves` bumps around."""
    knots = rng.normal(0, amplitude, max(8, waves))
    knots = np.append(knots, knots[0])
    place = np.linspace(0, len(knots) - 1, ANGLES, endpoint=False)
    return np.asarray(1 + np.interp(place, np.arange(len(knots)), knots))


def kidney(rng: np.random.Generator, dent: float) -> npt.NDArray[np.float64]:
    """Radii of a circle with one smooth dent of a relative depth."""
    turn = rng.uniform(0, 2 * np.pi)
    away = (_TURN - turn + np.pi) % (2 * np.pi) - np.pi
    return np.asarray(1 - dent * np.exp(-((away / rng.uniform(0.35, 0.7)) ** 2)))


def polygon(
    rng: np.random.Generator, corners: int, jitter: float, rounding: float = 0.0
) -> npt.NDArray[np.float64]:
    """Radii of a convex or nearly convex polygon.

    Parameters
    ----------
    rng : numpy Generator
    corners : int
        At least 3.
    jitter : float
        0 is the regular polygon; 0.3 is an irregular one.
    rounding : float
        Share of the circle mixed in, which rounds the corners.

    Returns
    -------
    ndarray of float64, (ANGLES,)
    """
    gap = 2 * np.pi / corners
    turns = np.arange(corners) * gap + rng.uniform(-jitter, jitter, corners) * gap / 2
    turns = np.sort(turns)
    far = 1 + rng.uniform(-jitter, jitter, corners) * 0.4
    xs, ys = far * np.cos(turns), far * np.sin(turns)
    # The ray at an angle meets the edge between its two neighbouring corners.
    after = np.searchsorted(turns, _TURN) % corners
    before = after - 1
    ex, ey = xs[after] - xs[before], ys[after] - ys[before]
    cross = xs[before] * ey - ys[before] * ex
    radii = cross / (np.cos(_TURN) * ey - np.sin(_TURN) * ex)
    return np.asarray((1 - rounding) * np.clip(radii, 0.2, 2.0) + rounding)


def spread(
    rng: np.random.Generator, tips: int, length: float
) -> npt.NDArray[np.float64]:
    """Radii of an adherent cell: a body with tapering processes, concave between them.

    Parameters
    ----------
    rng : numpy Generator
    tips : int
        Number of processes, at least 2.
    length : float
        How far the longest reach, in radii of the body.

    Returns
    -------
    ndarray of float64, (ANGLES,)
    """
    gap = 2 * np.pi / tips
    turns = np.arange(tips) * gap + rng.uniform(-0.4, 0.4, tips) * gap
    tall = rng.uniform(0.15, 1.0, tips) * length
    radii = np.full(ANGLES, 0.7)
    for turn, height in zip(turns, tall, strict=True):
        away = np.abs((_TURN - turn + np.pi) % (2 * np.pi) - np.pi)
        width = rng.uniform(0.15, 0.55)
        # A wide foot and a narrow process on it.
        slim = rng.uniform(0.0, 0.7)
        radii += (1 - slim) * height * np.exp(-((away / width) ** 1.4))
        radii += slim * height * np.exp(-((away / (0.3 * width)) ** 2))
    return np.asarray(radii * lobed(rng, 0.06, 6))
