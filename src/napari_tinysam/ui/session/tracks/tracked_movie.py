"""A labels layer whose frames are measured: how it is tracked, corrected, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.errors import TinySAMError
from napari_tinysam.ui.session.stacks.pieces import Relabel
from napari_tinysam.ui.session.stacks.work import MeasuredLayer
from napari_tinysam.ui.session.tracks.state import TrackState, are_tracks
from napari_tinysam.volume.corrections import Lineage, Place
from napari_tinysam.volume.learned import chained_by_trackastra
from napari_tinysam.volume.stable_ids import repeated
from napari_tinysam.volume.tracking import Division, track

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.ui.session.stacks.piece_measuring import MeasuredPieces
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.volume.linking import Chain
    from napari_tinysam.volume.measuring import MeasuredFrames


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
    """

    axis: int
    start: int
    frames: MeasuredFrames
    state: TrackState
    tracks: Tracks | None = None
    learned: list[Chain] | None = None
    parents: dict[int, int] = field(default_factory=dict)
    earlier: TrackedMovie | None = None

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
        own = np.concatenate(
            [
                np.where(numbers > 0, np.append(0, old)[numbers], shown)
                for shown, numbers, old in zip(
                    found.ids,
                    found.known,
                    found.aligned(before.own, before.measured),
                    strict=True,
                )
            ]
        )
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


def found_tracks(
    movie: TrackedMovie, state: TrackState, planes: Sequence[Sequence[Plane]]
) -> Tracks:
    """Track a movie and apply the corrections. Takes a moment; for the inference thread.

    Parameters
    ----------
    movie : TrackedMovie
    state : TrackState
    planes : sequence of sequence of Plane
        Of the image, for each frame; trackastra looks at them.
    """
    possible: list[Division] = []
    refused: list[Division] = []
    daughters: dict[tuple[int, int], tuple[Place, ...]] = {}
    way = ""
    if state.given is None:
        settings = replace(state.settings, least_frames=1)
        chains = None
        if settings.way == "trackastra":
            if movie.learned is None:
                movie.learned = _learned(movie, planes)
            chains = movie.learned
        found = track(movie.frames, settings, state.decisions, chains)
        lineage, way = Lineage.of(found), found.way
        possible = [
            each
            for each in found.divisions
            if not each.taken and each.key not in state.decisions
        ]
        refused = [
            each for each in found.divisions if not state.decisions.get(each.key, True)
        ]
        for each in (*possible, *refused):
            objects = found.links.objects[each.frame]
            daughters[each.key] = tuple(
                (each.frame, int(np.flatnonzero(objects == label)[0]))
                for label in each.daughters
            )
    else:
        given: dict[int, list[Place]] = {}
        named = {
            place: name
            for name, chain in (state.chains or {}).items()
            for place in chain
        }
        for frame, ids in enumerate(movie.measured.ids):
            for index, label in enumerate(ids.tolist()):
                alone = -int(movie.own[frame][index])  # hidden, or in no track
                name = int(label) or alone
                if state.chains is not None:
                    name = named.get((frame, index), alone)
                given.setdefault(name, []).append((frame, index))
        lineage = Lineage.of_chains(given, dict(state.given))
    lineage.correct(state.corrections)
    family = {*lineage.mother, *lineage.mother.values()}
    own, least = movie.own, state.settings.least_frames
    tables = [np.zeros(len(ids), np.int64) for ids in own]
    label_of: dict[Place, int] = {}  # by first and last place
    ends: dict[int, Place] = {}
    count = hidden = 0
    for chain in lineage.chains():
        first, last = chain[0], chain[-1]
        if len(chain) < least and first not in family and last not in family:
            hidden += 1
            continue
        count += 1
        label = int(own[first[0]][first[1]])
        label_of[first] = label_of[last] = label
        ends[label] = last
        for frame, index in chain:
            tables[frame][index] = label
    parents = {
        label_of[child]: label_of[mother] for child, mother in lineage.mother.items()
    }
    possible, refused = (
        [each for each in some if not lineage.daughters(mother_place(movie, each.key))]
        for some in (possible, refused)
    )
    return Tracks(
        ids=tables,
        parents=parents,
        possible=possible,
        refused=refused,
        daughters=daughters,
        ends=ends,
        count=count,
        hidden=hidden,
        divisions=len(set(parents.values())),
        way=way,
    )


def _learned(movie: TrackedMovie, planes: Sequence[Sequence[Plane]]) -> list[Chain]:
    """Let trackastra link the objects of the frames."""
    if any(len(group) > 1 for group in planes):
        raise TinySAMError("trackastra tracks movies of planes, not of stacks.")
    image = movie.image
    data = image.data[0] if image.multiscale else image.data
    images = []
    for (plane,) in planes:
        pixels = np.asarray(data[plane.cut()])
        pixels = pixels.mean(axis=-1) if pixels.ndim > 2 else pixels  # colours
        images.append(pixels.T if plane.transposed else pixels)
    labels = np.zeros((len(images), *images[0].shape), np.int32)
    for _, frame, rows in movie.measured.rows:
        labels[frame, rows.y0 : rows.y0 + rows.shape[0]] = rows.labels
    return chained_by_trackastra(np.stack(images), labels, movie.frames)


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
