"""The annotation session: clicks become drafts, drafts masks, masks labels, and all of it undoable.

It lives on a `ViewerModel` without Qt. The widget shows what it says and calls what the user wants;
mouse, keys and prompt layers call the same methods. Everything slow goes through `Inference`.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_info, show_warning
from psygnal import Signal

from napari_tinysam.errors import sentence
from napari_tinysam.inference.cache import RecentEmbeddings
from napari_tinysam.labels import Overlap
from napari_tinysam.prompts import NEGATIVE, POSITIVE
from napari_tinysam.ui.canvas.keys import KeyBinder
from napari_tinysam.ui.canvas.mouse import MouseTool
from napari_tinysam.ui.canvas.preview import CURRENT, Preview
from napari_tinysam.ui.canvas.prompt_layers import Box, PromptLayers
from napari_tinysam.ui.canvas.proposal_layer import PROPOSED
from napari_tinysam.ui.canvas.user_prompts import UserPrompts, holds_prompts
from napari_tinysam.ui.canvas.viewer_events import ViewerEvents
from napari_tinysam.ui.session.auto import AutoSegmenter, EmbeddedPlane
from napari_tinysam.ui.session.embedder import (
    Embedder,
    LoadPredictor,
    Notify,
    Status,
    StatusKind,
    load_predictor,
)
from napari_tinysam.ui.session.label_editor import LabelEditor
from napari_tinysam.ui.session.label_edits import LabelEdit, Stroke
from napari_tinysam.ui.session.outputs import Outputs, committed_name
from napari_tinysam.ui.session.pending import PendingCommit, PendingCommits
from napari_tinysam.ui.session.predictions import Predictions
from napari_tinysam.ui.session.saving import Saving
from napari_tinysam.ui.state.drafts import ObjectDraft, PlaneDrafts, PointPrompt
from napari_tinysam.ui.state.history import Step
from napari_tinysam.ui.state.images import (
    ImageState,
    embedding_job,
    forget,
    memory_of,
    put_above,
)
from napari_tinysam.ui.state.planes import (
    Contrast,
    Plane,
    PlaneError,
    certain_channel_axis,
    full_shape,
    possible_channel_axis,
    shown_plane,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.worker import Inference
    from napari_tinysam.ui.state.candidates import Candidates
    from napari_tinysam.ui.state.proposed import Proposed

#: Radii of the current mask, as a disc, from it to a click that means another object.
_FAR = 0.5

#: The same as a share of the plane's longer side, before the mask is there.
_FAR_OF_FRAME = 0.06

#: Share of the smaller mask that two masks of one object have in common.
_SHARED = 0.2

_NO_IMAGE = Status(StatusKind.NO_IMAGE, "Open an image to begin")


def _notify(level: str, text: str) -> None:
    {"info": show_info, "warning": show_warning, "error": show_error}[level](text)


class AnnotationSession:
    """Everything that happens between a click and a label, for one viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        The viewer or its model.
    inference : Inference
        Where models are loaded, images embedded and prompts decoded. The session shuts it down.
    load : callable
        ``load(name, device, progress)`` returns a `Predictor`.
    notify : callable
        ``notify(level, text)`` with level "info", "warning" or "error".
    model_name, device : str
        What to load first.
    """

    status_changed = Signal(Status)
    changed = Signal()
    layers_changed = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        inference: Inference,
        *,
        load_predictor: LoadPredictor = load_predictor,
        notify: Notify = _notify,
        model_name: str = "default",
        device: str = "auto",
    ) -> None:
        viewer = getattr(viewer, "__wrapped__", viewer)
        self._viewer = viewer
        self._inference = inference
        self._notify = notify
        self._memory = memory_of(viewer)
        self._states = self._memory.states
        self._cache = RecentEmbeddings()
        self._embedder = Embedder(
            inference,
            load_predictor,
            on_status=self._set_status,
            on_ready=self._embedding_ready,
            notify=notify,
            cache=self._cache,
        )
        self._embedder.name, self._embedder.device = model_name, device
        self._preview = Preview(viewer)
        self._layers = PromptLayers(viewer, self._points_edited, self._boxes_edited)
        self._user_prompts = UserPrompts(self._read_user_prompts)
        self._outputs = Outputs(viewer, self.state_of, self._painted)
        self._editor = LabelEditor(
            viewer, self._outputs, notify, self.layers_changed.emit
        )
        self.saving = Saving(inference, self._memory, notify, self.changed.emit)
        self._predictions = Predictions(
            inference, self._masks_found, self._decoding_failed
        )
        self._pending = PendingCommits(
            inference, self._cache, self._write_commit, self._commit_failed
        )
        self.auto = AutoSegmenter(viewer, inference, self, self.changed.emit)
        self._mouse = MouseTool(viewer, self)
        self._keys = KeyBinder(viewer, self._key_pressed)
        self._hovered: tuple[float, float] | None = None
        self._cursor: tuple[float, float] | None = None  # on the plane, hovering or not
        self._plane: Plane | None = None
        self._plane_key: Hashable = None
        self._closed = False
        self.image: Image | None = None
        self.active = False
        self.sign = POSITIVE
        self.overlap = Overlap.NEVER
        self.contrast = self._memory.contrast
        self.new_objects = self._memory.new_objects
        self.hover_enabled = True
        #: What a click would do: "another" object, "part" of the current one, or "".
        self.click_means = ""
        #: An object that was clicked although it is labelled, to be edited with a second click.
        self.offered: int | None = None
        self.edit_mode = False
        self.merge_mode = False
        self.status = self._status_beside_auto = _NO_IMAGE
        if self._memory.region is not None:
            self.auto.region = self._memory.region
        self._events = ViewerEvents(
            viewer,
            on_inserted=self._layer_inserted,
            on_removed=self._layer_removed,
            on_listed=self.layers_changed.emit,
            on_active=self._active_changed,
            on_plane=self._refresh_plane,
            on_data=self._data_changed,
            on_contrast=self._contrast_changed,
            on_moved=self._show_masks,
        )
        _sessions[id(viewer)] = self
        self._choose_first_image()

    # --- what the widget reads ---------------------------------------------------------------

    def image_layers(self) -> list[Image]:
        """Return the layers that can be segmented, in the order of the layer list."""
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def labels_layers(self) -> list[Labels]:
        """Return the layers that objects can be committed to."""
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Labels)
            and layer not in (self._preview.layer, self.auto.layer.layer)
        ]

    @property
    def target(self) -> Labels | None:
        """The labels layer that objects are committed to; None: made at the first commit."""
        return None if self.image is None else self._outputs.of(self.image)

    @property
    def new_target_name(self) -> str:
        """Name of the layer that is made where there is none."""
        return "" if self.image is None else committed_name(self.image)

    @property
    def model_name(self) -> str:
        """Registry name or file of the model."""
        return self._embedder.name

    @property
    def device(self) -> str:
        """Where the model runs, as chosen."""
        return self._embedder.device

    @property
    def channel_axis(self) -> int | None:
        """Axis of the image that holds channels; None where all axes make a stack."""
        return self._state.channel_axis if self.image is not None else None

    @property
    def model_failure(self) -> str:
        """Why the bundled model stands in for the chosen one; "" if it does not."""
        return self._embedder.failure

    @property
    def channel(self) -> int | None:
        """Which channel is shown and segmented; None where there are none."""
        axis, plane = self.channel_axis, self._plane
        if axis is None or plane is None or plane.channel_axis is None:
            return None
        return plane.index[axis]

    @property
    def channel_count(self) -> int:
        """How many channels there may be; 1: no choice."""
        axis = None if self.image is None else self._state.possible_channel_axis
        return 1 if self.image is None or axis is None else full_shape(self.image)[axis]

    @property
    def drafts(self) -> PlaneDrafts:
        """The objects in the making on the shown plane."""
        if self.image is None or self._plane is None:
            return PlaneDrafts()
        return self._state.drafts(self._plane)

    @property
    def object_count(self) -> int:
        """How many objects are in the making on the shown plane."""
        return len(self.drafts.filled)

    @property
    def edited_id(self) -> int | None:
        """Id of the existing object that is being edited."""
        edited = self.drafts.current.edited
        return None if edited is None else edited.label

    @property
    def candidate_scores(self) -> tuple[float, ...]:
        """Predicted IoU of the current object's masks, small to large; empty without a mask."""
        found = self._candidates(self.drafts.current)
        return () if found is None else found.scores

    @property
    def candidate(self) -> int | None:
        """Which of its masks the current object has: 0 the smallest, 2 the largest."""
        draft = self.drafts.current
        found = self._candidates(draft)
        if found is None:
            return None
        return found.best if draft.candidate is None else draft.candidate

    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return bool(self.undo_text)

    @property
    def can_redo(self) -> bool:
        """Whether there is something to do again."""
        return bool(self.redo_text)

    @property
    def undo_text(self) -> str:
        """What `undo` takes back."""
        return self._state.history.undo_text if self.image is not None else ""

    @property
    def redo_text(self) -> str:
        """What `redo` does again."""
        return self._state.history.redo_text if self.image is not None else ""

    @property
    def can_commit(self) -> bool:
        """Whether an object in the making has, or will have, a mask."""
        return bool(self.drafts.predictable)

    @property
    def uncommitted_count(self) -> int:
        """How many objects are in the making, on all planes of all images."""
        return sum(
            state.draft_count
            for image, state in self._states.items()
            if image in self._viewer.layers
        )

    def unsaved_layers(self) -> list[Labels]:
        """Return the labels layers with changes that are in no file."""
        return [each for each in self.labels_layers() if not self.saving.is_saved(each)]

    @property
    def hidden_by(self) -> str | None:
        """Name of the image that is seen instead of the segmented one; None if none is."""
        image, layers = self.image, self._viewer.layers
        if image is None or image not in layers:
            return None
        for layer in reversed(layers[layers.index(image) + 1 :]):
            opaque = str(layer.blending) != "additive" and layer.opacity > 0.99
            if isinstance(layer, Image) and layer.visible and opaque:
                return str(layer.name)
        return None

    @property
    def sees_nothing(self) -> bool:
        """Whether the current object's mask is there and has not one pixel."""
        found = self._candidates(self.drafts.current)
        return found is not None and not found.mask(self.drafts.current.candidate).area

    @property
    def other_tool(self) -> str | None:
        """Name of napari's tool that has the mouse instead of us, as it is written in napari.

        None where clicks are ours, or draw prompts.
        """
        active = self._viewer.layers.selection.active
        if active is None or str(active.mode) == "pan_zoom" or holds_prompts(active):
            return None
        return str(active.mode).replace("_", " ")

    def key_works(self, method: str) -> bool:
        """Whether the key of a method is ours where the user is now."""
        return self._keys.works(method)

    @property
    def can_clear(self) -> bool:
        """Whether there is anything that is not committed."""
        return not self.drafts.is_empty

    @property
    def can_edit(self) -> bool:
        """Whether an existing object is selected, to be deleted, merged or split."""
        return self.edited_id is not None

    # --- what the user chooses ---------------------------------------------------------------

    def set_image(self, layer: Image | None) -> None:
        """Segment this layer from now on; its embedding starts by itself."""
        if layer is self.image:
            return
        self._predictions.stop()
        self._preview.clear()
        self.edit_mode = self.merge_mode = self.auto.picking = False
        self.offered = None
        self.image = layer
        self._memory.image = (lambda: None) if layer is None else weakref.ref(layer)
        self._events.follow(layer)
        selection = self._viewer.layers.selection
        if layer is not None and isinstance(selection.active, Image):
            selection.active = layer  # the image that is selected is the one segmented
        self._plane = self._plane_key = self._hovered = self._cursor = None
        if layer is not None:
            self._outputs.find(layer, self.labels_layers(), self.image_layers())
        self._refresh_plane()
        self._follow_keys()
        self.layers_changed.emit()

    def set_target(self, layer: Labels | None) -> None:
        """Commit to this layer from now on; None: to a new one, made when needed."""
        if self.image is not None:
            self._outputs.choose(self.image, layer)
            self._follow_keys()
        self.auto.show()
        self.changed.emit()

    def set_active(self, active: bool) -> None:
        """Switch clicking on or off: mouse and keys are ours only while it is on."""
        if active == self.active or self._closed:
            return
        self.active = active
        if active:
            self._mouse.arm()
            self._keys.bind()
            self._follow_keys()
            self._refresh_plane()
        else:
            self._mouse.disarm()
            self._keys.unbind()
            self.stop_hover()
        self.changed.emit()

    def set_hover_enabled(self, enabled: bool) -> None:
        """Show the mask under the cursor before a click, or not."""
        self.hover_enabled = enabled
        if not enabled:
            self.stop_hover()
        self.changed.emit()

    def toggle_sign(self) -> None:
        """Switch what a plain click means."""
        self.sign = NEGATIVE if self.sign == POSITIVE else POSITIVE
        self._layers.set_sign(self.sign)
        self.changed.emit()

    def set_overlap(self, overlap: Overlap) -> None:
        """Choose what a commit does to objects that are there."""
        self.overlap = overlap
        self.changed.emit()

    def set_new_objects(self, on: bool) -> None:
        """Let a click far from the current object begin another one, or add to it always."""
        self.new_objects = self._memory.new_objects = on
        self.changed.emit()

    def set_channel(self, channel: int | None) -> None:
        """Show and segment one channel; None: no axis holds channels, all make a stack."""
        if self.image is None:
            return
        state = self._state
        axis = None if channel is None else state.possible_channel_axis
        if axis != state.channel_axis:
            if not state.chosen:
                state.target = None
            state.channel_axis = axis
            self._plane_key = None
            self._outputs.find(self.image, self.labels_layers(), self.image_layers())
        if axis is not None and channel is not None:
            position = np.zeros(self.image.ndim)
            position[axis] = channel
            world = self.image.data_to_world(position)
            offset = self._viewer.dims.ndim - self.image.ndim
            self._viewer.dims.set_point(axis + offset, float(world[axis]))
        self._refresh_plane()
        self.layers_changed.emit()

    def set_contrast(self, contrast: Contrast) -> None:
        """Choose which values are black and white for the model."""
        self.contrast = self._memory.contrast = contrast
        self._refresh_plane()

    def set_preview_opacity(self, opacity: float) -> None:
        """Draw masks that are not committed more faintly: 0–1."""
        self._preview.set_opacity(opacity)

    def set_cache_capacity(self, planes: int) -> None:
        """Keep the embeddings of this many planes in memory."""
        self._cache.capacity = planes

    def set_edit_mode(self, on: bool) -> None:
        """Let the next click select an existing object to refine."""
        self.edit_mode, self.merge_mode = on, False
        self.offered = None
        if on:
            self.auto.picking = False
        self.stop_hover()
        self.changed.emit()

    def set_model(self, name: str, device: str = "auto") -> None:
        """Use another model: a registry name or a file. The same one again is loaded anew."""
        self.stop_hover()
        self._predictions.clear()
        self.auto.model_changed()
        self._embedder.set_model(name, device)
        self.changed.emit()

    def make_prompt_layers(self) -> None:
        """Add the Points and Shapes layers, for users who like to draw their prompts."""
        if self.image is None or self._plane is None:
            return
        self._layers.show(self.image, self._plane, self.drafts)
        if self._layers.points is None:
            self._layers.make_points(self.image)
        if self._layers.boxes is None:
            self._layers.make_boxes(self.image)

    # --- what the mouse does -----------------------------------------------------------------

    def hover_at(self, position: Any) -> None:
        """Show the mask that a click at a world position would give."""
        self._cursor = xy = self._xy(position)
        if self.auto.picking:
            self._hover_proposal(xy)
            return
        embedding, predictor = self._embedder.embedding, self._embedder.predictor
        draft = None if xy is None or not self.hover_enabled else self._would_be(xy)
        if xy is None or draft is None:
            self.stop_hover()
            return
        if embedding is None or predictor is None or xy == self._hovered:
            return
        self._hovered = xy
        key = self._plane_key
        self._predictions.hover(
            key,
            predictor,
            embedding,
            draft,
            lambda found: self._hover_found(key, xy, draft, found),
        )

    def stop_hover(self) -> None:
        """Show nothing under the cursor."""
        self._predictions.stop_hover()
        self._mean("")
        if self._hovered is not None:
            self._hovered = None
            self._show_masks()

    def _would_be(self, xy: tuple[float, float]) -> ObjectDraft | None:
        """Return what a click at (x, y) would make; None where nothing is to be shown."""
        current = self.drafts.current
        alone = ObjectDraft(points=(PointPrompt(*xy, POSITIVE),))
        if self.edit_mode or self.merge_mode or current.edited is not None:
            return None
        if current.is_empty or self._waits(current):
            return alone
        found = self._candidates(current)
        if found is None or found.mask(current.candidate).holds(*xy):
            return None
        if self._begins_another(xy):
            return alone
        points = (*current.points, PointPrompt(*xy, POSITIVE))
        return replace(current, points=points, candidate=None)

    def _begins_another(self, xy: tuple[float, float]) -> bool:
        """Whether a positive click at (x, y) means another object than the current one.

        It does far from the current mask, unless the mask that the model sees there is the same
        object's: then the click is on a part that is missing.
        """
        current, plane = self.drafts.current, self._plane
        if plane is None or not self.new_objects:
            return False
        if current.is_empty or current.edited is not None:
            return False
        if current.box is not None and _in_box(current.box, xy):
            return False
        found = self._candidates(current)
        mask = None if found is None else found.mask(current.candidate)
        if mask is None or not mask.area:
            places = [(point.x, point.y) for point in current.points]
            if current.box is not None:
                x0, y0, x1, y1 = current.box
                places.append((min(max(xy[0], x0), x1), min(max(xy[1], y0), y1)))
            near = min(np.hypot(x - xy[0], y - xy[1]) for x, y in places)
            return bool(near > _FAR_OF_FRAME * max(plane.shape))
        if _distance(mask, xy) <= max(3.0, _FAR * np.sqrt(mask.area / np.pi)):
            return False
        alone = self._candidates(ObjectDraft(points=(PointPrompt(*xy, POSITIVE),)))
        return alone is None or not _is_same(alone.mask(), mask)

    def _mean(self, what: str) -> None:
        """Tell what a click would do, where it is not just a mask."""
        if what != self.click_means:
            self.click_means = what
            self.changed.emit()

    def click_at(self, position: Any, label: int | None = None) -> None:
        """Place a point at a world position, or select the object there in edit mode.

        Parameters
        ----------
        position : sequence of float
            In the world of the viewer, (ndim,).
        label : int, optional
            1 on the object, 0 beside it; what `sign` says if left out.
        """
        xy, plane = self._xy(position), self._plane
        if xy is None or plane is None:
            return
        if self.auto.picking:
            self.auto.click_at(xy, label)
        elif self.merge_mode:
            self._merge_at(plane, xy)
        elif self.edit_mode and self.drafts.current.edited is None:
            self._select_at(plane, xy)
        else:
            label = self.sign if label is None else label
            if label == NEGATIVE or not self._offer_edit(plane, xy):
                self._add_point(PointPrompt(*xy, label))

    def click_again_at(
        self, first: Any, position: Any, label: int | None = None
    ) -> None:
        """Take the second of two quick clicks at one place, unless the first did it all.

        Parameters
        ----------
        first : sequence of float
            Where the first one was, in the world of the viewer.
        position, label
            As `click_at` takes them.
        """
        current, xy = self.drafts.current, self._xy(first)
        points = current.points
        fresh = current.is_empty or self._waits(current) or self.offered is not None
        done = not points or (points[-1].x, points[-1].y) == xy
        if self.auto.picking or self.merge_mode or (done and not fresh):
            return
        self.click_at(position, label)

    def drag_box(self, start: Any, end: Any, *, done: bool) -> None:
        """Drag a box between two world positions; when done it prompts the current object."""
        plane, image = self._plane, self.image
        if image is None or plane is None:
            return
        ends = [plane.xy_plane(image.world_to_data(p)) for p in (start, end)]
        xs, ys = zip(*ends, strict=True)
        height, width = plane.shape
        box: Box = (
            min(max(min(xs), 0.0), width - 1.0),
            min(max(min(ys), 0.0), height - 1.0),
            min(max(max(xs), 0.0), width - 1.0),
            min(max(max(ys), 0.0), height - 1.0),
        )
        if not done:
            self._preview.show_box(image, plane, box)
            return
        if min(box[2] - box[0], box[3] - box[1]) < 1:
            self._show_masks()
            return
        drafts = self._open_drafts()
        draft = replace(drafts.current, box=box, candidate=None)
        self._set_drafts(drafts.with_current(draft), "box")

    # --- what keys and buttons do ------------------------------------------------------------

    def segment(self) -> None:
        """Take the mask under the cursor as the current object, or predict again."""
        if self._embedder.embedding is None:
            self._refresh_plane(force=True)
        if self.drafts.current.is_empty and self._hovered is not None:
            self._add_point(PointPrompt(*self._hovered, POSITIVE))
        elif not self.can_commit:
            self._notify("info", "Move over an object and click it, or drag a box.")
        else:
            self._show_masks()

    def auto_segment(self) -> None:
        """Look for all objects of the shown plane, in the background."""
        self.auto.run()

    def set_picking(self, on: bool) -> None:
        """Let clicks accept single proposals of auto-segmentation, and right clicks reject them."""
        if on:
            self.edit_mode = self.merge_mode = False
        self.stop_hover()
        self.auto.set_picking(on)

    def next_object(self) -> None:
        """Keep the current object as it is and start another; commit writes them all."""
        if not self.drafts.current.is_empty:
            self._set_drafts(self.drafts.with_next(), "next object")

    def clear(self) -> None:
        """Remove all prompts of the shown plane."""
        self.merge_mode, self.offered = False, None
        self._pending.done(self._pending.of(self.image, self._plane))
        if self.can_clear:
            self._set_drafts(PlaneDrafts(), "clear")
        self.changed.emit()

    def set_candidate(self, candidate: int) -> None:
        """Choose one of the current object's three masks: 0 the smallest, 2 the largest."""
        if self.candidate_scores and candidate != self.candidate:
            draft = replace(self.drafts.current, candidate=candidate)
            self._set_drafts(self.drafts.with_current(draft), "choice of mask")

    def cycle_candidate(self) -> None:
        """Choose the next of the three masks."""
        if self.candidate is not None:
            self.set_candidate((self.candidate + 1) % 3)

    def commit(self) -> None:
        """Write all objects in the making into the labels layer."""
        if not self.drafts.predictable:
            self._notify("info", "Nothing to commit yet: click an object first.")
            return
        image, plane = self.image, self._plane
        if image is None or plane is None:
            return
        waiting = self._pending.of(image, plane)
        known = [draft for each in waiting for draft in each.drafts]
        drafts = tuple(each for each in self.drafts.predictable if each not in known)
        if not drafts:
            return
        key, embed = embedding_job(image, self._state, plane, self.contrast)
        self._pending.add(PendingCommit(image, plane, key, embed, drafts, self.overlap))
        self._settle()

    def _settle(self) -> None:
        """Write the commits whose masks are there; see to it that the others come."""
        for commit in self._pending.of(self.image, self._plane):
            found = [self._candidates(draft) for draft in commit.drafts]
            candidates = [each for each in found if each is not None]
            if len(candidates) == len(commit.drafts):
                self._pending.done([commit])
                self._write_commit(commit, candidates)
            else:
                self._show_masks()
                break
        self._pending.decode(
            self._embedder.predictor,
            lambda each: each.image is self.image and each.key == self._plane_key,
        )

    def _waits(self, draft: ObjectDraft) -> bool:
        """Whether an object of the shown plane waits to be committed."""
        return any(
            draft in commit.drafts
            for commit in self._pending.of(self.image, self._plane)
        )

    def _write_commit(self, commit: PendingCommit, found: list[Candidates]) -> None:
        """Write what was committed into its labels, wherever the user is by now."""
        image, plane = commit.image, commit.plane
        state = self._states.get(image)
        if self._closed or state is None or image not in self._viewer.layers:
            return
        before = state.drafts(plane)
        there = {draft.prompts_key: draft for draft in before.filled}
        # What was taken back meanwhile is not committed; another choice of mask holds.
        masks = [
            (there[draft.prompts_key], candidates)
            for draft, candidates in zip(commit.drafts, found, strict=True)
            if draft.prompts_key in there
        ]
        if not masks:
            return
        objects = [(c.mask(draft.candidate), draft.edited) for draft, c in masks]
        written = self._editor.commit(image, plane, objects, commit.overlap)
        if written is None:
            return
        edit, labels = written
        gone = [d for (d, _), label in zip(masks, labels, strict=True) if label]
        if len(gone) < len(masks):
            self._notify(
                "warning",
                f"{len(masks) - len(gone)} of {len(masks)} objects were not committed: other "
                "objects cover them. They are still there to be changed.",
            )
        left = [draft for draft in before.filled if draft not in gone]
        if before.current.is_empty or before.current in gone:
            left.append(ObjectDraft())
        self._labels_changed(
            image, plane, "commit", edit, PlaneDrafts(tuple(left or (ObjectDraft(),)))
        )

    def _commit_failed(self, commit: PendingCommit, error: Exception) -> None:
        place = ", ".join(str(at) for at in commit.plane.index if at is not None)
        where = f"plane {place} of {commit.image.name}" if place else commit.image.name
        text = sentence(error, f"Objects on {where} were not committed")
        self._notify("error", f"{text} Their prompts are still there.")

    def edit_object(self) -> None:
        """Edit the object under the cursor; without one, the one that is clicked next."""
        plane, xy, image = self._plane, self._cursor, self.image
        if image is None or plane is None:
            return
        free = self.drafts.current.edited is None and not self.edit_mode
        if free and xy is not None and self._editor.id_at(image, plane, xy):
            self._select_at(plane, xy)
            return
        self.set_edit_mode(self.drafts.current.edited is None and not self.edit_mode)

    def delete_object(self) -> None:
        """Remove the object that is being edited, or the one under the cursor."""
        image, plane, xy = self.image, self._plane, self._cursor
        if image is None or plane is None:
            return
        label, left = self.edited_id, PlaneDrafts()
        if label is None and xy is not None:
            label, left = self._editor.id_at(image, plane, xy), self.drafts
        if not label:
            self._notify("info", "Move over a labelled object, or edit one first.")
            return
        edit = self._editor.delete(image, plane, label)
        self._labels_changed(image, plane, "delete", edit, left)

    def merge_objects(self) -> None:
        """Let the next click merge another object into the one that is being edited."""
        if self.can_edit:
            self.merge_mode = not self.merge_mode
            self.changed.emit()
        else:
            self._notify("info", "Edit an object first (E), then merge it (M).")

    def split_object(self) -> None:
        """Split the object that is being edited, at the clicks inside it if there are two."""
        if self.image is None or self._plane is None:
            return
        if self.edited_id is None:
            self._notify("info", "Edit an object first (E), then split it (X).")
            return
        points = self.drafts.current.points
        seeds = [(p.x, p.y) for p in points if p.label == POSITIVE]
        edit = self._editor.split(self.image, self._plane, self.edited_id, seeds)
        self._labels_changed(self.image, self._plane, "split", edit)

    def undo(self) -> None:
        """Take back the last step, wherever it was."""
        self._step_back_or_forth(back=True)

    def redo(self) -> None:
        """Do again what was taken back last."""
        self._step_back_or_forth(back=False)

    def cancel(self) -> None:
        """Stop waiting for a download, a model or an embedding; a click asks again.

        Auto-segmentation stops too, and keeps what it has found.
        """
        running = self.status.kind is StatusKind.SEGMENTING
        self.auto.cancel()
        if not running:
            self._pending.clear()
            self._embedder.cancel()

    def close(self, *, window_is_gone: bool = False) -> None:
        """Let go of the viewer. Idempotent.

        Parameters
        ----------
        window_is_gone : bool
            Leave the viewer's layers alone: what draws them does not exist any more.
        """
        if self._closed:
            return
        self.set_active(False)
        self._closed = True
        self._inference.shutdown()
        self._events.close()
        self._pending.clear()
        self._user_prompts.close()
        self._outputs.close()
        self._memory.region = self.auto.region
        if window_is_gone:
            forget(self._viewer)
        else:
            if count := self.uncommitted_count:
                what, it = (
                    ("1 object is", "it")
                    if count == 1
                    else (f"{count} objects are", "them")
                )
                self._notify(
                    "info",
                    f"{what} not committed yet; open TinySAM again to go on with {it}.",
                )
            self._preview.remove()
            self._layers.remove()
            self.auto.close()
        self._predictions.clear()
        self._embedder.predictor = self._embedder.embedding = None
        _sessions.pop(id(self._viewer), None)

    # --- planes and embeddings ---------------------------------------------------------------

    @property
    def _state(self) -> ImageState:
        """What is remembered of the image that is segmented."""
        if self.image is None:
            raise RuntimeError("No image is chosen.")
        return self.state_of(self.image)

    def state_of(self, image: Image) -> ImageState:
        """Return what is remembered of an image."""
        if image not in self._states:
            self._states[image] = ImageState(
                certain_channel_axis(image), possible_channel_axis(image)
            )
        return self._states[image]

    def _refresh_plane(self, *, force: bool = False) -> None:
        """Follow what the viewer shows: its embedding, its prompts, its masks."""
        if self._closed:
            return
        image = self.image
        if image is None or image not in self._viewer.layers:
            self._no_plane(_NO_IMAGE)
            return
        try:
            plane = shown_plane(image, self._viewer.dims, self._state.channel_axis)
        except PlaneError as error:
            flat = self._viewer.dims.ndisplay == 2
            kind = StatusKind.UNSUPPORTED if flat else StatusKind.VIEW_3D
            self._no_plane(Status(kind, str(error)))
            return
        key, embed = embedding_job(image, self._state, plane, self.contrast)
        if key == self._plane_key and not force:
            return
        self._predictions.stop()
        self._hovered = self._cursor = self.offered = None
        self._plane, self._plane_key = plane, key
        self._layers.show(image, plane, self.drafts)
        self._read_user_prompts()
        self._embedder.want(key, embed)
        self.auto.show()
        self._show_masks()
        self._settle()

    def _no_plane(self, status: Status) -> None:
        self._plane = self._plane_key = self._hovered = self._cursor = None
        self._embedder.want(None, None)
        self._preview.clear()
        self._set_status(status)
        self.changed.emit()

    def _embedding_ready(self) -> None:
        self._show_masks()
        self._settle()
        self.auto.ready()

    def _set_status(self, status: Status) -> None:
        if self._closed:
            return
        if status.kind is not StatusKind.SEGMENTING:
            self._status_beside_auto = status
        if status.kind is StatusKind.READY and self.auto.decoding:
            return  # it is shown when auto-segmentation has finished
        if self.image is None and status.kind is StatusKind.READY:
            status = _NO_IMAGE
        self.status = status
        self.status_changed.emit(status)
        self.changed.emit()

    def _xy(self, position: Any) -> tuple[float, float] | None:
        """(x, y) of a world position on the shown plane; None beside it."""
        if self.image is None or self._plane is None:
            return None
        xy = self._plane.xy_plane(self.image.world_to_data(position))
        return xy if self._plane.contains(xy) else None

    # --- drafts and masks --------------------------------------------------------------------

    def _add_point(self, point: PointPrompt) -> None:
        drafts = self._open_drafts()
        if point.label == POSITIVE and self._begins_another((point.x, point.y)):
            drafts = drafts.with_next_at((point.x, point.y))
        points = (*drafts.current.points, point)
        draft = replace(drafts.current, points=points, candidate=None)
        self._set_drafts(drafts.with_current(draft), "point")

    def _open_drafts(self) -> PlaneDrafts:
        """Return the drafts, the current one not one that only waits to be committed."""
        if self._waits(self.drafts.current):
            return self.drafts.with_next()
        return self.drafts

    def _read_user_prompts(self) -> None:
        """Take up what is new in the user's own prompt layers, as one step."""
        if self.image is None or self._plane is None or self._closed:
            return
        drafts = self._user_prompts.merged(self.image, self._plane, self.drafts)
        if drafts != self.drafts:
            self._set_drafts(drafts, "prompts of a layer")

    def _points_edited(self, points: list[PointPrompt]) -> None:
        self._set_drafts(self.drafts.with_points(points), "points")

    def _boxes_edited(self, boxes: list[Box]) -> None:
        self._set_drafts(self.drafts.with_boxes(boxes), "boxes")

    def _set_drafts(
        self, drafts: PlaneDrafts, text: str, edit: LabelEdit | None = None
    ) -> None:
        """Replace the drafts of the shown plane as one step that can be taken back."""
        if self._plane is None:
            return
        before, proposed = self.drafts, self.proposed()
        self._state.set_drafts(self._plane, drafts)
        self._state.history.push(
            Step(text, self._plane, before, drafts, edit, proposed, proposed)
        )
        self._drafts_changed()

    def _drafts_changed(self) -> None:
        if self.image is None or self._plane is None:
            return
        self._hovered = self.offered = None
        self._predictions.stop_hover()
        self._layers.show(self.image, self._plane, self.drafts)
        self._follow_keys()
        self._show_masks()

    def _candidates(self, draft: ObjectDraft) -> Candidates | None:
        return self._predictions.get(self._plane_key, draft)

    def _show_masks(self) -> None:
        """Show the masks of all drafts that have one, and ask for those that are missing."""
        image, plane = self.image, self._plane
        if image is None or plane is None or self._closed:
            return
        masks = self._known_masks()
        waits = any(self._candidates(d) is None for d in self.drafts.predictable)
        if waits:
            self._ask()
        if masks or not waits:  # while a mask is computed, the last one stays
            self._show(image, plane, masks)
        self.changed.emit()

    def _show(
        self,
        image: Image,
        plane: Plane,
        masks: list[BoxedMask],
        *,
        hover: Sequence[BoxedMask] = (),
    ) -> None:
        """Show masks above the image."""
        self._preview.show(
            image, plane, masks, hover=hover, current=self._current_is_shown
        )
        if self._preview.layer is not None:
            put_above(self._viewer, self._preview.layer, image)

    @property
    def _current_is_shown(self) -> bool:
        """Whether the last of the known masks is the current object's."""
        draft = self.drafts.current
        return draft.edited is not None or (
            not draft.is_empty and self._candidates(draft) is not None
        )

    def _known_masks(self) -> list[BoxedMask]:
        """Return the masks of all drafts that have one; an edited object has its own."""
        masks = []
        for draft in self.drafts.filled:
            found = self._candidates(draft)
            if found is not None:
                masks.append(found.mask(draft.candidate))
            elif draft.edited is not None:
                masks.append(draft.edited.mask)
        return masks

    def _ask(self) -> None:
        """Ask the model about the drafts that have no mask yet."""
        embedding, predictor = self._embedder.embedding, self._embedder.predictor
        if self.status.kind is StatusKind.CANCELLED:
            self._refresh_plane(force=True)
            return
        if embedding is None or predictor is None:
            return  # comes back when it is ready
        self._predictions.ask(
            self._plane_key, predictor, embedding, self.drafts.predictable
        )

    def _masks_found(self, key: Hashable) -> None:
        if self._closed or key != self._plane_key:
            return
        self._show_masks()
        self._settle()

    def _hover_found(
        self,
        key: Hashable,
        xy: tuple[float, float],
        draft: ObjectDraft,
        found: Candidates,
    ) -> None:
        image, plane = self.image, self._plane
        outdated = key != self._plane_key or self._hovered is None or self._closed
        if outdated or image is None or plane is None:
            return
        if xy == self._hovered and self._would_be(xy) not in (draft, None):
            # The mask of this place alone shows that it is a part of the current object.
            self._hovered = None
            self.hover_at(image.data_to_world(plane.data_position(xy)))
            return
        if self.drafts.current.is_empty:
            self._mean("")
        else:
            self._mean("another" if len(draft.points) == 1 else "part")
        self._show(image, plane, self._known_masks(), hover=[found.mask()])

    def _decoding_failed(self, error: Exception) -> None:
        self._pending.done(self._pending.of(self.image, self._plane))
        self._notify("error", sentence(error, "The model could not segment this"))

    def _follow_keys(self) -> None:
        """Bind our keys on the active layer where clicks on it are ours."""
        if not self.active:
            return
        active = self._viewer.layers.selection.active
        ours = (self._preview.layer, self._layers.points, self._layers.boxes)
        known = active in (*ours, self.image, self.target, self.auto.layer.layer)
        if active is None or not known or str(active.mode) != "pan_zoom":
            self._keys.follow(None, all_keys=False)
        else:
            free = self.can_edit or active in ours
            self._keys.follow(active, all_keys=free)

    def _key_pressed(self, method: str) -> None:
        getattr(self, method)()

    # --- labels ------------------------------------------------------------------------------

    def _labels_changed(
        self,
        image: Image,
        plane: Plane,
        text: str,
        edit: LabelEdit | None,
        left: PlaneDrafts | None = None,
    ) -> None:
        """Note a change of the labels, and the drafts that are left, as one step to take back."""
        if edit is None:
            return
        state, left = self.state_of(image), left or PlaneDrafts()
        before, proposed = state.drafts(plane), state.proposed(plane)
        state.set_drafts(plane, left)
        state.history.push(Step(text, plane, before, left, edit, proposed, proposed))
        self.saving.changed(edit.layer)
        if image is not self.image:
            self.changed.emit()
            return
        self.merge_mode = False
        active = self._viewer.layers.selection.active
        if active in (None, image, self._preview.layer):
            # So that napari's own Save saves the labels.
            self._viewer.layers.selection.active = edit.layer
        self._drafts_changed()
        self.auto.show()

    def _painted(self, layer: Labels, item: Any) -> None:
        """Make what the user paints with napari's tools a step to take back, too."""
        plane = self._plane
        if self._editor.writing or self._closed:
            return
        self.saving.changed(layer)
        if self.image is None or plane is None or layer is not self.target:
            return
        drafts, proposed = self.drafts, self.proposed()
        edit = Stroke(layer, tuple(item))
        self._state.history.push(
            Step("painting", plane, drafts, drafts, edit, proposed, proposed)
        )
        self.changed.emit()

    def _offer_edit(self, plane: Plane, xy: tuple[float, float]) -> bool:
        """Offer to edit an object that is labelled already; edit it at the second click.

        Returns
        -------
        bool
            Whether the click was used up.
        """
        image, offered = self.image, self.offered
        fresh = self.drafts.current.is_empty or self._waits(self.drafts.current)
        if image is None or self.overlap is not Overlap.NEVER:
            return False
        if not fresh and not self._begins_another(xy):
            return False
        label = self._editor.id_at(image, plane, xy)
        if not label:
            return False
        if label == offered:
            self._select_at(plane, xy)
        else:
            self.offered = label
            self._notify(
                "info",
                f"This is object {label} already. Click it once more to edit it.",
            )
            self.changed.emit()
        return True

    def _select_at(self, plane: Plane, xy: tuple[float, float]) -> None:
        """Make the object under (x, y) the current one."""
        if self.image is None:
            return
        edited = self._editor.select(self.image, plane, xy)
        if edited is not None:
            draft = ObjectDraft(edited=edited)
            self._set_drafts(self.drafts.with_next().with_current(draft), "selection")

    def _merge_at(self, plane: Plane, xy: tuple[float, float]) -> None:
        """Merge the object under (x, y) into the one that is being edited."""
        if self.edited_id is not None and self.image is not None:
            edit = self._editor.merge(self.image, plane, xy, self.edited_id)
            self._labels_changed(self.image, plane, "merge", edit)

    def _step_back_or_forth(self, *, back: bool) -> None:
        if self.image is None:
            return
        history = self._state.history
        step = history.undo() if back else history.redo()
        if step is None:
            return
        self.merge_mode = False
        self._pending.done(self._pending.of(self.image, step.plane))
        if step.edit is not None:
            write = self._editor.take_back if back else self._editor.repeat
            if write(step):
                self.saving.changed(step.edit.layer)
            elif isinstance(step.edit, Stroke):  # napari's own undo was before us
                self._step_back_or_forth(back=back)
                return
        self._state.set_drafts(step.plane, step.before if back else step.after)
        proposed = step.proposed_before if back else step.proposed_after
        self._state.set_proposed(step.plane, proposed)
        self._go_to(step.plane)
        self._drafts_changed()
        self.auto.show()

    def _go_to(self, plane: Plane) -> None:
        """Show a plane, so that what changes on it is seen."""
        if self.image is None:
            return
        shown = self._plane
        if shown is not None and shown.without_channel() == plane.without_channel():
            return
        offset = self._viewer.dims.ndim - self.image.ndim
        world = self.image.data_to_world(plane.data_position((0, 0)))
        for axis, at in enumerate(plane.index):
            if at is not None and axis != plane.channel_axis:
                self._viewer.dims.set_point(axis + offset, float(world[axis]))

    # --- auto-segmentation -------------------------------------------------------------------

    @property
    def shown_plane(self) -> Plane | None:
        """The plane that can be segmented; None while there is none."""
        return self._plane

    def auto_scene(self) -> EmbeddedPlane | None:
        """Return the shown plane once it can be decoded; None after asking for it."""
        embedding, predictor = self._embedder.embedding, self._embedder.predictor
        image, plane = self.image, self._plane
        if image is None or plane is None:
            return None
        if embedding is None or predictor is None:
            if self.status.kind in (StatusKind.CANCELLED, StatusKind.FAILED):
                self._refresh_plane(force=True)
            return None
        return EmbeddedPlane(
            image, self._state.version, self.channel_axis, plane, predictor, embedding
        )

    def last_box(self) -> Box | None:
        """Return the box that the user drew last on the shown plane."""
        boxes = [draft.box for draft in self.drafts.filled if draft.box is not None]
        return boxes[-1] if boxes else None

    def proposed(self) -> Proposed | None:
        """Return what auto-segmentation proposes on the shown plane."""
        if self.image is None or self._plane is None:
            return None
        return self._state.proposed(self._plane)

    def set_proposed(
        self,
        image: Image,
        plane: Plane,
        after: Proposed | None,
        text: str,
        edit: LabelEdit | None = None,
    ) -> None:
        """Replace what is proposed on a plane, as one step that can be taken back."""
        state = self._states.get(image)
        if state is None or self._closed:
            return
        drafts, before = state.drafts(plane), state.proposed(plane)
        step = Step(text, plane, drafts, drafts, edit, before, after)
        state.set_proposed(plane, after)
        if edit is not None:
            self.saving.changed(edit.layer)
        if text == "filter":
            state.history.push_joined(step)
        else:
            state.history.push(step)
        self.stop_hover()
        self.auto.show()
        self.changed.emit()

    def labelled(self, plane: Plane) -> npt.NDArray[np.bool_] | None:
        """Return which pixels of a plane are labelled, (H, W); None without labels."""
        return None if self.image is None else self._editor.labelled(self.image, plane)

    def paste(self, plane: Plane, masks: Sequence[BoxedMask]) -> LabelEdit | None:
        """Write accepted proposals of a plane into the user's labels, with new ids."""
        if self.image is None:
            return None
        return self._editor.paste(self.image, plane, masks, self.overlap)

    def show_auto_status(self, status: Status | None) -> None:
        """Show a status of auto-segmentation; None: what it is beside that."""
        self._set_status(self._status_beside_auto if status is None else status)

    def say(self, level: str, text: str) -> None:
        """Tell the user."""
        self._notify(level, text)

    def _hover_proposal(self, xy: tuple[float, float] | None) -> None:
        """Show the proposal under the cursor."""
        image, plane = self.image, self._plane
        if image is None or plane is None or xy == self._hovered:
            return
        self._hovered = xy
        mask = None if xy is None else self.auto.mask_at(xy)
        hover = [] if mask is None else [mask]
        self._show(image, plane, self._known_masks(), hover=hover)

    # --- events ------------------------------------------------------------------------------

    def _choose_first_image(self) -> None:
        for layer in self._viewer.layers:
            if holds_prompts(layer):
                self._user_prompts.follow(layer)
        active = self._viewer.layers.selection.active
        images, last = self.image_layers(), self._memory.image()
        if not images:
            self._embedder.start()
        elif isinstance(active, Image):
            self.set_image(active)
        else:
            self.set_image(last if last in images else images[-1])

    def _active_changed(self) -> None:
        """Follow the image that the user selects."""
        active = self._viewer.layers.selection.active
        if isinstance(active, Image) and active in self._viewer.layers:
            self.set_image(active)
        self._follow_keys()
        self.changed.emit()

    def _layer_inserted(self, layer: Layer) -> None:
        ours = (self._preview.layer, self._layers.points, self._layers.boxes)
        if isinstance(layer, Image):
            self.set_image(layer)
        elif holds_prompts(layer) and layer not in ours and not self._layers.making:
            self._user_prompts.follow(layer)
            self._read_user_prompts()
        elif layer.name not in (CURRENT, PROPOSED):
            if self.image is not None and isinstance(layer, Labels):
                self._outputs.find(
                    self.image, self.labels_layers(), self.image_layers()
                )
            self.layers_changed.emit()

    def _layer_removed(self, layer: Layer) -> None:
        self._layers.layer_removed(layer)
        self._user_prompts.unfollow(layer)
        if isinstance(layer, Labels):
            self._outputs.removed(layer)
        if isinstance(layer, Image):
            self.auto.forget(layer)
            lost = self._pending.of_image(layer)
            self._pending.done(lost)
            if lost:
                self._notify(
                    "warning",
                    f"{layer.name} was removed before what was committed there had a mask.",
                )
        if layer is self.image:
            images = self.image_layers()
            self.set_image(images[-1] if images else None)
            # Not at once: napari may be removing several layers, ours among them.
            self._inference.post(self._leave_nothing)
        self.layers_changed.emit()

    def _leave_nothing(self) -> None:
        """Take our layers away once no image is left to show something on."""
        if self.image is None and not self._closed:
            self._preview.remove()
            self._layers.remove()
            self.auto.layer.remove()

    def _data_changed(self, image: Image) -> None:
        if image not in self._states:
            return
        self.auto.forget(image)
        self._states[image].touch()
        if image is self.image:
            self._refresh_plane()
            self.auto.show()

    def _contrast_changed(self) -> None:
        if self.contrast is Contrast.DISPLAYED:
            self._refresh_plane()


def _in_box(box: Box, xy: tuple[float, float]) -> bool:
    return box[0] <= xy[0] <= box[2] and box[1] <= xy[1] <= box[3]


def _distance(mask: BoxedMask, xy: tuple[float, float]) -> float:
    """Pixels from (x, y) to the nearest of a mask."""
    rows, columns = np.nonzero(mask.mask)
    return float(np.hypot(columns + mask.x0 - xy[0], rows + mask.y0 - xy[1]).min())


def _is_same(one: BoxedMask, other: BoxedMask) -> bool:
    """Whether two masks cover enough of each other to be of one object."""
    smaller = min(one.area, other.area)
    return smaller > 0 and one.shared_area(other) > _SHARED * smaller


_sessions: weakref.WeakValueDictionary[int, AnnotationSession] = (
    weakref.WeakValueDictionary()
)


def session_of(viewer: Any) -> AnnotationSession | None:
    """Find the session of a viewer (or of napari's proxy of it)."""
    return _sessions.get(id(getattr(viewer, "__wrapped__", viewer)))


__all__ = ["AnnotationSession", "Overlap", "Status", "StatusKind", "session_of"]
