"""How well object maps agree with the objects that were made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.objects.maps import (
    boundary_distance,
    centre_distance,
    means_of_squares,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.masks import Upscaler


def confirmed(
    labels: npt.NDArray[np.int32],
    maps: npt.NDArray[np.float32],
    upscaler: Upscaler,
) -> npt.NDArray[np.float64]:
    """Score the objects of an image by how well the maps agree with them.

    Low scores tell objects that are in truth two, a part of one, or nothing. On training images the
    score correlates with the true IoU (0.6 within a set).

    Parameters
    ----------
    labels : numpy.ndarray
        (H, W) int32, from `segment_objects`.
    maps, upscaler
        As for `segment_objects`.

    Returns
    -------
    numpy.ndarray
        (N + 1,) float64 in 0–1, one for each label; entry 0, the background, is 1.
    """
    regions = np.zeros(maps.shape[1:], np.int32)
    # The pixels of the image that hold the centres of the maps' values.
    centres = (np.arange(len(regions)) + 0.5) * (upscaler.frame_size / len(regions))
    rows, columns = (
        (centres * outer / inner).astype(np.intp)
        for outer, inner in zip(labels.shape, upscaler.input_size, strict=True)
    )
    rows, columns = rows[rows < labels.shape[0]], columns[columns < labels.shape[1]]
    regions[: len(rows), : len(columns)] = labels[np.ix_(rows, columns)]
    found = np.zeros(int(labels.max(initial=0)) + 1)
    some = confirmation(regions, maps)
    found[: len(some)] = some
    return found


def confirmation(
    regions: npt.NDArray[np.int32], maps: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Score objects at the resolution of the maps.

    Parameters
    ----------
    regions : numpy.ndarray
        (h, w) int32: objects 1…N, 0 where there is none.
    maps : numpy.ndarray
        (3, h, w) float in 0–1: foreground, centre distance, boundary distance.

    Returns
    -------
    numpy.ndarray
        (N + 1,) float64 in 0–1, one for each object: its mean foreground, times 1 minus the mean
        difference between both distance maps and the true distances in the object. Entry 0, the
        background, is 1.
    """
    inside = regions > 0
    numbers = regions[inside]
    count = int(regions.max(initial=0)) + 1
    area = np.maximum(np.bincount(numbers, minlength=count), 1)
    off = sum(
        np.abs(said - true(regions) / 255.0)[inside] / 2
        for said, true in ((maps[1], centre_distance), (maps[2], boundary_distance))
    )
    foreground = np.bincount(numbers, maps[0][inside], count) / area
    found = foreground * (1 - np.bincount(numbers, off, count) / area)
    found[0] = 1.0
    return np.asarray(found)


def mask_confirmation(
    mask: npt.NDArray[np.bool_], maps: npt.NDArray[np.float32]
) -> float:
    """Score one mask as `confirmation` scores objects.

    Parameters
    ----------
    mask : numpy.ndarray of bool, (h, w)
    maps : numpy.ndarray
        (3, m, m) float in 0–1, m being a multiple of h = w.

    Returns
    -------
    float
        0–1; 0 for an empty mask.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 0.0
    # A square around the mask, with a pixel of background where there is one.
    longest = max(int(each[-1] - each[0]) for each in (rows, columns))
    side = min(longest + 3, len(mask))
    y, x = (min(max(int(each[0]) - 1, 0), len(mask) - side) for each in (rows, columns))
    factor = maps.shape[-1] // len(mask)
    part = maps[:, y * factor : (y + side) * factor, x * factor : (x + side) * factor]
    inside = mask[y : y + side, x : x + side].astype(np.int32)
    return float(confirmation(inside, means_of_squares(part, side))[1])


def mean_confirmation(
    regions: npt.NDArray[np.int32], maps: npt.NDArray[np.float32]
) -> float:
    """Average `confirmation` over the objects; 0 without objects."""
    found = confirmation(regions, maps)[1:]
    there = np.bincount(regions.ravel(), minlength=len(found) + 1)[1:] > 0
    return float(found[there].mean()) if there.any() else 0.0
