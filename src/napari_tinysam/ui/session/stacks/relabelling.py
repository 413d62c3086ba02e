"""Which ids the pieces of each labels layer have: what linking and tracking write, with undo."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.ui.session.labels.label_filling import redrawn
from napari_tinysam.ui.session.labels.stack_edits import StackEdit
from napari_tinysam.ui.session.stacks.pieces import Pieces, PlanePart, Relabel, Tables
from napari_tinysam.ui.state.history import UNTOLD, Deed
from napari_tinysam.ui.state.stack_planes import nearest_plane

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.ui.session.labels.outputs import Outputs
    from napari_tinysam.ui.session.labels.saving import Saving
    from napari_tinysam.ui.session.labels.writing_queue import OnWritten, Post
    from napari_tinysam.ui.session.stacks.piece_measuring import MeasuredPieces
    from napari_tinysam.ui.state.history import Edit
    from napari_tinysam.ui.state.images import Memory
    from napari_tinysam.ui.state.planes import Plane


class Relabelling:
    """Shows pieces with other ids, as steps of undo.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    memory : Memory
        Holds the history of each image.
    outputs : Outputs
        Hands out ids.
    saving : Saving
    post : callable
        Runs a callable soon on the session's thread.
    on_written : callable
        Called with a labels layer when what is shown of it was changed.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        memory: Memory,
        outputs: Outputs,
        saving: Saving,
        post: Post,
        *,
        on_written: Callable[[Labels], None],
    ) -> None:
        self._viewer = viewer
        self._memory = memory
        self._outputs = outputs
        self._saving = saving
        self._post = post
        self._on_written = on_written
        #: Called with a step that was undone (False) or redone (True).
        self.on_turned: list[Callable[[Relabel, bool], None]] = []
        self._pieces: weakref.WeakSet[Pieces] = weakref.WeakSet()

    def made(self, measured: MeasuredPieces) -> Pieces:
        """Make pieces of what was measured; the layer shows them as it does."""
        tables = [with_background(ids) for ids in measured.ids]
        parts = [
            PlanePart(plane, group, rows, tables[group])
            for plane, group, rows in measured.rows
        ]
        layer = measured.layer
        channel_axis = parts[0].plane.channel_axis if parts else None
        pieces = Pieces(layer, parts, tables, *self._ours(layer, channel_axis))
        self._pieces.add(pieces)
        return pieces

    def show(
        self,
        image: Image,
        edit: Relabel,
        tables: Tables,
        text: str,
        part_of: StackEdit | None = None,
        deed: Deed = UNTOLD,
    ) -> None:
        """Show pieces with other ids, as one step; again with the same edit, it stays one step.

        Parameters
        ----------
        image : napari.layers.Image
            Has the history.
        edit : Relabel
            Its `after` is replaced.
        tables : Tables
        text : str
            Of the step.
        part_of : StackEdit, optional
            A step that is in the history already; this becomes a part of it.
        deed : Deed, optional
        """
        layer = edit.layer
        edit.after = tables
        self._outputs.ids(layer).used(
            max((int(table.max(initial=0)) for table in tables), default=0)
        )
        state = self._memory.state_of(image)
        plane = nearest_plane(image, self._viewer.dims, state.channel_axis)
        edit.pieces.edit = part_of or edit
        if edit.pieces.show(tables):
            # What was known of objects by their ids is of others now.
            self._memory.traces_of(layer).clear()
        self._saving.changed(layer)
        if part_of is not None:
            part_of.joined.append(edit)
        elif plane is not None:
            state.change_labels(text, plane, edit, deed)

    def attach(self, edit: Relabel) -> None:
        """Take care of a step that is undone or redone now."""
        pieces = edit.pieces
        pieces.attach(*self._ours(pieces.layer, pieces.channel_axis))
        self._pieces.add(pieces)

    def turned(self, edit: Relabel, applied: bool) -> None:
        """Tell those who made a step that it was undone or redone."""
        if edit.changes:
            self._memory.traces_of(edit.layer).clear()
        for tell in self.on_turned:
            tell(edit, applied)

    def finish(self) -> None:
        """Write at once what still waits: another step needs all of it."""
        for pieces in list(self._pieces):
            if pieces.layer in self._viewer.layers:
                pieces.finish()

    def _ours(
        self, layer: Labels, channel_axis: int | None
    ) -> tuple[Post, OnWritten, Callable[[], Plane | None]]:
        """Return what pieces need of this session."""

        def shown() -> Plane | None:
            return nearest_plane(layer, self._viewer.dims, channel_axis)

        return self._post, self._written, shown

    def _written(self, layer: Labels, planes: Sequence[Plane]) -> None:
        if redrawn(self._viewer, layer, planes):
            self._on_written(layer)


def relabels_in(edit: Edit) -> list[Relabel]:
    """Return the parts of a step that show pieces with other ids."""
    if isinstance(edit, StackEdit):
        return edit.joined
    return [edit] if isinstance(edit, Relabel) else []


def with_background(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the table of N ids: (N + 1,), the first for the background."""
    return np.concatenate([np.zeros(1, np.int64), ids])
