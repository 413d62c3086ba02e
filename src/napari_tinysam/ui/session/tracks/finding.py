"""Tracks are found in a measured movie, with what the user decided and corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.errors import TinySAMError
from napari_tinysam.ui.session.tracks.tracked_movie import Tracks, mother_place
from napari_tinysam.volume.corrections import Lineage, Place
from napari_tinysam.volume.learned import chained_by_trackastra
from napari_tinysam.volume.tracking import Division, track

if TYPE_CHECKING:
    from napari_tinysam.ui.session.tracks.state import TrackState
    from napari_tinysam.ui.session.tracks.tracked_movie import TrackedMovie
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.volume.linking import Chain


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
    held = state.held if state.given is None else ()
    lineage.correct((*held, *state.corrections))
    family = {*lineage.mother, *lineage.mother.values()}
    own, least = movie.own, state.settings.least_frames
    tables = [np.zeros(len(ids), np.int64) for ids in own]
    label_of: dict[Place, int] = {}  # by first and last place
    ends: dict[int, Place] = {}
    every = {(frame, at) for frame, ids in enumerate(own) for at in range(len(ids))}
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
        deleted=sorted(every - lineage.places),
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
