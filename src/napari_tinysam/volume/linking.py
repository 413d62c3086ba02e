"""Objects of single planes become objects of the stack.

The objects of neighbouring planes are one object where they overlap. Overlaps are measured once, in
time linear in the pixels and with a few planes in memory; links are found anew from them whenever a
setting changes, without the pixels. numpy and scipy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.volume.assignment import best_pairs
from napari_tinysam.volume.overlaps import MOST_GAP as MOST_GAP
from napari_tinysam.volume.overlaps import PlaneOverlaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

#: Two objects of a plane "cover" one of the next if that much of it lies in them.
_COVERED = 0.6

#: A part of a covered object holds at least that share of it.
_PART = 0.15


@dataclass(frozen=True)
class LinkSettings:
    """When objects of two planes are the same.

    Parameters
    ----------
    overlap : float
        Least intersection over union of the same object in neighbouring planes, above 0 and at most
        1.
    gap : int
        Planes that an object may be missing in, 0 to 3.
    gap_overlap : float
        Least intersection over union across such a gap.
    least_planes : int
        Objects that show in fewer planes are left out.
    growth : float
        Where one object lies over several of the next plane, and is larger than the one it fits
        best by more than this factor, it is another object: two that touch in a plane.
    tips : float
        A smaller object that shows in one plane only, and of which at least this share lies in the
        end of another, is its tip: where an object ends its outline shrinks too fast for the
        overlap. 1: there are none.
    """

    overlap: float = 0.25
    gap: int = 1
    gap_overlap: float = 0.35
    least_planes: int = 2
    growth: float = 2.5
    tips: float = 0.6

    def __post_init__(self) -> None:
        for name in ("overlap", "gap_overlap"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is above 0 and at most 1.")
        if not 0 <= self.gap <= MOST_GAP:
            raise ValueError(f"gap lies between 0 and {MOST_GAP}; got {self.gap}.")
        if self.least_planes < 1:
            raise ValueError(f"least_planes is at least 1; got {self.least_planes}.")
        if self.growth < 1:
            raise ValueError(f"growth is at least 1; got {self.growth}.")
        if not 0 < self.tips <= 1:
            raise ValueError(f"tips is above 0 and at most 1; got {self.tips}.")


@dataclass(frozen=True, eq=False)
class Links:
    """Which objects of planes are one object of the stack.

    Attributes
    ----------
    ids : list of ndarray of int
        For each plane, (N,) labels in the plane.
    objects : list of ndarray of int32
        For each plane, (N,) labels in the stack, from 1, without gaps; 0 for those left out.
    count : int
        Number of objects of the stack.
    """

    ids: list[npt.NDArray[np.int64]]
    objects: list[npt.NDArray[np.int32]]
    count: int

    def relabelled(
        self, plane: int, labels: npt.NDArray[np.integer[Any]]
    ) -> npt.NDArray[np.int32]:
        """Return the labels of a plane, (H, W), as labels of the stack, int32."""
        ids, objects = self.ids[plane], self.objects[plane]
        if not len(ids):
            return np.zeros(labels.shape, np.int32)
        if ids[-1] <= 4 * labels.size + 1000:  # a table
            table = np.zeros(int(ids[-1]) + 1, np.int32)
            table[ids] = objects
            return np.asarray(table[labels])
        place = np.searchsorted(ids, labels).clip(max=len(ids) - 1)
        return np.where(ids[place] == labels, objects[place], 0).astype(np.int32)

    def spans(self) -> npt.NDArray[np.int64]:
        """Return (count, 2) first and last plane of each object."""
        spans = np.full((self.count, 2), -1, np.int64)
        for plane, objects in enumerate(self.objects):
            shown = objects[objects > 0] - 1
            spans[shown[spans[shown, 0] < 0], 0] = plane
            spans[shown, 1] = plane
        return spans


#: The places of one object, ascending by plane: (plane, index into the objects of the plane).
Chain = list[tuple[int, int]]


def link(overlaps: PlaneOverlaps, settings: LinkSettings | None = None) -> Links:
    """Find the objects of a stack.

    Parameters
    ----------
    overlaps : PlaneOverlaps
    settings : LinkSettings, optional

    Returns
    -------
    Links
        Objects of the stack are numbered by their first plane, then by their label there.
    """
    settings = settings or LinkSettings()
    kept = [
        chain
        for chain in chained(overlaps, settings)
        if len(chain) >= settings.least_planes
    ]
    return numbered(overlaps, kept)


def linked_stack(
    planes: npt.NDArray[np.integer[Any]], settings: LinkSettings | None = None
) -> npt.NDArray[np.int32]:
    """Link the objects of the planes of a small stack.

    Parameters
    ----------
    planes : ndarray of int, (Z, H, W)
        Labels of single planes.
    settings : LinkSettings, optional

    Returns
    -------
    ndarray of int32, (Z, H, W)
        Labels of the stack.
    """
    links = link(PlaneOverlaps.of(planes), settings)
    stack = [links.relabelled(number, plane) for number, plane in enumerate(planes)]
    return np.stack(stack) if stack else np.zeros(planes.shape, np.int32)


def numbered(overlaps: PlaneOverlaps, chains: Sequence[Chain]) -> Links:
    """Give chains numbers from 1, in their order; objects in none of them are left out."""
    objects = [np.zeros(len(ids), np.int32) for ids in overlaps.ids]
    for number, chain in enumerate(chains, start=1):
        for plane, index in chain:
            objects[plane][index] = number
    return Links(overlaps.ids, objects, len(chains))


def chained(overlaps: PlaneOverlaps, settings: LinkSettings) -> list[Chain]:
    """Chain the objects of planes, each in one chain.

    Between neighbouring planes the pairs with the largest sum of IoU are chosen, each object in one
    pair at most (the assignment problem; Kuhn, Naval Research Logistics 1955); then, with larger
    gaps one after the other, pairs of objects that have no successor and no predecessor; then the
    tips of objects.

    Returns
    -------
    list of Chain
        By their first plane, then by their label there. Also those of a single plane.
    """
    following = [np.full(len(ids), -1, np.intp) for ids in overlaps.ids]
    distance = [np.zeros(len(ids), np.intp) for ids in overlaps.ids]
    begins = [np.ones(len(ids), bool) for ids in overlaps.ids]
    for step in range(1, settings.gap + 2):
        least = settings.overlap if step == 1 else settings.gap_overlap
        for first in range(len(overlaps) - step):
            second = first + step
            if (first, second) not in overlaps.pairs:
                continue
            pairs, _ = overlaps.pairs[first, second]
            iou = overlaps.iou(first, second)
            open_ends = (following[first][pairs[:, 0]] < 0) & begins[second][
                pairs[:, 1]
            ]
            usable = (iou >= least) & open_ends
            usable &= ~_touching(overlaps, first, second, settings)
            one, other = pairs[usable].T
            chosen = best_pairs(one, other, iou[usable])
            following[first][one[chosen]] = other[chosen]
            distance[first][one[chosen]] = step
            begins[second][other[chosen]] = False
    if settings.tips < 1:
        _add_tips(overlaps, settings, following, distance, begins)
    chains = []
    for plane, starts in enumerate(begins):
        for index in np.flatnonzero(starts).tolist():
            chain, here, at = [], plane, index
            while at >= 0:
                chain.append((here, at))
                here, at = (
                    here + int(distance[here][at]),
                    int(following[here][at]),
                )
            chains.append(chain)
    return chains


def _add_tips(
    overlaps: PlaneOverlaps,
    settings: LinkSettings,
    following: list[npt.NDArray[np.intp]],
    distance: list[npt.NDArray[np.intp]],
    begins: list[npt.NDArray[np.bool_]],
) -> None:
    """Link objects of one plane with objects that end beside them."""
    single = [start & (end < 0) for start, end in zip(begins, following, strict=True)]
    for first in range(len(overlaps) - 1):
        second = first + 1
        pairs, common = overlaps.pairs[first, second]
        one, other = pairs.T
        sizes = overlaps.areas[first][one], overlaps.areas[second][other]
        alone = single[first][one], single[second][other]
        share = common / np.maximum(np.minimum(*sizes), 1)
        usable = (share >= settings.tips) & (alone[0] != alone[1])
        usable &= np.where(alone[0], sizes[0] <= sizes[1], sizes[1] <= sizes[0])
        usable &= (following[first][one] < 0) & begins[second][other]
        usable &= ~_touching(overlaps, first, second, settings)
        one, other = one[usable], other[usable]
        chosen = best_pairs(one, other, share[usable])
        following[first][one[chosen]] = other[chosen]
        distance[first][one[chosen]] = 1
        begins[second][other[chosen]] = False


def _touching(
    overlaps: PlaneOverlaps, first: int, second: int, settings: LinkSettings
) -> npt.NDArray[np.bool_]:
    """(K,) whether a pair is an object and one that also covers its neighbour, much larger."""
    pairs, common = overlaps.pairs[first, second]
    areas = [overlaps.areas[plane] for plane in (first, second)]
    found = np.zeros(len(pairs), bool)
    for whole, part in ((0, 1), (1, 0)):
        size, small = areas[whole][pairs[:, whole]], areas[part][pairs[:, part]]
        large = size > settings.growth * small
        share = common / np.maximum(size, 1)
        # Parts lie mostly in the whole, and hold some of it.
        is_part = (2 * common > small) & (share >= _PART)
        count = len(areas[whole])
        parts = np.bincount(pairs[:, whole], is_part, count)
        covered = np.bincount(pairs[:, whole], share * is_part, count)
        joined = (parts >= 2) & (covered >= _COVERED)
        found |= large & joined[pairs[:, whole]]
    return found
