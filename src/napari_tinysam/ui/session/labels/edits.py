"""Reversible changes of a Labels layer: those of the plugin, and strokes of the user.

`Labels.data_setitem` writes them: it redraws only what changed and adds to napari's own undo.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.files.label_store import LabelStore
from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Labels

    from napari_tinysam.ui.state.history import Edit
    from napari_tinysam.ui.state.planes import Plane


#: Called with a layer, the box of its data that was written, and the edit that it belongs to.
OnBox = Callable[["Labels", tuple[slice, ...], "Edit | None"], None]

#: Called with a layer and the box of its data that is about to be written.
BeforeBox = Callable[["Labels", tuple[slice, ...]], None]

#: Who is told of what is written into a layer here, before and after: `Recording`.
_watchers: weakref.WeakKeyDictionary[Labels, tuple[BeforeBox, OnBox]] = (
    weakref.WeakKeyDictionary()
)

#: The edits that write now, the outermost first.
_writing: list[Edit] = []


@contextmanager
def belonging_to(edit: Edit | None) -> Iterator[None]:
    """Say that what is written meanwhile, on the session's thread, belongs to an edit."""
    if edit is None:
        yield
        return
    _writing.append(edit)
    try:
        yield
    finally:
        _writing.pop()


def watch(layer: Labels, writes: BeforeBox, written: OnBox) -> None:
    """Call `writes` before something is written here, and `written` afterwards."""
    _watchers[layer] = writes, written


def unwatch(layer: Labels) -> None:
    """Tell nobody of a layer any more."""
    _watchers.pop(layer, None)


def tell_written(layer: Labels, box: Sequence[int | slice]) -> None:
    """Tell who watches a layer that a box of its data was written."""
    if layer in _watchers:
        edit = _writing[0] if _writing else None
        _watchers[layer][1](layer, _sides(box), edit)


def tell_writes(layer: Labels, box: Sequence[int | slice]) -> None:
    """Tell who watches a layer that a box of its data is about to be written."""
    if layer in _watchers:
        _watchers[layer][0](layer, _sides(box))


def _sides(box: Sequence[int | slice]) -> tuple[slice, ...]:
    return tuple(at if isinstance(at, slice) else slice(at, at + 1) for at in box)


def full_data(layer: Labels) -> Any:
    """Return the labels themselves, of a pyramid the finest level."""
    return layer.data[0] if layer.multiscale else layer.data


@dataclass(frozen=True, eq=False)
class LabelEdit:
    """A reversible change of one rectangle of one plane.

    Parameters
    ----------
    layer : napari.layers.Labels
        The layer that was changed.
    plane : Plane
        Of that layer.
    y0, x0 : int
        First row and column of the rectangle.
    before, after : numpy.ndarray
        (h, w), ids with rows down the screen.
    """

    layer: Labels
    plane: Plane
    y0: int
    x0: int
    before: npt.NDArray[Any]
    after: npt.NDArray[Any]

    @property
    def changed(self) -> bool:
        """Whether anything differs."""
        return bool((self.before != self.after).any())

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.before.nbytes + self.after.nbytes

    def shape_of(self, label: int) -> BoxedMask:
        """Return the pixels of an id in the rectangle, as they are after the change."""
        inside = BoxedMask.from_full(self.after == label)
        return inside.moved(self.y0, self.x0, self.plane.shape)

    def apply(self) -> bool:
        """Write the new ids where the old ones still are; return whether anything changed."""
        return self._replace(self.before, self.after)

    def revert(self) -> bool:
        """Write the old ids where the new ones still are; return whether anything changed.

        Later painting stays. After napari's own undo, nothing is left to do.
        """
        return self._replace(self.after, self.before)

    def _replace(self, old: npt.NDArray[Any], new: npt.NDArray[Any]) -> bool:
        where = (old != new) & (self._read() == old)
        with belonging_to(self):
            self._write(where, new)
        return bool(where.any())

    def _read(self) -> npt.NDArray[Any]:
        height, width = self.before.shape
        ys, xs = slice(self.y0, self.y0 + height), slice(self.x0, self.x0 + width)
        return read_ids(self.layer, self.plane, ys, xs)

    def _write(self, where: npt.NDArray[np.bool_], ids: npt.NDArray[Any]) -> None:
        rows, columns = np.nonzero(where)
        if not rows.size:
            return
        axes = self.plane.axes
        indices: list[npt.NDArray[np.intp]] = [
            np.full(rows.size, 0 if at is None else at, np.intp)
            for at in self.plane.index
        ]
        indices[axes[0]] = rows + self.y0
        indices[axes[1]] = columns + self.x0
        ids = ids[where]
        for channel in self._channels():
            self._write_channel(indices, channel, ids)

    def _channels(self) -> range:
        """Channels to write to: objects belong to all channels."""
        axis, data = self.plane.channel_axis, full_data(self.layer)
        if axis is None:
            return range(1)
        strides = getattr(data, "strides", None)
        return range(
            1 if strides is not None and strides[axis] == 0 else data.shape[axis]
        )

    def _write_channel(
        self,
        indices: list[npt.NDArray[np.intp]],
        channel: int,
        ids: npt.NDArray[Any],
    ) -> None:
        if self.plane.channel_axis is not None:
            indices = list(indices)
            indices[self.plane.channel_axis] = np.full(ids.size, channel, np.intp)
        _write_pixels(self.layer, indices, ids)


