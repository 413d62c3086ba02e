"""Changes the labels layer for the user, and reports what cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_tinysam.ui.session.labels import writing
from napari_tinysam.ui.session.labels.edits import LabelEdit, read_ids
from napari_tinysam.ui.session.labels.writing import LabelsError
from napari_tinysam.ui.state.drafts import EditedObject

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.everything.shapes import TakenAt
    from napari_tinysam.labels import Overlap
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.labels.outputs import Outputs
    from napari_tinysam.ui.state.history import Step
    from napari_tinysam.ui.state.planes import Plane


class LabelEditor:
    """Writes into the labels layer of an image.

    Methods that change something return the written `LabelEdit`, or None after telling the user
    why nothing changed.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layers are.
    outputs : Outputs
        Which layer belongs to which image.
    notify : callable
        ``notify(level, text)``.
    on_layer_made : callable
        Called when a layer was added.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        outputs: Outputs,
        notify: Notify,
        on_layer_made: Callable[[], None],
    ) -> None:
        self._viewer = viewer
        self._outputs = outputs
        self._notify = notify
        self._on_layer_made = on_layer_made
        #: Whether the plugin is the source of a change that napari reports.
        self.writing = False

    def commit(
        self,
        image: Image,
        plane: Plane,
        objects: Sequence[tuple[BoxedMask, EditedObject | None]],
        overlap: Overlap,
    ) -> tuple[LabelEdit, list[int]] | None:
        """Write objects, into a new layer if there is none.

        Returns
        -------
        edit : LabelEdit
        labels : list of int
            Ids of the objects; 0 for one that was refused.
        """
        if not any(mask.mask.any() for mask, _ in objects):  # not even a layer is made
            self._notify("warning", writing.NO_PIXELS)
            return None
        self.make_missing(image)
        labels: list[int] = []

        def make(layer: Labels, at: Plane) -> LabelEdit:
            ids = self._outputs.ids(layer)
            edit, found = writing.commit_edit(layer, at, objects, overlap, ids)
            labels.extend(found)
            return edit

        edit = self._write(image, plane, make)
        return None if edit is None else (edit, labels)

    def paste(
        self,
        image: Image,
        plane: Plane,
        masks: Sequence[BoxedMask],
        overlap: Overlap,
    ) -> tuple[LabelEdit, list[int]] | None:
        """Write accepted proposals, into a new layer if there is none; returns as `commit` does."""
        self.make_missing(image)
        labels: list[int] = []

        def make(layer: Labels, at: Plane) -> LabelEdit:
            ids = self._outputs.ids(layer)
            edit, found = writing.paste_edit(layer, at, masks, overlap, ids)
            labels.extend(found)
            return edit

        edit = self._write(image, plane, make)
        return None if edit is None else (edit, labels)

    def labelled(self, image: Image, plane: Plane) -> TakenAt | None:
        """Return what tells which pixels of a plane have an id; None without a layer that fits."""
        try:
            found = self._outputs.plane(image, plane)
        except LabelsError:
            return None
        return None if found is None else lambda part: read_ids(*found, *part) > 0

    def id_at(self, image: Image, plane: Plane, xy_plane: tuple[float, float]) -> int:
        """Return the id at (x, y); 0 for none, and without a layer that fits."""
        try:
            found = self._outputs.plane(image, plane)
        except LabelsError:
            return 0
        return 0 if found is None else writing.id_at(*found, xy_plane)

    def delete(self, image: Image, plane: Plane, label: int) -> LabelEdit | None:
        """Remove an object."""
        return self._write(
            image,
            plane,
            lambda layer, at: writing.relabel_edit(layer, at, label, 0),
        )

    def merge(
        self, image: Image, plane: Plane, xy_plane: tuple[float, float], label: int
    ) -> LabelEdit | None:
        """Merge the object at (x, y) into another."""
        found = self._find(image, plane)
        if found is None:
            return None
        other = writing.id_at(*found, xy_plane)
        if other in (0, label):
            self._notify("info", "Click on another object to merge it.")
            return None
        return self._write(
            image,
            plane,
            lambda layer, at: writing.relabel_edit(layer, at, other, label),
        )

    def split(
        self,
        image: Image,
        plane: Plane,
        label: int,
        seeds: Sequence[tuple[float, float]],
    ) -> LabelEdit | None:
        """Split an object, at the seeds if there are at least two."""
        return self._write(
            image,
            plane,
            lambda layer, at: writing.split_edit(
                layer, at, label, seeds, self._outputs.ids(layer)
            )[0],
        )

    def select(
        self, image: Image, plane: Plane, xy_plane: tuple[float, float]
    ) -> EditedObject | None:
        """Find the object at (x, y)."""
        found = self._find(image, plane)
        if found is None:
            return None
        label = writing.id_at(*found, xy_plane)
        if label == 0:
            self._notify("info", "There is no object here. Click on a labelled object.")
            return None
        return EditedObject(label, writing.object_mask(*found, label))

    def take_back(self, step: Step) -> bool:
        """Revert what a step wrote; return whether anything changed."""
        if step.edit is None or not self._still_there(step):
            return False
        with self._ours():
            return step.edit.revert()

    def repeat(self, step: Step) -> bool:
        """Apply what a step wrote again; return whether anything changed."""
        if step.edit is None or not self._still_there(step):
            return False
        with self._ours():
            if isinstance(step.edit, LabelEdit):
                return self._outputs.ids(step.edit.layer).write(step.edit)
            return step.edit.apply()

    @contextmanager
    def _ours(self) -> Iterator[None]:
        self.writing = True
        try:
            yield
        finally:
            self.writing = False

    def make_missing(self, image: Image) -> None:
        """Add a labels layer for an image that has none."""
        if self._outputs.of(image) is None:
            self._outputs.make(image)
            self._on_layer_made()

    def _still_there(self, step: Step) -> bool:
        there = step.edit is not None and step.edit.layer in self._viewer.layers
        if not there:
            name = step.text.capitalize()
            text = f"{name} cannot be undone or redone: its labels layer was removed."
            self._notify("warning", text)
        return there

    def _find(self, image: Image, plane: Plane) -> tuple[Labels, Plane] | None:
        """Return the layer and its plane, or tell the user why there is none."""
        try:
            found = self._outputs.plane(image, plane)
        except LabelsError as error:
            self._notify("warning", str(error))
            return None
        if found is None:
            self._notify(
                "info", "Choose the labels layer that holds the objects first."
            )
        return found

    def _write(
        self, image: Image, plane: Plane, make: Callable[[Labels, Plane], LabelEdit]
    ) -> LabelEdit | None:
        found = self._find(image, plane)
        if found is None:
            return None
        try:
            edit = make(*found)
            with self._ours():
                self._outputs.ids(edit.layer).write(edit)
        except LabelsError as error:
            self._notify("warning", str(error))
            return None
        return edit
