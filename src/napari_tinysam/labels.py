"""Masks become labels: which pixels of a label image an object gets. numpy and scipy only.

A label image holds the label of one object at each pixel, and 0 elsewhere. Committed clicks,
accepted proposals and prompts on the command line all write their masks with `draw_mask`; an
`Overlap` decides about the existing objects. Auto-segmentation decides about all of its proposals
at once, as `draw_mask` would one by one (`napari_tinysam.everything.shapes`).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

#: A remainder with less than this share of a mask's pixels, or of its depth, is not an object.
_LEAST_SHARE = 0.25
_LEAST_DEPTH = 0.35

#: Pixels that are renumbered at once.
_RENUMBERED = 2**22


class Overlap(Enum):
    """What a new object does to existing objects, in the words that users see.

    Under `NEVER` and `FREE` those keep their pixels. `NEVER` refuses a new object of which they
    leave less than a quarter, or a thin rim only; `FREE` draws whatever is left. `MERGE` is `FREE`
    for a mask that joins the object whose label is selected.
    """

    NEVER = "never overwrite"
    FREE = "take what is free"
    REPLACE = "replace"
    MERGE = "merge into selected"


def draw_mask(
    labels: npt.NDArray[np.integer[Any]],
    mask: BoxedMask,
    label: int,
    overlap: Overlap = Overlap.FREE,
    *,
    least_share: float = 0.0,
    own: npt.NDArray[np.bool_] | None = None,
) -> int:
    """Draw a mask into a label image.

    Parameters
    ----------
    labels : ndarray of int, (H, W)
        Changed in place, and only inside ``mask.slices``. Pixels below 0 are taken.
    mask : BoxedMask
        Of an image of the same shape.
    label : int
        Not 0. Pixels that have it already are free.
    overlap : Overlap
        What happens where other labels are.
    least_share : float
        0–1. The mask is refused if it gets a smaller share of its pixels.
    own : ndarray of bool, (h, w), optional
        Pixels of the mask's rectangle that it takes from other labels whatever the rule.

    Returns
    -------
    int
        Pixels that the mask got; 0 if it was refused, and nothing is changed then.
    """
    region = labels[mask.slices]
    got = mask.mask
    if overlap is not Overlap.REPLACE:
        free = (region == 0) | (region == label)
        if own is not None:
            free |= own & (region > 0)
        got = got & free
    count = int(np.count_nonzero(got))
    if least_share and count < least_share * mask.area:
        return 0
    if overlap is Overlap.NEVER and _is_remainder(got, mask):
        return 0
    region[got] = label
    return count


def move_object(
    labels: npt.NDArray[np.integer[Any]], mask: BoxedMask, label: int, overlap: Overlap
) -> int:
    """Move an object that is there to a mask, even to a single free pixel.

    Parameters
    ----------
    labels : ndarray of int, (H, W)
        Changed in place.
    mask, label, overlap
        As for `draw_mask`.

    Returns
    -------
    int
        Pixels that it has now; 0 if none is free, and nothing is changed then.
    """
    was = labels == label
    labels[was] = 0
    rule = Overlap.FREE if overlap is Overlap.NEVER else overlap
    count = draw_mask(labels, mask, label, rule)
    if not count:
        labels[was] = label
    return count


def _is_remainder(left: npt.NDArray[np.bool_], mask: BoxedMask) -> bool:
    """Whether the remainder of a mask, (h, w), is too small or too thin for an object."""
    count, whole = int(np.count_nonzero(left)), mask.area
    if count == whole:
        return False
    if count < _LEAST_SHARE * whole:
        return True
    # The depth of a ring is small, however many pixels it has.
    depth = BoxedMask(left, mask.y0, mask.x0, mask.shape).depth.max()
    return bool(depth < _LEAST_DEPTH * mask.depth.max())


def object_masks(
    labels: npt.NDArray[np.integer[Any]],
) -> Iterator[tuple[int, BoxedMask]]:
    """List the objects of a label image, (H, W), in the order of their labels.

    Yields
    ------
    (int, BoxedMask)
        A label and all of its pixels.
    """
    from scipy.ndimage import find_objects

    shape = (int(labels.shape[0]), int(labels.shape[1]))
    for label, place in enumerate(find_objects(labels), start=1):
        if place is not None:
            rows, columns = place
            inside = labels[place] == label
            yield label, BoxedMask(inside, rows.start, columns.start, shape)


def renumbered(
    labels: npt.NDArray[np.integer[Any]], kept: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int32]:
    """Give the labels that are kept the numbers 1, 2, … in their order, and 0 to all others.

    Parameters
    ----------
    labels : ndarray of int
        Not negative.
    kept : ndarray of bool, (N + 1,)
        For each label from 0 to the largest; the background's entry does not count.
    """
    kept = kept.copy()
    kept[0] = False
    numbers = (np.cumsum(kept) * kept).astype(np.int32)
    found = np.empty(labels.shape, np.int32)
    # Few rows at a time: as indices they take 8 bytes a pixel.
    rows = max(1, _RENUMBERED * len(labels) // max(1, labels.size))
    for first in range(0, len(labels), rows):
        part = slice(first, first + rows)
        found[part] = numbers[labels[part]]
    return found
