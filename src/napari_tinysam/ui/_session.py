"""The annotation session: clicks become drafts, drafts masks, masks labels, and all of it undoable.

It lives on a `ViewerModel` without Qt. The widget shows what it says and calls what the user wants;
mouse, keys and prompt layers call the same methods. Everything slow goes through `Inference`.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_info, show_warning
from psygnal import Signal

from napari_tinysam.embeddings import EmbeddingCache
from napari_tinysam.prompts import NEGATIVE, POSITIVE
from napari_tinysam.ui._auto import AutoSegmenter, Scene
from napari_tinysam.ui._drafts import ObjectDraft, PlaneDrafts, PointPrompt
from napari_tinysam.ui._embedder import (
    Embedder,
    LoadPredictor,
    Notify,
    Status,
    StatusKind,
    load_predictor,
)
from napari_tinysam.ui._history import Step
from napari_tinysam.ui._images import ImageState, embedding_job
from napari_tinysam.ui._keys import KeyBinder
from napari_tinysam.ui._label_editor import LabelEditor
from napari_tinysam.ui._labels import LabelEdit, Overlap
from napari_tinysam.ui._mouse import MouseTool
from napari_tinysam.ui._planes import (
    Contrast,
    Plane,
    PlaneError,
    channel_count,
    default_channel,
    shown_plane,
)
from napari_tinysam.ui._predictions import Predictions
from napari_tinysam.ui._preview import CURRENT, Preview
from napari_tinysam.ui._prompt_layers import Box, PromptLayers
from napari_tinysam.ui._proposal_layer import PROPOSED
from napari_tinysam.ui._viewer_events import ViewerEvents

if TYPE_CHECKING:
    from collections.abc import Hashable

    import numpy as np
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui._candidates import Candidates
    from napari_tinysam.ui._inference import Inference
    from napari_tinysam.ui._proposed import Proposed

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
        self._cache = EmbeddingCache()
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
        self._editor = LabelEditor(viewer, notify, self.layers_changed.emit)
        self._predictions = Predictions(
            inference, self._masks_found, self._decoding_failed
        )
        self.auto = AutoSegmenter(viewer, inference, self, self.changed.emit)
        self._mouse = MouseTool(viewer, self)
        self._keys = KeyBinder(viewer, self._key_pressed)
        self._states: weakref.WeakKeyDictionary[Image, ImageState] = (
            weakref.WeakKeyDictionary()
        )
        self._hovered: tuple[float, float] | None = None
        self._commit_waits = 0  # objects to commit as soon as their masks are there
        self._plane: Plane | None = None
        self._plane_key: Hashable = None
        self._closed = False
        self.image: Image | None = None
        self.active = False
        self.sign = POSITIVE
        self.overlap = Overlap.KEEP
        self.contrast = Contrast.PERCENTILES
        self.hover_enabled = True
        self.edit_mode = False
        self.merge_mode = False
        self.status = self._status_beside_auto = _NO_IMAGE
        self._events = ViewerEvents(
            viewer,
            on_inserted=self._layer_inserted,
            on_removed=self._layer_removed,
            on_listed=self.layers_changed.emit,
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
        return self._editor.output.layer

    @property
    def model_name(self) -> str:
        """Registry name or file of the model."""
        return self._embedder.name

    @property
    def device(self) -> str:
        """Where the model runs, as chosen."""
        return self._embedder.device

    @property
    def channel(self) -> int | None:
        """Which channel is segmented; None where the first axis is a stack."""
        return self._state.channel if self.image is not None else None

    @property
    def channel_count(self) -> int:
        """How many channels there may be; 1: no choice."""
        return 1 if self.image is None else channel_count(self.image)

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
        self.image = layer
        self._events.follow(layer)
        self._plane = self._plane_key = None
        self._refresh_plane()
        self.layers_changed.emit()

    def set_target(self, layer: Labels | None) -> None:
        """Commit to this layer from now on; None: make `committed_objects` when needed."""
        self._editor.output.choose(layer)
        self.changed.emit()

    def set_active(self, active: bool) -> None:
        """Switch clicking on or off: mouse and keys are ours only while it is on."""
        if active == self.active or self._closed:
            return
        self.active = active
        if active:
            self._mouse.arm()
            self._keys.bind()
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

    def set_channel(self, channel: int | None) -> None:
        """Segment one channel of the first axis; None: the first axis is a stack."""
        if self.image is not None and channel != self.channel:
            self._state.channel = channel
            self._refresh_plane()

    def set_contrast(self, contrast: Contrast) -> None:
        """Choose which values are black and white for the model."""
        self.contrast = contrast
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
        if on:
            self.auto.picking = False
        self.stop_hover()
        self.changed.emit()

    def set_model(self, name: str, device: str = "auto") -> None:
        """Use another model: a registry name or a file."""
        self._predictions.clear()
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
        xy = self._xy(position)
        if self.auto.picking:
            self._hover_proposal(xy)
            return
        embedding, predictor = self._embedder.embedding, self._embedder.predictor
        idle = self.drafts.current.is_empty and not self.edit_mode
        if xy is None or not idle or not self.hover_enabled:
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
            ObjectDraft(points=(PointPrompt(*xy, POSITIVE),)),
            lambda found: self._hover_found(key, found),
        )

    def stop_hover(self) -> None:
        """Show nothing under the cursor."""
        self._predictions.stop_hover()
        if self._hovered is not None:
            self._hovered = None
            self._show_masks()

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
            self._add_point(PointPrompt(*xy, self.sign if label is None else label))

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
        self._focus_preview()

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
        self.merge_mode, self._commit_waits = False, 0
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
        self._commit_first(len(self.drafts.filled))

    def _commit_first(self, count: int) -> None:
        """Write the first objects in the making, or wait for their masks."""
        filled = self.drafts.filled
        drafts = [draft for draft in filled[:count] if draft.is_predictable]
        found = [self._candidates(draft) for draft in drafts]
        if any(candidates is None for candidates in found):
            self._commit_waits = count
            self._show_masks()
            return
        self._commit_waits = 0
        objects = [
            (candidates.mask(draft.candidate), draft.edited)
            for draft, candidates in zip(drafts, found, strict=True)
            if candidates is not None
        ]
        if self.image is not None and self._plane is not None:
            edit = self._editor.commit(
                self.image, self._plane, self.channel, objects, self.overlap
            )
            later = filled[count:]
            if self.drafts.current.is_empty:
                later = (*later, ObjectDraft())
            self._labels_written("commit", edit, PlaneDrafts(later or (ObjectDraft(),)))

    def delete_object(self) -> None:
        """Remove the object that is being edited."""
        if self.edited_id is not None and self._plane is not None:
            edit = self._editor.delete(self._plane, self.edited_id)
            self._labels_written("delete", edit)

    def merge_objects(self) -> None:
        """Let the next click merge another object into the one that is being edited."""
        if self.can_edit:
            self.merge_mode = not self.merge_mode
            self.changed.emit()

    def split_object(self) -> None:
        """Split the object that is being edited, at the clicks inside it if there are two."""
        if self.edited_id is not None and self._plane is not None:
            points = self.drafts.current.points
            seeds = [(p.x, p.y) for p in points if p.label == POSITIVE]
            edit = self._editor.split(self._plane, self.edited_id, seeds)
            self._labels_written("split", edit)

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
        self._editor.output.choose(None)
        if not window_is_gone:
            self._preview.remove()
            self._layers.remove()
            self.auto.close()
        self._predictions.clear()
        self._embedder.predictor = self._embedder.embedding = None
        _sessions.pop(id(self._viewer), None)

    # --- planes and embeddings ---------------------------------------------------------------

    @property
    def _state(self) -> ImageState:
        """What is remembered of the image."""
        if self.image is None:
            raise RuntimeError("No image is chosen.")
        if self.image not in self._states:
            self._states[self.image] = ImageState(channel=default_channel(self.image))
        return self._states[self.image]

    def _refresh_plane(self, *, force: bool = False) -> None:
        """Follow what the viewer shows: its embedding, its prompts, its masks."""
        if self._closed:
            return
        image = self.image
        if image is None or image not in self._viewer.layers:
            self._no_plane(_NO_IMAGE)
            return
        try:
            plane = shown_plane(image, self._viewer.dims, self._state.channel)
        except PlaneError as error:
            flat = self._viewer.dims.ndisplay == 2
            kind = StatusKind.UNSUPPORTED if flat else StatusKind.VIEW_3D
            self._no_plane(Status(kind, str(error)))
            return
        key, embed = embedding_job(image, self._state, plane, self.contrast)
        if key == self._plane_key and not force:
            return
        self._predictions.stop()
        self._hovered, self._commit_waits = None, 0
        self._plane, self._plane_key = plane, key
        self._layers.show(image, plane, self.drafts)
        self._embedder.want(key, embed)
        self.auto.show()
        self._show_masks()

    def _no_plane(self, status: Status) -> None:
        self._plane = self._plane_key = self._hovered = None
        self._embedder.want(None, None)
        self._preview.clear()
        self._set_status(status)
        self.changed.emit()

    def _embedding_ready(self) -> None:
        self._show_masks()
        self.auto.ready()

    def _set_status(self, status: Status) -> None:
        if self._closed:
            return
        if status.kind is not StatusKind.SEGMENTING:
            self._status_beside_auto = status
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
        points = (*drafts.current.points, point)
        draft = replace(drafts.current, points=points, candidate=None)
        self._set_drafts(drafts.with_current(draft), "point")
        self._focus_preview()

    def _open_drafts(self) -> PlaneDrafts:
        """Return the drafts, the current one not one that only waits to be committed."""
        if len(self.drafts.filled) <= self._commit_waits:
            return self.drafts.with_next()
        return self.drafts

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
        self._hovered = None
        self._predictions.stop_hover()
        self._layers.show(self.image, self._plane, self.drafts)
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
            self._preview.show(image, plane, masks, current=self._current_is_shown)
        self.changed.emit()

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
        if self._commit_waits:
            self._commit_first(self._commit_waits)

    def _hover_found(self, key: Hashable, found: Candidates) -> None:
        image, plane = self.image, self._plane
        outdated = key != self._plane_key or self._hovered is None or self._closed
        if outdated or image is None or plane is None:
            return
        kept = self._known_masks()  # nothing hovers while an object is current
        self._preview.show(image, plane, kept, hover=[found.mask()], current=False)
        self._keys_follow_preview()

    def _decoding_failed(self, error: Exception) -> None:
        self._commit_waits = 0
        self._notify("error", f"The model could not segment this: {error}")

    def _focus_preview(self) -> None:
        """Make the preview the active layer: all of our keys are free there, napari's C is not."""
        if self.image is None or self._plane is None or not self.active:
            return
        layer = self._preview.attach(self.image, self._plane)
        self._keys_follow_preview()
        active = self._viewer.layers.selection.active
        if active is self.image or active is None:
            self._viewer.layers.selection.active = layer

    def _keys_follow_preview(self) -> None:
        if self.active and self._preview.layer is not None:
            self._keys.bind_layer(self._preview.layer)

    def _key_pressed(self, method: str) -> None:
        getattr(self, method)()

    # --- labels ------------------------------------------------------------------------------

    def _labels_written(
        self, text: str, edit: LabelEdit | None, left: PlaneDrafts | None = None
    ) -> None:
        """Clear the drafts after a change of the labels, as one step that can be taken back."""
        if edit is not None:
            self.merge_mode = False
            self._set_drafts(left or PlaneDrafts(), text, edit)
            self.auto.show()

    def _select_at(self, plane: Plane, xy: tuple[float, float]) -> None:
        """Make the object under (x, y) the current one."""
        edited = self._editor.select(plane, xy)
        if edited is not None:
            draft = ObjectDraft(edited=edited)
            self._set_drafts(self.drafts.with_next().with_current(draft), "selection")
            self._focus_preview()

    def _merge_at(self, plane: Plane, xy: tuple[float, float]) -> None:
        """Merge the object under (x, y) into the one that is being edited."""
        if self.edited_id is not None:
            edit = self._editor.merge(plane, xy, self.edited_id)
            self._labels_written("merge", edit)

    def _step_back_or_forth(self, *, back: bool) -> None:
        if self.image is None:
            return
        history = self._state.history
        step = history.undo() if back else history.redo()
        if step is None:
            return
        self.merge_mode, self._commit_waits = False, 0
        if step.edit is not None:
            (self._editor.take_back if back else self._editor.repeat)(step)
        self._state.set_drafts(step.plane, step.before if back else step.after)
        proposed = step.proposed_before if back else step.proposed_after
        self._state.set_proposed(step.plane, proposed)
        self._go_to(step.plane)
        self._drafts_changed()
        self.auto.show()

    def _go_to(self, plane: Plane) -> None:
        """Show a plane, so that what changes on it is seen."""
        if self._plane == plane or self.image is None:
            return
        offset = self._viewer.dims.ndim - self.image.ndim
        world = self.image.data_to_world(plane.data_position((0, 0)))
        for axis, at in enumerate(plane.index):
            if at is not None and not (axis == 0 and self.channel is not None):
                self._viewer.dims.set_point(axis + offset, float(world[axis]))

    # --- auto-segmentation -------------------------------------------------------------------

    @property
    def shown_plane(self) -> Plane | None:
        """The plane that can be segmented; None while there is none."""
        return self._plane

    def auto_scene(self) -> Scene | None:
        """Return the shown plane once it can be decoded; None after asking for it."""
        embedding, predictor = self._embedder.embedding, self._embedder.predictor
        image, plane = self.image, self._plane
        if image is None or plane is None:
            return None
        if embedding is None or predictor is None:
            if self.status.kind in (StatusKind.CANCELLED, StatusKind.FAILED):
                self._refresh_plane(force=True)
            return None
        return Scene(image, self.channel, plane, predictor, embedding)

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
        if text == "filter":
            state.history.push_joined(step)
        else:
            state.history.push(step)
        self.stop_hover()
        self.auto.show()
        self.changed.emit()

    def labelled(self, plane: Plane) -> npt.NDArray[np.bool_] | None:
        """Return which pixels of a plane are labelled, (H, W); None without labels."""
        return self._editor.labelled(plane)

    def paste(
        self, plane: Plane, labels: npt.NDArray[np.int32], count: int
    ) -> LabelEdit | None:
        """Write labels 1…count of a plane into the user's labels, with new ids."""
        if self.image is None:
            return None
        return self._editor.paste(
            self.image, plane, self.channel, labels, count, self.overlap
        )

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
        self._preview.show(
            image,
            plane,
            self._known_masks(),
            hover=hover,
            current=self._current_is_shown,
        )
        self._keys_follow_preview()

    # --- events ------------------------------------------------------------------------------

    def _choose_first_image(self) -> None:
        active = self._viewer.layers.selection.active
        images = self.image_layers()
        if images:
            self.set_image(active if isinstance(active, Image) else images[-1])
        else:
            self._embedder.start()

    def _layer_inserted(self, layer: Layer) -> None:
        if self.image is None and isinstance(layer, Image):
            self.set_image(layer)
        elif layer.name not in (CURRENT, PROPOSED):
            self.layers_changed.emit()

    def _layer_removed(self, layer: Layer) -> None:
        self._layers.layer_removed(layer)
        if layer is self._editor.output.layer:
            self._editor.output.choose(None)
        if layer is self.image:
            self.auto.forget()
            images = self.image_layers()
            self.set_image(images[-1] if images else None)
        self.layers_changed.emit()

    def _data_changed(self) -> None:
        self.auto.forget()
        self._state.touch()
        self._refresh_plane()

    def _contrast_changed(self) -> None:
        if self.contrast is Contrast.DISPLAYED:
            self._refresh_plane()


_sessions: weakref.WeakValueDictionary[int, AnnotationSession] = (
    weakref.WeakValueDictionary()
)


def session_of(viewer: Any) -> AnnotationSession | None:
    """Find the session of a viewer (or of napari's proxy of it)."""
    return _sessions.get(id(getattr(viewer, "__wrapped__", viewer)))


__all__ = ["AnnotationSession", "Overlap", "Status", "StatusKind", "session_of"]
