"""What the tracks of a movie follow from, beside its frames: settings, decisions, corrections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.volume.stable_ids import through_planes
from napari_tinysam.volume.tracking import TrackSettings

if TYPE_CHECKING:
    from napari_tinysam.ui.session.stacks.piece_measuring import MeasuredPieces
    from napari_tinysam.volume.corrections import Correction, Place


@dataclass(frozen=True)
class TrackState:
    """What the tracks follow from, beside the frames.

    Parameters
    ----------
    settings : TrackSettings
        Its `least_frames` hides tracks; it leaves none out.
    decisions : dict of (int, int) to bool
        Divisions that the user confirmed or rejected, see `track`.
    corrections : tuple of Correction
        In order.
    given : tuple of (int, int), optional
        Tracks are taken as the ids of the labels give them, with these pairs of child and mother;
        None: they are found.
    chains : dict of int to tuple of Place, optional
        These tracks, if the ids of the labels do not give them yet.
    held : tuple of Correction
        Those before the others. The ids have them while tracks are given; they are made again when
        tracks are found anew.
    narrowed : bool
        Whether tracks are given only because the range became shorter.

    Places of corrections and decisions in frames outside of the range are kept, numbered as they
    were there, and change nothing.
    """

    settings: TrackSettings = field(default_factory=TrackSettings)
    decisions: dict[Place, bool] = field(default_factory=dict)
    corrections: tuple[Correction, ...] = ()
    given: tuple[tuple[int, int], ...] | None = None
    chains: dict[int, tuple[Place, ...]] | None = None
    held: tuple[Correction, ...] = ()
    narrowed: bool = False


def state_moved(state: TrackState, found: MeasuredPieces, shift: int = 0) -> TrackState:
    """Return what the user decided, for frames that were measured anew.

    Parameters
    ----------
    state : TrackState
    found : MeasuredPieces
    shift : int
        What is added to the number of a frame: a range of the movie may begin elsewhere.
    """
    to = {
        (frame - shift, number - 1): (frame, index)
        for frame, known in enumerate(found.known)
        for index, number in enumerate(known.tolist())
        if number
    }
    places = {place for each in _corrections(state) for place in each.places}
    places |= {(frame, number - 1) for frame, number in state.decisions}
    outside = {at for at in places if not 0 <= at[0] + shift < len(found.groups)}
    to |= {(frame, index): (frame + shift, index) for frame, index in outside}
    # Decisions name pieces as they are numbered from 1.
    decisions = {
        (frame + shift, to[frame, number - 1][1] + 1): taken
        for (frame, number), taken in state.decisions.items()
        if (frame, number - 1) in to
    }
    chains = state.chains
    if chains is not None:
        chains = {
            name: tuple(to[place] for place in chain if place in to)
            for name, chain in chains.items()
        }
    return replace(
        state,
        decisions=decisions,
        corrections=_moved(state.corrections, to),
        held=_moved(state.held, to),
        chains=chains,
    )


def _corrections(state: TrackState) -> tuple[Correction, ...]:
    return (*state.held, *state.corrections)


def _moved(
    corrections: Iterable[Correction], to: Mapping[Place, Place]
) -> tuple[Correction, ...]:
    moved = (each.moved(to) for each in corrections)
    return tuple(each for each in moved if each is not None)


def are_tracks(found: MeasuredPieces) -> bool:
    """Whether the ids of the labels are tracks already, in most frames."""
    every = np.concatenate(found.ids)
    through = through_planes(found.ids, found.overlaps)
    return bool(np.isin(every, through).mean() > 0.5) if len(every) else False
