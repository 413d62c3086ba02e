"""Looks: rectangles of a plane, each of which the model sees as one frame.

A look has an origin, its first pixel, and a scale, the pixels of the plane for one pixel of the
frame. The whole plane is a look; so are the tiles of a large plane, at its own resolution or at
half, a quarter … of it, and the part on the screen. numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_tinysam.frame import FRAME
from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    import numpy.typing as npt

#: A plane is seen in tiles if its longest side has more than this many times the frame's pixels.
#: Up to there, shrinking costs objects less than tiles cost time.
LARGE = 1.5


class Look(NamedTuple):
    """A rectangle of a plane, in pixels of the plane; the ends are exclusive."""

    y0: int
    x0: int
    y1: int
    x1: int

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Look:
        """Look at all of a plane."""
        return cls(0, 0, *shape)

    @property
    def rows(self) -> slice:
        """Rows of the plane."""
        return slice(self.y0, self.y1)

    @property
    def columns(self) -> slice:
        """Columns of the plane."""
        return slice(self.x0, self.x1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def scale(self) -> float:
        """Pixels of the plane for one pixel of the frame; below 1 the look is enlarged."""
        return max(self.size) / FRAME

    def local(self, xy: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Map (..., 2) x and y from pixels of the plane to pixels of the look."""
        return np.asarray(xy - np.array([self.x0, self.y0]), np.float32)

    def cut(self, mask: BoxedMask) -> BoxedMask:
        """Take a mask of the plane into the look; what lies outside the look is left out."""
        rows, columns = mask.slices
        y0, x0 = max(rows.start, self.y0), max(columns.start, self.x0)
        y1, x1 = min(rows.stop, self.y1), min(columns.stop, self.x1)
        inside = mask.mask[
            y0 - mask.y0 : max(y1, y0) - mask.y0, x0 - mask.x0 : max(x1, x0) - mask.x0
        ]
        return BoxedMask(inside, y0 - self.y0, x0 - self.x0, self.size)

    def placed(self, mask: BoxedMask, shape: tuple[int, int]) -> BoxedMask:
        """Put a mask of the look into the plane, of this height and width."""
        return mask.moved(self.y0, self.x0, shape)

    def clearance(self, box: npt.ArrayLike, shape: tuple[int, int]) -> float:
        """Distance of a box to the sides of the look that are not sides of the plane.

        Parameters
        ----------
        box : array-like
            x0, y0, x1, y1 in pixels of the plane, the last pixel inclusive.
        shape : (int, int)
            Height and width of the plane.

        Returns
        -------
        float
            Pixels; negative if the box reaches out of the look, infinite if all sides are sides of
            the plane.
        """
        x0, y0, x1, y1 = np.asarray(box, np.float64)
        height, width = shape
        sides = [
            (self.x0 > 0, x0 - self.x0),
            (self.y0 > 0, y0 - self.y0),
            (self.x1 < width, self.x1 - 1 - x1),
            (self.y1 < height, self.y1 - 1 - y1),
        ]
        return min((float(room) for cut, room in sides if cut), default=np.inf)


@dataclass(frozen=True)
class LookGrid:
    """Looks of one size that cover a plane, evenly spaced, with at least the wanted overlap.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the plane.
    side : int
        Longest side of a look, in pixels of the plane. Where the plane is shorter, so is the look.
    overlap : int
        Least number of pixels that neighbours share.

    Raises
    ------
    ValueError
        If the overlap is not smaller than the side.
    """

    shape: tuple[int, int]
    side: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.side:
            raise ValueError(
                f"The overlap lies between 0 and the side; got {self.overlap} and {self.side}."
            )

    @cached_property
    def starts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First rows and first columns of the looks, ascending."""
        rows, columns = (self._along(length) for length in self.shape)
        return rows, columns

    def __len__(self) -> int:
        """Return the number of looks."""
        rows, columns = self.starts
        return len(rows) * len(columns)

    def __iter__(self) -> Iterator[Look]:
        """Give the looks row by row."""
        rows, columns = self.starts
        return (self._at(int(y), int(x)) for y in rows for x in columns)

    def core(self, look: Look) -> Look:
        """Return the part of a look that is no other look's: cores cover the plane once.

        A core ends in the middle of what two neighbours share.
        """
        y, x = (
            int(np.searchsorted(starts, start))
            for starts, start in zip(self.starts, look[:2], strict=True)
        )
        rows, columns = self._edges
        return Look(
            int(rows[y]), int(columns[x]), int(rows[y + 1]), int(columns[x + 1])
        )

    def around(self, xy: tuple[float, float]) -> Look:
        """Return the look in whose core a place of the plane lies; the nearest for one outside."""
        first = []
        for axis, place in enumerate((xy[1], xy[0])):
            starts, ends = self.starts[axis], self._edges[axis][1:]
            row = int(np.searchsorted(ends, place + 0.5, side="right"))
            first.append(int(starts[min(row, len(starts) - 1)]))
        return self._at(first[0], first[1])

    def touching(self, part: Look) -> list[Look]:
        """Return the looks whose cores touch a part of the plane; first those near its middle."""
        if min(part.size) <= 0:
            return []
        middle = np.array([part.y0 + part.y1, part.x0 + part.x1]) / 2
        rows, columns = (
            starts[
                max(int(np.searchsorted(edges, first, side="right")) - 1, 0) : int(
                    np.searchsorted(edges, last, side="left")
                )
            ]
            for starts, edges, first, last in zip(
                self.starts, self._edges, part[:2], part[2:], strict=True
            )
        )

        def away(look: Look) -> float:
            core = self.core(look)
            centre = np.array([core.y0 + core.y1, core.x0 + core.x1]) / 2
            return float(np.hypot(*(centre - middle)))

        looks = (self._at(int(y), int(x)) for y in rows for x in columns)
        return sorted(looks, key=away)

    def _at(self, y: int, x: int) -> Look:
        height, width = self.shape
        return Look(y, x, min(y + self.side, height), min(x + self.side, width))

    def _along(self, length: int) -> npt.NDArray[np.int64]:
        last = length - self.side
        if last <= 0:
            return np.zeros(1, np.int64)
        count = -(-last // (self.side - self.overlap)) + 1
        return np.round(np.linspace(0, last, count)).astype(np.int64)

    @cached_property
    def _edges(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where cores begin and end, along both axes: one more than there are looks."""
        rows, columns = (
            np.concatenate(
                [[0], (starts[:-1] + starts[1:] + self.side) // 2, [length]]
            ).astype(np.int64)
            for starts, length in zip(self.starts, self.shape, strict=True)
        )
        return rows, columns


def is_large(shape: tuple[int, int]) -> bool:
    """Whether a plane of this height and width is seen in tiles."""
    return max(shape) > LARGE * FRAME