@dataclass(frozen=True, eq=False)
class Stroke:
    """What the user painted, filled or erased with napari's own tools.

    Parameters
    ----------
    layer : napari.layers.Labels
        The layer that was changed.
    item : sequence
        napari's records of it, each (indices, old values, new values) or the form for boxes.
    """

    layer: Labels
    item: Sequence[Any]

    def apply(self) -> bool:
        """Paint again where the old values are; return whether anything changed."""
        changed = [self._replace(atom, back=False) for atom in self.item]
        return any(changed)

    def revert(self) -> bool:
        """Take back where the new values still are; return whether anything changed."""
        changed = [self._replace(atom, back=True) for atom in reversed(self.item)]
        return any(changed)

    @property
    def ids(self) -> list[int]:
        """The ids that were painted; 0 for erasing."""
        return sorted({int(each) for atom in self.item for each in np.unique(atom[-1])})

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(
            part.nbytes
            for atom in self.item
            for part in (*_flat(atom[0]), *atom[1:])
            if hasattr(part, "nbytes")
        )

    def _replace(self, atom: Any, *, back: bool) -> bool:
        places, old, new = places_of(atom)
        have, want = (new, old) if back else (old, new)
        now = np.asarray(self.layer.data[places])
        where = (now == have) & (now != want)
        if not where.any():
            return False
        at = tuple(np.broadcast_to(index, where.shape)[where] for index in places)
        values = np.broadcast_to(want, where.shape)[where].astype(now.dtype)
        with belonging_to(self):
            _write_pixels(self.layer, at, values)
        return True


def _flat(places: Any) -> tuple[Any, ...]:
    return places if isinstance(places, tuple) else (places,)


def places_of(atom: Any) -> tuple[tuple[npt.NDArray[np.intp], ...], Any, Any]:
    """Return the indices along each axis, the old and the new values of one of napari's records."""
    if len(atom) == 3:
        return tuple(np.asarray(index) for index in atom[0]), atom[1], atom[2]
    key, mask, old, new = atom
    corner = [side.start for side in key]
    if mask is None:
        mask = np.ones(np.shape(old), bool)
    places = tuple(
        index + start for index, start in zip(np.nonzero(mask), corner, strict=True)
    )
    return places, np.ravel(old), new


def _write_pixels(
    layer: Labels, indices: Sequence[npt.NDArray[np.intp]], ids: npt.NDArray[Any]
) -> None:
    """Write ids at pixels, given by one index array for each axis, as one step of napari's undo.

    dask refuses such indices and xarray takes all combinations of them: there the box around the
    pixels is read and written, without napari's own undo.
    """
    data = full_data(layer)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in indices)
    tell_writes(layer, box)
    if isinstance(data, LabelStore):
        data.write(indices, ids)
        layer.refresh()
    elif isinstance(data, np.ndarray) or type(data).__module__.startswith("zarr."):
        with layer.block_history():
            layer.data_setitem(tuple(indices), ids)
    else:
        part = np.array(data[box])
        at_part = (at - side.start for at, side in zip(indices, box, strict=True))
        part[tuple(at_part)] = ids
        data[box] = part
        layer.refresh()
    tell_written(layer, box)


def read_ids(
    layer: Labels, plane: Plane, y: slice = slice(None), x: slice = slice(None)
) -> npt.NDArray[Any]:
    """Copy a rectangle of a plane of labels, with rows down the screen."""
    ids = np.array(full_data(layer)[plane.cut(y, x)])
    return ids.T if plane.transposed else ids


def put_ids(
    layer: Labels,
    plane: Plane,
    y: slice,
    x: slice,
    before: npt.NDArray[Any],
    after: npt.NDArray[Any],
) -> None:
    """Replace a rectangle of a plane, of all channels if there are any.

    Neither redraws the layer nor adds to napari's own undo, so it suits many planes at once.

    Parameters
    ----------
    layer, plane
        Where; the plane is one of the layer.
    y, x : slice
        Rows and columns.
    before, after : ndarray of int, (h, w)
        The ids that are there, and those to write.
    """
    data = full_data(layer)
    if isinstance(data, LabelStore):
        LabelEdit(layer, plane, y.start or 0, x.start or 0, before, after).apply()
        return
    axis = plane.channel_axis
    box = list(plane.cut(y, x))
    if axis is not None:
        box[axis] = slice(None)
    tell_writes(layer, box)
    # Channels may share their memory; writing it again costs little.
    for channel in range(1 if axis is None else data.shape[axis]):
        cut = list(plane.cut(y, x))
        if axis is not None:
            cut[axis] = channel
        data[tuple(cut)] = after.T if plane.transposed else after
    tell_written(layer, box)
