"""Random textures: smooth noise, fractal noise, fibres, granules.

Fields are float32, of mean 0 and standard deviation 1 unless noted. A field is made once for an
image, and objects take crops of it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi
from scipy import sparse

FloatArray = npt.NDArray[np.float32]


@lru_cache(maxsize=32)
def _spline_rows(count: int, scale: float, start: float) -> sparse.csr_array:
    """Matrix that evaluates cubic B-splines with knots `scale` pixels apart.

    Knot k + 1 lies at the pixel k · scale − start.
    """
    place = (np.arange(count) + start) / scale
    knot = np.floor(place).astype(np.int64)
    t = (place - knot)[:, None]
    weights = np.hstack(
        [
            (1 - t) ** 3,
            3 * t**3 - 6 * t**2 + 4,
            -3 * t**3 + 3 * t**2 + 3 * t + 1,
            t**3,
        ]
    )
    columns = knot[:, None] + np.arange(4)
    return sparse.csr_array(
        (
            (weights / 6).astype(np.float32).ravel(),
            columns.ravel(),
            np.arange(0, 4 * count + 1, 4),
        ),
        shape=(count, int(columns.max()) + 1),
    )


def enlarged(
    values: FloatArray,
    shape: tuple[int, int],
    scale: tuple[float, float],
    start: float = 0.0,
) -> FloatArray:
    """Interpolate a coarse grid smoothly.

    Parameters
    ----------
    values : ndarray of float32, (h, w)
        Knots; at least (shape + start) / scale + 4 of them along each axis.
    shape : (int, int)
        Of the result.
    scale : (float, float)
        Pixels between knots, down and across.
    start : float
        Start of the result, in pixels after the second knot.

    Returns
    -------
    ndarray of float32, (H, W)
    """
    down = _spline_rows(shape[0], scale[0], start)
    across = _spline_rows(shape[1], scale[1], start)
    part = values[: down.shape[1], : across.shape[1]]
    wide = np.ascontiguousarray((across @ part.T).T)  # (h, W)
    return np.asarray(down @ wide)


def standardised(field: FloatArray) -> FloatArray:
    """Scale a field to mean 0 and standard deviation 1 (a constant one becomes 0).

    Both are estimated from every second pixel of every second row.
    """
    part = field[::2, ::2]
    scale = np.float32(1 / max(float(part.std()), 1e-6))
    return np.asarray((field - part.mean()) * scale)


def smooth_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    scale: float,
    stretch: float = 1.0,
) -> FloatArray:
    """Draw noise with blobs about `scale` pixels wide.

    Parameters
    ----------
    rng : numpy Generator
    shape : (int, int)
    scale : float
        Pixels; below 1 it is white noise.
    stretch : float
        Blobs are this much wider than high.

    Returns
    -------
    ndarray of float32, (H, W)
    """
    if scale <= 1.0:
        return rng.standard_normal(shape, np.float32)
    steps = (scale, scale * stretch)
    coarse = rng.standard_normal(
        (int(shape[0] / steps[0]) + 5, int(shape[1] / steps[1]) + 5), np.float32
    )
    return standardised(enlarged(coarse, shape, steps))


def fractal_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    scale: float,
    octaves: int = 3,
    gain: float = 0.6,
) -> FloatArray:
    """Draw noise with several scales, each half the one before.

    Parameters
    ----------
    rng : numpy Generator
    shape : (int, int)
    scale : float
        Of the coarsest octave, in pixels.
    octaves : int
    gain : float
        Amplitude of an octave relative to the one before.

    Returns
    -------
    ndarray of float32, (H, W)
    """
    field = smooth_noise(rng, shape, scale)
    for octave in range(1, octaves):
        if scale / 2**octave < 0.5:
            break
        finer = smooth_noise(rng, shape, scale / 2**octave)
        field += np.float32(gain**octave) * finer
    return standardised(field)


def fibres(
    rng: np.random.Generator,
    shape: tuple[int, int],
    width: float,
    length: float,
    waviness: float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """Draw wavy fibres along one slowly turning direction.

    Parameters
    ----------
    rng : numpy Generator
    shape : (int, int)
    width, length : float
        Of a fibre, in pixels.
    waviness : float
        0 straight, 1 as in connective tissue.

    Returns
    -------
    field : ndarray of float32, (H, W)
    direction : ndarray of float32, (H, W)
        Angle of the fibres to the rows in radians, for objects that lie along them.
    """
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    # Wide fibres are drawn at half the size.
    step = 1 if width < 3 else 2
    small = (-(-shape[0] // step) + 3, -(-shape[1] // step) + 3)
    y = step * np.arange(small[0], dtype=np.float32)[:, None]
    x = step * np.arange(small[1], dtype=np.float32)[None, :]
    wave = max(shape) / rng.uniform(2.0, 7.0)
    shift = smooth_noise(rng, small, wave / step) * np.float32(0.16 * waviness * wave)
    shift += smooth_noise(rng, small, 0.3 * wave / step) * np.float32(
        0.035 * waviness * wave
    )
    across = y * cos - x * sin + shift
    along = x * cos + y * sin
    grid = rng.standard_normal((96, 96), np.float32)
    field = ndi.map_coordinates(
        grid,
        (across / np.float32(width), along / np.float32(length)),
        np.float32,
        order=1,
        mode="grid-wrap",
    )
    # A fibre is a line of constant `across`.
    gy, gx = np.gradient(shift[::4, ::4], 4.0 * step)
    direction = np.arctan2(sin - gx, cos + gy).astype(np.float32)
    block = 4 * step
    direction = np.repeat(np.repeat(direction, block, 0), block, 1)
    direction = direction[: shape[0], : shape[1]]
    if step == 2:
        field = enlarged(np.pad(field, ((1, 3), (1, 3)), mode="edge"), shape, (2, 2))
    else:
        field = field[: shape[0], : shape[1]]
    return standardised(field), direction


def granules(
    rng: np.random.Generator, shape: tuple[int, int], scale: float, share: float
) -> FloatArray:
    """Draw scattered soft spots on zero, up to about 1 high.

    Parameters
    ----------
    rng : numpy Generator
    shape : (int, int)
    scale : float
        Width of a spot in pixels.
    share : float
        Share of the area that spots cover, below 0.5.

    Returns
    -------
    ndarray of float32, (H, W)
        Not standardised: 0 between the spots.
    """
    field = smooth_noise(rng, shape, max(1.2, scale))
    level = float(np.quantile(field[::5, ::5], 1 - share))
    spots = np.clip(field - np.float32(level), 0, None)
    return np.asarray(np.minimum(spots * np.float32(1.6), 1))


def crop(
    rng: np.random.Generator, field: FloatArray, shape: tuple[int, ...]
) -> FloatArray:
    """Take a random crop of a field (a view).

    Parameters
    ----------
    rng : numpy Generator
    field : ndarray of float32, (H, W)
    shape : (int, int)
        At most (H, W).

    Returns
    -------
    ndarray of float32, (h, w)
    """
    top = int(rng.integers(field.shape[0] - shape[0] + 1))
    left = int(rng.integers(field.shape[1] - shape[1] + 1))
    return field[top : top + shape[0], left : left + shape[1]]
