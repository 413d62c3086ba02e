"""Writing objects into a Labels layer: ids, overlaps, merging, splitting, and taking it back.

Every change is a `LabelEdit`: a rectangle of one plane before and after. It is written with
`Labels.data_setitem`, which redraws only what changed and lets napari's own undo know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.state.planes import PlaneError, full_shape

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Labels

    from napari_tinysam.ui.state.drafts import EditedObject
    from napari_tinysam.ui.state.planes import Plane

#: Name of the layer that is made where the user chose none (the name micro-sam uses).
COMMITTED = "committed_objects"

#: Less than this share of a mask, or of its depth, is no object but a remainder of one.
_LEAST_SHARE = 0.25
_LEAST_DEPTH = 0.35

#: Values of a labels layer on disk that are looked through at once.
_READ_AT_ONCE = 2**24


class Overlap(Enum):
    """What happens to objects that are already there."""

    KEEP = "keep existing"
    OVERWRITE = "overwrite"
    MERGE = "merge into selected"


class LabelsError(ValueError):
    """A labels layer cannot take the change; the message says why, to the user."""


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


def _highest_id(data: Any) -> int:
    """Largest id of an array in memory, dask's or zarr's; a zarr array is read bit by bit."""
    if not data.size:
        return 0
    if hasattr(data, "max"):
        return int(np.asarray(data.max()))
    rows = max(1, min(data.shape[0], _READ_AT_ONCE * data.shape[0] // data.size))
    return max(
        int(np.asarray(data[start : start + rows]).max())
        for start in range(0, data.shape[0], rows)
    )


def read_ids(
    layer: Labels, plane: Plane, y: slice = slice(None), x: slice = slice(None)
) -> npt.NDArray[Any]:
    """Read a rectangle of a plane of labels, rows down the screen; a copy."""
    ids = np.array(layer.data[plane.cut(y, x)])
    return ids.T if plane.transposed else ids


def check_writeable(layer: Labels) -> None:
    """Raise `LabelsError` if objects cannot be written into a layer."""
    if layer.multiscale:
        raise LabelsError(
            f"{layer.name} is a pyramid, which napari cannot edit. Choose another layer."
        )
    flags = getattr(layer.data, "flags", None)
    if flags is not None and not flags.writeable:
        raise LabelsError(
            f"{layer.name} is read-only. Duplicate it and choose the copy."
        )


def plane_in(layer: Labels, plane: Plane) -> Plane:
    """Find the plane of a labels layer that belongs to a plane of the image.

    Raises
    ------
    LabelsError
        If the layer cannot be edited, or has another size than the image.
    """
    check_writeable(layer)
    try:
        found = plane.for_ndim(layer.ndim)
    except PlaneError:
        raise LabelsError(_misfit(layer, plane)) from None
    shape = full_shape(layer)
    fits = (shape[found.axes[0]], shape[found.axes[1]]) == plane.shape and all(
        at is None or at < shape[axis] for axis, at in enumerate(found.index)
    )
    if not fits:
        raise LabelsError(_misfit(layer, plane))
    return found


def _misfit(layer: Labels, plane: Plane) -> str:
    height, width = plane.shape
    return (
        f"{layer.name} has the shape {full_shape(layer)}, which does not fit the image "
        f"({height} × {width} pixels a plane). Choose another layer for the results."
    )


def id_at(layer: Labels, plane: Plane, xy_plane: tuple[float, float]) -> int:
    """Id under (x, y) of a plane of this layer; 0 outside it."""
    if not plane.contains(xy_plane):
        return 0
    x, y = (int(np.floor(v + 0.5)) for v in xy_plane)
    return int(read_ids(layer, plane, slice(y, y + 1), slice(x, x + 1))[0, 0])


def object_mask(layer: Labels, plane: Plane, label: int) -> BoxedMask:
    """All pixels of an id on a plane."""
    return BoxedMask.from_full(read_ids(layer, plane) == label)


class LabelIds:
    """Hands out ids that a labels layer does not use.

    The layer's maximum is read once, and again only after somebody else changed the layer: on a
    large layer it costs more than a commit.

    Parameters
    ----------
    layer : napari.layers.Labels
        To hand out ids for.
    """

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._highest: int | None = None
        self._handed_out = 0
        layer.events.data.connect(self._forget)
        layer.events.paint.connect(self._forget)

    def close(self) -> None:
        """Stop listening to the layer."""
        self._layer.events.data.disconnect(self._forget)
        self._layer.events.paint.disconnect(self._forget)

    def _forget(self, event: Any = None) -> None:
        self._highest = None

    def next(self, count: int = 1) -> list[int]:
        """Return `count` unused ids.

        Raises
        ------
        LabelsError
            If the layer's type holds no larger id.
        """
        if count == 0:
            return []
        if self._highest is None:
            self._highest = _highest_id(self._layer.data)
        first = max(self._highest, self._handed_out) + 1
        dtype = np.dtype(self._layer.data.dtype)
        if first + count - 1 > np.iinfo(dtype).max:
            raise LabelsError(
                f"{self._layer.name} is {dtype} and has no id left. Convert it to a larger type "
                "(right click on the layer, Convert data type) or choose another layer."
            )
        return list(range(first, first + count))

    def used(self, label: int) -> None:
        """Remember an id that was written, without reading the layer again."""
        self._handed_out = max(self._handed_out, label)
        if self._highest is None:
            return
        self._highest = max(self._highest, label)

    def write(self, edit: LabelEdit) -> bool:
        """Apply an edit of ours, which is no reason to read the maximum again."""
        highest = self._highest
        changed = edit.apply()
        self._highest = highest
        self.used(int(edit.after.max(initial=0)))
        return changed


def commit_edit(
    layer: Labels,
    plane: Plane,
    objects: Sequence[tuple[BoxedMask, EditedObject | None]],
    overlap: Overlap,
    ids: LabelIds,
) -> tuple[LabelEdit, list[int]]:
    """Write objects into a labels layer.

    Parameters
    ----------
    layer : napari.layers.Labels
        Where to.
    plane : Plane
        Of that layer, from `plane_in`.
    objects : sequence of (BoxedMask, EditedObject or None)
        What to write, earlier first; an edited object gives up its old pixels and keeps its id.
    overlap : Overlap
        What happens to other objects. With the layer's own "preserve labels" on, they stay.
    ids : LabelIds
        Of the layer.

    Returns
    -------
    edit : LabelEdit
        Not applied yet.
    labels : list of int
        The ids of the objects; 0 for one of which the others leave nothing sensible.

    Raises
    ------
    LabelsError
        If nothing would be written, or an object has no id to go to.
    """
    masks = [mask for mask, _ in objects] + [
        e.mask for _, e in objects if e is not None
    ]
    ys, xs = _bounding_slices(masks)
    before = read_ids(layer, plane, ys, xs)
    after = before.copy()
    merging = overlap is Overlap.MERGE
    fresh = ids.next(sum(e is None and not merging for _, e in objects))
    keep = overlap is not Overlap.OVERWRITE or layer.preserve_labels
    labels: list[int] = []
    for mask, edited in objects:
        label = _label_for(layer, edited, overlap, fresh[:1])
        place = _place(mask, ys.start, xs.start, after.shape)
        free = (after == 0) | (after == label) if keep else np.ones(after.shape, bool)
        new = edited is None and not merging
        if not _is_object(place & free, place if new else None):
            labels.append(0)
            continue
        if edited is not None:
            after[after == label] = 0
        after[place & free] = label
        labels.append(label)
        if new:
            fresh.pop(0)
    if not any(labels):
        raise LabelsError(_nothing_left([mask for mask, _ in objects], before, ys, xs))
    return LabelEdit(layer, plane, ys.start, xs.start, before, after), labels


def _is_object(left: npt.NDArray[np.bool_], of: npt.NDArray[np.bool_] | None) -> bool:
    """Whether what is left of a mask, (h, w), is an object; None: any pixel is enough."""
    count = int(np.count_nonzero(left))
    if not count or of is None:
        return bool(count)
    whole = int(np.count_nonzero(of))
    if count == whole:
        return True
    return count >= _LEAST_SHARE * whole and _depth(left) >= _LEAST_DEPTH * _depth(of)


def _depth(mask: npt.NDArray[np.bool_]) -> float:
    """Pixels from the deepest pixel of a mask to its border: small for a ring."""
    from scipy.ndimage import distance_transform_edt

    return float(distance_transform_edt(np.pad(mask, 1)).max())


def _nothing_left(
    masks: Sequence[BoxedMask], ids: npt.NDArray[Any], ys: slice, xs: slice
) -> str:
    """Say why nothing can be committed."""
    there: set[int] = set()
    for mask in masks:
        place = _place(mask, ys.start, xs.start, ids.shape)
        there |= set(np.unique(ids[place]).tolist()) - {0}
    if not there:
        return "Nothing to commit: the mask is empty."
    what = (
        "other objects cover it"
        if len(there) > 1
        else f"object {there.pop()} is there already"
    )
    return f"Nothing to commit: {what}. Choose “overwrite” to replace it, or edit it instead."


def paste_edit(
    layer: Labels,
    plane: Plane,
    labels: npt.NDArray[np.int32],
    count: int,
    overlap: Overlap,
    ids: LabelIds,
) -> LabelEdit:
    """Write a label image into a labels layer, each label with an unused id.

    Parameters
    ----------
    layer : napari.layers.Labels
        Where to.
    plane : Plane
        Of that layer, from `plane_in`.
    labels : ndarray of int32, (H, W)
        Labels 1…count; 0 is left alone.
    count : int
        The largest label.
    overlap : Overlap
        What happens to other objects. With the layer's own "preserve labels" on, they stay.
    ids : LabelIds
        Of the layer.

    Returns
    -------
    LabelEdit
        Not applied yet.

    Raises
    ------
    LabelsError
        If nothing would be written, or the layer's type holds no larger id.
    """
    mask = BoxedMask.from_full(labels > 0)
    ys, xs = mask.slices
    before = read_ids(layer, plane, ys, xs)
    keep = overlap is not Overlap.OVERWRITE or layer.preserve_labels
    free = mask.mask & (before == 0) if keep else mask.mask
    if not free.any():
        raise LabelsError(
            "Nothing to accept: other objects cover it all. Choose “overwrite” to replace them."
        )
    fresh = np.array([0, *ids.next(count)], before.dtype)
    after = np.where(free, fresh[labels[ys, xs]], before)
    return LabelEdit(layer, plane, mask.y0, mask.x0, before, after)


def _label_for(
    layer: Labels,
    edited: EditedObject | None,
    overlap: Overlap,
    fresh: Sequence[int],
) -> int:
    if edited is not None:
        return edited.label
    if overlap is not Overlap.MERGE:
        return fresh[0]
    if layer.selected_label == 0:
        raise LabelsError(
            f"Nothing to merge into: select a label of {layer.name} first (its label spin box)."
        )
    return int(layer.selected_label)


def relabel_edit(layer: Labels, plane: Plane, label: int, new: int) -> LabelEdit:
    """Give all pixels of an id on a plane another id (merging), or 0 (deleting).

    Raises
    ------
    LabelsError
        If the id is not on this plane.
    """
    mask = object_mask(layer, plane, label)
    if not mask.area:
        raise LabelsError(f"Object {label} is not on this plane any more.")
    ys, xs = mask.slices
    before = read_ids(layer, plane, ys, xs)
    after = np.where(mask.mask, np.array(new, before.dtype), before)
    return LabelEdit(layer, plane, mask.y0, mask.x0, before, after)


def split_edit(
    layer: Labels,
    plane: Plane,
    label: int,
    seeds: Sequence[tuple[float, float]],
    ids: LabelIds,
) -> tuple[LabelEdit, int]:
    """Split an object.

    With two or more seeds inside it, the cuts are at the necks between the lobes that hold one seed
    each (watershed of the distance to the object's border); where seeds share a lobe, every pixel
    goes to the seed that is nearest within the object. Without seeds, its separate pieces become
    objects, or, if it is one piece, its two deepest lobes.

    Parameters
    ----------
    layer, plane : Labels, Plane
        Where the object is.
    label : int
        Its id; the largest part keeps it.
    seeds : sequence of (float, float)
        (x, y) on the plane.
    ids : LabelIds
        Of the layer.

    Returns
    -------
    edit : LabelEdit
        Not applied yet.
    count : int
        How many parts.

    Raises
    ------
    LabelsError
        If there is nothing to split.
    """
    mask = object_mask(layer, plane, label)
    parts = _parts(mask, seeds)
    count = int(parts.max(initial=0))
    if count < 2:
        raise LabelsError(
            "This object looks like one. Click once in each part, then press Split."
        )
    sizes = np.bincount(parts.ravel())[1:]
    keeper = int(sizes.argmax()) + 1
    ys, xs = mask.slices
    before = read_ids(layer, plane, ys, xs)
    after = before.copy()
    fresh = iter(ids.next(count - 1))
    for part in range(1, count + 1):
        if part != keeper:
            after[parts == part] = next(fresh)
    return LabelEdit(layer, plane, mask.y0, mask.x0, before, after), count


def _parts(
    mask: BoxedMask, seeds: Sequence[tuple[float, float]]
) -> npt.NDArray[np.int32]:
    """(h, w) numbers 1… of the parts of a mask, 0 outside."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    inside = list(
        dict.fromkeys(
            (round(y) - mask.y0, round(x) - mask.x0)
            for x, y in seeds
            if mask.holds(x, y)
        )
    )
    depth = ndimage.distance_transform_edt(np.pad(mask.mask, 1))[1:-1, 1:-1]
    markers = np.zeros(mask.mask.shape, np.int32)
    if len(inside) < 2:
        pieces, count = ndimage.label(mask.mask, np.ones((3, 3)))
        if count > 1:
            return np.asarray(pieces, np.int32)
        for number, (y, x) in enumerate(_peaks(mask.mask, depth, 2), start=1):
            markers[y, x] = number
        return np.asarray(watershed(-depth, markers, mask=mask.mask), np.int32)
    peaks = _peaks(mask.mask, depth, len(inside))
    for number, (y, x) in enumerate(peaks, start=1):
        markers[y, x] = number
    lobes = watershed(-depth, markers, mask=mask.mask)
    of_seeds = [int(lobes[seed]) for seed in inside]
    if 0 not in of_seeds and len(set(of_seeds)) == len(inside):
        # One seed in each lobe: the necks between the lobes are the place to cut.
        order = np.zeros(len(peaks) + 1, np.int32)
        order[of_seeds] = range(1, len(inside) + 1)
        return np.asarray(order[lobes], np.int32)
    return _nearest_seed(mask.mask, inside)


