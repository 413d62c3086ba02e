"""From overlapping proposals to labels: which proposals become objects, and who gets a pixel.

The rules, in this order:

1. Proposals with a score below the confidence or a size outside the limits are left out.
2. Of two proposals that are nearly the same (IoU above `LabelSettings.same`), the better one is
   kept.
3. Nested proposals exclude each other: a proposal holds another one if at least `NESTED` of the
   pixels of that one lie in it. The score of the whole is compared with the sum of the scores of
   its parts, each weighted by its share of the whole's area to a power that `LabelSettings.parts`
   sets. At 0 the whole always wins; at ½ each part is weighted by its area; at 1 each part weighs
   as much as the whole.
4. The remaining proposals are drawn, the best first, and take free pixels
   (`napari_tinysam.everything.shapes`). In its own territory (the object head's segmentation) a
   proposal also takes the pixels of others. A proposal with less than `1 − overlap` of its pixels
   left is refused.
5. The largest connected piece of each object is kept, unless all pieces are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.everything.shapes import Shapes, TakenPixels

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything.proposals import Proposals

#: A proposal is part of another one if at least this share of its pixels is.
NESTED = 0.8

#: Larger exponents make no difference: parts no longer have any weight.
_LARGEST_POWER = 64.0


@dataclass(frozen=True)
class LabelSettings:
    """How proposals become labels; the sliders of the dock set these values.

    Attributes
    ----------
    confidence : float
        0–1. Proposals with a lower score are left out.
    least_area, largest_area : float
        In pixels of the image.
    overlap : float
        0–1, the share of a proposal that others may cover before it is refused.
    parts : float
        0 prefers whole objects, 1 their parts.
    same : float
        IoU above which two proposals are the same object.
    connected : bool
        Whether only the largest connected piece of an object is kept.

    Raises
    ------
    ValueError
        If a value lies outside its range.
    """

    confidence: float = 0.5
    least_area: float = 0.0
    largest_area: float = float("inf")
    overlap: float = 0.5
    parts: float = 0.5
    same: float = 0.7
    connected: bool = True

    def __post_init__(self) -> None:
        for name in ("confidence", "overlap", "parts", "same"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies between 0 and 1.")
        if not 0 <= self.least_area <= self.largest_area:
            raise ValueError("The least area is above the largest area.")


@dataclass(frozen=True, eq=False)
class Labelling:
    """Labels, and the proposals that they come from.

    Attributes
    ----------
    labels : ndarray of int32, (H, W)
        0 is background; label k comes from proposal ``numbers[k - 1]``.
    numbers : list of int
        Numbers of the proposals that were drawn, the best first.
    """

    labels: npt.NDArray[np.int32]
    numbers: list[int]


def label_proposals(
    proposals: Proposals,
    settings: LabelSettings | None = None,
    *,
    taken: npt.NDArray[np.bool_] | None = None,
    without: frozenset[int] = frozenset(),
) -> Labelling:
    """Decide which proposals become objects and draw them.

    Parameters
    ----------
    proposals : Proposals
    settings : LabelSettings, optional
    taken : ndarray of bool, (H, W), optional
        Pixels of existing objects. Nothing is drawn there, as if they were better proposals.
    without : frozenset of int
        Numbers of rejected proposals.

    Returns
    -------
    Labelling
    """
    at = None if taken is None else TakenPixels(proposals, taken.__getitem__)
    shapes = shapes_of(proposals, settings or LabelSettings(), at, without)
    return Labelling(shapes.labels(), shapes.numbers)


def shapes_of(
    proposals: Proposals,
    settings: LabelSettings,
    taken: TakenPixels | None = None,
    without: frozenset[int] = frozenset(),
    among: npt.NDArray[np.bool_] | None = None,
) -> Shapes:
    """Decide as `label_proposals` does, and draw nothing: the pixels of each object when asked.

    Of the objects that are chosen, only those `among` these are there: an (N,) array of bool.
    """
    chosen = chosen_proposals(proposals, settings, without)
    return Shapes(
        proposals,
        chosen if among is None else [number for number in chosen if among[number]],
        overlap=settings.overlap,
        connected=settings.connected,
        taken=taken,
    )


def chosen_proposals(
    proposals: Proposals,
    settings: LabelSettings,
    without: frozenset[int] = frozenset(),
) -> list[int]:
    """Choose the proposals to draw: rules 1 to 3.

    Returns
    -------
    list of int
        Their numbers, the best first.
    """
    alive = (
        (proposals.scores >= settings.confidence)
        & (proposals.areas >= settings.least_area)
        & (proposals.areas <= settings.largest_area)
    )
    alive[list(without)] = False
    _drop_doubles(proposals, alive, settings.same)
    _drop_nested(proposals, alive, settings.parts)
    chosen: list[int] = np.flatnonzero(alive).tolist()
    return chosen


def _drop_doubles(
    proposals: Proposals, alive: npt.NDArray[np.bool_], same: float
) -> None:
    """Rule 2; changes `alive`."""
    shared, areas = proposals.shared, proposals.areas
    union = areas[shared.better] + areas[shared.worse] - shared.pixels
    double = np.flatnonzero(shared.pixels > same * union)
    # Pairs are sorted by the worse proposal, so the better one is decided earlier.
    for better, worse in zip(
        shared.better[double].tolist(), shared.worse[double].tolist(), strict=True
    ):
        if alive[better]:
            alive[worse] = False


def _drop_nested(
    proposals: Proposals, alive: npt.NDArray[np.bool_], parts: float
) -> None:
    """Rule 3; changes `alive`."""
    larger, smaller = _nested(proposals, alive)
    parent = _parents(proposals, larger, smaller)
    areas, scores = proposals.areas, proposals.scores
    power = _LARGEST_POWER if parts <= 0 else min((1 - parts) / parts, _LARGEST_POWER)
    # Others are nobody's whole and nobody's part.
    nested = np.union1d(larger, smaller).tolist()
    order = sorted(nested, key=lambda n: (areas[n], -n))
    value = scores.copy()  # of a proposal, or of its parts if those are better
    of_parts = np.zeros(len(proposals))
    for number in order:  # the smallest first: parts are valued before their whole
        value[number] = max(scores[number], of_parts[number])
        whole = parent[number]
        if whole >= 0:
            share = min(1.0, areas[number] / areas[whole])
            of_parts[whole] += value[number] * share**power
    covered = np.zeros(len(proposals), bool)  # chosen, or part of a chosen one
    for number in reversed(order):  # the largest first
        whole = parent[number]
        if whole >= 0 and covered[whole]:
            covered[number], alive[number] = True, False
        elif of_parts[number] > scores[number]:
            alive[number] = False
        else:
            covered[number] = True
    # Two proposals may hold a third without holding each other, and only one of them was its whole.
    # Of pairs that are still nested, the better one is kept; the best are decided first.
    left = alive[larger] & alive[smaller]
    better = np.minimum(larger[left], smaller[left])
    worse = np.maximum(larger[left], smaller[left])
    order = np.argsort(worse, kind="stable").tolist()
    for first, second in zip(better[order], worse[order], strict=True):
        if alive[first]:
            alive[second] = False


def _nested(
    proposals: Proposals, alive: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """List pairs of a larger proposal and a smaller one that it holds."""
    shared, areas = proposals.shared, proposals.areas
    pairs = alive[shared.better] & alive[shared.worse]
    first, second = shared.better[pairs], shared.worse[pairs]
    pixels = shared.pixels[pairs]
    larger = np.where(areas[first] >= areas[second], first, second)
    smaller = first + second - larger
    held = pixels >= NESTED * areas[smaller]
    return larger[held], smaller[held]


def _parents(
    proposals: Proposals,
    larger: npt.NDArray[np.intp],
    smaller: npt.NDArray[np.intp],
) -> npt.NDArray[np.intp]:
    """Find the smallest proposal that holds each one; −1 for none."""
    areas = proposals.areas
    parent = np.full(len(proposals), -1, np.intp)
    # The largest are written first, so the smallest is kept.
    order = np.argsort(-areas[larger], kind="stable")
    parent[smaller[order]] = larger[order]
    return parent
