"""Synthetic stacks of nuclei, and movies of cells that move, divide and leave, with their truth.

For tests and measurements of following and linking; figures from them are of synthetic images.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from tinysam_training.synthetic.textures import smooth_noise

if TYPE_CHECKING:
    import numpy.typing as npt

#: How often a place for one more nucleus is tried before the stack is taken to be full.
_TRIES = 40

#: Frames before and after a division in which cells are long or small.
_PROPHASE, _YOUNG = 3, 4


@dataclass(frozen=True, eq=False)
class SyntheticStack:
    """Planes or frames with the true objects.

    Attributes
    ----------
    image : ndarray of uint8, (Z, H, W)
    labels : ndarray of int32, (Z, H, W)
        The same label in all planes of an object.
    parents : dict of int to int
        The mother of each daughter; empty for stacks.
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    parents: dict[int, int] = field(default_factory=dict)


def synthetic_volume(
    rng: np.random.Generator,
    shape: tuple[int, int, int] = (30, 256, 256),
    count: int = 12,
    *,
    flattened: float = 2.5,
) -> SyntheticStack:
    """Draw a confocal stack of nuclei.

    Parameters
    ----------
    rng : numpy Generator
        The same state gives the same stack.
    shape : (int, int, int)
        Planes, height, width.
    count : int
        Nuclei at most; fewer where no place is left. They may touch.
    flattened : float
        Pixels of a plane's side that one step between planes is worth.
    """
    depth, height, width = shape
    labels = np.zeros(shape, np.int32)
    image = np.full(shape, 0.06, np.float32)
    uneven, texture = _noise(rng, shape, 12.0), 1 + 0.22 * _noise(rng, shape, 4.0)
    z, y, x = np.ogrid[:depth, :height, :width]
    for label in range(1, count + 1):
        for _ in range(_TRIES):
            radius = rng.uniform(13, 24)
            place = rng.uniform((0.12, 0.08, 0.08), (0.88, 0.92, 0.92)) * shape
            stretch = np.exp(rng.uniform(-0.3, 0.3, 2))
            tilt, turn = rng.uniform(-0.5, 0.5, 2), rng.uniform(0, np.pi)
            dz = (z - place[0]) * flattened
            dy, dx = y - place[1] - tilt[0] * dz, x - place[2] - tilt[1] * dz
            along = dy * np.cos(turn) + dx * np.sin(turn)
            across = dx * np.cos(turn) - dy * np.sin(turn)
            away = np.sqrt((along / stretch[0]) ** 2 + (across / stretch[1]) ** 2)
            away = np.sqrt(away**2 + dz**2) / radius
            near = away < 1.35
            if not near.any() or (labels[near] > 0).mean() > 0.05:
                continue
            inside = (away + 0.09 * uneven < 1) & (labels == 0)
            pieces, number = ndi.label(inside)
            if not number:
                continue
            largest = np.bincount(pieces.ravel())[1:].argmax() + 1
            inside = pieces == largest
            labels[inside] = label
            image[inside] = (rng.uniform(0.35, 0.9) * texture[inside]).clip(0.1)
            break
    image = ndi.gaussian_filter(image, (0.7, 1.0, 1.0))
    dimmer = np.exp(-0.5 * np.arange(depth) / depth).astype(np.float32)
    return SyntheticStack(_exposed(rng, image * dimmer[:, None, None]), labels)


@dataclass(frozen=True)
class _Cell:
    track: int
    place: npt.NDArray[np.float64]
    speed: npt.NDArray[np.float64]
    radius: float
    turn: float
    bright: float
    divides: int  # the frame of its division
    born: int = -100


def synthetic_movie(
    rng: np.random.Generator,
    shape: tuple[int, int, int] = (50, 384, 384),
    count: int = 50,
    *,
    speed: float = 1.6,
    divisions: float = 0.4,
) -> SyntheticStack:
    """Draw a movie of cells that wander, touch, divide and leave.

    Parameters
    ----------
    rng : numpy Generator
    shape : (int, int, int)
        Frames, height, width.
    count : int
        Cells in the first frame.
    speed : float
        Usual step between frames in pixels.
    divisions : float
        Probability that a cell divides within the movie. It becomes long and bright before, its
        daughters begin small.
    """
    frames, height, width = shape
    image = np.full(shape, 0.06, np.float32)
    labels = np.zeros(shape, np.int32)
    parents: dict[int, int] = {}
    room = np.sqrt(height * width / max(count, 1))
    cells, track = [], 0
    for place in _apart(rng, (height, width), count, 0.75 * room):
        track += 1
        cells.append(
            _Cell(
                track,
                place,
                rng.normal(0, speed / 2, 2),
                float(rng.uniform(0.2, 0.27) * room),
                float(rng.uniform(0, np.pi)),
                float(rng.uniform(0.35, 0.75)),
                _division(rng, 0, frames, divisions),
            )
        )
    for frame in range(frames):
        following = []
        for cell in cells:
            if not _draw(rng, image[frame], labels[frame], cell, frame):
                continue  # it has left
            if cell.divides == frame:
                axis = np.array([np.sin(cell.turn), np.cos(cell.turn)])
                for side in (-1, 1):
                    track += 1
                    parents[track] = cell.track
                    following.append(
                        _Cell(
                            track,
                            cell.place + side * 0.75 * cell.radius * axis,
                            0.5 * speed * side * axis,
                            cell.radius,
                            cell.turn + np.pi / 2,
                            cell.bright,
                            _division(rng, frame + 12, frames, divisions / 2),
                            frame + 1,
                        )
                    )
                continue
            following.append(cell)
        cells = _moved(rng, following, speed, (height, width))
    image = ndi.gaussian_filter(image, (0, 1.0, 1.0))
    seen = set(np.unique(labels).tolist())
    parents = {
        child: mother
        for child, mother in parents.items()
        if child in seen and mother in seen
    }
    return SyntheticStack(_exposed(rng, image), labels, parents)


