"""How the state of tracks changes: labels measured, followed or read anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from napari_tinysam.ui.session.tracks.state import TrackState, are_tracks
from napari_tinysam.volume.corrections import Correction, Kind

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_tinysam.ui.session.labels.stack_edits import StackEdit
    from napari_tinysam.ui.session.stacks.piece_measuring import MeasuredPieces
    from napari_tinysam.ui.session.tracks.tracked_movie import TrackedMovie
    from napari_tinysam.volume.corrections import Place


def state_of_same(before: TrackedMovie, found: MeasuredPieces) -> TrackState:
    """Return how a movie was tracked that was measured anew, maybe in another range of frames.

    Where the labels were tracks from the beginning, or are tracks of a longer range, the ids have
    all corrections in them. Frames that were not in the range are tracked; what was corrected there
    earlier holds.
    """
    state, known = before.state, [*map(tuple, before.measured.groups)]
    groups = [*map(tuple, found.groups)]
    tracks = before.tracks
    if tracks is None or (groups == known and state.given is None):
        return state
    inside = set(groups) <= set(known)
    tracked = {*known, *before.outside.own}
    imported = state.given is not None and not state.narrowed
    same = inside or (imported and set(groups) <= tracked)
    if groups == known or (same and are_tracks(found)):
        gone = tuple(Correction(Kind.DELETE, (place,)) for place in tracks.deleted)
        return replace(
            state,
            given=tuple(before.all_parents.items()),
            chains=None,
            corrections=gone,
            held=(*state.held, *state.corrections),
            narrowed=state.narrowed or state.given is None,
        )
    return replace(state, given=None, chains=None, narrowed=False)


class Arrival(NamedTuple):
    """What is known of tracks from elsewhere, and joins them when the labels are measured next.

    Attributes
    ----------
    layer : napari.layers.Labels
    change : callable
        ``change(state, movie)`` returns the new state.
    edit : StackEdit, optional
        The step that it is part of; it counts only while that is applied.
    """

    layer: Labels
    change: Callable[[TrackState, TrackedMovie], TrackState]
    edit: StackEdit | None = None


def with_followed(
    state: TrackState, movie: TrackedMovie, label: int, first: int, spare: int
) -> TrackState:
    """Note that a track goes on as it was followed anew in the labels.

    Parameters
    ----------
    state : TrackState
    movie : TrackedMovie
        Measured after that.
    label : int
        The track.
    first : int
        The frame from which on it was followed.
    spare : int
        The id of what it had before and lies elsewhere: another track now.
    """
    given, corrections = state.given, state.corrections
    for name in (label, spare):
        frames = range(first, len(movie.frames))
        places = [movie.piece(frame, name) for frame in frames]
        there = tuple(place for place in places if place is not None)
        if there:
            corrections = (*corrections, Correction(Kind.FOLLOW, there))
        if given is not None and name == spare and there:
            # Daughters are those of what went on up to them.
            given = tuple(
                (child, spare if mother == label else mother) for child, mother in given
            )
    return replace(state, corrections=corrections, given=given)


def with_imported(
    state: TrackState,
    movie: TrackedMovie,
    objects: Iterable[tuple[int, int, int]],
    parents: Mapping[int, int],
) -> TrackState:
    """Take tracks that were read, instead of those found.

    Parameters
    ----------
    state : TrackState
    movie : TrackedMovie
    objects : iterable of (int, int, int)
        Track, frame of the image, and label there.
    parents : mapping of int to int
        The mother of each track that has one.
    """
    chains: dict[int, list[Place]] = {}
    for track_, frame, label in objects:
        inside = 0 <= frame - movie.start < len(movie.frames)
        place = movie.piece(frame - movie.start, label) if inside else None
        if place is not None:
            chains.setdefault(track_, []).append(place)
    return TrackState(
        state.settings,
        given=tuple(parents.items()),
        chains={name: tuple(sorted(chain)) for name, chain in chains.items()},
    )
