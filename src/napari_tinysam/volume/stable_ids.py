"""Ids of objects of a stack that stay the same while the settings of linking change.

An object is called after its first piece: the object of a single plane that it begins with. So
colours do not jump while a slider moves, and what the user did not ask about keeps its number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.volume.overlaps import PlaneOverlaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.volume.linking import Links

#: Labels that show in several planes mean something if the objects of neighbouring planes that have
#: the same one overlap that often. Those of planes that were numbered one by one, from the top, do
#: so often where little changes, but not always.
_TRUSTED = 0.98


def through_planes(
    ids: Sequence[npt.NDArray[np.int64]], overlaps: Sequence[PlaneOverlaps]
) -> npt.NDArray[np.int64]:
    """Find labels that are one object through several planes already.

    Parameters
    ----------
    ids : sequence of ndarray of int
        For each plane, (N,) labels of its objects; planes of several stacks one after the other.
    overlaps : sequence of PlaneOverlaps
        Of each stack.

    Returns
    -------
    ndarray of int64
        Ascending; empty if labels say nothing, as where each plane is numbered from 1.
    """
    common = overlapping = 0
    start = 0
    for stack in overlaps:
        for first in range(len(stack) - 1):
            one, other = ids[start + first], ids[start + first + 1]
            common += len(np.intersect1d(one, other))
            pairs, _ = stack.pairs[first, first + 1]
            overlapping += int((one[pairs[:, 0]] == other[pairs[:, 1]]).sum())
        start += len(stack)
    if not common or overlapping < _TRUSTED * common:
        return np.zeros(0, np.int64)
    every, counts = np.unique(np.concatenate(ids), return_counts=True)
    return every[counts > 1].astype(np.int64)


def without(
    overlaps: PlaneOverlaps, left_out: Sequence[npt.NDArray[np.bool_]]
) -> PlaneOverlaps:
    """Return overlaps without the pairs of objects that are left out, (N,) for each plane."""
    pairs = {}
    for (first, second), (indices, common) in overlaps.pairs.items():
        kept = ~left_out[first][indices[:, 0]] & ~left_out[second][indices[:, 1]]
        pairs[first, second] = indices[kept], common[kept]
    return PlaneOverlaps(overlaps.ids, overlaps.areas, pairs)


def repeated(
    ids: npt.NDArray[np.int64], taken: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """(N,) whether an id is taken, or was given to a piece before."""
    first = np.unique(ids, return_index=True)[1]
    again = np.ones(len(ids), bool)
    again[first] = False
    return np.asarray(again | np.isin(ids, taken))


def stable_ids(
    links: Links, own: Sequence[npt.NDArray[np.int64]], least: int = 1
) -> list[npt.NDArray[np.int64]]:
    """Call each object after its first piece.

    Parameters
    ----------
    links : Links
        With objects of any number of planes.
    own : sequence of ndarray of int
        For each plane, (N,) the id of each piece, which no other piece has.
    least : int
        Objects that show in fewer planes get the id 0.

    Returns
    -------
    list of ndarray of int64
        For each plane, (N,) ids.
    """
    name = np.zeros(links.count + 1, np.int64)
    planes = np.zeros(links.count + 1, np.int64)
    for objects, numbers in zip(links.objects, own, strict=True):
        new = name[objects] == 0
        name[objects[new]] = numbers[new]
        planes[objects] += 1  # an object has one piece in a plane
    name[planes < least] = 0
    name[0] = 0
    return [name[objects] for objects in links.objects]
