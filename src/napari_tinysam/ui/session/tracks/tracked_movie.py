"""A labels layer whose frames are measured: how it is tracked, corrected, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.ui.session.stacks.pieces import Relabel
from napari_tinysam.ui.session.stacks.work import MeasuredLayer
from napari_tinysam.ui.session.tracks.outside import Outside
from napari_tinysam.ui.session.tracks.state import TrackState, are_tracks
from napari_tinysam.volume.stable_ids import repeated

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.ui.session.stacks.piece_measuring import MeasuredPieces
    from napari_tinysam.volume.corrections import Place
    from napari_tinysam.volume.linking import Chain
    from napari_tinysam.volume.measuring import MeasuredFrames
    from napari_tinysam.volume.tracking import Division


@dataclass(frozen=True, eq=False)
class Tracks:
    """The tracks of a movie.

    Attributes
    ----------
    ids : list of ndarray of int64
        For each frame, (N,) the track of each piece; 0 if hidden.
    parents : dict of int to int
        The mother of each track that has one; both are shown.
    possible : list of Division
        Those that are proposed and not decided.
    refused : list of Division
        Those that the user refused.
    deleted : list of Place
        Pieces that the user has deleted.
    daughters : dict of (int, int) to tuple of Place
        Of each of them, by `Division.key`, where its daughters begin.
    ends : dict of int to Place
        Where each track ends.
    count, hidden, divisions : int
        Tracks that are shown; too short ones; mothers.
    way : str
        How objects were linked: "overlap", "centres" or "given", by trackastra; "" if the labels
        had tracks.
    """

    ids: list[npt.NDArray[np.int64]]
    parents: dict[int, int]
    possible: list[Division]
    refused: list[Division]
    deleted: list[Place]
    daughters: dict[tuple[int, int], tuple[Place, ...]]
    ends: dict[int, Place]
    count: int
    hidden: int
    divisions: int
    way: str


@dataclass(eq=False, kw_only=True)
class TrackedMovie(MeasuredLayer):
    """The pieces of a labels layer, by frame.

    Attributes
    ----------
    axis : int
        Time, in the labels layer.
    start : int
        Where the first frame is on that axis: a range of the movie may be tracked.
    frames : MeasuredFrames
    state : TrackState
    tracks : Tracks, optional
        None after undo.
    learned : list of Chain, optional
        What trackastra has found in these frames, if it was asked.
    parents : dict of int to int
        The mothers of tracks that were known before.
    earlier : TrackedMovie, optional
        The same as it was measured before.
    outside : Outside
        What is known of frames outside of the range.
    """

    axis: int
    start: int
    frames: MeasuredFrames
    state: TrackState
    tracks: Tracks | None = None
    learned: list[Chain] | None = None
    parents: dict[int, int] = field(default_factory=dict)
    earlier: TrackedMovie | None = None
    outside: Outside = field(default_factory=Outside)

    @property
    def all_parents(self) -> dict[int, int]:
        """The mothers of tracks, also of those in frames that are outside of the range now."""
        if self.tracks is None:
            return dict(self.parents)
        here = set(np.concatenate(self.tracks.ids).tolist())
        outside = {
            child: mother for child, mother in self.parents.items() if child not in here
        }
        return outside | self.tracks.parents

    @property
    def way(self) -> str:
        """How objects were linked, see `Tracks.way`."""
        return "" if self.tracks is None else self.tracks.way

    @property
    def axes(self) -> tuple[int, int]:
        """The axes of the layer that run down and across the planes."""
        return self.measured.rows[0][0].axes

    def position(
        self, frame: int, centres: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Bring centres in a frame, (…, 2 or 3), into the data of the layer, (…, ndim).

        Frames are counted from the first of the movie.
        """
        plane = self.measured.rows[0][0]
        depth = [
            axis
            for axis, at in enumerate(plane.index)
            if at is not None and axis not in (self.axis, plane.channel_axis)
        ]
        axes = (*depth, *plane.axes)[-centres.shape[-1] :]
        places = np.zeros((*centres.shape[:-1], len(plane.index)))
        places[..., self.axis] = frame + self.start
        places[..., list(axes)] = centres
        return places

    def rows(self, tracks: Tracks) -> npt.NDArray[np.float64]:
        """Return (N, 1 + D) track and place in the labels of each piece that is shown."""
        found = []
        for frame, (ids, centres) in enumerate(
            zip(tracks.ids, self.frames.centres, strict=True)
        ):
            shown = ids > 0
            places = self.position(frame, centres[shown])
            found.append(np.column_stack([ids[shown], places]).astype(float))
        table = np.concatenate(found)
        return table[np.lexsort((table[:, 1 + self.axis], table[:, 0]))]

    def doubts(
        self,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[bool]]:
        """Return where mothers and daughters of possible divisions are.

        Returns
        -------
        places : ndarray of float64, (N, ndim)
            In the data of the layer.
        diameters : ndarray of float64, (N,)
            In pixels of a plane.
        mothers : list of bool, (N,)
        """
        found: dict[Place, bool] = {}
        tracks = self.tracks
        for each in () if tracks is None else tracks.possible:
            assert tracks is not None
            found.update(dict.fromkeys(tracks.daughters[each.key], False))
            found[mother_place(self, each.key)] = True
        centres = self.frames.centres
        places = [self.position(at, centres[at][index]) for at, index in found]
        diameters = [self.frames.diameters[at][index] for at, index in found]
        pixel = self.frames.scale[-1]
        return (
            np.array(places).reshape(len(found), len(self.measured.rows[0][0].index)),
            np.array(diameters) / pixel,
            list(found.values()),
        )

    def has_ids_of(self, tracks: Tracks) -> bool:
        """Whether the labels have the ids of tracks already."""
        return all(map(np.array_equal, tracks.ids, self.measured.ids))

    def piece(self, frame: int, label: int) -> Place | None:
        """Return the piece that has an id in a frame; None if the id is none of ours."""
        found = np.flatnonzero(self.pieces.tables[frame][1:] == label)
        return (frame, int(found[0])) if label and len(found) == 1 else None


