"""Tracks that are places only are attached to labelled objects: the object that holds the place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from napari_tinysam.volume.exchange.points import TrackPoints


@dataclass(frozen=True)
class Attached:
    """Which objects belong to which tracks.

    Attributes
    ----------
    objects : tuple of (int, int, int)
        Track, frame, and the label that its object has there; an object has one track.
    outside : int
        Places that lie in no object.
    shared : int
        Places in an object that another track has.
    alone : int
        Objects of frames that no track has.
    """

    objects: tuple[tuple[int, int, int], ...]
    outside: int
    shared: int
    alone: int

    def in_words(self, layer: str) -> str:
        """Say in a sentence or two what matched and what did not.

        Parameters
        ----------
        layer : str
            The name of the labels.
        """
        tracks = len({track for track, _, _ in self.objects})
        places = len(self.objects) + self.outside + self.shared
        belong = "belongs" if tracks == 1 else "belong"
        said = f"{tracks:,} track{_s(tracks)} {belong} to objects of {layer}"
        left = []
        if self.outside:
            left.append(f"{self.outside:,} of {places:,} places lie in no object")
        if self.shared:
            left.append(
                f"{self.shared:,} lie{'s' if self.shared == 1 else ''} in one of another track"
            )
        if self.alone:
            left.append(f"{self.alone:,} object{_s(self.alone)} had no track")
        return f"{said}; {', '.join(left)}." if left else f"{said}, with all places."


def attached(
    points: TrackPoints, frames: Iterable[npt.NDArray[np.integer[Any]]]
) -> Attached:
    """Find the objects in which the places of tracks lie.

    Parameters
    ----------
    points : TrackPoints
        All inside the frames, see `TrackPoints.check_inside`.
    frames : iterable of ndarray of int, (H, W) or (Z, H, W)
        Labels; read one after the other.
    """
    found: list[tuple[int, int, int]] = []
    outside = shared = alone = 0
    for number, labels in enumerate(frames):
        rows = np.flatnonzero(points.frame == number)
        size = np.array(labels.shape) - 1
        places = np.clip(np.rint(points.centre[rows]).astype(np.intp), 0, size)
        ids = labels[tuple(places.T)]
        taken: set[int] = set()
        for track, label in zip(points.track[rows].tolist(), ids.tolist(), strict=True):
            if not label:
                outside += 1
            elif label in taken:
                shared += 1
            else:
                taken.add(label)
                found.append((track, number, label))
        alone += len(set(np.unique(labels).tolist()) - taken - {0})
    return Attached(tuple(sorted(found)), outside, shared, alone)


def _s(count: int) -> str:
    return "" if count == 1 else "s"
