"""What tracking needs to know of labelled frames: overlaps, centres and sizes, without the pixels.

numpy and scipy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.volume.overlaps import PlaneOverlaps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class MeasuredFrames:
    """The objects of the frames of a movie.

    Attributes
    ----------
    overlaps : PlaneOverlaps
        Labels, areas and common pixels of the objects.
    centres : list of ndarray of float64
        For each frame, (N, 2) or (N, 3) centres of gravity in pixels, in the order of
        ``overlaps.ids``.
    scale : tuple of float
        Side of a pixel along each axis of a frame, in any unit.
    """

    overlaps: PlaneOverlaps
    centres: list[npt.NDArray[np.float64]]
    scale: tuple[float, ...]

    @classmethod
    def of(
        cls,
        frames: Iterable[npt.NDArray[np.integer[Any]]],
        scale: Sequence[float] | None = None,
    ) -> MeasuredFrames:
        """Measure frames, one after the other; a few are in memory.

        Parameters
        ----------
        frames : iterable of ndarray of int, (H, W) or (Z, H, W)
            Labels; 0 is the background. The same label in two frames says nothing.
        scale : sequence of float, optional
            Side of a pixel along each axis of a frame; where planes are further apart than pixels,
            distances would be wrong without.

        Raises
        ------
        ValueError
            If the frames differ in size, or the scale does not fit them.
        TypeError
            If the labels are not integers.
        """
        centres: list[npt.NDArray[np.float64]] = []
        axes = 0

        def passing() -> Iterator[npt.NDArray[np.integer[Any]]]:
            nonlocal axes
            for frame in frames:
                if frame.dtype.kind not in "iu":
                    raise TypeError(f"Labels are whole numbers; got {frame.dtype}.")
                centres.append(centres_of(frame))
                axes = frame.ndim
                yield frame

        overlaps = PlaneOverlaps.of(passing())
        sides = tuple(float(side) for side in scale or (1.0,) * axes)
        if axes and (len(sides) != axes or not all(side > 0 for side in sides)):
            raise ValueError(
                f"A scale of {axes} numbers above 0 is needed; got {sides}."
            )
        return cls(overlaps, centres, sides)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.centres)

    @cached_property
    def places(self) -> list[npt.NDArray[np.float64]]:
        """For each frame, (N, D) centres in the unit of the scale."""
        return [centres * np.array(self.scale) for centres in self.centres]

    @cached_property
    def diameters(self) -> list[npt.NDArray[np.float64]]:
        """For each frame, (N,) diameters of discs or balls of the objects' size, in that unit."""
        axes = len(self.scale)
        unit = float(np.prod(self.scale))
        shape = np.pi / 4 if axes == 2 else np.pi / 6
        return [
            np.asarray((areas * unit / shape) ** (1 / axes), np.float64)
            for areas in self.overlaps.areas
        ]

    @cached_property
    def diameter(self) -> float:
        """The median diameter of all objects; 1 without objects."""
        every = np.concatenate([*self.diameters, np.zeros(0)])
        return float(np.median(every)) if len(every) else 1.0

    def typical_overlap(self) -> float:
        """Return the median, over objects, of the best IoU with one of the next frame."""
        best = []
        for first in range(len(self) - 1):
            if not len(self.overlaps.ids[first + 1]):
                continue
            found = np.zeros(len(self.overlaps.ids[first]))
            pairs, _ = self.overlaps.pairs[first, first + 1]
            np.maximum.at(found, pairs[:, 0], self.overlaps.iou(first, first + 1))
            best.append(found)
        every = np.concatenate([*best, np.zeros(0)])
        return float(np.median(every)) if len(every) else 1.0


def centres_of(frame: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """Return (N, D) centres of gravity of the objects, by ascending label."""
    flat = frame.ravel()
    where = np.flatnonzero(flat > 0)
    ids, index = np.unique(flat[where], return_inverse=True)
    count = np.maximum(np.bincount(index, minlength=len(ids)), 1)
    centres = np.zeros((len(ids), frame.ndim))
    for axis in reversed(range(frame.ndim)):
        where, along = np.divmod(where, frame.shape[axis])
        centres[:, axis] = np.bincount(index, along, len(ids)) / count
    return centres
