"""The places of tracked objects, in the form that all exchanged formats share. numpy only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError
from napari_tinysam.volume.lineage import Track, check_lineage, graph_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class TrackPoints:
    """Where tracked objects are, a row for each object of each frame.

    Attributes
    ----------
    track : ndarray of int64, (N,)
        Labels of tracks, above 0. Rows ascend by track, then by frame.
    frame : ndarray of int64, (N,)
        From 0.
    centre : ndarray of float64, (N, 2) or (N, 3)
        y and x, or z, y and x, in pixels.
    area : ndarray of float64, (N,), optional
        Pixels of the object.
    intensity : ndarray of float64, (N,), optional
        Mean of the image in the object; NaN where the image has no numbers.
    parents : dict of int to int
        The parent of each track that has one.
    notes : tuple of str
        What was not as it should be where they were read, a sentence each.
    """

    track: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]
    centre: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64] | None = None
    intensity: npt.NDArray[np.float64] | None = None
    parents: dict[int, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        frames: Iterable[npt.NDArray[np.integer[Any]]],
        parents: Mapping[int, int],
        images: Iterable[npt.NDArray[Any]] | None = None,
    ) -> TrackPoints:
        """Measure frames whose labels are tracks, one after the other.

        Parameters
        ----------
        frames : iterable of ndarray of int, (H, W) or (Z, H, W)
        parents : mapping of int to int
        images : iterable of ndarray, (H, W) or (Z, H, W), optional
            The image of each frame; channels may follow, their mean counts.

        Raises
        ------
        DataError
            If an image and its labels differ in size.
        """
        rows: list[npt.NDArray[np.float64]] = []
        pictures = None if images is None else iter(images)
        axes = 2
        for number, labels in enumerate(frames):
            picture = None if pictures is None else next(pictures)
            if picture is not None and picture.shape[: labels.ndim] != labels.shape:
                raise DataError(
                    f"Frame {number} has labels of {labels.shape} and an image of "
                    f"{picture.shape}."
                )
            axes = labels.ndim
            rows.append(_measured(number, labels, picture))
        table = np.concatenate([*rows, np.zeros((0, axes + 4))])
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        return cls(
            table[:, 0].astype(np.int64),
            table[:, 1].astype(np.int64),
            table[:, 4:],
            table[:, 2],
            None if images is None else table[:, 3],
            {child: mother for child, mother in parents.items() if mother},
        )

    @classmethod
    def sorted(
        cls,
        track: Sequence[int],
        frame: Sequence[int],
        centre: npt.ArrayLike,
        parents: Mapping[int, int],
        notes: tuple[str, ...] = (),
    ) -> TrackPoints:
        """Make points of rows in any order.

        Raises
        ------
        DataError
            If a track is at two places in a frame, a number is below what it may be or not finite,
            or the lineage contradicts itself.
        """
        tracks, frames = np.array(track, np.int64), np.array(frame, np.int64)
        centres = np.array(centre, np.float64)
        order = np.lexsort((frames, tracks))
        tracks, frames, centres = tracks[order], frames[order], centres[order]
        if len(tracks) and tracks.min() < 1:
            raise DataError(f"Tracks have numbers above 0; there is {tracks.min()}.")
        if len(frames) and frames.min() < 0:
            raise DataError(f"Frames count from 0; there is {frames.min()}.")
        if not np.isfinite(centres).all():
            at = int(np.flatnonzero(~np.isfinite(centres).all(axis=1))[0])
            raise DataError(f"Track {tracks[at]} has no place in frame {frames[at]}.")
        twice = (np.diff(tracks) == 0) & (np.diff(frames) == 0)
        if twice.any():
            at = int(np.flatnonzero(twice)[0])
            raise DataError(
                f"Track {tracks[at]} is at two places in frame {frames[at]}."
            )
        found = cls(tracks, frames, centres, parents=dict(parents), notes=notes)
        check_lineage(found.tracks())
        return found

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.track)

    @property
    def axes(self) -> str:
        """Letters of the places: "yx" or "zyx"."""
        return "zyx"[-self.centre.shape[1] :]

    def tracks(self) -> list[Track]:
        """Return the tracks, ascending by label."""
        labels, starts = np.unique(self.track, return_index=True)
        ends = np.append(starts[1:], len(self))[: len(labels)]
        return [
            Track(
                int(label), tuple(self.frame[a:b].tolist()), self.parents.get(label, 0)
            )
            for label, a, b in zip(labels.tolist(), starts, ends, strict=True)
        ]

    def edges(self) -> npt.NDArray[np.intp]:
        """Return (E, 2) pairs of rows: from frame to frame of a track, and from parents."""
        same = np.flatnonzero(np.diff(self.track) == 0)
        labels, first = np.unique(self.track, return_index=True)
        last = np.append(first[1:], len(self)) - 1
        place = {int(label): number for number, label in enumerate(labels)}
        born = [
            (last[place[mother]], first[place[child]])
            for child, mother in sorted(self.parents.items())
        ]
        return np.concatenate(
            [
                np.stack([same, same + 1], axis=1),
                np.array(born, np.intp).reshape(-1, 2),
            ]
        )

    def for_napari(self) -> tuple[npt.NDArray[np.float64], dict[int, list[int]]]:
        """Return data, (N, 4) or (N, 5) of track, frame and place, and graph of a tracks layer."""
        data = np.column_stack([self.track, self.frame, self.centre]).astype(float)
        return data, graph_of(self.tracks())

    def check_inside(self, shape: Sequence[int]) -> None:
        """Check that the points can be of a movie of this shape: (T, H, W) or (T, Z, H, W).

        Raises
        ------
        DataError
            Says what shows that they are of another one.
        """
        if self.centre.shape[1] != len(shape) - 1:
            raise DataError(
                f"These tracks have {self.centre.shape[1]} axes in space, the movie has "
                f"{len(shape) - 1}: they are of another one."
            )
        places = np.column_stack([self.frame, self.centre])
        outside = ((places < -0.5) | (places > np.array(shape) - 0.5)).any(axis=1)
        if outside.any():
            at = int(np.flatnonzero(outside)[0])
            where = ", ".join(f"{value:g}" for value in places[at])
            sizes = " × ".join(map(str, shape))
            raise DataError(
                f"Track {self.track[at]} is at {where}, outside the movie of {sizes}: these tracks "
                "are of another one."
            )


def points_of_graph(
    frames: npt.ArrayLike, centres: npt.ArrayLike, edges: npt.ArrayLike
) -> TrackPoints:
    """Make tracks of single objects and the links between them.

    Parameters
    ----------
    frames : array-like of int, (N,)
    centres : array-like of float, (N, 2) or (N, 3)
    edges : array-like of int, (E, 2)
        Pairs of rows. An object with one link forwards to an object with one link backwards goes on
        as the same track; one with several has divided.

    Raises
    ------
    DataError
        If objects merge, or a link does not go forwards in time.
    """
    at, places = np.asarray(frames, np.int64), np.asarray(centres, np.float64)
    links = np.asarray(edges, np.intp).reshape(-1, 2)
    late = at[links[:, 0]] >= at[links[:, 1]]
    if late.any():
        one = at[links[late][0]]
        raise DataError(f"A link goes from frame {one[0]} to frame {one[1]}.")
    into = np.bincount(links[:, 1], minlength=len(at))
    out = np.bincount(links[:, 0], minlength=len(at))
    if (into > 1).any():
        frame = int(at[np.flatnonzero(into > 1)[0]])
        raise DataError(f"Two objects become one in frame {frame}; tracks divide only.")
    before = np.full(len(at), -1, np.intp)
    before[links[:, 1]] = links[:, 0]
    track = np.zeros(len(at), np.int64)
    parents: dict[int, int] = {}
    count = 0
    for row in np.argsort(at, kind="stable").tolist():
        back = int(before[row])
        if back >= 0 and out[back] == 1:
            track[row] = track[back]
            continue
        count += 1
        track[row] = count
        if back >= 0:
            parents[count] = int(track[back])
    return TrackPoints.sorted(track.tolist(), at.tolist(), places, parents)


def _measured(
    number: int,
    labels: npt.NDArray[np.integer[Any]],
    picture: npt.NDArray[Any] | None,
) -> npt.NDArray[np.float64]:
    """(N, 4 + D) track, frame, area, intensity and centre of each object of a frame."""
    flat = labels.ravel()
    where = np.flatnonzero(flat)
    ids, index = np.unique(flat[where], return_inverse=True)
    rows = np.zeros((len(ids), 4 + labels.ndim))
    area = np.bincount(index, minlength=len(ids)).astype(float)
    rows[:, 0], rows[:, 1], rows[:, 2] = ids, number, area
    if picture is not None:
        values = picture.reshape(len(flat), -1)[where].astype(np.float64).mean(axis=1)
        known = np.isfinite(values)
        count = np.bincount(index[known], minlength=len(ids))
        total = np.bincount(index[known], values[known], len(ids))
        rows[:, 3] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    for axis in reversed(range(labels.ndim)):
        where, along = np.divmod(where, labels.shape[axis])
        rows[:, 4 + axis] = np.bincount(index, along, len(ids)) / np.maximum(area, 1)
    return rows
