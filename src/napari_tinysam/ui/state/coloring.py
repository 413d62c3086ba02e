"""Colours of proposals: a proposal keeps its own, and neighbours have different ones.

The value of a pixel holds both the proposal and its colour: for proposal n it is
n × (number of colours) + colour + 1. Napari cycles through a Labels layer's colours, so a proposal
keeps its colour whatever else is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_tinysam.boxes import meeting_boxes
from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.everything import Proposals

#: Okabe and Ito's colours, which colour-blind eyes tell apart, without black.
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")

#: Of the most alike to the least, in steps of likeness from 1 to ½: viridis, from yellow on.
LIKENESS = (
    *("#fde725", "#a0da39", "#4ac16d", "#1fa187"),
    *("#277f8e", "#365c8d", "#46327e", "#440154"),
)

#: Proposals are neighbours where there are at most this many pixels between them.
_GAP = 3

#: Of two proposals that share more of the smaller one, only one is shown: same object, or a part.
_EXCLUDING = 0.5


Number = TypeVar("Number", int, "npt.NDArray[np.intp]")


def value_of(number: Number, color: Number, palette: int = len(PALETTE)) -> Number:
    """Return the value of a proposal's pixels in the layer; of many as arrays.

    Parameters
    ----------
    number, color : int or ndarray of int
    palette : int
        How many colours the layer has.
    """
    return number * palette + color + 1


def likeness_colors(
    likeness: npt.NDArray[np.floating],
) -> npt.NDArray[np.intp]:
    """Return the colour of each proposal by its likeness, 0–1: indices into `LIKENESS`."""
    last = len(LIKENESS) - 1
    steps = np.floor(2 * (1 - likeness) * len(LIKENESS))
    return np.asarray(np.clip(steps, 0, last), np.intp)


def choose_colors(proposals: Proposals) -> npt.NDArray[np.intp]:
    """Choose a colour for each proposal.

    The best proposal chooses first. Each takes the rarest colour that no neighbour has or, if the
    neighbours have all colours, that of the farthest one. Proposals of one object share a colour.

    Returns
    -------
    ndarray of int, (N,)
        Indices into `PALETTE`.
    """
    count = len(proposals)
    colors = np.full(count, -1, np.intp)
    used = np.zeros(len(PALETTE), np.int64)
    boxes = proposals.boxes
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    same, excluded = _relations(proposals)
    first, second = meeting_boxes(boxes, _GAP)
    starts = np.searchsorted(second, np.arange(count + 1))
    for number in range(count):
        if number in same:
            colors[number] = colors[same[number]]
            continue
        near = first[starts[number] : starts[number + 1]]
        near = near[~np.isin(near, excluded.get(number, []))]
        distance = np.full(len(PALETTE), np.inf)
        if len(np.unique(colors[near])) == len(PALETTE):
            # Their boxes are near; are they? This takes longer.
            around = _grown(proposals[number].mask)
            near = near[
                [around.shared_area(proposals[n].mask) > 0 for n in near.tolist()]
            ]
        apart = np.hypot(*(middles[near] - middles[number]).T)
        np.minimum.at(distance, colors[near], apart)
        free = np.isinf(distance)
        if free.any():
            color = int(np.where(free, used, used.max() + 1).argmin())
        else:
            color = int(distance.argmax())
        colors[number] = color
        used[color] += 1
    return colors


def _grown(mask: BoxedMask) -> BoxedMask:
    """Return a mask with all pixels near it; its rectangle may reach beyond the image."""
    from scipy.ndimage import maximum_filter

    grown = maximum_filter(np.pad(mask.mask, _GAP), 2 * _GAP + 1)
    return BoxedMask(grown, mask.y0 - _GAP, mask.x0 - _GAP, mask.shape)


def _relations(proposals: Proposals) -> tuple[dict[int, int], dict[int, list[int]]]:
    """Which proposals are of the same object, and which are never shown together.

    Returns
    -------
    dict of int to int
        From a proposal to the best one of its object, where that is another.
    dict of int to list of int
        From a proposal to the better ones that exclude it.
    """
    shared, areas = proposals.shared, proposals.areas
    first, second = areas[shared.better], areas[shared.worse]
    excludes = shared.pixels > _EXCLUDING * np.minimum(first, second)
    overlap = shared.pixels / (first + second - shared.pixels)
    same: dict[int, int] = {}
    excluded: dict[int, list[int]] = {}
    for better, worse, iou in zip(
        shared.better[excludes].tolist(),
        shared.worse[excludes].tolist(),
        overlap[excludes].tolist(),
        strict=True,
    ):
        excluded.setdefault(worse, []).append(better)
        if iou > _EXCLUDING:
            same.setdefault(worse, better)
    return same, excluded
