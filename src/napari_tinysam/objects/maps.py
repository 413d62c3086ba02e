"""Object maps of given objects: foreground, distance to the centre, distance to the boundary.

The object head learns to predict them, and its predictions are compared with them. Finer maps are
reduced to the resolution of the decoder's logits here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from napari_tinysam.frame import LOGITS

if TYPE_CHECKING:
    import numpy.typing as npt


def means_of_squares(
    values: npt.NDArray[np.float32], side: int = LOGITS
) -> npt.NDArray[np.float32]:
    """Reduce maps by a whole factor: each new value is the mean of a square of old values.

    Parameters
    ----------
    values : ndarray of float32, (..., m, m)
        m is a multiple of `side`.
    side : int
        Of the result; by default that of the mask decoder's logits, 4 pixels of the frame each.

    Returns
    -------
    ndarray of float32, (..., side, side)
        The same array if it already has that size.

    Raises
    ------
    ValueError
        If m is no multiple of `side`.
    """
    factor, rest = divmod(values.shape[-1], side)
    if rest or not factor or values.shape[-2] != values.shape[-1]:
        raise ValueError(
            f"Maps of shape {values.shape} cannot be reduced to {side} × {side}."
        )
    if factor == 1:
        return values
    # (..., m, m) → (..., side, factor, side, factor)
    squares = values.reshape(*values.shape[:-2], side, factor, side, factor)
    return np.asarray(squares.mean(axis=(-3, -1)), np.float32)


def inner_pixels(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Pixels of objects without a neighbour (of four) in another object or the background.

    Parameters
    ----------
    labels : ndarray of int, (H, W)

    Returns
    -------
    ndarray of bool, (H, W)
    """
    inside = labels > 0
    for axis in (0, 1):
        changes = np.diff(labels, axis=axis) != 0
        before = [(0, 1) if a == axis else (0, 0) for a in (0, 1)]
        after = [(1, 0) if a == axis else (0, 0) for a in (0, 1)]
        inside &= ~(np.pad(changes, before) | np.pad(changes, after))
    return np.asarray(inside)


def boundary_distance(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Distance of each pixel to the boundary of its object, as a share of the largest one there.

    Parameters
    ----------
    labels : ndarray of int, (H, W)
        Objects 1…N without gaps, 0 is background.

    Returns
    -------
    ndarray of uint8, (H, W)
        0 outside objects, 255 at the deepest pixel of each.
    """
    count = int(labels.max(initial=0))
    if count == 0:
        return np.zeros(labels.shape, np.uint8)
    inner = inner_pixels(labels)
    if inner.all():  # one object and nothing else: no boundary to measure from
        return np.full(labels.shape, 255, np.uint8)
    # + 1: the boundary pixels themselves belong to the object.
    distance = (ndi.distance_transform_edt(inner) + 1.0) * (labels > 0)
    deepest = np.ones(count + 1)
    np.maximum.at(deepest, labels.ravel(), distance.ravel())
    return np.asarray(np.round(255 * distance / deepest[labels]), np.uint8)


def centre_distance(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Distance of each pixel to the centre of its object, as a share of the largest one there.

    The centre is the pixel of the object nearest to its centroid, which may lie outside (a ring, a
    crescent).

    Parameters
    ----------
    labels : ndarray of int, (H, W)
        Objects 1…N without gaps, 0 is background.

    Returns
    -------
    ndarray of uint8, (H, W)
        0 at the centres, 255 at the farthest pixel of each object and outside objects.
    """
    distance = np.full(labels.shape, 255, np.uint8)
    # All objects at once, pixel by pixel: images with thousands of objects are common.
    ys, xs = np.nonzero(labels)
    numbers = labels[ys, xs]
    areas = np.bincount(numbers)
    area = areas[numbers].astype(np.float64)
    # Times the area: with whole numbers, pixels that are equally near do tie.
    dy = area * ys - np.bincount(numbers, ys)[numbers]
    dx = area * xs - np.bincount(numbers, xs)[numbers]
    off_centroid = dy**2 + dx**2
    least = np.full(len(areas), np.inf)
    np.minimum.at(least, numbers, off_centroid)
    # Reversed, so that of several nearest pixels the first in reading order is written last.
    nearest = np.flatnonzero(off_centroid == least[numbers])[::-1]
    centre = np.zeros(len(areas), np.intp)
    centre[numbers[nearest]] = nearest
    to_centre = np.hypot(ys - ys[centre][numbers], xs - xs[centre][numbers])
    farthest = np.ones(len(areas))
    np.maximum.at(farthest, numbers, to_centre)
    distance[ys, xs] = np.round(255 * to_centre / farthest[numbers])
    return distance
