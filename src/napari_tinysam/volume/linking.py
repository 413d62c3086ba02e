"""Objects of single planes become objects of the stack.

The objects of neighbouring planes are one object where they overlap. Overlaps are measured once, in
time linear in the pixels and with a few planes in memory; links are found anew from them whenever a
setting changes, without the pixels. numpy and scipy only.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.volume.assignment import best_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

#: Planes that an object may be missing in: overlaps are measured across as many.
MOST_GAP = 3

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
class PlaneOverlaps:
    """The objects of the planes of a stack, and how they overlap.

    Attributes
    ----------
    ids : list of ndarray of int
        For each plane, (N,) labels of its objects, ascending.
    areas : list of ndarray of int
        For each plane, (N,) their pixels.
    pairs : dict
        For planes p < q, (K, 2) indices into `ids` of p and q, and (K,) common pixels.
    """

    ids: list[npt.NDArray[np.int64]] = field(default_factory=list)
    areas: list[npt.NDArray[np.int64]] = field(default_factory=list)
    pairs: dict[tuple[int, int], tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]] = (
        field(default_factory=dict)
    )

    @classmethod
    def of(
        cls, planes: Iterable[npt.NDArray[np.integer[Any]]], gap: int = MOST_GAP
    ) -> PlaneOverlaps:
        """Measure the planes of a stack, one after the other.

        Parameters
        ----------
        planes : iterable of ndarray of int, (H, W)
            Labels; 0 is the background. The same label in two planes says nothing.
        gap : int
            The most planes that an object may be missing in.

        Raises
        ------
        ValueError
            If the planes differ in size.
        """
        measuring = OverlapMeasuring(gap)
        for plane in planes:
            measuring.add(plane)
        return measuring.overlaps

    def __len__(self) -> int:
        """Return the number of planes."""
        return len(self.ids)

    def iou(self, first: int, second: int) -> npt.NDArray[np.float64]:
        """Return (K,) intersection over union of the pairs of two planes."""
        pairs, common = self.pairs[first, second]
        union = self.areas[first][pairs[:, 0]] + self.areas[second][pairs[:, 1]]
        return np.asarray(common / np.maximum(union - common, 1), np.float64)


class OverlapMeasuring:
    """Measures the planes of a stack one at a time, for those who cannot wait for all of them.

    Parameters
    ----------
    gap : int
        The most planes that an object may be missing in.

    Attributes
    ----------
    overlaps : PlaneOverlaps
        Of the planes so far.
    """

    def __init__(self, gap: int = MOST_GAP) -> None:
        self.overlaps = PlaneOverlaps()
        self._shape: tuple[int, ...] | None = None
        #: Of the last planes, (H * W,) places of their objects in `overlaps.ids`, from 1.
        self._before: deque[npt.NDArray[np.int32]] = deque(maxlen=gap + 1)

    def add(self, plane: npt.NDArray[np.integer[Any]]) -> None:
        """Measure the next plane, (H, W) labels; the last ones are kept.

        Raises
        ------
        ValueError
            If its size is not that of the planes before, or a label is negative.
        TypeError
            If the labels are not integers.
        """
        overlaps, number = self.overlaps, len(self.overlaps)
        if plane.dtype.kind not in "iub":
            raise TypeError(f"Labels are whole numbers; got {plane.dtype}.")
        if self._shape is not None and plane.shape != self._shape:
            raise ValueError(
                f"Planes of one size are needed; plane {number} has {plane.shape}, the one "
                f"before {self._shape}."
            )
        self._shape = plane.shape
        flat = plane.ravel()
        # Only pixels of objects are looked at: most have none.
        where = np.flatnonzero(flat)
        ids, index, areas = _counted(flat[where].astype(np.int64))
        overlaps.ids.append(ids)
        overlaps.areas.append(areas)
        for back, other in enumerate(reversed(self._before), start=1):
            first = number - back
            overlaps.pairs[first, number] = _common(
                other[where] - 1, index, len(overlaps.ids[first]), len(ids)
            )
        dense = np.zeros(flat.size, np.int32)
        dense[where] = index + 1
        self._before.append(dense)


def _counted(
    labels: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Return (N,) labels, where each of the given ones is among them, and how many they are."""
    if not labels.size:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing.astype(np.intp), nothing
    if labels.min() < 0:
        raise ValueError(f"Labels are not negative; there is {labels.min()}.")
    highest = int(labels.max())
    if highest > 4 * labels.size + 1000:  # a table would be too large
        ids, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return ids, index.astype(np.intp), counts.astype(np.int64)
    counts = np.bincount(labels)
    ids = np.flatnonzero(counts).astype(np.int64)
    place = np.zeros(len(counts), np.intp)
    place[ids] = np.arange(len(ids))
    return ids, place[labels], counts[ids].astype(np.int64)


def _common(
    one: npt.NDArray[np.integer[Any]],
    other: npt.NDArray[np.intp],
    rows: int,
    columns: int,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Count the pixels that objects of two planes share.

    Parameters
    ----------
    one, other : ndarray of int, (P,)
        At each pixel the object of the one plane, or -1, and that of the other.
    rows, columns : int
        How many objects the planes have.

    Returns
    -------
    pairs : ndarray of intp, (K, 2)
        Ascending.
    common : ndarray of int64, (K,)
    """
    both = one >= 0
    keys = one[both].astype(np.int64) * columns + other[both]
    if rows * columns <= 4 * len(keys) + 1000:
        counts = np.bincount(keys, minlength=rows * columns)
        found = np.flatnonzero(counts)
        counts = counts[found]
    else:
        found, counts = np.unique(keys, return_counts=True)
    pairs = np.stack(np.divmod(found, max(columns, 1)), axis=1).astype(np.intp)
    return pairs, counts.astype(np.int64)


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
