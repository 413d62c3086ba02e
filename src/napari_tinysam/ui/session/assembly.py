"""Makes and connects the parts of a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from psygnal import Signal

from napari_tinysam.errors import sentence
from napari_tinysam.inference.cache import RecentEmbeddings
from napari_tinysam.ui.canvas.preview import CURRENT
from napari_tinysam.ui.canvas.proposal_layer import PROPOSED
from napari_tinysam.ui.session.adapting.adapting import Adapting
from napari_tinysam.ui.session.adapting.comparison import ShownComparison
from napari_tinysam.ui.session.auto.proposals import ShownProposals
from napari_tinysam.ui.session.auto.run import EmbeddedPlane
from napari_tinysam.ui.session.auto.similar import Similar
from napari_tinysam.ui.session.clicks.click_status import ClickStatus
from napari_tinysam.ui.session.clicks.draft_masks import DraftMasks
from napari_tinysam.ui.session.clicks.pointing import Pointing
from napari_tinysam.ui.session.clicks.prompting import Prompting
from napari_tinysam.ui.session.embedding.ahead import Ahead
from napari_tinysam.ui.session.embedding.embedder import Embedder
from napari_tinysam.ui.session.embedding.looks_ahead import LooksAhead
from napari_tinysam.ui.session.images.image_list import ListedImages
from napari_tinysam.ui.session.images.rest import RestOfList
from napari_tinysam.ui.session.journals.recovery import Recovery
from napari_tinysam.ui.session.journals.returning import Returning
from napari_tinysam.ui.session.labels.labelling import Labeller
from napari_tinysam.ui.session.runs import Runs
from napari_tinysam.ui.session.status_line import StatusLine
from napari_tinysam.ui.session.tracks.files import TrackFiles
from napari_tinysam.ui.session.tracks.tool import TrackTool
from napari_tinysam.ui.session.undoing import Undoing
from napari_tinysam.ui.session.viewing import Viewing
from napari_tinysam.ui.state.images import forget, memory_of
from napari_tinysam.ui.state.mode import Mode, ModeSwitch
from napari_tinysam.ui.state.status import Status, StatusKind
from napari_tinysam.ui.state.subject import Subject

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_tinysam.ui.session.embedding.loading import LoadPredictor, Notify
    from napari_tinysam.ui.session.worker import Inference


class Assembly:
    """Makes the parts, and passes events from one part to the others.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    inference : Inference
    load_predictor, notify : callable
        As `AnnotationSession` takes them.
    call : callable
        Called with the method of the session that a key stands for.

    Attributes
    ----------
    closed : bool
        Whether the session has ended.
    """

    layers_changed = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        inference: Inference,
        load_predictor: LoadPredictor,
        notify: Notify,
        call: Callable[[str], None],
    ) -> None:
        self.viewer = viewer
        self.inference = inference
        self.notify = notify
        self.subject = subject = Subject(memory_of(viewer))
        self.modes = ModeSwitch()
        self.cache = RecentEmbeddings()
        self.closed = False
        self.status_line = StatusLine(subject, lambda: self.runs)
        subject.drafts_changed.connect(self._drafts_changed)
        listed = self.layers_changed.emit
        self.embedder = Embedder(
            inference,
            load_predictor,
            on_status=self.status_line.say,
            on_ready=self._embedding_ready,
            notify=notify,
            cache=self.cache,
        )
        self.masks = DraftMasks(
            viewer,
            subject,
            inference,
            self.embedder,
            resume=self._resume,
            on_found=self._show_masks,
            on_error=self._decoding_failed,
            on_read=lambda what: self.click_status.waits(what),
        )
        self.labelling = Labeller(
            viewer,
            subject,
            inference,
            self.embedder,
            self.masks,
            notify,
            on_written=self._labels_written,
            on_layer_made=listed,
            on_filled=self._labels_filled,
        )
        self.prompting = Prompting(
            viewer,
            subject,
            self.masks,
            waits=self.labelling.waits,
        )
        self.proposals = ShownProposals(
            viewer,
            subject,
            self.labelling,
            self.modes,
            notify,
            on_decided=self.prompting.stop_hover,
        )
        self.runs = Runs(
            viewer,
            subject,
            inference,
            self.embedder,
            self.cache,
            self.labelling,
            self.proposals,
            notify,
            scene=self._scene,
            go_to=lambda plane: self.viewing.go_to(plane),
            on_status=self.status_line.say_beside,
        )
        self.returning = Returning(
            subject,
            inference,
            self.labelling,
            self.runs.tracking.bring_back,
            self.runs.tracking.forget,
        )
        self.recovery = Recovery(
            viewer, subject, inference, self.labelling, self.returning, notify
        )
        self.pointing = Pointing(
            viewer,
            subject,
            self.modes,
            self.masks,
            self.prompting,
            self.labelling,
            self.proposals,
            call=call,
        )
        self.viewing = Viewing(
            viewer,
            subject,
            self.embedder,
            self.cache,
            on_image=self._image_changed,
            on_leave=self._leave_plane,
            on_plane=self._plane_changed,
            on_no_plane=self._no_plane,
            on_layer=self._layer_added,
            on_layer_removed=self._layer_removed,
            on_listed=listed,
            on_active=self._active_changed,
            on_moved=self.masks.show,
            on_view=self.view_moved,
            on_data=self._data_changed,
        )
        self.listed = ListedImages(
            viewer,
            subject,
            inference,
            self.labelling,
            notify,
            busy=lambda: self.runs.writing or self.runs.auto.running,
            proposed=lambda: self.proposals.count,
        )
        self.recovery.on_listed = listed
        self.recovery.on_classes = self.listed.classifying.restore
        self.similar = Similar(
            subject,
            self.labelling,
            self.masks,
            self.runs.auto,
            self.proposals,
            self.listed.classifying,
            self.modes,
            notify,
        )
        self.adapting = Adapting(self.listed, inference.post, notify)
        self.rest = RestOfList(self.listed, self.runs.files, notify)
        self.comparison = ShownComparison(viewer, inference.post, notify)
        near = (self.listed.beside, self.viewing.beside)
        self.ahead = Ahead(subject, inference, self.embedder, self.cache, *near)
        self.listed.on_read_ahead = self.ahead.go_on
        self.looks_ahead = LooksAhead(
            inference, subject, self.embedder, self._may_read, self.ahead.beside
        )
        self.click_status = ClickStatus(
            lambda: self.status_line.own, self.status_line.say, self.looks_ahead.go_on
        )
        self.undoing = Undoing(
            subject,
            self.labelling,
            go_to=self.viewing.go_to,
            on_step=self._labels_changed,
            before_step=self.runs.interrupt,
            on_journal=self.returning.turned,
        )
        self.track_tool = TrackTool(
            subject,
            self.labelling,
            self.runs.tracking,
            notify,
            go_to=lambda plane: self.viewing.go_to(plane),
            following=self.runs.track_following,
        )
        self.track_files = TrackFiles(
            viewer,
            subject,
            self.runs.tracking,
            self.labelling.outputs.choose,
            inference.post,
            notify,
        )
        self.pointing.on_click = self.track_tool.click_at

    def start(self, model_name: str, device: str) -> None:
        """Begin with what the viewer shows."""
        self.embedder.name, self.embedder.device = model_name, device
        for layer in self.viewer.layers:
            self.prompting.layer_added(layer)
        self.viewing.choose_first()

    def close(self, *, window_is_gone: bool) -> None:
        """Disconnect from the viewer.

        Parameters
        ----------
        window_is_gone : bool
            Leave the viewer's layers alone: their canvas no longer exists.
        """
        self.closed = True
        self.status_line.close()
        self.similar.close()
        self.rest.close()
        self.listed.close()
        self.adapting.close()
        self.comparison.close()
        self.inference.shutdown()
        self.viewing.close()
        self.runs.close()
        self.labelling.close(window_is_gone=window_is_gone)
        self.prompting.user_prompts.close()
        if window_is_gone:
            forget(self.viewer)
        else:
            self._remove_our_layers()
        self.masks.forget()
        self.embedder.predictor = self.embedder.embedding = None

    # --- images and planes ---------------------------------------------------------------

    def _image_changed(self) -> None:
        self.masks.preview.clear()
        self.modes.enter(Mode.PROMPT)
        self._find_labels()
        self.recovery.look()
        if self.subject.image is None:
            # Not at once: napari may be removing several layers, ours among them.
            self.inference.post(self._leave_nothing)

    def _leave_plane(self) -> None:
        self.looks_ahead.stop()
        self.masks.stop()
        self.labelling.offered = None

    def _no_plane(self, status: Status) -> None:
        self.ahead.moved()
        self.prompting.show()
        self.pointing.end_merging()
        self.masks.preview.clear()
        self.status_line.say(status)

    def _plane_changed(self) -> None:
        self.ahead.moved()
        self.prompting.show()
        self.pointing.end_merging()
        self.prompting.read_user_prompts()
        self.proposals.show()
        self._show_masks()

    def _data_changed(self, image: Image) -> None:
        self.runs.data_changed(image)
        if image is self.subject.image:
            self.viewing.refresh()
            self.proposals.show()

    # --- drafts, masks, labels -----------------------------------------------------------

    def _drafts_changed(self) -> None:
        self.labelling.offered = None
        self.masks.stop_hover()
        self.prompting.show()
        self.pointing.end_merging()
        self.pointing.follow_keys()
        self.masks.show()

    def _show_masks(self) -> None:
        self.status_line.seeing_changed()
        self.masks.show()
        self.labelling.settle()

    def _labels_written(self, image: Image, layer: Labels) -> None:
        if image is not self.subject.image:
            self.subject.changed.emit()
            return
        selection = self.viewer.layers.selection
        if selection.active in (None, image, self.masks.preview.layer):
            selection.active = layer  # so that napari's own Save saves the labels
        self._labels_changed()

    def _labels_filled(self, layer: Labels) -> None:
        """Show what is left of the proposals after a run has written into the shown plane."""
        if layer is self.labelling.target:
            self.proposals.show()
        self.subject.changed.emit()

    def _labels_changed(self) -> None:
        self.modes.leave(Mode.MERGE)
        self._drafts_changed()
        self.proposals.show()

    def _decoding_failed(self, error: Exception) -> None:
        self.labelling.stop_waiting(self.subject.plane)
        self.notify("error", sentence(error, "The model could not segment this"))

    # --- the model and the embedding -----------------------------------------------------

    def _embedding_ready(self) -> None:
        self._show_masks()
        self.runs.auto.ready()
        self.ahead.go_on()
        self.looks_ahead.go_on()
        self.listed.read_ahead()

    def _may_read(self) -> bool:
        """Whether nothing is running that the user waits for."""
        return not self.closed and self.status_line.shown.kind is StatusKind.READY

    def view_moved(self) -> None:
        """Read ahead what is on the screen now, or under the cursor."""
        self.looks_ahead.go_on()
        self.status_line.seeing_changed()

    def _resume(self) -> bool:
        cancelled = self.status_line.own.kind is StatusKind.CANCELLED
        if cancelled:
            self.viewing.refresh(force=True)
        return cancelled

    def _scene(self) -> EmbeddedPlane | None:
        predictor = self.embedder.predictor
        here, seen = self.subject.here, self.subject.seen
        if here is None or seen is None:
            return None
        if self.embedder.embedding is None or predictor is None:
            if self.status_line.shown.kind in (StatusKind.CANCELLED, StatusKind.FAILED):
                self.viewing.refresh(force=True)
            return None
        image, plane = here
        embedding = None if seen.in_parts else self.embedder.embedding
        return EmbeddedPlane(
            image, self.subject.state.version, plane, predictor, embedding
        )

    # --- layers --------------------------------------------------------------------------

    def labels_layers(self) -> list[Labels]:
        """Return the layers that objects can be committed to."""
        others = (self.proposals.layer.layer, self.recovery.layer)
        return [
            layer
            for layer in self.viewer.layers
            if isinstance(layer, Labels) and layer not in others
        ]

    def _active_changed(self) -> None:
        self.pointing.follow_keys()
        self.subject.changed.emit()

    def _layer_added(self, layer: Layer) -> None:
        is_prompts = self.prompting.layer_added(layer)
        if not is_prompts and layer.name not in (CURRENT, PROPOSED):
            if isinstance(layer, Labels):
                self._find_labels()
            self.layers_changed.emit()

    def _layer_removed(self, layer: Layer) -> None:
        self.prompting.layer_removed(layer)
        if isinstance(layer, Labels):
            self.labelling.outputs.removed(layer)
            self.runs.labels_gone(layer)
            image = self.subject.image
            if image is not None and layer is not self.recovery.layer:
                # Not at once: the image may be removed with its labels.
                self.inference.post(lambda: self._labels_gone(image))
        if isinstance(layer, Image):
            self.runs.forget(layer)
            self.labelling.forget(layer)
            self.recovery.forget(layer)

    def _labels_gone(self, image: Image) -> None:
        if not self.closed and image in self.viewer.layers:
            self.recovery.look_again(image)

    def _find_labels(self) -> None:
        if self.subject.image is not None:
            self.labelling.outputs.find(
                self.subject.image, self.labels_layers(), self.viewing.images()
            )

    def _leave_nothing(self) -> None:
        """Remove our layers when no image is left."""
        if self.subject.image is None and not self.closed:
            self._remove_our_layers()

    def _remove_our_layers(self) -> None:
        self.masks.preview.remove()
        self.prompting.layers.remove()
        self.proposals.layer.remove()
