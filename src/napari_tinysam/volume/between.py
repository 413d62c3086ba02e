"""What an object looks like between two planes in which it is known. numpy and scipy only.

The distance to an object's border, positive inside, is interpolated instead of the object itself
(Raya and Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 1990). The masks
are moved onto each other first, so objects that move or lie askew stay whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    import numpy.typing as npt


def shape_between(first: BoxedMask, second: BoxedMask, share: float) -> BoxedMask:
    """Interpolate a mask between two of one object.

    Parameters
    ----------
    first, second : BoxedMask
        Not empty, of one image size.
    share : float
        0–1, the way from the first to the second.

    Returns
    -------
    BoxedMask
        Cut where it leaves the image; at 0 and 1 the masks themselves.
    """
    depth, (y0, x0) = _depth_between(first, second, share)
    return BoxedMask(depth > 0, y0, x0, first.shape).clipped()


def _depth_between(
    first: BoxedMask, second: BoxedMask, share: float
) -> tuple[npt.NDArray[np.float64], tuple[int, int]]:
    """Interpolate signed distances; returns them and the place of their first pixel."""
    from scipy.ndimage import shift

    centres = np.array([first.centre, second.centre])[:, ::-1]  # y, x
    middle = (1 - share) * centres[0] + share * centres[1]
    boxes = []
    for mask, centre in zip((first, second), centres, strict=True):
        corner = np.array([mask.y0, mask.x0]) + middle - centre
        boxes.append((corner, corner + mask.mask.shape))
    low = np.floor(np.min([box[0] for box in boxes], axis=0)).astype(int) - 1
    high = np.ceil(np.max([box[1] for box in boxes], axis=0)).astype(int) + 1
    depth = np.zeros(high - low)
    for mask, (corner, _), weight in zip(
        (first, second), boxes, (1 - share, share), strict=True
    ):
        if not weight:
            continue
        place = np.floor(corner).astype(int) - low
        signed = _signed(mask.mask, place, tuple(high - low))
        part = corner - np.floor(corner)
        if part.any():
            signed = shift(signed, part, order=1, mode="nearest")
        depth += weight * signed
    return depth, (int(low[0]), int(low[1]))


def _signed(
    mask: npt.NDArray[np.bool_], place: npt.NDArray[np.intp], size: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Return the distance to the border in a larger rectangle: above 0 inside, below outside."""
    from scipy.ndimage import distance_transform_edt

    whole = np.zeros(size, bool)
    (y, x), (height, width) = place, mask.shape
    whole[y : y + height, x : x + width] = mask
    inside = distance_transform_edt(np.pad(whole, 1))[1:-1, 1:-1]
    outside = distance_transform_edt(~whole)
    return np.asarray(np.where(whole, inside - 0.5, 0.5 - outside))
