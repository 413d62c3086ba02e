"""Objects in a Labels layer: which plane and ids they get, and how they are merged and split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import TinySAMError
from napari_tinysam.files.label_store import LabelStore
from napari_tinysam.labels import Overlap, draw_mask, move_object
from napari_tinysam.masks import BoxedMask, bounding_slices
from napari_tinysam.objects.splitting import split_mask
from napari_tinysam.ui.session.labels.edits import LabelEdit, full_data, read_ids
from napari_tinysam.ui.state.planes import PlaneError, full_shape

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Labels

    from napari_tinysam.ui.state.drafts import EditedObject
    from napari_tinysam.ui.state.planes import Plane

#: Name of the layer that is made if the user chose none (as in micro-sam).
COMMITTED = "committed_objects"

#: Said of masks without pixels.
NO_PIXELS = "Nothing was written: the mask is empty."

#: Values of a labels layer on disk that are read at once.
_READ_AT_ONCE = 2**24


class LabelsError(TinySAMError, ValueError):
    """A labels layer cannot take the change; the message tells the user why."""


def _highest_id(data: Any) -> int:
    """Largest id of a numpy, dask or zarr array; zarr is read in parts."""
    if not data.size:
        return 0
    if hasattr(data, "max"):
        return int(np.asarray(data.max()))
    rows = max(1, min(data.shape[0], _READ_AT_ONCE * data.shape[0] // data.size))
    return max(
        int(np.asarray(data[start : start + rows]).max())
        for start in range(0, data.shape[0], rows)
    )


def check_writeable(layer: Labels) -> None:
    """Raise `LabelsError` if objects cannot be written into a layer."""
    if isinstance(full_data(layer), LabelStore):
        return
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
        If the layer cannot be edited, or its size is not that of the image.
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
        f"({height} × {width} pixels per plane). Choose another layer for the results."
    )


def id_at(layer: Labels, plane: Plane, xy_plane: tuple[float, float]) -> int:
    """Id at (x, y) of a plane of this layer; 0 outside it."""
    if not plane.contains(xy_plane):
        return 0
    x, y = (int(np.floor(v + 0.5)) for v in xy_plane)
    return int(read_ids(layer, plane, slice(y, y + 1), slice(x, x + 1))[0, 0])


def object_mask(layer: Labels, plane: Plane, label: int) -> BoxedMask:
    """All pixels of an id on a plane."""
    data = full_data(layer)
    if not isinstance(data, LabelStore):
        return BoxedMask.from_full(read_ids(layer, plane) == label)
    place = data.place(label)
    if place is None:
        return BoxedMask.empty(plane.shape)
    rows, columns = (place[axis] for axis in plane.axes)
    inside = read_ids(layer, plane, rows, columns) == label
    return BoxedMask(inside, rows.start, columns.start, plane.shape).trimmed()


class LabelIds:
    """Hands out ids that a labels layer does not use.

    The largest id is read once, and again only after others changed the layer: reading a large
    layer takes longer than a commit.

    Parameters
    ----------
    layer : napari.layers.Labels
        The layer that the ids are for.
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
            If the layer's data type holds no larger id.
        """
        if count == 0:
            return []
        if self._highest is None:
            self._highest = _highest_id(full_data(self._layer))
        first = max(self._highest, self._handed_out) + 1
        dtype = np.dtype(full_data(self._layer).dtype)
        if first + count - 1 > np.iinfo(dtype).max:
            raise LabelsError(
                f"{self._layer.name} is {dtype} and has no id left. Convert it to a larger type "
                "(right click on the layer, Convert data type) or choose another layer."
            )
        return list(range(first, first + count))

    def used(self, label: int) -> None:
        """Remember an id that was written, without reading the layer again."""
        self._handed_out = max(self._handed_out, label)
        if self._highest is not None:
            self._highest = max(self._highest, label)

    def none_used(self) -> None:
        """Remember that the layer is empty, without reading it."""
        self._highest = 0

    def write(self, edit: LabelEdit) -> bool:
        """Apply an edit of the plugin without reading the largest id again."""
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
        To write into.
    plane : Plane
        Of that layer, from `plane_in`.
    objects : sequence of (BoxedMask, EditedObject or None)
        What to write, in order. An edited object gives up its old pixels and keeps its id.
    overlap : Overlap
        What happens to other objects. They stay if the layer's own "preserve labels" is on.
    ids : LabelIds
        Of the layer.

    Returns
    -------
    edit : LabelEdit
        Not applied yet.
    labels : list of int
        The ids of the objects; 0 for one that was refused.

    Raises
    ------
    LabelsError
        If nothing would be written, or an object has no id to go to.
    """
    if overlap is Overlap.REPLACE and layer.preserve_labels:
        overlap = Overlap.NEVER
    masks = [mask for mask, _ in objects]
    ys, xs = bounding_slices([*masks, *(e.mask for _, e in objects if e is not None)])
    before = read_ids(layer, plane, ys, xs)
    after = before.copy()
    masks = [mask.moved(-ys.start, -xs.start, after.shape) for mask in masks]
    new = sum(edited is None for _, edited in objects)
    merging = overlap is Overlap.MERGE
    unused = [_selected(layer)] * new if merging and new else ids.next(new)
    labels: list[int] = []
    for mask, (_, edited) in zip(masks, objects, strict=True):
        if edited is not None:
            moved = move_object(after, mask, edited.label, overlap)
            labels.append(edited.label if moved else 0)
        elif draw_mask(after, mask, unused[0], overlap):
            labels.append(unused.pop(0))
        else:
            labels.append(0)
    if not any(labels):
        raise LabelsError(_nothing_left(masks, before))
    return LabelEdit(layer, plane, ys.start, xs.start, before, after), labels


