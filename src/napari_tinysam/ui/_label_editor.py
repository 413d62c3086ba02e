"""Changes of the labels layer that the user asks for, with words for what cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari_tinysam.ui import _labels
from napari_tinysam.ui._drafts import EditedObject
from napari_tinysam.ui._images import OutputLayer
from napari_tinysam.ui._labels import LabelEdit, LabelsError, Overlap

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui._embedder import Notify
    from napari_tinysam.ui._history import Step
    from napari_tinysam.ui._planes import Plane


class LabelEditor:
    """Writes into the chosen labels layer.

    Every method that changes something returns the `LabelEdit`, already written, or None after
    telling the user why nothing was changed.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layer is.
    notify : callable
        ``notify(level, text)``.
    on_layer_made : callable
        Called when `committed_objects` was added.
    """

    def __init__(
        self, viewer: ViewerModel, notify: Notify, on_layer_made: Callable[[], None]
    ) -> None:
        self._viewer = viewer
        self._notify = notify
        self._on_layer_made = on_layer_made
        self.output = OutputLayer(viewer)

    def commit(
        self,
        image: Image,
        plane: Plane,
        channel: int | None,
        objects: Sequence[tuple[BoxedMask, EditedObject | None]],
        overlap: Overlap,
    ) -> LabelEdit | None:
        """Write objects; makes the layer if there is none."""
        if self.output.layer is None:
            self.output.make(image, channel)
            self._on_layer_made()
        return self._write(
            plane,
            lambda layer, at: _labels.commit_edit(
                layer, at, objects, overlap, self.output.ids
            )[0],
        )

    def paste(
        self,
        image: Image,
        plane: Plane,
        channel: int | None,
        labels: npt.NDArray[np.int32],
        count: int,
        overlap: Overlap,
    ) -> LabelEdit | None:
        """Write a label image, (H, W) with labels 1…count; makes the layer if there is none."""
        if self.output.layer is None:
            self.output.make(image, channel)
            self._on_layer_made()
        return self._write(
            plane,
            lambda layer, at: _labels.paste_edit(
                layer, at, labels, count, overlap, self.output.ids
            ),
        )

    def labelled(self, plane: Plane) -> npt.NDArray[np.bool_] | None:
        """Return which pixels of a plane have an id, (H, W); None where no layer fits."""
        try:
            found = self.output.plane(plane)
        except LabelsError:
            return None
        return None if found is None else _labels.read_ids(*found) > 0

    def delete(self, plane: Plane, label: int) -> LabelEdit | None:
        """Remove an object."""
        return self._write(
            plane, lambda layer, at: _labels.relabel_edit(layer, at, label, 0)
        )

    def merge(
        self, plane: Plane, xy_plane: tuple[float, float], label: int
    ) -> LabelEdit | None:
        """Merge the object at (x, y) into another."""
        found = self._find(plane)
        if found is None:
            return None
        other = _labels.id_at(*found, xy_plane)
        if other in (0, label):
            self._notify("info", "Click on another object to merge it.")
            return None
        return self._write(
            plane, lambda layer, at: _labels.relabel_edit(layer, at, other, label)
        )

    def split(
        self, plane: Plane, label: int, seeds: Sequence[tuple[float, float]]
    ) -> LabelEdit | None:
        """Split an object, at the seeds if there are two or more."""
        return self._write(
            plane,
            lambda layer, at: _labels.split_edit(
                layer, at, label, seeds, self.output.ids
            )[0],
        )

    def select(
        self, plane: Plane, xy_plane: tuple[float, float]
    ) -> EditedObject | None:
        """Find the object at (x, y)."""
        found = self._find(plane)
        if found is None:
            return None
        label = _labels.id_at(*found, xy_plane)
        if label == 0:
            self._notify("info", "There is no object here. Click on a labelled object.")
            return None
        return EditedObject(label, _labels.object_mask(*found, label))

    def take_back(self, step: Step) -> None:
        """Undo what a step wrote."""
        if step.edit is not None and self._still_there(step):
            step.edit.revert()

    def repeat(self, step: Step) -> None:
        """Write again what a step wrote."""
        if step.edit is None or not self._still_there(step):
            return
        if step.edit.layer is self.output.layer:
            self.output.ids.write(step.edit)
        else:
            step.edit.apply()

    def _still_there(self, step: Step) -> bool:
        there = step.edit is not None and step.edit.layer in self._viewer.layers
        if not there:
            self._notify("warning", f"The labels layer of this {step.text} is gone.")
        return there

    def _find(self, plane: Plane) -> tuple[Labels, Plane] | None:
        """Return the layer and its plane, or say why there is none."""
        try:
            found = self.output.plane(plane)
        except LabelsError as error:
            self._notify("warning", str(error))
            return None
        if found is None:
            self._notify(
                "info", "Choose the labels layer that holds the objects first."
            )
        return found

    def _write(
        self, plane: Plane, make: Callable[[Labels, Plane], LabelEdit]
    ) -> LabelEdit | None:
        found = self._find(plane)
        if found is None:
            return None
        try:
            edit = make(*found)
            self.output.ids.write(edit)
        except LabelsError as error:
            self._notify("warning", str(error))
            return None
        return edit
