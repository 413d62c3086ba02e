"""Tracks of objects through frames, and who descends from whom. numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt


@dataclass(frozen=True)
class Track:
    """One object from its first to its last frame.

    Attributes
    ----------
    label : int
        Its number in the frames, above 0.
    frames : tuple of int
        Those that show it, ascending; there may be gaps.
    parent : int
        Label of the object that it descends from; 0 for none.
    """

    label: int
    frames: tuple[int, ...]
    parent: int = 0

    @property
    def first(self) -> int:
        """The first frame."""
        return self.frames[0]

    @property
    def last(self) -> int:
        """The last frame."""
        return self.frames[-1]

    def runs(self) -> list[tuple[int, int]]:
        """Return first and last frame of each part without gaps."""
        frames = np.array(self.frames)
        starts = np.flatnonzero(np.diff(frames, prepend=frames[0] - 2) > 1)
        ends = [*(starts[1:] - 1), len(frames) - 1]
        return [
            (int(frames[a]), int(frames[b])) for a, b in zip(starts, ends, strict=True)
        ]


def tracks_of(
    frames: Iterable[npt.NDArray[np.integer[Any]]],
    parents: Mapping[int, int] | None = None,
) -> list[Track]:
    """Read tracks from labelled frames.

    Parameters
    ----------
    frames : iterable of ndarray of int, (H, W) or (Z, H, W)
        The same label in all frames of an object; read one after the other.
    parents : mapping of int to int, optional
        The parent of each object that has one.

    Returns
    -------
    list of Track
        Ascending by label.

    Raises
    ------
    DataError
        If an object descends from one that no frame shows, or that does not end before it begins.
    """
    shown: dict[int, list[int]] = {}
    for number, frame in enumerate(frames):
        for label in np.unique(frame).tolist():
            if label:
                shown.setdefault(int(label), []).append(number)
    parents = parents or {}
    tracks = [
        Track(label, tuple(numbers), int(parents.get(label, 0)))
        for label, numbers in sorted(shown.items())
    ]
    check_lineage(tracks)
    return tracks


def check_lineage(tracks: Iterable[Track]) -> None:
    """Check that parents are there and end before their children begin.

    Raises
    ------
    DataError
        Names the first object for which that is not so.
    """
    by_label = {track.label: track for track in tracks}
    for track in by_label.values():
        if not track.parent:
            continue
        parent = by_label.get(track.parent)
        if parent is None:
            raise DataError(
                f"Object {track.label} descends from {track.parent}, which is in no frame."
            )
        if parent.last >= track.first:
            raise DataError(
                f"Object {track.label} begins in frame {track.first}, before its parent "
                f"{track.parent} ends in frame {parent.last}."
            )


def graph_of(tracks: Iterable[Track]) -> dict[int, list[int]]:
    """Return the graph of a napari tracks layer: the parents of each object that has one."""
    return {track.label: [track.parent] for track in tracks if track.parent}
