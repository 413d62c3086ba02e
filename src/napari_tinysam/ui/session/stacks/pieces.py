"""Objects of single planes of a labels layer, and the ids under which the layer shows them.

Linking objects of planes, and tracking those of frames, gives them other ids, or hides them. The
objects are kept as they were found, packed, and called pieces; a table for each plane or frame says
which id each piece has. So a slider can show them otherwise at once, and nothing that is hidden is
lost. What the user painted since stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.ui.session.labels.edits import belonging_to, put_ids, read_ids
from napari_tinysam.ui.session.labels.filling import Packed
from napari_tinysam.ui.session.labels.writing_queue import WritingQueue

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Labels

    from napari_tinysam.ui.session.labels.writing_queue import OnWritten, Post
    from napari_tinysam.ui.state.history import Edit
    from napari_tinysam.ui.state.planes import Plane

#: Pixels of a part: unpacking, comparing and writing it takes a few milliseconds.
PART = 2**18

#: For each plane or frame, (N + 1,) the id of each piece; 0 for the background and what is hidden.
Tables = Sequence["npt.NDArray[np.int64]"]


@dataclass(eq=False)
class PlanePart:
    """Rows of a plane.

    Parameters
    ----------
    plane : Plane
        Of the layer.
    group : int
        Which table they are shown with.
    rows : Packed
        Pieces, counted from 1 in each group. Negative where the user has erased a piece that was
        hidden since: it stays erased when the piece is shown again.
    shown : ndarray of int64
        The table that they are shown with now.
    """

    plane: Plane
    group: int
    rows: Packed
    shown: npt.NDArray[np.int64]

    @property
    def place(self) -> slice:
        """The rows."""
        return slice(self.rows.y0, self.rows.y0 + self.rows.shape[0])


class Pieces:
    """The pieces of a labels layer, written through a `WritingQueue`, the shown plane first.

    Parameters
    ----------
    layer : napari.layers.Labels
    parts : sequence of PlanePart
    tables : Tables
        The ids that the layer has now.
    post : callable
        Runs a callable soon on the session's thread.
    on_written : callable
        Called with the layer and its planes after some of them were written.
    shown : callable
        Returns the plane of the layer that is on the screen, or None.

    Attributes
    ----------
    tables : Tables
        The ids that the layer has, or gets in a moment.
    edit : Edit or None
        The step of undo that shows these.
    """

    def __init__(
        self,
        layer: Labels,
        parts: Sequence[PlanePart],
        tables: Tables,
        post: Post,
        on_written: OnWritten,
        shown: Callable[[], Plane | None],
    ) -> None:
        self.layer = layer
        self.tables = tables
        self.edit: Edit | None = None
        self._parts = parts
        self._by_plane: dict[Plane, list[PlanePart]] = {}
        for part in parts:
            self._by_plane.setdefault(part.plane.without_channel(), []).append(part)
        self._queue = WritingQueue(layer, self._write, post, on_written)
        self._shown = shown

    def attach(
        self, post: Post, on_written: OnWritten, shown: Callable[[], Plane | None]
    ) -> None:
        """Report to another session: the dock may have been closed and opened again."""
        self._queue.attach(post, on_written)
        self._shown = shown

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(len(part.rows.content) for part in self._parts)

    @property
    def channel_axis(self) -> int | None:
        """The axis of the layer that holds channels."""
        return self._parts[0].plane.channel_axis if self._parts else None

    def of_plane(self, plane: Plane) -> list[PlanePart]:
        """Return the parts of a plane."""
        return self._by_plane.get(plane.without_channel(), [])

    def show(self, tables: Tables) -> bool:
        """Show all pieces with other ids; return whether any plane differs."""
        self.tables = tables
        differ = {
            id(part)
            for part in self._parts
            if not np.array_equal(part.shown, tables[part.group])
        }
        parts = [part for part in self._parts if id(part) in differ]
        first = self._shown()
        first = None if first is None else first.without_channel()
        parts.sort(key=lambda part: part.plane.without_channel() != first)
        return self._queue.replace(parts)

    def finish(self) -> None:
        """Write at once what still waits."""
        self._queue.finish()

    def _write(self, part: PlanePart) -> Plane:
        with belonging_to(self.edit):
            _write(self.layer, part, self.tables[part.group])
        return part.plane


def intact(
    part: PlanePart, now: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Find the pixels of a part where the layer still is as its pieces are shown.

    Parameters
    ----------
    part : PlanePart
    now : ndarray of int, (h * w,)
        Ids of its rows.

    Returns
    -------
    places : ndarray of intp, (N,)
        Of these pixels.
    pieces : ndarray of int32, (N,)
        There.
    """
    places, pieces = _pixels(part)
    known = np.abs(pieces)
    shown = part.shown[known]
    there = (now[places] == shown) & ((pieces > 0) | (shown > 0))
    return places[there], known[there]


def _pixels(part: PlanePart) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Unpack the pixels of a part that belong to pieces: most belong to none."""
    labels = part.rows.labels.ravel()
    places = np.flatnonzero(labels)
    return places, labels[places]


def _write(layer: Labels, part: PlanePart, table: npt.NDArray[np.int64]) -> None:
    """Show a part with another table, where the layer is as it was left."""
    now = np.ascontiguousarray(read_ids(layer, part.plane, part.place))
    places, known = intact(part, now.ravel())
    new = table[known]
    changed = new != part.shown[known]
    if changed.any():
        after = now.copy()
        after.ravel()[places[changed]] = new[changed].astype(now.dtype)
        put_ids(layer, part.plane, part.place, slice(None), now, after)
    _mark_erased(part, places, table)
    part.shown = table


def _mark_erased(
    part: PlanePart, there: npt.NDArray[np.intp], table: npt.NDArray[np.int64]
) -> None:
    """Mark what the user has erased of pieces that are hidden now."""
    if not ((table == 0) & (part.shown > 0)).any():
        return  # nothing is hidden that was not before
    places, pieces = _pixels(part)
    erased = (pieces > 0) & (table[np.abs(pieces)] == 0)
    erased &= (part.shown[np.abs(pieces)] > 0) & ~np.isin(
        places, there, assume_unique=True
    )
    if erased.any():
        labels = part.rows.labels.copy()
        labels.ravel()[places[erased]] *= -1
        part.rows = Packed.of(part.rows.y0, labels)


@dataclass(eq=False)
class Relabel:
    """A step of undo: pieces are shown with other ids.

    Parameters
    ----------
    pieces : Pieces
    before, after : Tables
    first : bool
        Whether it is the first step of these pieces: their memory is counted once.
    """

    pieces: Pieces
    before: Tables
    after: Tables
    first: bool

    @property
    def layer(self) -> Labels:
        """The layer that is changed."""
        return self.pieces.layer

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        tables = sum(table.nbytes for table in (*self.before, *self.after))
        return tables + (self.pieces.nbytes if self.first else 0)

    @property
    def changes(self) -> bool:
        """Whether any id differs."""
        return not all(map(np.array_equal, self.before, self.after))

    def apply(self) -> bool:
        """Redo; return whether anything changed."""
        return self._turn(self.after)

    def revert(self) -> bool:
        """Undo; return whether anything changed."""
        return self._turn(self.before)

    def _turn(self, tables: Tables) -> bool:
        self.pieces.edit = self
        self.pieces.show(tables)
        return True
