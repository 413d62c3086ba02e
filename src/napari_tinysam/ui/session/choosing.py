"""What the user chooses: each choice changes one value of one part of the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam.inference.cache import suitable_capacity
from napari_tinysam.ui.session.overview import Overview

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from psygnal import SignalInstance

    from napari_tinysam.labels import Overlap
    from napari_tinysam.ui.state.planes import Contrast
    from napari_tinysam.ui.state.seeing import Seeing
    from napari_tinysam.ui.state.stack_planes import AxisKind


class Choosing(Overview):
    """The setters of a session, one for each property that can be chosen."""

    changed: SignalInstance

    def set_image(self, layer: Image | None) -> None:
        """Segment this layer from now on; its embedding starts by itself."""
        self._parts.viewing.set_image(layer)

    def set_channel(self, channel: int | None) -> None:
        """Show and segment one channel; None: no axis holds channels, all make a stack."""
        self._parts.viewing.set_channel(channel)

    def set_contrast(self, contrast: Contrast) -> None:
        """Choose which values are black and white for the model."""
        self._parts.viewing.set_contrast(contrast)

    def set_seeing(self, seeing: Seeing) -> None:
        """Choose through which looks large planes are seen."""
        self._parts.viewing.set_seeing(seeing)
        self.changed.emit()

    def set_model(self, name: str, device: str = "auto") -> None:
        """Use another model: a registry name or a file. The same one again is loaded anew."""
        self._parts.prompting.stop_hover()
        self._parts.masks.forget()
        self._parts.runs.model_changed()
        self._parts.subject.memory.tuned = None
        self._parts.subject.memory.habit.forget()
        self._parts.embedder.set_model(name, device)
        self.changed.emit()

    def set_z_step(self, step: float) -> None:
        """Remember how far planes lie apart, in pixels of a plane; what is tracked is anew."""
        self._parts.subject.state.z_step = step
        self._parts.runs.tracking.track_anew()
        self.changed.emit()

    def set_cache_capacity(self, size: int) -> None:
        """Keep embeddings of this many bytes in memory, or of what suits the machine."""
        self._parts.cache.capacity = suitable_capacity(size)

    def set_ahead(self, enabled: bool) -> None:
        """Encode the planes beside the shown one while nothing else is asked, or not."""
        self._parts.ahead.enabled = enabled

    def set_target(self, layer: Labels | None) -> None:
        """Commit to this layer from now on; None: to a new one, made when needed."""
        if self.image is not None:
            self._parts.labelling.outputs.choose(self.image, layer)
            self._parts.pointing.follow_keys()
        self.proposals.show()
        self.changed.emit()

    def set_overlap(self, overlap: Overlap) -> None:
        """Choose what a commit does to existing objects."""
        self._parts.labelling.overlap = overlap
        self.changed.emit()

    def set_new_objects(self, on: bool) -> None:
        """Choose whether a click far from the current object begins another one."""
        self._parts.subject.memory.new_objects = on
        self.changed.emit()

    def set_hover_enabled(self, enabled: bool) -> None:
        """Show the mask under the cursor before a click, or not."""
        self._parts.prompting.hover_enabled = enabled
        if not enabled:
            self._parts.prompting.stop_hover()
        self.changed.emit()

    def set_preview_opacity(self, opacity: float) -> None:
        """Draw uncommitted masks more faintly: 0–1."""
        self._parts.masks.preview.set_opacity(opacity)

    def set_edit_mode(self, on: bool) -> None:
        """Let clicks select labelled objects to change, or not."""
        self._parts.pointing.set_editing(on)

    def set_picking(self, on: bool) -> None:
        """Let clicks accept single proposals of auto-segmentation, and right clicks reject them."""
        self._parts.pointing.set_picking(on)

    def set_then_link(self, on: bool) -> None:
        """Choose whether objects are linked after all planes were auto-segmented."""
        self._parts.subject.memory.then_link = on
        self.changed.emit()

    def set_axis_kind(self, axis: int, kind: AxisKind | None) -> None:
        """Remember what an axis of the image is, where nothing else tells it."""
        kinds = self._parts.subject.state.kind
        if kind is None:
            kinds.pop(axis, None)
        else:
            kinds[axis] = kind
        self.changed.emit()
        self._parts.runs.follower.kind_known()

    def set_whole(self, whole: bool) -> None:
        """Delete and merge objects in all of their planes, or in the shown one."""
        self._parts.subject.memory.whole = whole
        self.changed.emit()
