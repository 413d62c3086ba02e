"""The annotation session: from clicks to drafts, masks and labels, with undo.

It works on a `ViewerModel`, without Qt. The dock shows its state and calls its methods, as do keys,
commands and tests. Its parts do the work.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info, show_warning

from napari_tinysam.labels import Overlap
from napari_tinysam.ui.session.assembly import Assembly
from napari_tinysam.ui.session.auto.files_run import ModelChoice
from napari_tinysam.ui.session.auto.opening import FileResult, show_result
from napari_tinysam.ui.session.choosing import Choosing
from napari_tinysam.ui.session.embedding.loading import (
    LoadPredictor,
    Notify,
    load_predictor,
)
from napari_tinysam.ui.state.choices import read_choices
from napari_tinysam.ui.state.drafts import PlaneDrafts
from napari_tinysam.ui.state.mode import Mode
from napari_tinysam.ui.state.region import Region
from napari_tinysam.ui.state.status import BESIDE, Status, StatusKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel

    from napari_tinysam.ui.session.worker import Inference


def _notify(level: str, text: str) -> None:
    {"info": show_info, "warning": show_warning, "error": show_error}[level](text)


class AnnotationSession(Choosing):
    """Everything that happens between a click and a label, for one viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        The viewer or its model.
    inference : Inference
        Where models are loaded, images embedded and prompts decoded. The session shuts it down.
    load_predictor : callable
        ``load_predictor(name, device, progress)`` returns a `Predictor`.
    notify : callable
        ``notify(level, text)`` with level "info", "warning" or "error".
    model_name, device : str
        What to load first.
    """

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
        parts = Assembly(
            viewer,
            inference,
            load_predictor,
            notify,
            lambda method: getattr(self, method)(),
        )
        self._parts = parts
        self.say = notify
        self.saving = parts.labelling.saving
        self.objects = parts.labelling.recording.objects
        self.recovery = parts.recovery
        self.recovery.unfinished.on_files = self._take_up_files
        self.proposals, runs = parts.proposals, parts.runs
        self.auto, self.all_planes, self.files = runs.auto, runs.all_planes, runs.files
        self.linking, self.tracking = runs.linking, runs.tracking
        self.follower = runs.follower
        self.similar = parts.similar
        self.listed, self.rest = parts.listed, parts.rest
        self.adapting, self.comparison = parts.adapting, parts.comparison
        self.classifying = classifying = parts.listed.classifying
        keys = parts.pointing.keys
        classifying.on_digits = lambda on: keys.set_digits(
            classifying.give if on else None
        )
        self.track_tool, self.track_files = parts.track_tool, parts.track_files
        self.changed = parts.subject.changed
        self.status_changed = parts.status_line.changed
        self.layers_changed = parts.layers_changed
        _sessions[id(viewer)] = self
        parts.start(model_name, device)
        if self.image is None:
            self.recovery.unfinished.look()

    def close(self, *, window_is_gone: bool = False) -> None:
        """Disconnect from the viewer. Idempotent.

        Parameters
        ----------
        window_is_gone : bool
            Leave the viewer's layers alone: their canvas no longer exists.
        """
        if self._parts.closed:
            return
        self.set_active(False)
        given_up = self._parts.labelling.recording.given_up
        count = 0 if given_up else self.uncommitted_count
        self._parts.close(window_is_gone=window_is_gone)
        if count and not window_is_gone:
            what, it = ("1 object is", "it")
            if count > 1:
                what, it = f"{count} objects are", "them"
            self.say(
                "info",
                f"{what} not committed yet; open TinySAM again to go on with {it}.",
            )
        _sessions.pop(id(self._parts.viewer), None)

    def give_up_unsaved(self) -> None:
        """Keep nothing of what is not saved when the window closes: the user wants it so."""
        self._parts.labelling.recording.give_up()

    def _take_up_files(self, told: Mapping[str, Any]) -> None:
        """Choose files again that were being segmented when napari ended."""
        self.files.take_up(told)
        self.auto.set_region(Region.FILES)

    def set_active(self, active: bool) -> None:
        """Switch clicking on or off: mouse and keys are ours only while it is on."""
        if active != self.active and not self._parts.closed:
            self._parts.pointing.set_active(active)
            if active:
                self._parts.viewing.refresh()
            self.changed.emit()

    def make_prompt_layers(self) -> None:
        """Add the Points and Shapes layers, for users who like to draw their prompts."""
        self._parts.prompting.make_layers()

    # --- what the mouse does: see `Pointing` ---------------------------------------------

    def hover_at(self, position: Any) -> None:
        """Show what a click at a world position would give."""
        self._parts.pointing.hover_at(position)
        self._parts.view_moved()

    def stop_hover(self) -> None:
        """Hide the hover."""
        self._parts.prompting.stop_hover()

    def click_at(self, position: Any, label: int | None = None) -> None:
        """Do what a click at a world position does; label 1 is positive, 0 negative."""
        self._parts.pointing.click_at(position, label)

    def click_again_at(
        self, first: Any, position: Any, label: int | None = None
    ) -> None:
        """Handle the second click of a double click, unless the first did everything."""
        self._parts.pointing.click_again_at(first, position, label)

    def drag_box(self, start: Any, end: Any, *, done: bool) -> None:
        """Drag a box between world positions; when done it prompts the current object."""
        self._parts.pointing.drag_box(start, end, done=done)

    # --- what keys and buttons do --------------------------------------------------------

    def segment(self) -> None:
        """Take the mask under the cursor as the current object, or predict again."""
        if self._parts.embedder.embedding is None:
            self._parts.viewing.refresh(force=True)
        if self._parts.prompting.take_hovered():
            return
        if self.can_commit:
            self._parts.masks.show()
        else:
            self.say("info", "Move over an object and click it, or drag a box.")

    def auto_segment(self) -> None:
        """Look for all objects in the chosen region, in the background."""
        region, memory = self.region, self._parts.subject.memory
        if region is Region.FILES:
            self.files.run(self._model_choice, memory.tuned)
        elif region is Region.LIST:
            self.auto_segment_rest()
        elif self.follower.running:
            self.say("info", "Wait until following has ended, or cancel it.")
        elif self.auto.running or self.all_planes.running:
            self.say("info", "Auto-segmentation is already running.")
        elif region is Region.ALL_PLANES and self.image is not None:
            self.all_planes.run([self.image])
        elif region is Region.ALL_IMAGES:
            self.all_planes.run(self.shown_images())
        else:
            self.auto.run()

    def find_similar(self) -> None:
        """Propose the objects of the shown plane that are like the chosen one."""
        self.similar.find()

    def adapt(self) -> None:
        """Adapt the model to what is annotated in the list of images, beside the viewer."""
        self.adapting.begin(*self.model_in_use)

    def auto_segment_rest(self) -> None:
        """Segment the images of the list that are not done, as files beside the viewer."""
        self.rest.run(self._model_choice, self._parts.subject.memory.tuned)

    @property
    def _model_choice(self) -> ModelChoice:
        return ModelChoice(*self.model_in_use, read_choices().precision)

    def link_planes(self) -> None:
        """Make one object of those of neighbouring planes that overlap, in the background."""
        if self.image is None:
            return
        if self._may_work():
            self.linking.link([self.image])

    def track_objects(self) -> None:
        """Find the tracks of objects through the frames of a movie, in the background."""
        if self.image is not None and self._may_work():
            self.tracking.track([self.image])

    def link_tracks(self) -> None:
        """Let the track under the cursor go on as the one that the key is pressed over next."""
        self.track_tool.link()

    def cut_track(self) -> None:
        """Let a new track begin under the cursor."""
        self.track_tool.cut()

    def swap_tracks(self) -> None:
        """Exchange two tracks from this frame on."""
        self.track_tool.swap()

    def divide_track(self) -> None:
        """Confirm the division that is proposed under the cursor, or say who the daughters are."""
        self.track_tool.divide()

    def refuse_division(self) -> None:
        """Refuse the division under the cursor."""
        self.track_tool.refuse()

    def delete_track(self) -> None:
        """Delete the track under the cursor from this frame on."""
        self.track_tool.delete()

    def follow_track(self) -> None:
        """Let the model follow the track under the cursor anew from this frame on."""
        self.track_tool.follow()

    def next_doubt(self) -> None:
        """Show the next proposed division."""
        self.track_tool.next_doubt()

    def _may_work(self) -> bool:
        """Whether no run writes into labels now; else say so."""
        running = self._parts.runs.writing
        if running:
            self.say("info", "Wait until what is running has ended.")
        return not running

    def open_result(self, result: FileResult) -> None:
        """Show an image that was segmented as a file, and its labels."""
        viewer = self._parts.viewer
        self.files.open(result, lambda read: show_result(viewer, read))

    def finish_image(self) -> None:
        """Mark the image of the list as done, and open the next one that is not."""
        self.listed.finish_image()

    def next_image(self) -> None:
        """Open the next image of the list."""
        self.listed.next_image()

    def previous_image(self) -> None:
        """Open the previous image of the list."""
        self.listed.previous_image()

    def toggle_sign(self) -> None:
        """Switch what a plain click means."""
        self._parts.prompting.toggle_sign()

    def next_object(self) -> None:
        """Keep the current object as it is and start another; commit writes them all."""
        self._parts.prompting.next_object()

    def clear(self) -> None:
        """Remove all prompts of the shown plane."""
        self._parts.labelling.offered = None
        self._parts.labelling.stop_waiting(self.shown_plane)
        if self.can_clear:
            self._parts.subject.change_drafts("clear", PlaneDrafts())
        self.changed.emit()

    def set_candidate(self, candidate: int) -> None:
        """Choose one of the current object's three masks: 0 the smallest, 2 the largest."""
        self._parts.prompting.set_candidate(candidate)

    def cycle_candidate(self) -> None:
        """Choose the next of the three masks."""
        if self.candidate is not None:
            self.set_candidate((self.candidate + 1) % 3)

    def commit(self) -> None:
        """Write all drafts into the labels layer."""
        self._parts.labelling.commit()

    def edit_object(self) -> None:
        """Edit the object under the cursor; without one, the one that is clicked next."""
        self._parts.pointing.edit_object()

    def delete_object(self) -> None:
        """Remove the edited object, or the one under the cursor."""
        self._parts.labelling.delete()

    def merge_objects(self) -> None:
        """Let the next click merge another object into the edited one."""
        if self.can_edit:
            self._parts.modes.toggle(Mode.MERGE)
        else:
            self.say("info", "Edit an object first (E), then merge it (M).")

    def split_object(self) -> None:
        """Split the edited object, at the clicks inside it if there are two."""
        self._parts.labelling.split()

    def follow_object(self) -> None:
        """Follow the clicked object, or the one under the cursor, through the planes."""
        self.follower.follow()

    def end_object_here(self) -> None:
        """Let the followed object end in the shown plane."""
        self.follower.end_here()

    def show_weakest_plane(self) -> None:
        """Show the plane of the followed object that needs a look most."""
        self.follower.to_weakest()

    def accept_plane(self) -> None:
        """Take the followed object in the shown plane as it is."""
        self.follower.accept()

    def split_here(self) -> None:
        """Let another object begin in the shown plane."""
        self._parts.labelling.split_along()

    def undo(self) -> None:
        """Undo the last step, wherever it was."""
        self._parts.undoing.undo()

    def redo(self) -> None:
        """Redo the step that was undone last."""
        self._parts.undoing.redo()

    def cancel(self) -> None:
        """Stop waiting for a download, a model or an embedding; a click asks again.

        Auto-segmentation stops too, and keeps what it has found.
        """
        running = self.status.kind in BESIDE
        self._parts.runs.cancel()
        if not running:
            self._parts.labelling.pending.clear()
            self._parts.embedder.cancel()


_sessions: weakref.WeakValueDictionary[int, AnnotationSession] = (
    weakref.WeakValueDictionary()
)


def session_of(viewer: Any) -> AnnotationSession | None:
    """Find the session of a viewer (or of napari's proxy of it)."""
    return _sessions.get(id(getattr(viewer, "__wrapped__", viewer)))


__all__ = ["AnnotationSession", "Overlap", "Status", "StatusKind", "session_of"]
