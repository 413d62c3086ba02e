"""Which of many boxes meet, without comparing each with each. numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def meeting_boxes(
    boxes: npt.NDArray[np.integer], gap: int = 0
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """List all pairs of boxes that share a pixel, or are near each other.

    Boxes are put into square cells that are at least as large as they are, so that each lies in at
    most four; only boxes of one cell are compared. Large boxes have larger cells. 200,000 small
    boxes take a second.

    Parameters
    ----------
    boxes : ndarray of int, (N, 4)
        x0, y0, x1, y1, the last pixels inclusive.
    gap : int
        Boxes with fewer than this many pixels between them meet, too.

    Returns
    -------
    first, second : ndarray of int, (P,)
        Numbers of the boxes of each pair, the lower one first; sorted by `second`, then `first`.
    """
    boxes = np.array(boxes, np.int64).reshape(-1, 4)
    boxes[:, 2:] += gap
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) + 1
    levels = np.ceil(np.log2(sides)).astype(np.int64)
    found = [np.zeros((2, 0), np.intp)]
    for level in np.unique(levels).tolist():
        own = np.flatnonzero(levels == level)
        up_to = np.flatnonzero(levels <= level)
        one, other = _in_one_cell(boxes, own, up_to, level)
        # Of two boxes of this level, each finds the other.
        once = (levels[other] < level) | (other < one)
        found.append(np.stack([one[once], other[once]]))
    pairs = np.sort(np.concatenate(found, axis=1), axis=0)
    order = np.lexsort(pairs)
    return pairs[0, order], pairs[1, order]


def _in_one_cell(
    boxes: npt.NDArray[np.int64],
    large: npt.NDArray[np.intp],
    small: npt.NDArray[np.intp],
    level: int,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Pairs of a large and a small box that meet, each pair once."""
    keys, owners = _cells(boxes[large] >> level, large)
    order = np.argsort(keys, kind="stable")
    keys, owners = keys[order], owners[order]
    asked, askers = _cells(boxes[small] >> level, small)
    begin = np.searchsorted(keys, asked, side="left")
    count = np.searchsorted(keys, asked, side="right") - begin
    # Entries begin, begin + 1, … of each asker.
    steps = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    entries = np.repeat(begin, count) + steps
    one, other = owners[entries], np.repeat(askers, count)
    low = np.maximum(boxes[one, :2], boxes[other, :2])
    high = np.minimum(boxes[one, 2:], boxes[other, 2:])
    # What they share begins in one cell: the pair counts there, not in the others.
    there = _key(low >> level) == keys[entries]
    meets = (low <= high).all(axis=1) & there & (one != other)
    return one[meets], other[meets]


def _cells(
    corners: npt.NDArray[np.int64], numbers: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Cells of boxes, given those of their corners, (N, 4): keys, and whose they are."""
    keys, owners = [], []
    for x in (0, 2):
        for y in (1, 3):
            # The second column or row only where it is another one.
            new = np.ones(len(corners), bool)
            if x:
                new &= corners[:, 2] > corners[:, 0]
            if y == 3:
                new &= corners[:, 3] > corners[:, 1]
            keys.append(_key(corners[new][:, [x, y]]))
            owners.append(numbers[new])
    return np.concatenate(keys), np.concatenate(owners)


def _key(xy: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """One number for the column and row of a cell; both may be slightly negative."""
    found: npt.NDArray[np.int64] = (xy[:, 1] << 32) + xy[:, 0]
    return found
