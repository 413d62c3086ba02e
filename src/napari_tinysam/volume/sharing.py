"""No two objects own a pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


def shared_out(masks: Mapping[int, BoxedMask]) -> dict[int, BoxedMask]:
    """Give each pixel that several masks want to the one that it lies deepest inside of.

    Parameters
    ----------
    masks : mapping of int to BoxedMask
        Of one image.

    Returns
    -------
    dict of int to BoxedMask
        The same masks without the pixels that they lose; the first of equals keeps them.
    """
    found = dict(masks)
    numbers = [number for number, mask in found.items() if mask.area]
    for place, one in enumerate(numbers):
        for other in numbers[place + 1 :]:
            first, second = found[one], found[other]
            if not first.shared_area(second):
                continue
            keeps = first.depth >= _depth_within(second, first.slices)
            lost = BoxedMask(first.mask & keeps, first.y0, first.x0, first.shape)
            found[one] = _with(first, first.mask & keeps)
            found[other] = _with(second, second.mask & ~lost.within(second.slices))
    return found


def _with(mask: BoxedMask, pixels: npt.NDArray[np.bool_]) -> BoxedMask:
    return BoxedMask(pixels, mask.y0, mask.x0, mask.shape).trimmed()


def _depth_within(
    mask: BoxedMask, slices: tuple[slice, slice]
) -> npt.NDArray[np.float64]:
    """Return the depth of a mask in a rectangle of the image; 0 outside of the mask."""
    rows, columns = slices
    depth = np.zeros((rows.stop - rows.start, columns.stop - columns.start))
    own = mask.depth
    (ys, xs) = mask.slices
    y0, y1 = max(ys.start, rows.start), min(ys.stop, rows.stop)
    x0, x1 = max(xs.start, columns.start), min(xs.stop, columns.stop)
    if y0 < y1 and x0 < x1:
        depth[
            y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start
        ] = own[y0 - ys.start : y1 - ys.start, x0 - xs.start : x1 - xs.start]
    return depth
