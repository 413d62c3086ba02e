"""Reversible changes of many planes of a Labels layer: one step of undo."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.files.label_store import LabelStore
from napari_tinysam.labels import Overlap, draw_mask, object_masks
from napari_tinysam.masks import bounding_slices
from napari_tinysam.ui.session.labels.edits import (
    LabelEdit,
    belonging_to,
    full_data,
    put_ids,
    read_ids,
)
from napari_tinysam.ui.session.labels.writing import object_mask

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Labels

    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.stacks.pieces import Relabel
    from napari_tinysam.ui.state.planes import Plane

#: Ids up to this are looked up in a table.
_TABLE = 2**20


class StackEdit:
    """Changes of rectangles of planes, in order, of one labels layer.

    Pieces may be added while the work that it belongs to goes on. What the user painted since is
    never touched: a piece is taken back, or done again, only where the layer still is as the piece
    left it.

    Parameters
    ----------
    layer : napari.layers.Labels
    on_turned : callable, optional
        Called after it was taken back (with False) or done again (with True), for what belongs to
        the labels.

    Attributes
    ----------
    applied : bool
        Whether it is meant to be in the layer: False after undo.
    joined : list of Relabel
        What followed from it, and is part of the same step: tracks that go on otherwise.
    """

    def __init__(
        self, layer: Labels, on_turned: Callable[[bool], None] | None = None
    ) -> None:
        self.layer = layer
        self.applied = True
        self.on_turned = on_turned
        self.joined: list[Relabel] = []
        self._pieces: list[LabelEdit] = []

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        joined = sum(relabel.nbytes for relabel in self.joined)
        return joined + sum(piece.nbytes for piece in self._pieces)

    @property
    def planes(self) -> list[Plane]:
        """The planes that it changes, in the order of the changes."""
        return list(dict.fromkeys(piece.plane for piece in self._pieces))

    def add(self, piece: LabelEdit) -> None:
        """Write a piece, and keep it; nothing is kept of one that changes nothing."""
        if piece.changed:
            self._pieces.append(piece)
            with belonging_to(self):
                _write(piece, piece.before, piece.after)

    def extend(self, pieces: Iterable[LabelEdit]) -> None:
        """Write pieces, and keep them."""
        for piece in pieces:
            self.add(piece)

    def apply(self) -> bool:
        """Write everything again; return whether anything changed."""
        with belonging_to(self):
            changed = [_write(each, each.before, each.after) for each in self._pieces]
            for relabel in self.joined:
                changed.append(relabel.apply())
                relabel.pieces.finish()
        return self._turned(True, any(changed))

    def revert(self) -> bool:
        """Take everything back, the last first; return whether anything changed."""
        changed = []
        with belonging_to(self):
            for relabel in reversed(self.joined):
                changed.append(relabel.revert())
                relabel.pieces.finish()  # before what it was made of changes
            changed += [
                _write(each, each.after, each.before) for each in reversed(self._pieces)
            ]
        return self._turned(False, any(changed))

    def _turned(self, applied: bool, changed: bool) -> bool:
        self.applied = applied
        if changed:
            self.layer.refresh()
        if self.on_turned is not None:
            self.on_turned(applied)
            return True
        return changed


def redrawn(
    layer: Labels,
    plane: Plane,
    label: int,
    mask: BoxedMask | None,
    *,
    replace: bool,
    old: BoxedMask | None = None,
) -> LabelEdit | None:
    """Make the edit that draws an object of a plane anew.

    Parameters
    ----------
    layer, plane
        Where; the plane is one of the layer.
    label : int
        Its id.
    mask : BoxedMask or None
        Its new shape; None removes it from the plane.
    replace : bool
        Whether it takes pixels of other objects.
    old : BoxedMask, optional
        The shape that it is known to have, maybe empty; by default the plane is searched for it.

    Returns
    -------
    LabelEdit or None
        Not applied; None if nothing would change, or it no longer has the known shape.
    """
    known = old
    if old is None:
        old = object_mask(layer, plane, label)
    masks = [each for each in (old, mask) if each is not None and each.area]
    if not masks:
        return None
    ys, xs = bounding_slices(masks)
    before = read_ids(layer, plane, ys, xs)
    if known is not None:
        there = np.zeros(before.shape, bool)
        here = known.moved(-ys.start, -xs.start, before.shape)
        there[here.slices] = here.mask
        if not np.array_equal(there, before == label):
            return None
    after = np.where(before == label, 0, before).astype(before.dtype)
    if mask is not None and mask.area:
        how = Overlap.REPLACE if replace else Overlap.FREE
        draw_mask(after, mask.moved(-ys.start, -xs.start, after.shape), label, how)
    edit = LabelEdit(layer, plane, ys.start, xs.start, before, after)
    return edit if edit.changed else None


def renamed(layer: Labels, plane: Plane, label: int, new: int) -> LabelEdit | None:
    """Make the edit that gives an object of a plane another id, or 0; None if it is not there."""
    mask = object_mask(layer, plane, label)
    if not mask.area:
        return None
    before = read_ids(layer, plane, *mask.slices)
    after = np.where(mask.mask, np.array(new, before.dtype), before)
    return LabelEdit(layer, plane, mask.y0, mask.x0, before, after)


def _write(piece: LabelEdit, old: npt.NDArray[Any], new: npt.NDArray[Any]) -> bool:
    """Replace old ids by new ones where the old ones still are."""
    height, width = old.shape
    rows, columns = (
        slice(piece.y0, piece.y0 + height),
        slice(piece.x0, piece.x0 + width),
    )
    now = read_ids(piece.layer, piece.plane, rows, columns)
    where = (old != new) & (now == old)
    if not where.any():
        return False
    after = np.where(where, new, now).astype(now.dtype)
    put_ids(piece.layer, piece.plane, rows, columns, now, after)
    return True


def masks_of(
    layer: Labels, plane: Plane, labels: Collection[int]
) -> dict[int, BoxedMask]:
    """Find objects of a plane by their ids; those that are not there are left out."""
    wanted = set(labels)
    if len(wanted) == 1 or isinstance(full_data(layer), LabelStore):
        found = {label: object_mask(layer, plane, label) for label in wanted}
        return {label: mask for label, mask in found.items() if mask.area}
    ids = read_ids(layer, plane)
    if int(ids.max(initial=0)) > _TABLE:
        known, places = np.unique(ids, return_inverse=True)
        ids = np.where(known > 0, np.arange(len(known)), 0)[places.reshape(ids.shape)]
        names = known
    else:
        names = np.arange(int(ids.max(initial=0)) + 1)
    return {
        int(names[number]): mask
        for number, mask in object_masks(ids)
        if int(names[number]) in wanted
    }


def ids_of(layer: Labels, plane: Plane) -> set[int]:
    """List the ids of the objects of a plane."""
    return set(np.unique(read_ids(layer, plane)).tolist()) - {0}