def _selected(layer: Labels) -> int:
    if layer.selected_label == 0:
        raise LabelsError(
            f"Nothing to merge into: select a label of {layer.name} first (its label spin box)."
        )
    return int(layer.selected_label)


def _nothing_left(masks: Sequence[BoxedMask], ids: npt.NDArray[Any]) -> str:
    """Say why no mask can be written over (h, w) ids."""
    there = set().union(*(ids[m.slices][m.mask].tolist() for m in masks)) - {0}
    if not there:
        return NO_PIXELS
    what = (
        "other objects cover it"
        if len(there) > 1
        else f"object {there.pop()} is there already"
    )
    return f"Nothing was written: {what}. Choose “replace” to take its place, or edit it instead."


def paste_edit(
    layer: Labels,
    plane: Plane,
    masks: Sequence[BoxedMask],
    overlap: Overlap,
    ids: LabelIds,
) -> tuple[LabelEdit, list[int]]:
    """Write accepted proposals, each with an unused id.

    The free pixels of a proposal are written, as it was shown: "never overwrite" counts as "take
    what is free". Other parameters, results and errors as for `commit_edit`.
    """
    replaces = overlap is Overlap.REPLACE and not layer.preserve_labels
    rule = Overlap.REPLACE if replaces else Overlap.FREE
    return commit_edit(layer, plane, [(mask, None) for mask in masks], rule, ids)


def relabel_edit(layer: Labels, plane: Plane, label: int, new: int) -> LabelEdit:
    """Replace an id on a plane by another one (merging), or by 0 (deleting).

    Raises
    ------
    LabelsError
        If the id is not on this plane.
    """
    mask = object_mask(layer, plane, label)
    if not mask.area:
        raise LabelsError(f"Object {label} is no longer on this plane.")
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

    Parameters
    ----------
    layer, plane : Labels, Plane
        Where the object is.
    label : int
        Its id; the largest part keeps it.
    seeds : sequence of (float, float)
        (x, y) on the plane, see `split_mask`.
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
    if not mask.area:
        raise LabelsError(f"Object {label} is not in this plane any more.")
    parts = split_mask(mask, seeds)
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
