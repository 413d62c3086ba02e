"""Proposals of overlapping looks become those of the plane: each object once, in one piece.

The rules, in this order:

1. A proposal that ends clear of the sides at which its look is cut is whole. It is kept if its
   centre of mass lies in the look's core: cores cover the plane once. Two looks may differ about
   where the centre is; if both claim an object, the higher score wins, and a proposal that no
   core claims is kept where the kept ones cover less than half of it.
2. A proposal that reaches such a side is a fragment. It is dropped if a kept proposal of another
   look is the same object.
3. Fragments of different looks that are the same object form a group: the object is their union,
   or what the decoder says of it in a look around all of it (`napari_tinysam.everything.tiled`).
4. A fragment that is like no other is such a group by itself if its centre of mass lies in the
   look's core, or in one that has not been searched.

Two proposals of different looks are the same object if they agree in the strip that both looks
show: IoU at least `SAME`, or `HELD` of the smaller one is in the other. The result depends neither
on the order of the looks nor on what was searched elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_tinysam.boxes import meeting_boxes
from napari_tinysam.everything.proposals import Proposal
from napari_tinysam.masks import BoxedMask, bounding_slices

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.looks import Look, LookGrid

#: IoU of two masks in the strip that both looks show, from which they are one object.
SAME = 0.5

#: Share of the smaller of two masks in that strip that lies in the other, from which they are one
#: object: at a border, one look may see less of it. Not if the other is many times as large, or a
#: background would join all that lies on it.
HELD, MOST_LARGER = 0.7, 4.0

#: A proposal whose pixels are covered up to this share is something that is known.
_COVERED = 0.5

#: A mask that ends within so many pixels of the frame of a cut side may be cut there.
_CUT = 2.0

#: Objects that reach over more than this many looks are not joined: their mask would take as much
#: memory as the plane.
_MOST_LOOKS = 8


class Place(NamedTuple):
    """Which of a look's proposals is meant."""

    look: Look
    number: int


@dataclass(frozen=True, eq=False)
class Group:
    """Fragments of one object.

    Attributes
    ----------
    places : tuple of Place
        Where they come from; identifies the group.
    whole : Proposal
        Their union.
    """

    places: tuple[Place, ...]
    whole: Proposal


@dataclass(frozen=True, eq=False)
class Joined:
    """Proposals of a plane.

    Attributes
    ----------
    kept : list of Proposal
        As one look shows them.
    groups : list of Group
        Objects that no look shows whole.
    """

    kept: list[Proposal]
    groups: list[Group]


def claims(proposal: Proposal, core: Look) -> bool:
    """Whether the centre of mass of a proposal lies in the core of its look."""
    x, y = proposal.mask.centre
    # The middle of a pixel is half a pixel from where it begins.
    return core.y0 <= y + 0.5 < core.y1 and core.x0 <= x + 0.5 < core.x1


def is_cut(proposal: Proposal, look: Look, shape: tuple[int, int]) -> bool:
    """Whether a proposal reaches a side at which its look is cut."""
    return look.clearance(proposal.box, shape) < max(1.0, _CUT * look.scale)


def joined(found: Mapping[Look, Sequence[Proposal]], grid: LookGrid) -> Joined:
    """Join the proposals of looks.

    Parameters
    ----------
    found : mapping of Look to sequence of Proposal
        Of the looks that were searched, in any order; placed in the plane.
    grid : LookGrid
        The looks.

    Returns
    -------
    Joined
    """
    finds = _Finds.of(found, grid)
    pairs = _Pairs.of(finds)
    kept = _whole(finds, pairs)
    fragments = finds.cut.copy()
    known = pairs.same & (kept[pairs.one] != kept[pairs.other])
    fragments[pairs.one[known]] = fragments[pairs.other[known]] = False
    groups: list[Group] = []
    for members in _grouped(finds, pairs, fragments, grid):
        places = tuple(finds.places[n] for n in members)
        fragment = finds.proposals[members[0]]
        if len(members) > 1:
            groups.append(Group(places, _union([finds.proposals[n] for n in members])))
        elif finds.claimed[members[0]] or _unsearched(fragment, found, grid):
            groups.append(Group(places, fragment))
    return Joined([finds.proposals[n] for n in np.flatnonzero(kept)], groups)


