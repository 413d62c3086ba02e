"""Whether a positive click begins another object: the rule, without effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.prompts import POSITIVE
from napari_tinysam.ui.state.drafts import ObjectDraft, PointPrompt, in_box

if TYPE_CHECKING:
    from napari_tinysam.inference.candidates import Candidates
    from napari_tinysam.masks import BoxedMask

#: A click further from the current mask than this many radii (of the disc with the mask's area)
#: means another object.
_FAR = 0.5

#: The same as a share of the longer side of what is seen, before the mask is there.
_FAR_OF_FRAME = 0.06

#: Two masks that have this share of the smaller one in common are of one object.
_SHARED = 0.2

Find = Callable[[ObjectDraft], "Candidates | None"]


def alone(xy: tuple[float, float]) -> ObjectDraft:
    """Return the object that one positive click at (x, y) begins."""
    return ObjectDraft(points=(PointPrompt(*xy, POSITIVE),))


def begins_another(
    current: ObjectDraft, xy: tuple[float, float], find: Find, shape: tuple[int, int]
) -> bool:
    """Whether a positive click at (x, y) means another object than the current one.

    It does far from the current mask, unless the mask that the model sees there is the same
    object's: then the click is on a part that is missing.

    Parameters
    ----------
    current : ObjectDraft
    xy : (float, float)
        In pixels of the plane.
    find : callable
        Returns the masks of a draft; None where they are not known.
    shape : (int, int)
        Of what the model sees at once, the plane or a part of it: height, width.
    """
    if current.is_empty or current.edited is not None:
        return False
    if current.box is not None and in_box(current.box, xy):
        return False
    found = find(current)
    mask = None if found is None else found.mask(current.candidate)
    if mask is None or not mask.area:
        places = [(point.x, point.y) for point in current.points]
        if current.box is not None:
            x0, y0, x1, y1 = current.box
            places.append((min(max(xy[0], x0), x1), min(max(xy[1], y0), y1)))
        near = min(np.hypot(x - xy[0], y - xy[1]) for x, y in places)
        return bool(near > _FAR_OF_FRAME * max(shape))
    if _distance(mask, xy) <= max(3.0, _FAR * np.sqrt(mask.area / np.pi)):
        return False
    there = find(alone(xy))
    return there is None or not _is_same(there.mask(), mask)


def _distance(mask: BoxedMask, xy: tuple[float, float]) -> float:
    """Pixels from (x, y) to the nearest pixel of a mask."""
    rows, columns = np.nonzero(mask.mask)
    return float(np.hypot(columns + mask.x0 - xy[0], rows + mask.y0 - xy[1]).min())


def _is_same(one: BoxedMask, other: BoxedMask) -> bool:
    """Whether two masks cover enough of each other to be of one object."""
    smaller = min(one.area, other.area)
    return smaller > 0 and one.shared_area(other) > _SHARED * smaller


__all__ = ["alone", "begins_another"]
