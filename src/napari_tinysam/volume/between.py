"""What an object looks like between two planes in which it is known. numpy and scipy only.

The distance to an object's border, positive inside, is interpolated instead of the object itself
(Raya and Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 1990). The masks
are moved onto each other first, so objects that move or lie askew stay whole.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.labels import object_masks
from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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


def shape_vanishing(mask: BoxedMask, share: float) -> BoxedMask:
    """Return what is left of an object on the way to a plane where it is not.

    Parameters
    ----------
    mask : BoxedMask
    share : float
        0–1, the way to that plane; at 1 nothing is left.

    Returns
    -------
    BoxedMask
        Its border moved in, so that the object ends like the cap of a ball: the radius falls with
        √(1 − share²).
    """
    trimmed = mask.trimmed()
    depth = trimmed.depth
    least = depth.max(initial=0.0) * (1 - np.sqrt(max(0.0, 1 - share**2)))
    kept = depth > least if share < 1 else np.zeros(depth.shape, bool)
    return BoxedMask(kept, trimmed.y0, trimmed.x0, mask.shape).trimmed()


def filled_between(
    planes: Mapping[int, npt.NDArray[np.integer[Any]]],
    objects: Iterable[int] | None = None,
) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """Fill the planes between annotated ones.

    Parameters
    ----------
    planes : mapping of int to ndarray of int, (H, W)
        Annotated planes by number, with the same label for the same object; all objects of such a
        plane are known.
    objects : iterable of int, optional
        The labels to fill; by default all.

    Yields
    ------
    plane : int
        In ascending order, those between two annotated planes only.
    labels : ndarray of int32, (H, W)
        Objects in both neighbours are interpolated; those in one vanish on the way to the other.
        A pixel that several would take goes to the one that it lies deepest inside of.

    Raises
    ------
    ValueError
        If the planes differ in size.
    """
    wanted = None if objects is None else set(objects)
    numbers = sorted(planes)
    for first, last in pairwise(numbers):
        if planes[first].shape != planes[last].shape:
            raise ValueError(
                f"Planes of one size are needed; plane {first} has {planes[first].shape}, "
                f"plane {last} {planes[last].shape}."
            )
        if last == first + 1:
            continue
        known = [_masks(planes[plane], wanted) for plane in (first, last)]
        for plane in range(first + 1, last):
            share = (plane - first) / (last - first)
            yield plane, _drawn(known[0], known[1], share, planes[first].shape)


def _masks(
    labels: npt.NDArray[np.integer[Any]], wanted: set[int] | None
) -> dict[int, BoxedMask]:
    # Labels may be huge; their places among those in use are not.
    ids, inverse = np.unique(labels, return_inverse=True)
    places = inverse.reshape(labels.shape) + 1
    return {
        label: mask
        for place, mask in object_masks(places)
        if (label := int(ids[place - 1])) and (wanted is None or label in wanted)
    }


def _drawn(
    first: dict[int, BoxedMask],
    second: dict[int, BoxedMask],
    share: float,
    shape: tuple[int, ...],
) -> npt.NDArray[np.int32]:
    labels = np.zeros(shape, np.int32)
    deepest = np.zeros(shape, np.float32)
    for label in sorted(first.keys() | second.keys()):
        if label not in second:
            mask = shape_vanishing(first[label], share)
        elif label not in first:
            mask = shape_vanishing(second[label], 1 - share)
        else:
            mask = shape_between(first[label], second[label], share)
        if not mask.mask.size:
            continue
        depth = np.where(mask.mask, mask.depth, 0)
        more = depth > deepest[mask.slices]
        deepest[mask.slices][more] = depth[more]
        labels[mask.slices][more] = label
    return labels


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