def _peaks(
    mask: npt.NDArray[np.bool_], depth: npt.NDArray[np.float64], count: int
) -> list[tuple[int, int]]:
    """(row, column) of the deepest places of a mask, at most so many, each a lobe of its own."""
    from scipy.ndimage import gaussian_filter
    from skimage.feature import peak_local_max

    found = peak_local_max(
        gaussian_filter(depth, 1),
        min_distance=max(2, int(depth.max(initial=0))),
        num_peaks=count,
        labels=mask.astype(np.int32),
        exclude_border=False,
    )
    return [(int(y), int(x)) for y, x in found]


def _nearest_seed(
    mask: npt.NDArray[np.bool_], seeds: Sequence[tuple[int, int]]
) -> npt.NDArray[np.int32]:
    """(h, w) number, from 1, of the (row, column) seed nearest to each pixel inside a mask."""
    from scipy import ndimage
    from skimage.graph import MCP_Geometric

    costs = np.where(mask, 1.0, np.inf)
    found = [MCP_Geometric(costs).find_costs([seed])[0] for seed in seeds]
    nearest = np.argmin(found, axis=0).astype(np.int32) + 1
    reached = np.isfinite(np.min(found, axis=0))
    parts = np.where(mask & reached, nearest, 0).astype(np.int32)
    lost = (
        mask & ~reached
    )  # pieces without a seed go to the part that is nearest in the plane
    if lost.any():
        _, at = ndimage.distance_transform_edt(parts == 0, return_indices=True)
        parts[lost] = parts[tuple(at)][lost]
    return parts


def _bounding_slices(masks: Sequence[BoxedMask]) -> tuple[slice, slice]:
    """Rectangle around masks that are not empty; an empty one if all are."""
    filled = [mask.slices for mask in masks if mask.mask.size]
    if not filled:
        return slice(0, 0), slice(0, 0)
    return (
        slice(min(y.start for y, _ in filled), max(y.stop for y, _ in filled)),
        slice(min(x.start for _, x in filled), max(x.stop for _, x in filled)),
    )


def _place(
    mask: BoxedMask, y0: int, x0: int, shape: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Put a mask into a rectangle of `shape` that begins at (y0, x0)."""
    placed = np.zeros(shape, bool)
    height, width = mask.mask.shape
    placed[
        mask.y0 - y0 : mask.y0 - y0 + height, mask.x0 - x0 : mask.x0 - x0 + width
    ] = mask.mask
    return placed