@dataclass(frozen=True, eq=False)
class _Finds:
    """All proposals in an order that does not depend on that of the looks."""

    places: list[Place]
    proposals: list[Proposal]
    boxes: npt.NDArray[np.int64]
    looks: npt.NDArray[np.int64]  # (N, 4) y0, x0, y1, x1
    areas: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    claimed: npt.NDArray[np.bool_]
    cut: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, found: Mapping[Look, Sequence[Proposal]], grid: LookGrid) -> _Finds:
        looks = sorted(found)
        places = [Place(look, n) for look in looks for n in range(len(found[look]))]
        proposals = [found[look][number] for look, number in places]
        pairs = list(zip(proposals, (look for look, _ in places), strict=True))
        cores = {look: grid.core(look) for look in looks}
        return cls(
            places,
            proposals,
            np.array([p.box for p in proposals], np.int64).reshape(-1, 4),
            np.array([look for look, _ in places], np.int64).reshape(-1, 4),
            np.array([p.area for p in proposals], np.int64),
            np.array([p.score for p in proposals], np.float64),
            np.array([claims(p, cores[look]) for p, look in pairs], bool),
            np.array([is_cut(p, look, grid.shape) for p, look in pairs], bool),
        )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of proposals of different looks that share pixels."""

    one: npt.NDArray[np.intp]
    other: npt.NDArray[np.intp]
    pixels: npt.NDArray[np.int64]
    same: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, finds: _Finds) -> _Pairs:
        one, other = meeting_boxes(finds.boxes)
        apart = (finds.looks[one] != finds.looks[other]).any(axis=1)
        one, other = one[apart], other[apart]
        pixels = np.zeros(len(one), np.int64)
        same = np.zeros(len(one), bool)
        masks = [proposal.mask for proposal in finds.proposals]
        low = np.maximum(finds.looks[one, :2], finds.looks[other, :2])
        high = np.minimum(finds.looks[one, 2:], finds.looks[other, 2:])
        strips = np.concatenate([low, high], axis=1).tolist()
        for number, (a, b) in enumerate(zip(one.tolist(), other.tolist(), strict=True)):
            shared = masks[a].shared_area(masks[b])
            if shared:
                pixels[number] = shared
                same[number] = _alike(masks[a], masks[b], shared, strips[number])
        there = pixels > 0
        return cls(one[there], other[there], pixels[there], same[there])


def _alike(one: BoxedMask, other: BoxedMask, shared: int, strip: list[int]) -> bool:
    """Whether two masks agree in a strip, y0, x0, y1, x1; all they share lies in it."""
    y0, x0, y1, x1 = strip
    sizes = []
    for mask in (one, other):
        top, left = max(y0 - mask.y0, 0), max(x0 - mask.x0, 0)
        inside = mask.mask[top : max(y1 - mask.y0, 0), left : max(x1 - mask.x0, 0)]
        sizes.append(int(np.count_nonzero(inside)))
    smaller, larger = min(sizes), max(sizes)
    if shared >= SAME * (smaller + larger - shared):
        return True
    return shared >= HELD * smaller and larger <= MOST_LARGER * smaller


def _whole(finds: _Finds, pairs: _Pairs) -> npt.NDArray[np.bool_]:
    """Rule 1: which of the proposals that are not cut are kept."""
    candidates = ~finds.cut
    kept = candidates.copy()
    both = candidates[pairs.one] & candidates[pairs.other]
    one, other = pairs.one[both], pairs.other[both]
    pixels, same = pairs.pixels[both], pairs.same[both]
    # Claimed before unclaimed, then by score, then by place.
    order = np.lexsort((np.arange(len(kept)), -finds.scores, ~finds.claimed))
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    first = np.where(rank[one] < rank[other], one, other)
    second = one + other - first
    covered = np.zeros(len(kept), np.int64)
    # The worse one of a pair is decided once all better ones are.
    order = np.argsort(rank[second], kind="stable")
    for number, better, worse in zip(
        order.tolist(), first[order].tolist(), second[order].tolist(), strict=True
    ):
        if not kept[better]:
            continue
        if same[number]:
            kept[worse] = False
        elif not finds.claimed[worse]:
            covered[worse] += pixels[number]
            if covered[worse] >= _COVERED * finds.areas[worse]:
                kept[worse] = False
    return kept


def _grouped(
    finds: _Finds, pairs: _Pairs, fragments: npt.NDArray[np.bool_], grid: LookGrid
) -> list[list[int]]:
    """Rule 3: numbers of the fragments of each object, also of those with one."""
    parent = np.arange(len(fragments))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = int(parent[number])
        return number

    boxes = {n: finds.boxes[n] for n in np.flatnonzero(fragments).tolist()}
    most = _MOST_LOOKS * grid.side
    linked = pairs.same & fragments[pairs.one] & fragments[pairs.other]
    for a, b in zip(
        pairs.one[linked].tolist(), pairs.other[linked].tolist(), strict=True
    ):
        one, other = sorted((root(a), root(b)))
        low = np.minimum(boxes[one][:2], boxes[other][:2])
        high = np.maximum(boxes[one][2:], boxes[other][2:])
        if one != other and (high - low).max() < most:
            parent[other] = one
            boxes[one] = np.concatenate([low, high])
    groups: dict[int, list[int]] = {}
    for number in boxes:
        groups.setdefault(root(number), []).append(number)
    return list(groups.values())


def _union(fragments: list[Proposal]) -> Proposal:
    """Make one proposal of fragments; the score is their mean, weighted by area."""
    mask = _united([fragment.mask for fragment in fragments])
    own = [each.territory for each in fragments if each.territory is not None]
    largest = max(fragments, key=lambda fragment: fragment.area)
    weights = np.array([fragment.area for fragment in fragments], np.float64)
    scores = np.array([fragment.score for fragment in fragments], np.float64)
    return Proposal(
        mask,
        float(np.average(scores, weights=weights)),
        largest.point,
        largest.source,
        min(fragment.stability for fragment in fragments),
        _united(own) if own else None,
    )


def _united(masks: list[BoxedMask]) -> BoxedMask:
    rows, columns = bounding_slices(masks)
    union = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
    for mask in masks:
        ys, xs = mask.slices
        part = (
            slice(ys.start - rows.start, ys.stop - rows.start),
            slice(xs.start - columns.start, xs.stop - columns.start),
        )
        union[part] |= mask.mask
    return BoxedMask(union, rows.start, columns.start, masks[0].shape)


def _unsearched(proposal: Proposal, searched: Collection[Look], grid: LookGrid) -> bool:
    """Whether the look that would claim a proposal has not been searched."""
    x, y = proposal.mask.centre
    return grid.around((x, y)) not in searched
