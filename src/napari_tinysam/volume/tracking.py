"""Objects of single frames become tracks, with divisions.

Objects that overlap from frame to frame are linked as those of planes are (`linking`); objects that
move far are linked by their centres, by laptrack (Jaqaman et al., Nature Methods 2008). Both
work on `MeasuredFrames`, without the pixels, so that a changed setting costs little.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

from napari_tinysam.volume.divisions import Candidate, possible_divisions
from napari_tinysam.volume.lineage import Track
from napari_tinysam.volume.linking import (
    MOST_GAP,
    Chain,
    Links,
    LinkSettings,
    chained,
    numbered,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_tinysam.volume.measuring import MeasuredFrames

#: How objects of two frames are known to be the same.
Way = Literal["auto", "overlap", "centres", "trackastra"]

#: Below this typical IoU from frame to frame, centres are right more often than overlaps (measured
#: on synthetic movies of several speeds, see `benchmarks/README.md`).
_FAR = 0.5

#: An object this much larger than the one it was, over several, is two that touch for a frame.
_GROWTH = 1.6


@dataclass(frozen=True)
class TrackSettings:
    """When objects of two frames are the same, and when one has divided.

    Parameters
    ----------
    way : "auto", "overlap", "centres" or "trackastra"
        Overlaps tell neighbours apart best as long as objects move less than their size; centres
        follow objects that move further. "auto" chooses by `MeasuredFrames.typical_overlap`. What
        trackastra finds is given to `track` as chains: it needs the image.
    overlap : float
        Least intersection over union in neighbouring frames, above 0 and at most 1. For overlaps.
    distance : float
        The furthest that an object moves between frames, in median diameters. For centres.
    gap : int
        Frames that an object may be missing in, 0 to 3.
    division : float
        Least confidence of divisions that are taken, 0 to 1. Those below are proposed only.
    least_frames : int
        Objects that show in fewer frames are left out, unless they are part of a division.
    """

    way: Way = "auto"
    overlap: float = 0.1
    distance: float = 1.5
    gap: int = 1
    division: float = 0.3
    least_frames: int = 1

    def __post_init__(self) -> None:
        if self.way not in get_args(Way):
            known = ", ".join(get_args(Way))
            raise ValueError(f"way is one of {known}; got {self.way!r}.")
        if not 0 < self.overlap <= 1:
            raise ValueError("overlap is above 0 and at most 1.")
        if not self.distance > 0:
            raise ValueError("distance is above 0.")
        if not 0 <= self.gap <= MOST_GAP:
            raise ValueError(f"gap lies between 0 and {MOST_GAP}; got {self.gap}.")
        if not 0 <= self.division <= 1:
            raise ValueError("division lies between 0 and 1.")
        if self.least_frames < 1:
            raise ValueError(f"least_frames is at least 1; got {self.least_frames}.")


@dataclass(frozen=True)
class Division:
    """An object that has divided, or may have.

    Attributes
    ----------
    mother : int
        Its track.
    daughters : (int, int)
        Their tracks. The first is the mother's where the division is not taken and she goes on.
    frame : int
        The first frame of the daughters.
    confidence : float
        0 to 1.
    taken : bool
        Whether the tracks descend from the mother's.
    key : (int, int)
        The frame before, and the mother's label there as it was measured. It stays the same when
        settings change; `track` takes decisions by it.
    """

    mother: int
    daughters: tuple[int, int]
    frame: int
    confidence: float
    taken: bool
    key: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Tracking:
    """The tracks of a movie.

    Attributes
    ----------
    links : Links
        By frame, the track of each label; `Links.relabelled` brings it into the frames.
    tracks : tuple of Track
        Labelled from 1, by their first frame, then by their label there.
    divisions : tuple of Division
        Taken and proposed, by frame. Those whose daughters are left out are not there.
    way : "overlap", "centres" or "given"
        How objects were linked.
    """

    links: Links
    tracks: tuple[Track, ...]
    divisions: tuple[Division, ...]
    way: str


def track(
    measured: MeasuredFrames,
    settings: TrackSettings | None = None,
    decisions: Mapping[tuple[int, int], bool] | None = None,
    chains: Sequence[Chain] | None = None,
) -> Tracking:
    """Find the tracks of a movie.

    Parameters
    ----------
    measured : MeasuredFrames
    settings : TrackSettings, optional
    decisions : mapping of (int, int) to bool, optional
        Divisions that were confirmed or rejected, by `Division.key`; they count more than their
        confidence.
    chains : sequence of Chain, optional
        Objects that are linked already, each in one chain, see `learned.chained_by_trackastra`; the
        settings of linking are not used then.

    Returns
    -------
    Tracking
    """
    settings = settings or TrackSettings()
    decisions = decisions or {}
    way: str = settings.way
    if way == "auto":
        way = "overlap" if measured.typical_overlap() >= _FAR else "centres"
    if chains is not None:
        way = "given"
    elif way == "overlap":
        chains = chained(measured.overlaps, _linking(settings))
    elif way == "trackastra":
        raise ValueError("What trackastra finds is given as chains.")
    else:
        chains = chained_by_centres(measured, settings)
    possible = possible_divisions(measured, chains)
    keys = [_key(measured, chains[each.mother], each.frame) for each in possible]
    taken = [
        decisions.get(key, each.confidence >= settings.division)
        for key, each in zip(keys, possible, strict=True)
    ]
    pieces = _cut(chains, [e for e, yes in zip(possible, taken, strict=True) if yes])
    # A piece is known by any of its places.
    piece_at = {place: number for number, piece in enumerate(pieces) for place in piece}
    parts = [
        tuple(
            piece_at[place]
            for place in (
                _place(chains[each.mother], each.frame - 1),
                *(_place(chains[number], each.frame) for number in each.daughters),
            )
        )
        for each in possible
    ]
    parents = {
        daughter: part[0]
        for part, yes in zip(parts, taken, strict=True)
        if yes
        for daughter in part[1:]
    }
    family = {*parents, *parents.values()}
    kept = [
        number
        for number, piece in enumerate(pieces)
        if len(piece) >= settings.least_frames or number in family
    ]
    label = {number: place for place, number in enumerate(kept, start=1)}
    tracks = tuple(
        Track(
            label[number],
            tuple(frame for frame, _ in pieces[number]),
            label[parents[number]] if number in parents else 0,
        )
        for number in kept
    )
    divisions = tuple(
        Division(label[m], (label[a], label[b]), each.frame, each.confidence, yes, key)
        for each, yes, key, (m, a, b) in zip(possible, taken, keys, parts, strict=True)
        if {m, a, b} <= label.keys()
    )
    links = numbered(measured.overlaps, [pieces[number] for number in kept])
    return Tracking(links, tracks, divisions, way)


def _linking(settings: TrackSettings) -> LinkSettings:
    # What has moved for twice the time overlaps less.
    return LinkSettings(
        overlap=settings.overlap,
        gap=settings.gap,
        gap_overlap=settings.overlap / 2,
        least_planes=1,
        growth=_GROWTH,
        tips=1.0,
    )


def chained_by_centres(
    measured: MeasuredFrames, settings: TrackSettings
) -> list[Chain]:
    """Chain objects by the distance of their centres, with laptrack.

    Parameters and result as those of `linking.chained`.
    """
    if sum(map(len, measured.centres)) == 0:
        return []
    from laptrack import LapTrack

    most = (settings.distance * measured.diameter) ** 2
    tree = LapTrack(
        cutoff=most,
        gap_closing_cutoff=most if settings.gap else False,
        gap_closing_max_frame_count=settings.gap + 1,
        splitting_cutoff=False,
        merging_cutoff=False,
        segment_start_cost=most,
        segment_end_cost=most,
    ).predict(measured.places)
    following = {tuple(map(int, a)): tuple(map(int, b)) for a, b in tree.edges()}
    chains = []
    for node in sorted(tree.nodes()):
        if tree.in_degree(node):
            continue
        at: tuple[int, ...] | None = tuple(map(int, node))
        chain: Chain = []
        while at is not None:
            chain.append((at[0], at[1]))
            at = following.get(at)
        chains.append(chain)
    return chains


def _key(measured: MeasuredFrames, mother: Chain, frame: int) -> tuple[int, int]:
    before, index = _place(mother, frame - 1)
    return before, int(measured.overlaps.ids[before][index])


def _place(chain: Chain, frame: int) -> tuple[int, int]:
    return chain[bisect_left(chain, (frame, -1))]


def _cut(chains: Sequence[Chain], divisions: Sequence[Candidate]) -> list[Chain]:
    """Cut chains where they go on as a daughter; the pieces by first frame, then by label there."""
    cuts: dict[int, list[int]] = {}
    for each in divisions:
        if each.mother in each.daughters:
            cuts.setdefault(each.mother, []).append(each.frame)
    pieces = []
    for number, chain in enumerate(chains):
        ends = [
            bisect_left(chain, (frame, -1)) for frame in sorted(cuts.get(number, []))
        ]
        pieces += [chain[a:b] for a, b in pairwise([0, *ends, len(chain)])]
    return sorted(pieces)
