"""Where runs over many planes write: the labels of each image, as one undo step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from napari_tinysam.ui.session.labels.filling import Filling
from napari_tinysam.ui.session.labels.writing import LabelsError
from napari_tinysam.ui.state.stack_planes import nearest_plane

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.ui.session.labels.editor import LabelEditor
    from napari_tinysam.ui.session.labels.filling import Packed
    from napari_tinysam.ui.session.labels.outputs import Outputs
    from napari_tinysam.ui.session.labels.saving import Saving
    from napari_tinysam.ui.session.labels.writing_queue import Post
    from napari_tinysam.ui.state.images import Memory
    from napari_tinysam.ui.state.planes import Plane

#: Name of the undo step.
STEP = "auto-segment all"


class LabelFilling:
    """Writes the objects of whole planes into the labels layers of their images.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    memory : Memory
        Holds the history of each image.
    outputs : Outputs
    editor : LabelEditor
    saving : Saving
    post : callable
        Runs a callable soon on the session's thread.
    on_written : callable
        Called with a labels layer when objects on a plane that is shown were changed.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        memory: Memory,
        outputs: Outputs,
        editor: LabelEditor,
        saving: Saving,
        post: Post,
        *,
        on_written: Callable[[Labels], None],
    ) -> None:
        self._viewer = viewer
        self._memory = memory
        self._outputs = outputs
        self._editor = editor
        self._saving = saving
        self._post = post
        self._on_written = on_written
        self._fillings: dict[Image, Filling] = {}  # of the run
        #: Called when the step of a run is undone or redone.
        self.on_turned: Callable[[], None] = lambda: None
        #: Told what was filled, for the journal.
        self.on_filled: Callable[[Image, dict[str, Any]], None] = lambda image, told: (
            None
        )

    def begin(self) -> None:
        """Begin a run: what it writes is not joined with what was written before."""
        self.finish()
        self._fillings = {}

    def fills(self, layer: Labels) -> bool:
        """Whether the run has written into a layer."""
        return any(filling.layer is layer for filling in self._fillings.values())

    @property
    def wanted(self) -> bool:
        """Whether no part of the run was taken back."""
        return all(filling.applied for filling in self._fillings.values())

    def find(self, image: Image, plane: Plane) -> tuple[Labels, Plane] | None:
        """Return the labels of an image and their plane; None while it has none.

        Raises
        ------
        LabelsError
            If the layer cannot be written, does not fit, or was removed during the run.
        """
        filling = self._fillings.get(image)
        if filling is not None and filling.layer not in self._viewer.layers:
            raise LabelsError("The labels layer is gone.")
        return self._outputs.plane(image, plane)

    def write(self, image: Image, plane: Plane, count: int, rows: list[Packed]) -> None:
        """Write the objects of a plane where its labels are free.

        Parameters
        ----------
        image, plane
            Where.
        count : int
            How many objects there are.
        rows : list of Packed
            Their pixels.

        Raises
        ------
        LabelsError
            As from `find`; or if the layer's type holds no more ids.
        """
        found = self.find(image, plane)
        if found is None:
            self._editor.make_missing(image)
            found = self.find(image, plane)
            assert found is not None
        layer, at = found
        filling = self._fillings.get(image)
        if filling is None or filling.layer is not layer:
            filling = self._begun(image, plane, layer)
        first = self._outputs.ids(layer).next(count)[0]
        self._outputs.ids(layer).used(first + count - 1)
        told = {"plane": list(plane.index), "first": first, "count": count}
        self.on_filled(image, {**told, "origin": "filled"})
        filling.add(at, range(first, first + count), rows)
        self._saving.changed(layer)

    def attach(self, filling: Filling) -> None:
        """Take care of a step that is undone or redone now."""
        filling.attach(self._post, self.show_written)
        self.on_turned()

    def finish(self) -> None:
        """Write at once what still waits: the session ends, or another run begins."""
        for filling in self._fillings.values():
            if filling.layer in self._viewer.layers:
                filling.finish()

    def _begun(self, image: Image, plane: Plane, layer: Labels) -> Filling:
        filling = Filling(layer, self._post, self.show_written)
        self._fillings[image] = filling
        state = self._memory.state_of(image)
        # Undo shows the plane of the step: it need not go elsewhere.
        plane = nearest_plane(image, self._viewer.dims, state.channel_axis) or plane
        state.change_drafts(STEP, plane, state.drafts(plane), filling)
        return filling

    def show_written(self, layer: Labels, planes: Sequence[Plane]) -> None:
        """Draw the layer again if what is shown of it has changed."""
        if redrawn(self._viewer, layer, planes):
            self._on_written(layer)


def redrawn(viewer: ViewerModel, layer: Labels, planes: Sequence[Plane]) -> bool:
    """Draw a layer again if one of its planes is shown; return whether that was so."""
    if layer not in viewer.layers:
        return False
    dims = viewer.dims
    if dims.ndisplay == 2:
        shown = nearest_plane(layer, dims, planes[0].channel_axis)
        if shown is None or shown.without_channel() not in [
            plane.without_channel() for plane in planes
        ]:
            return False
    layer.refresh()
    return True
