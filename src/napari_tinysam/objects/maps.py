"""Object maps of given objects: where they, their centres and their boundaries are.

What the object head learns to predict, and what its predictions are compared with; and its maps at
the resolution of the decoder's logits, where they are finer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from napari_tinysam.prompts import LOGITS_SIZE

if TYPE_CHECKING:
    import numpy.typing as npt


def means_of_squares(
    values: npt.NDArray[np.float32], side: int = LOGITS_SIZE
) -> npt.NDArray[np.float32]:
    """Reduce maps by a whole factor: each new value is the mean of a square of old ones.

    Parameters
    ----------
    values : ndarray of float32, (..., m, m)
        m is a multiple of `side`.
    side : int
        Of the result; by default that of the mask decoder's logits, 4 pixels of the frame each.

    Returns
    -------
    ndarray of float32, (..., side, side)
        The very same array if it has that size already.

    Raises
    ------
    ValueError
        If m is no multiple of `side`.
    """
    factor, rest = divmod(values.shape[-1], side)
    if rest or not factor or values.shape[-2] != values.shape[-1]:
        raise ValueError(f"Maps of {values.shape} have no means of {side} × {side}.")
    if factor == 1:
        return values
    # (..., m, m) → (..., side, factor, side, factor)
    squares = values.reshape(*values.shape[:-2], side, factor, side, factor)
    return np.asarray(squares.mean(axis=(-3, -1)), np.float32)


def inner_pixels(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Pixels of objects that no side shares with another object or the background.

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
    """Distance of every pixel to the boundary of its object, as share of the largest in it.

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
    """Distance of every pixel to the centre of its object, as share of the largest in it.

    The centre is the centroid, or the object's pixel nearest to it where the centroid lies outside
    (a ring, a crescent).

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
    # Times the area: whole numbers only, so that pixels that are equally near do tie.
    dy = area * ys - np.bincount(numbers, ys)[numbers]
    dx = area * xs - np.bincount(numbers, xs)[numbers]
    off_centroid = dy**2 + dx**2
    least = np.full(len(areas), np.inf)
    np.minimum.at(least, numbers, off_centroid)
    # The first of several nearest pixels, in reading order: the last one written stays.
    nearest = np.flatnonzero(off_centroid == least[numbers])[::-1]
    centre = np.zeros(len(areas), np.intp)
    centre[numbers[nearest]] = nearest
    to_centre = np.hypot(ys - ys[centre][numbers], xs - xs[centre][numbers])
    farthest = np.ones(len(areas))
    np.maximum.at(farthest, numbers, to_centre)
    distance[ys, xs] = np.round(255 * to_centre / farthest[numbers])
    return distance
