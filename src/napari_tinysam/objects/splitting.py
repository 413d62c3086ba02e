"""One mask to several: an object that should be two or more is cut at its necks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.masks import BoxedMask


def split_mask(
    mask: BoxedMask, seeds: Sequence[tuple[float, float]] = ()
) -> npt.NDArray[np.int32]:
    """Split a mask into its parts.

    With two or more seeds inside it, cuts are at the necks between the lobes that hold one seed
    each (watershed of the distance to the border). Where seeds share a lobe, every pixel goes to
    the seed that is nearest within the mask. Without seeds, separate pieces are the parts; a mask
    in one piece is split into its two deepest lobes.

    Parameters
    ----------
    mask : BoxedMask
    seeds : sequence of (float, float)
        (x, y) in pixels of the image; those outside the mask do not count.

    Returns
    -------
    ndarray of int32, (h, w)
        Numbers 1… of the parts in the rectangle of the mask, 0 outside. 1 alone where the mask
        looks like one object.
    """
    from scipy import ndimage
    from skimage.segmentation import watershed

    inside = list(
        dict.fromkeys(
            (round(y) - mask.y0, round(x) - mask.x0)
            for x, y in seeds
            if mask.holds(x, y)
        )
    )
    depth = mask.depth
    markers = np.zeros(mask.mask.shape, np.int32)
    if len(inside) < 2:
        pieces, count = ndimage.label(mask.mask, np.ones((3, 3)))
        if count > 1:
            return np.asarray(pieces, np.int32)
        for number, (y, x) in enumerate(_peaks(mask.mask, depth, 2), start=1):
            markers[y, x] = number
        return np.asarray(watershed(-depth, markers, mask=mask.mask), np.int32)
    peaks = _peaks(mask.mask, depth, len(inside))
    for number, (y, x) in enumerate(peaks, start=1):
        markers[y, x] = number
    lobes = watershed(-depth, markers, mask=mask.mask)
    of_seeds = [int(lobes[seed]) for seed in inside]
    if 0 not in of_seeds and len(set(of_seeds)) == len(inside):
        # One seed in each lobe: the necks between the lobes are the place to cut.
        order = np.zeros(len(peaks) + 1, np.int32)
        order[of_seeds] = range(1, len(inside) + 1)
        return np.asarray(order[lobes], np.int32)
    return _nearest_seed(mask.mask, inside)


def _peaks(
    mask: npt.NDArray[np.bool_], depth: npt.NDArray[np.float64], count: int
) -> list[tuple[int, int]]:
    """(row, column) of the deepest pixels of a mask's lobes, `count` of them at most."""
    from scipy.ndimage import gaussian_filter
    from skimage.feature import peak_local_max

    found = peak_local_max(
        gaussian_filter(depth, 1),
        min_distance=max(2, int(depth.max(initial=0))),
        num_peaks=count,
        labels=mask.astype(np.int32),
        exclude_border=False,
    )
    return [(int(y), int(x)) for y, x in found]


def _nearest_seed(
    mask: npt.NDArray[np.bool_], seeds: Sequence[tuple[int, int]]
) -> npt.NDArray[np.int32]:
    """(h, w) number, from 1, of the seed (row, column) nearest to each pixel within a mask."""
    from scipy import ndimage
    from skimage.graph import MCP_Geometric

    costs = np.where(mask, 1.0, np.inf)
    found = [MCP_Geometric(costs).find_costs([seed])[0] for seed in seeds]
    nearest = np.argmin(found, axis=0).astype(np.int32) + 1
    reached = np.isfinite(np.min(found, axis=0))
    parts = np.where(mask & reached, nearest, 0).astype(np.int32)
    # Pieces without a seed go to the part that is nearest in the plane.
    lost = mask & ~reached
    if lost.any():
        _, at = ndimage.distance_transform_edt(parts == 0, return_indices=True)
        parts[lost] = parts[tuple(at)][lost]
    return parts
