"""Reversible changes of a Labels layer: what the plugin wrote, and what the user painted.

Changes are written with `Labels.data_setitem`, which redraws only what changed and lets napari's
own undo know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Labels

    from napari_tinysam.ui.state.planes import Plane


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
        (h, w), ids down and across the screen.
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
        """Bytes it keeps."""
        return self.before.nbytes + self.after.nbytes

    def apply(self) -> bool:
        """Write the new ids where the old ones still stand; return whether anything changed."""
        return self._replace(self.before, self.after)

    def revert(self) -> bool:
        """Write the old ids, but only where the new ones still stand: later painting stays.

        After napari's own undo there is nothing left to do, and False is returned.
        """
        return self._replace(self.after, self.before)

    def _replace(self, old: npt.NDArray[Any], new: npt.NDArray[Any]) -> bool:
        where = (old != new) & (self._read() == old)
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
            self._write_places(indices, channel, ids)

    def _channels(self) -> range:
        """Positions on the axis of channels to write to: objects belong to all of them."""
        axis, data = self.plane.channel_axis, self.layer.data
        if axis is None:
            return range(1)
        strides = getattr(data, "strides", None)
        return range(
            1 if strides is not None and strides[axis] == 0 else data.shape[axis]
        )

    def _write_places(
        self,
        indices: list[npt.NDArray[np.intp]],
        channel: int,
        ids: npt.NDArray[Any],
    ) -> None:
        if self.plane.channel_axis is not None:
            indices = list(indices)
            indices[self.plane.channel_axis] = np.full(ids.size, channel, np.intp)
        if _takes_places(self.layer.data):
            with self.layer.block_history():  # one step of napari's own undo
                self.layer.data_setitem(tuple(indices), ids)
        else:
            _write_box(self.layer, indices, ids)


@dataclass(frozen=True, eq=False)
class Stroke:
    """What the user painted, filled or erased with napari's own tools.

    Parameters
    ----------
    layer : napari.layers.Labels
        The layer that was changed.
    item : sequence
        napari's record of it: (indices, old values, new values), or its atom for boxes.
    """

    layer: Labels
    item: Sequence[Any]

    def apply(self) -> bool:
        """Paint again where the old values stand; return whether anything changed."""
        return any(self._replace(atom, back=False) for atom in self.item)

    def revert(self) -> bool:
        """Take back where the new values stand; return whether anything changed."""
        return any(self._replace(atom, back=True) for atom in reversed(self.item))

    @property
    def nbytes(self) -> int:
        """Bytes it keeps."""
        return sum(
            part.nbytes
            for atom in self.item
            for part in (*_flat(atom[0]), *atom[1:])
            if hasattr(part, "nbytes")
        )

    def _replace(self, atom: Any, *, back: bool) -> bool:
        places, old, new = _places(atom)
        have, want = (new, old) if back else (old, new)
        now = np.asarray(self.layer.data[places])
        where = (now == have) & (now != want)
        if not where.any():
            return False
        at = tuple(np.broadcast_to(index, where.shape)[where] for index in places)
        values = np.broadcast_to(want, where.shape)[where].astype(now.dtype)
        if _takes_places(self.layer.data):
            with self.layer.block_history():
                self.layer.data_setitem(at, values)
        else:
            _write_box(self.layer, at, values)
        return True


def _flat(places: Any) -> tuple[Any, ...]:
    return places if isinstance(places, tuple) else (places,)


def _places(atom: Any) -> tuple[tuple[npt.NDArray[np.intp], ...], Any, Any]:
    """Return indices for each axis, old and new values of one of napari's records."""
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


def _takes_places(data: Any) -> bool:
    """Whether an array takes single places by an index for each axis, as NumPy's do.

    dask refuses them, and xarray means all combinations of them.
    """
    return isinstance(data, np.ndarray) or type(data).__module__.startswith("zarr.")


def _write_box(
    layer: Labels, indices: Sequence[npt.NDArray[np.intp]], ids: npt.NDArray[Any]
) -> None:
    """Write places of an array that takes nothing but boxes; napari's own undo does not know."""
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in indices)
    part = np.array(layer.data[box])
    part[tuple(at - side.start for at, side in zip(indices, box, strict=True))] = ids
    layer.data[box] = part
    layer.refresh()


def read_ids(
    layer: Labels, plane: Plane, y: slice = slice(None), x: slice = slice(None)
) -> npt.NDArray[Any]:
    """Read a rectangle of a plane of labels, rows down the screen; a copy."""
    ids = np.array(layer.data[plane.cut(y, x)])
    return ids.T if plane.transposed else ids
