"""Where an object of a movie may have divided. numpy and scipy only.

A division is two objects of a frame about where one was in the frame before, together of about its
size, and of about the same size. At least one of them is new. Each of these conditions is a number
between 0 and 1; their product is the confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.volume.linking import Chain
    from napari_tinysam.volume.measuring import MeasuredFrames

#: Divisions with less confidence are not mentioned.
LEAST = 0.02

#: Daughters are looked for within as many diameters of the mother.
_REACH = 1.5


@dataclass(frozen=True)
class Candidate:
    """A possible division.

    Attributes
    ----------
    mother : int
        The chain of the mother; it has a place in the frame before.
    daughters : (int, int)
        The chains of the daughters. The first may be the mother's own, which goes on.
    frame : int
        The first frame of the daughters.
    confidence : float
        0 to 1.
    """

    mother: int
    daughters: tuple[int, int]
    frame: int
    confidence: float


def possible_divisions(
    measured: MeasuredFrames, chains: Sequence[Chain]
) -> list[Candidate]:
    """Find divisions, the surest of each object that may have divided.

    Parameters
    ----------
    measured : MeasuredFrames
    chains : sequence of Chain
        From `linking.chained`, or by centres.

    Returns
    -------
    list of Candidate
        Ascending by frame. No two have a daughter or a mother's frame in common.
    """
    at = {place: number for number, chain in enumerate(chains) for place in chain}
    places = [dict(chain) for chain in chains]
    starts: dict[int, list[int]] = {}
    for number, chain in enumerate(chains):
        starts.setdefault(chain[0][0], []).append(number)
    found: list[_Found] = []
    for frame in range(1, len(measured)):
        new = starts.get(frame, [])
        near = _near(measured, frame, [chains[number][0][1] for number in new])
        for mother, rows in near.items():
            number = at[frame - 1, mother]
            around = [new[row] for row in rows]
            for pair in _pairs(places[number], number, around, frame):
                confidence = _confidence(
                    measured, (frame - 1, mother), [places[n][frame] for n in pair]
                )
                if confidence >= LEAST:
                    confidence *= _lasting(measured, [chains[n] for n in pair], frame)
                if confidence >= LEAST:
                    candidate = Candidate(number, pair, frame, confidence)
                    where = [measured.places[frame - 1][mother].tolist()]
                    where += sorted(
                        measured.places[frame][places[n][frame]].tolist() for n in pair
                    )
                    found.append(_Found(candidate, (frame - 1, mother), where))
    return _surest(found)


def _near(
    measured: MeasuredFrames, frame: int, objects: list[int]
) -> dict[int, list[int]]:
    """Find, for objects of the frame before, which of some objects are near.

    Returns
    -------
    dict of int to list of int
        Rows of `objects`, by the index of the object before.
    """
    from scipy.spatial import cKDTree

    before, reach = measured.places[frame - 1], measured.diameters[frame - 1] * _REACH
    if not len(before) or not objects:
        return {}
    tree = cKDTree(measured.places[frame][objects])
    rows = tree.query_ball_point(before, reach)
    return {index: sorted(each) for index, each in enumerate(rows) if each}


def _pairs(
    mother: dict[int, int], number: int, near: list[int], frame: int
) -> list[tuple[int, int]]:
    """Pair chains that may be daughters: the mother goes on as one, or ends and both are new."""
    if frame in mother:
        return [(number, other) for other in near if other != number]
    return list(combinations(near, 2)) if max(mother) < frame else []


def _confidence(
    measured: MeasuredFrames, mother: tuple[int, int], daughters: list[int]
) -> float:
    """How well two objects of a frame fit one of the frame before."""
    before, index = mother
    frame = before + 1
    area = float(measured.overlaps.areas[before][index])
    areas = measured.overlaps.areas[frame][daughters].astype(float)
    diameter = float(measured.diameters[before][index])
    away = measured.places[frame][daughters] - measured.places[before][index]
    furthest = float(np.linalg.norm(away, axis=1).max()) / diameter
    middle = float(np.linalg.norm(away.mean(axis=0))) / diameter
    total = float(areas.sum()) / area
    even = float(areas.min() / areas.max())
    return (
        _ramp(furthest, _REACH, 0.8)
        * _ramp(middle, 0.8, 0.3)
        * min(_ramp(total, 0.4, 0.7), _ramp(total, 2.2, 1.6))
        * _ramp(even, 0.2, 0.6)
    )


def _lasting(measured: MeasuredFrames, daughters: Sequence[Chain], frame: int) -> float:
    """Doubt daughters of a frame or two: those are often mistakes of the segmentation."""
    shown = min(sum(each >= frame for each, _ in chain) for chain in daughters)
    return min(1.0, shown / min(3, len(measured) - frame))


def _ramp(value: float, worst: float, best: float) -> float:
    """0 at and beyond `worst`, 1 at and beyond `best`."""
    return min(1.0, max(0.0, (value - worst) / (best - worst)))


class _Found(NamedTuple):
    """A candidate, the place of the mother, and where mother and daughters are."""

    candidate: Candidate
    mother: tuple[int, int]
    where: list[list[float]]


def _surest(found: list[_Found]) -> list[Candidate]:
    """Choose the surest; among equals places decide, not the order of labels."""
    mothers: set[tuple[int, int]] = set()
    daughters: set[tuple[int, int]] = set()
    kept = []
    order = sorted(
        found,
        key=lambda one: (
            -round(one.candidate.confidence, 9),
            one.candidate.frame,
            one.where,
        ),
    )
    for each, mother, _ in order:
        # A chain that goes on is a daughter at one division, and a mother at a later one.
        both = {(number, each.frame) for number in each.daughters}
        if mother not in mothers and not both & daughters:
            mothers.add(mother)
            daughters |= both
            kept.append(each)
    return sorted(kept, key=lambda each: each.frame)