def _division(rng: np.random.Generator, first: int, frames: int, chance: float) -> int:
    """Draw the frame of a division; −1 for none."""
    begins, ends = first + 4, frames - 3
    when = int(rng.integers(begins, max(ends, begins + 1)))
    return when if rng.random() < chance and begins < ends else -1


def _apart(
    rng: np.random.Generator, size: tuple[int, int], count: int, least: float
) -> list[npt.NDArray[np.float64]]:
    places: list[npt.NDArray[np.float64]] = []
    while len(places) < count:
        for _ in range(200):
            place = rng.uniform((0, 0), size)
            if all(np.hypot(*(place - other)) >= least for other in places):
                places.append(place)
                break
        else:
            least *= 0.9
    return places


def _moved(
    rng: np.random.Generator,
    cells: list[_Cell],
    speed: float,
    size: tuple[int, int],
) -> list[_Cell]:
    """Move cells, push those apart that would lie over each other, drop those that have left."""
    places = np.array([cell.place for cell in cells]).reshape(-1, 2)
    speeds = np.array([cell.speed for cell in cells]).reshape(-1, 2)
    speeds = 0.8 * speeds + rng.normal(0, 0.5 * speed, speeds.shape)
    places = places + speeds
    radii = np.array([cell.radius for cell in cells])
    for _ in range(3):
        between = places[:, None] - places[None]
        away = np.hypot(between[..., 0], between[..., 1]) + np.eye(len(cells)) * 1e9
        wanted = 0.95 * (radii[:, None] + radii[None])
        push = np.maximum(wanted - away, 0) / 2
        places = places + (
            between / np.maximum(away, 1e-6)[..., None] * push[..., None]
        ).sum(1)
    return [
        replace(cell, place=place, speed=step, turn=cell.turn + rng.normal(0, 0.06))
        for cell, place, step in zip(cells, places, speeds, strict=True)
        if (place > -cell.radius).all() and (place < np.array(size) + cell.radius).all()
    ]


def _draw(
    rng: np.random.Generator,
    image: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    cell: _Cell,
    frame: int,
) -> bool:
    """Draw an ellipse, long before a division and small after one; False if none of it shows."""
    age, left = frame - cell.born, cell.divides - frame
    size = min(1.0, 0.72 + 0.28 * age / _YOUNG)
    long = 1.15
    if 0 <= left < _PROPHASE:
        long = 1.15 + 0.3 * (_PROPHASE - left) / _PROPHASE
    radius = cell.radius * size
    reach = int(np.ceil(1.6 * radius)) + 2
    row, column = (int(v) for v in np.rint(cell.place))
    rows = slice(max(row - reach, 0), max(row + reach + 1, 0))
    columns = slice(max(column - reach, 0), max(column + reach + 1, 0))
    part = labels[rows, columns]
    if not part.size:
        return False
    y = np.arange(rows.start, rows.start + part.shape[0])[:, None] - cell.place[0]
    x = np.arange(columns.start, columns.start + part.shape[1])[None] - cell.place[1]
    along = y * np.sin(cell.turn) + x * np.cos(cell.turn)
    across = x * np.sin(cell.turn) - y * np.cos(cell.turn)
    away = np.hypot(along / long, across * long) / radius
    inside = (away < 1) & (part == 0)
    part[inside] = cell.track
    texture = 1 + 0.18 * smooth_noise(rng, part.shape, max(2.0, radius / 3))
    bright = cell.bright * (1.35 if 0 <= left < _PROPHASE else 1.0)
    shown = (bright * texture * (1.05 - 0.35 * away**2)).astype(np.float32)
    image[rows, columns][inside] = shown[inside].clip(0.1)
    return bool(inside.any())


def _noise(
    rng: np.random.Generator, shape: tuple[int, int, int], scale: float
) -> npt.NDArray[np.float32]:
    """Smooth noise in three dimensions with standard deviation 1, coarse along the first."""
    scales = (scale / 2, scale, scale)
    sizes = [
        max(2, int(np.ceil(n / each)) + 2)
        for n, each in zip(shape, scales, strict=True)
    ]
    coarse = rng.standard_normal(sizes, np.float32)
    factors = [n / (m - 1) for n, m in zip(shape, sizes, strict=True)]
    found = ndi.zoom(coarse, factors, order=1, mode="nearest", grid_mode=False)
    found = found[: shape[0], : shape[1], : shape[2]]
    pad = [(0, n - m) for n, m in zip(shape, found.shape, strict=True)]
    found = np.pad(found, pad, mode="edge")
    return np.asarray((found - found.mean()) / max(float(found.std()), 1e-6))


def _exposed(
    rng: np.random.Generator, image: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Photon noise, the camera's, and 8 bits."""
    photons = rng.poisson(np.maximum(image, 0) * 120).astype(np.float32) / 120
    photons += rng.normal(0, 0.012, image.shape).astype(np.float32)
    return np.asarray((photons * 230).clip(0, 255).astype(np.uint8))
