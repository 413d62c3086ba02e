"""Reads the objects of the planes of a labels layer, plane by plane, and measures their overlaps.

Each plane, or frame of planes, is a job of its own on the inference thread, so that clicks are
served between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_tinysam.ui.session.labels.edits import read_ids
from napari_tinysam.ui.session.labels.filling import Packed, packed
from napari_tinysam.ui.session.stacks.pieces import PART, PlanePart, intact
from napari_tinysam.volume.measuring import centres_of
from napari_tinysam.volume.overlaps import OverlapMeasuring, counted

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Labels

    from napari_tinysam.ui.session.worker import Inference, Lane
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.volume.overlaps import PlaneOverlaps

#: The planes of a frame; of a stack each plane is one.
Group = Sequence["Plane"]


@dataclass(frozen=True, eq=False)
class MeasuredPieces:
    """Pieces of all planes of a layer, not yet linked.

    Attributes
    ----------
    layer : napari.layers.Labels
    version : int
        Of the layer, see `Saving.version`.
    groups : list of Group
        What was measured.
    rows : list of (Plane, int, Packed)
        Plane, number of the group, and rows of pieces, counted from 1 in each group.
    ids : list of ndarray of int64
        For each group, (N,) the ids that the pieces have in the layer now; 0 if hidden.
    known : list of ndarray of int64
        For each group, (N,) numbers of pieces that were there before, counted from 1, else 0.
    overlaps : list of PlaneOverlaps
        Of each sequence of groups; their labels are the numbers of the pieces.
    centres : list of ndarray of float64
        For each group, (N, 2) or (N, 3) centres of the pieces in pixels; empty if not asked for.
    """

    layer: Labels
    version: int
    groups: list[Group]
    rows: list[tuple[Plane, int, Packed]]
    ids: list[npt.NDArray[np.int64]]
    known: list[npt.NDArray[np.int64]]
    overlaps: list[PlaneOverlaps]
    centres: list[npt.NDArray[np.float64]]

    @cached_property
    def _at(self) -> dict[tuple[Plane, ...], int]:
        return {tuple(group): number for number, group in enumerate(self.groups)}

    def continues(self, groups: Sequence[Group]) -> bool:
        """Whether other groups are these, or have no plane in common with them."""
        mine = {tuple(group) for group in self.groups}
        planes = {plane for group in mine for plane in group}
        return all(tuple(group) in mine or planes.isdisjoint(group) for group in groups)

    def has(self, group: Group) -> bool:
        """Whether a group was measured."""
        return tuple(group) in self._at

    def aligned(
        self, values: Sequence[npt.NDArray[Any]], before: MeasuredPieces
    ) -> list[npt.NDArray[Any]]:
        """Bring what an earlier measurement says of its groups into the order of these.

        Groups that it did not measure get an empty array.
        """
        at = before._at
        nothing = np.zeros(0, np.asarray(values[0]).dtype)
        return [
            values[at[tuple(group)]] if tuple(group) in at else nothing
            for group in self.groups
        ]


class KnownPieces(Protocol):
    """Pieces of an earlier measurement."""

    def of_plane(self, plane: Plane) -> list[PlanePart]:
        """Return the parts of a plane."""
        ...


class PieceMeasuring:
    """Measures a layer in the background.

    Parameters
    ----------
    inference : Inference
    layer : napari.layers.Labels
    version : int
        Of the layer now.
    sequences : sequence of sequence of Group
        Groups of planes of the layer in the order in which they are linked; each of the outer ones
        is linked by itself, as the stacks of a movie are.
    before : KnownPieces, optional
        Of an earlier measurement of the same groups: what is still as it shows them, also what it
        hides, is taken from there.
    lane : Lane
        Of its jobs.
    centres : bool
        Whether the centres of pieces are measured, too.
    on_progress : callable
        Called with the number of groups that are done.
    on_done : callable
        Called with the `MeasuredPieces`.
    on_failed : callable
        Called with the exception.
    """

    def __init__(
        self,
        inference: Inference,
        layer: Labels,
        version: int,
        sequences: Sequence[Sequence[Group]],
        before: KnownPieces | None,
        *,
        lane: Lane,
        centres: bool,
        on_progress: Callable[[int], None],
        on_done: Callable[[MeasuredPieces], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self._inference = inference
        self._before = before
        self._lane, self._centres = lane, centres
        self._on_progress = on_progress
        self._on_done = on_done
        self._on_failed = on_failed
        self._stopped = False
        self._todo = [
            (number, group)
            for number, sequence in enumerate(sequences)
            for group in sequence
        ]
        self._measuring = [OverlapMeasuring() for _ in sequences]
        self._found = MeasuredPieces(
            layer,
            version,
            [group for _, group in self._todo],
            [],
            [],
            [],
            [measuring.overlaps for measuring in self._measuring],
            [],
        )

    @property
    def total(self) -> int:
        """How many groups there are."""
        return len(self._todo)

    def start(self) -> None:
        """Begin with the first group."""
        self._advance(0)

    def stop(self) -> None:
        """Stop without a report."""
        self._stopped = True
        self._inference.drop(self._lane)

    def _advance(self, at: int) -> None:
        if at == len(self._todo):
            self._on_done(self._found)
            return
        sequence, group = self._todo[at]

        def measured(_: None) -> None:
            if not self._stopped:
                self._on_progress(at + 1)
                self._advance(at + 1)

        def failed(error: Exception) -> None:
            if not self._stopped:
                self._on_failed(error)

        self._inference.submit(
            self._lane, lambda: self._measure(at, sequence, group), measured, failed
        )

    def _measure(self, at: int, sequence: int, group: Group) -> None:
        """Read and measure a group. Runs on the inference thread."""
        found = self._found
        # Ids of the layer first, then pieces that were there before, as numbers that do not meet.
        planes = [
            np.ascontiguousarray(read_ids(found.layer, plane), np.int64)
            for plane in group
        ]
        highest = max(int(plane.max(initial=0)) for plane in planes)
        if self._before is not None:
            for plane, ids in zip(group, planes, strict=True):
                for part in self._before.of_plane(plane):
                    rows = ids[part.place]
                    flat = rows.ravel()  # a view, of whole rows
                    places, numbers = intact(part, flat)
                    flat[places] = highest + numbers
        ids_there = np.stack(planes)
        where = np.flatnonzero(ids_there)
        keys, index, _ = counted(ids_there.ravel()[where])
        known = np.where(keys > highest, keys - highest, 0).astype(np.int64)
        ids = keys
        if self._before is not None:
            ids = np.where(known > 0, self._shown(group)[known], keys)
            kept, new = _with_additions(ids, known)
            ids, known, index = ids[kept], known[kept], new[index]
        pieces = np.zeros(ids_there.shape, np.int32)
        pieces.ravel()[where] = index + 1
        found.ids.append(ids)
        found.known.append(known)
        for plane, labels in zip(group, pieces, strict=True):
            found.rows.extend((plane, at, rows) for rows in packed(labels, PART))
        frame = pieces[0] if len(group) == 1 else pieces
        if self._centres:
            found.centres.append(centres_of(frame))
        self._measuring[sequence].add(frame)

    def _shown(self, group: Group) -> npt.NDArray[Any]:
        """Return the table of a group in the earlier measurement."""
        assert self._before is not None
        parts = [part for plane in group for part in self._before.of_plane(plane)]
        return parts[0].shown if parts else np.zeros(1, np.int64)


def _with_additions(
    ids: npt.NDArray[np.int64], known: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Let what the user added to an object, with its id, be part of the object's piece.

    Parameters
    ----------
    ids, known : ndarray of int64, (N,)
        Of the pieces of a group.

    Returns
    -------
    kept : ndarray of bool, (N,)
        Pieces that are left.
    new : ndarray of int64, (N,)
        The index of each piece among these.
    """
    there = np.flatnonzero((known > 0) & (ids > 0))
    shown, first, counts = np.unique(ids[there], return_index=True, return_counts=True)
    target = np.arange(len(ids))
    if len(shown):
        at = np.minimum(np.searchsorted(shown, ids), len(shown) - 1)
        added = (known == 0) & (shown[at] == ids) & (counts[at] == 1)
        target[added] = there[first[at[added]]]
    kept = target == np.arange(len(ids))
    return kept, (np.cumsum(kept) - 1)[target]