@dataclass(eq=False)
class TrackEdit(Relabel):
    """A step of undo: objects of frames are tracked, or tracked otherwise.

    Attributes
    ----------
    movie : TrackedMovie
    was, now : (TrackState, Tracks or None)
        Before and after it.
    earlier : TrackedMovie, optional
        The movie before the step, if it was measured anew for it.
    """

    movie: TrackedMovie
    was: tuple[TrackState, Tracks | None]
    now: tuple[TrackState, Tracks | None]
    earlier: TrackedMovie | None = None


def own_ids(
    found: MeasuredPieces,
    before: TrackedMovie | None,
    new_ids: Callable[[int], list[int]],
    *,
    apart: bool = False,
) -> list[npt.NDArray[np.int64]]:
    """Give each piece an id of its own: what it had, or where that is taken a new one.

    Parameters
    ----------
    found : MeasuredPieces
    before : TrackedMovie, optional
        Of an earlier measurement.
    new_ids : callable
        Returns so many ids that the layer does not use.
    apart : bool
        Whether there are frames that were not measured.
    """
    sizes = np.cumsum([len(ids) for ids in found.ids])[:-1]
    ids, known = np.concatenate(found.ids), np.concatenate(found.known)
    own = ids.copy()
    if before is not None:
        own = np.concatenate(_known_ids(found, before))
        away = [
            np.full(len(each), tuple(group) in before.outside.own)
            for each, group in zip(found.ids, found.groups, strict=True)
        ]
        there = np.concatenate(away) & (known > 0)
        # A track that began before the range had its id in the first frame of that.
        twice = np.flatnonzero(~there & (known > 0) & np.isin(own, own[there]))
        own[twice] = new_ids(len(twice))
    fresh = np.flatnonzero(known == 0)
    again = fresh[repeated(own[fresh], own[known > 0])]
    if apart and len(again) and not are_tracks(found):
        again = fresh  # what has these numbers in other frames are other objects
    own[again] = new_ids(len(again))
    if before is not None:
        # A track that begins before the range, or whose first object is gone, keeps its id.
        names, first = np.unique(ids, return_index=True)
        lost = (names > 0) & ~np.isin(names, own)
        own[first[lost]] = names[lost]
    return np.split(own, sizes)


def _known_ids(
    found: MeasuredPieces, before: TrackedMovie
) -> list[npt.NDArray[np.int64]]:
    """Return for each group, (N,) the id of its own that each piece had; else what it shows."""
    had = found.aligned(before.own, before.measured)
    return [
        np.where(
            numbers > 0,
            np.append(0, before.outside.own.get(tuple(group), old))[numbers],
            shown,
        )
        for shown, numbers, old, group in zip(
            found.ids, found.known, had, found.groups, strict=True
        )
    ]


def mother_place(movie: TrackedMovie, key: tuple[int, int]) -> Place:
    """Return the place of the mother of a division, by `Division.key`."""
    frame, number = key
    ids = movie.frames.overlaps.ids[frame]
    return frame, int(np.searchsorted(ids, number))


def in_words(tracks: Tracks) -> str:
    """Say what was found."""
    parts = [f"{tracks.count:,} track{'' if tracks.count == 1 else 's'}"]
    if tracks.divisions:
        parts.append(
            f"{tracks.divisions:,} division{'' if tracks.divisions == 1 else 's'}"
        )
    text = ", ".join(parts) + "."
    if tracks.hidden:
        text += (
            f" {tracks.hidden:,} short {'is' if tracks.hidden == 1 else 'are'} hidden."
        )
    return text
