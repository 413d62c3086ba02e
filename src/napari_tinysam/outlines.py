"""Masks become polygons along the edges of their pixels. numpy and scipy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import label

if TYPE_CHECKING:
    import numpy.typing as npt

#: From a corner to the next, along a pixel's upper, right, lower and left edge; (row, column).
_STEPS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])


def closed_lines(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Walk along the edges between a mask and the rest, clockwise around its pieces.

    Parameters
    ----------
    mask : ndarray of bool, (h, w)

    Returns
    -------
    list of ndarray, each (N, 2)
        Corners of pixels, (row, column); (0, 0) is the upper left corner of the first pixel. One
        line around each piece, one around each hole. Pixels that touch at a corner only are not
        connected.
    """
    inside = np.pad(mask, 1)
    within = inside[1:-1, 1:-1]
    beyond = (inside[:-2, 1:-1], inside[1:-1, 2:], inside[2:, 1:-1], inside[1:-1, :-2])
    first_corner = ((0, 0), (0, 1), (1, 1), (1, 0))  # of a pixel's upper, right … edge
    starts, ways = [], []
    for side, (outer, offset) in enumerate(zip(beyond, first_corner, strict=True)):
        corners = np.argwhere(within & ~outer) + offset
        starts.append(corners)
        ways.append(np.full(len(corners), side))
    start, way = np.concatenate(starts), np.concatenate(ways)
    if not len(start):
        return []
    columns = mask.shape[1] + 1
    keys = (start[:, 0] * columns + start[:, 1]) * 4 + way
    order = np.argsort(keys)
    start, way, keys = start[order], way[order], keys[order]
    end = start + _STEPS[way]
    ends = (end[:, 0] * columns + end[:, 1]) * 4
    following = np.zeros(len(keys), np.intp)
    # Turning right comes last and so wins: where pixels touch at a corner, it stays at its pixel.
    for turn in (3, 0, 1):
        wanted = ends + (way + turn) % 4
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        following = np.where(keys[found] == wanted, found, following)
    return [start[line] for line in _cycles(following.tolist())]


def polygons(mask: npt.NDArray[np.bool_]) -> list[list[npt.NDArray[np.int64]]]:
    """Return the polygons that cover exactly the pixels of a mask.

    Parameters
    ----------
    mask : ndarray of bool, (h, w)

    Returns
    -------
    list of list of ndarray, each (N, 2)
        For each connected piece its outer line, then those of its holes: corners of pixels as
        (x, y), not closed. (0, 0) is the upper left corner of the first pixel.
    """
    pieces, count = label(mask)
    found = []
    for piece in range(1, count + 1):
        lines = closed_lines(pieces == piece)
        lines.sort(key=lambda line: -int(np.ptp(line[:, 0])) * int(np.ptp(line[:, 1])))
        found.append([_turns(line)[:, ::-1] for line in lines])
    return found


def _turns(line: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Leave out the corners at which a line goes straight on."""
    before = line - np.roll(line, 1, axis=0)
    after = np.roll(line, -1, axis=0) - line
    turns: npt.NDArray[np.int64] = line[(before != after).any(axis=1)]
    return turns


def _cycles(following: list[int]) -> list[list[int]]:
    """Follow each element to the next until it comes back."""
    seen = [False] * len(following)
    cycles = []
    for first in range(len(following)):
        if seen[first]:
            continue
        cycle, at = [], first
        while not seen[at]:
            seen[at] = True
            cycle.append(at)
            at = following[at]
        cycles.append(cycle)
    return cycles
