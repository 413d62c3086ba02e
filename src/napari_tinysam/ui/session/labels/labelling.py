"""Objects in the labels layer: committed, accepted, painted; undo and redo of all changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from napari_tinysam.errors import sentence
from napari_tinysam.journal.folder import Journals
from napari_tinysam.labels import Overlap
from napari_tinysam.ui.session.clicks.pending import PendingCommit, PendingCommits
from napari_tinysam.ui.session.journals.deeds import commit_deed, paint_deed
from napari_tinysam.ui.session.journals.provenances import Provenances
from napari_tinysam.ui.session.journals.recording import Recording
from napari_tinysam.ui.session.journals.remembered import JournalEdit
from napari_tinysam.ui.session.journals.telling import circumstances
from napari_tinysam.ui.session.labels.editor import LabelEditor
from napari_tinysam.ui.session.labels.edits import Stroke
from napari_tinysam.ui.session.labels.filling import Filling
from napari_tinysam.ui.session.labels.label_filling import LabelFilling
from napari_tinysam.ui.session.labels.object_editing import ObjectEditing
from napari_tinysam.ui.session.labels.outputs import Outputs
from napari_tinysam.ui.session.labels.saving import Saving
from napari_tinysam.ui.session.labels.whole_objects import WholeObjects
from napari_tinysam.ui.session.stacks.relabelling import Relabelling, relabels_in
from napari_tinysam.ui.state.choices import read_choices
from napari_tinysam.ui.state.drafts import ObjectDraft, PlaneDrafts
from napari_tinysam.ui.state.history import UNTOLD, Deed

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.everything.shapes import TakenAt
    from napari_tinysam.inference.candidates import Candidates
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.clicks.draft_masks import DraftMasks
    from napari_tinysam.ui.session.embedding.embedder import Embedder
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.labels.edits import LabelEdit
    from napari_tinysam.ui.session.worker import Inference
    from napari_tinysam.ui.state.history import Edit, Step
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject


class OnChanged(Protocol):
    """Told of changed labels of a plane."""

    def __call__(self, image: Image, plane: Plane, *, undone: bool) -> None:
        """`undone`: by undo or redo."""
        ...


OnFollowed = Callable[["Image", "Plane", Sequence[int]], None]


class Labeller(ObjectEditing):
    """Writes drafts and proposals into the labels of their image; undoes and redoes all changes.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the labels layers are.
    subject : Subject
    inference : Inference
        Decodes waiting commits, and writes files.
    embedder : Embedder
        Has the model.
    masks : DraftMasks
        Of the drafts.
    notify : callable
        ``notify(level, text)``.
    on_written : callable
        Called with an image and its labels layer when objects on it were changed.
    on_layer_made : callable
        Called when a labels layer was added.
    on_filled : callable
        Called with a labels layer when a run over many planes changed what is shown of it.

    Attributes
    ----------
    overlap : Overlap
        What a commit does to existing objects.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        inference: Inference,
        embedder: Embedder,
        masks: DraftMasks,
        notify: Notify,
        *,
        on_written: Callable[[Image, Labels], None],
        on_layer_made: Callable[[], None],
        on_filled: Callable[[Labels], None],
    ) -> None:
        self._viewer = viewer
        outputs = Outputs(viewer, subject.memory.state_of, self._painted)
        super().__init__(
            subject,
            LabelEditor(viewer, outputs, notify, on_layer_made),
            WholeObjects(outputs, subject.memory),
            notify,
        )
        self.outputs = outputs
        self._inference = inference
        self._embedder = embedder
        self._masks = masks
        self._turned: JournalEdit | None = None  # maybe in part
        self._on_written = on_written
        self.saving = Saving(inference, subject.memory, notify, subject.changed.emit)
        choices = read_choices()
        self.recording = Recording(
            subject.memory,
            Journals(days=choices.journal_days, limit=choices.journal_size),
            inference.post,
            notify,
            lambda: subject.image,
            lambda image: circumstances(image, subject.memory, embedder, self.overlap),
            subject.changed.emit,
        )
        self.saving.recording = self.recording
        self.saving.provenances = Provenances(
            subject.memory, self.recording.through, self.recording.image_of
        )
        self.saving.autosave.first_file = self._first_file
        self.outputs.on_used = self.recording.watch
        self.outputs.on_new = self.recording.kept.is_new
        self.outputs.on_unused = self.recording.removed
        self.filling = LabelFilling(
            viewer,
            subject.memory,
            self.outputs,
            self.editor,
            self.saving,
            inference.post,
            on_written=on_filled,
        )
        self.filling.on_filled = lambda image, told: self.recording.note(
            image, "fill", told
        )
        self.relabelling = Relabelling(
            viewer,
            subject.memory,
            self.outputs,
            self.saving,
            inference.post,
            on_written=on_filled,
        )
        self.pending = PendingCommits(inference, self._write, self._commit_failed)
        #: Called with an image and a plane of which the labels were changed, see `ObjectFollower`.
        self.on_changed: OnChanged = lambda image, plane, *, undone: None
        #: Called with an image, a plane, and ids of objects committed to be followed.
        self.on_followed: OnFollowed = lambda image, plane, labels: None

    def replaces(self, layer: Labels) -> bool:
        """Whether new objects take pixels of existing ones."""
        return self.overlap is Overlap.REPLACE and not layer.preserve_labels

    @property
    def target(self) -> Labels | None:
        """The labels layer that objects are committed to; None: made at the first commit."""
        image = self._subject.image
        return None if image is None else self.outputs.of(image)

    def close(self, *, window_is_gone: bool) -> None:
        """Drop waiting commits and disconnect from all layers."""
        self.pending.clear()
        self.saving.autosave.close()
        self.filling.finish()
        self.finish_turning()
        self.recording.close(window_is_gone=window_is_gone)
        self.outputs.close()

    def _first_file(self, layer: Labels) -> Path | None:
        """Return where a layer is saved for the first time: beside its image, if that is a file."""
        image = self.recording.image_of(layer)
        path = None if image is None else image.source.path
        return None if path is None else self.saving.suggestion(layer, image)

    # --- committing ----------------------------------------------------------------------

    def commit(self, *, follow: bool = False) -> None:
        """Write all drafts into the labels layer, or let them wait for masks.

        Parameters
        ----------
        follow : bool
            Follow the objects through the planes, once they are written.
        """
        drafts = self._subject.drafts.predictable
        if not drafts:
            self._notify("info", "Nothing to commit yet: click an object first.")
            return
        here, seen = self._subject.here, self._subject.seen
        if here is None or seen is None:
            return
        image, plane = here
        known = [each for commit in self._waiting for each in commit.drafts]
        new = tuple(draft for draft in drafts if draft not in known)
        if new:
            levels = tuple(self._subject.start(draft) for draft in new)
            self.pending.add(
                PendingCommit(image, plane, seen, new, levels, self.overlap, follow)
            )
            self.settle()

    def settle(self) -> None:
        """Write the commits that have masks; request masks for the others."""
        for commit in self._waiting:
            found = [self._masks.of(draft) for draft in commit.drafts]
            candidates = [each for each in found if each is not None]
            if len(candidates) < len(found):
                self._masks.show()
                break
            self.pending.done([commit])
            self._write(commit, candidates)
        subject = self._subject
        self.pending.decode(
            self._embedder.predictor,
            lambda each: each.image is subject.image and each.seen.key == subject.key,
        )

    def waits(self, draft: ObjectDraft) -> bool:
        """Whether a draft of the shown plane waits to be committed."""
        return any(draft in commit.drafts for commit in self._waiting)

    def stop_waiting(self, plane: Plane | None) -> None:
        """Drop the waiting commits of a plane of the image."""
        self.pending.done(self.pending.of(self._subject.image, plane))

    def forget(self, image: Image) -> None:
        """Drop the waiting commits of an image that left the viewer, and say so."""
        self.recording.forget(image)
        if lost := self.pending.of_image(image):
            self.pending.done(lost)
            self._notify(
                "warning",
                f"{image.name} was removed before its committed objects had masks: they are lost.",
            )

    @property
    def _waiting(self) -> list[PendingCommit]:
        return self.pending.of(self._subject.image, self._subject.plane)

    def _write(self, commit: PendingCommit, found: list[Candidates]) -> None:
        """Write a commit into its labels, whatever plane is shown now."""
        image, plane = commit.image, commit.plane
        if image not in self._viewer.layers:
            return
        before = self._subject.memory.state_of(image).drafts(plane)
        there = {draft.prompts_key: draft for draft in before.filled}
        # Drafts that were undone meanwhile are not committed; a new choice of mask counts.
        masks = [
            (there[draft.prompts_key], candidates)
            for draft, candidates in zip(commit.drafts, found, strict=True)
            if draft.prompts_key in there
        ]
        if not masks:
            return
        objects = [(c.mask(draft.candidate), draft.edited) for draft, c in masks]
        if not (written := self.editor.commit(image, plane, objects, commit.overlap)):
            return
        edit, labels = written
        gone = [d for (d, _), label in zip(masks, labels, strict=True) if label]
        if len(gone) < len(masks):
            self._notify(
                "warning",
                f"{len(masks) - len(gone)} of {len(masks)} objects were not committed: other "
                "objects cover them. Their prompts are still there.",
            )
        left = [draft for draft in before.filled if draft not in gone]
        if before.current.is_empty or before.current in gone:
            left.append(ObjectDraft())
        drafts = PlaneDrafts(tuple(left) or (ObjectDraft(),))
        seconds = self.recording.seconds(image, plane, [draft for draft, _ in masks])
        told = [
            (label, draft, candidates, spent)
            for label, (draft, candidates), spent in zip(
                labels, masks, seconds, strict=True
            )
            if label
        ]
        for _, draft, candidates, _ in told:
            self._subject.memory.habit.note(draft, candidates.best)
        kept = commit.overlap is Overlap.REPLACE and edit.layer.preserve_labels
        overlap = Overlap.NEVER if kept else commit.overlap
        deed = commit_deed(plane, commit.seen, overlap, told)
        self._note(image, plane, "commit", edit, drafts, deed)
        if commit.follow:
            self.on_followed(image, plane, [label for label in labels if label])

    def _commit_failed(self, commit: PendingCommit, error: Exception) -> None:
        place = ", ".join(str(at) for at in commit.plane.index if at is not None)
        where = f"plane {place} of {commit.image.name}" if place else commit.image.name
        text = sentence(error, f"Objects on {where} were not committed")
        self._notify("error", f"{text} Their prompts are still there.")

    # --- proposals -----------------------------------------------------------------------

    def labelled(self, plane: Plane) -> TakenAt | None:
        """Return what tells which pixels of a plane are labelled; None without labels."""
        image = self._subject.image
        return None if image is None else self.editor.labelled(image, plane)

    def paste(
        self, plane: Plane, masks: Sequence[BoxedMask]
    ) -> tuple[LabelEdit, list[int]] | None:
        """Write accepted proposals of a plane into the user's labels.

        Returns
        -------
        edit : LabelEdit
        labels : list of int
            The new ids; 0 for one that found no free pixel.
        """
        if (image := self._subject.image) is None:
            return None
        pasted = self.editor.paste(image, plane, masks, self.overlap)
        if pasted is not None:
            self.saving.changed(pasted[0].layer)
        return pasted

    # --- steps ---------------------------------------------------------------------------

    def rewrite(self, step: Step, *, back: bool) -> bool:
        """Undo or redo what a step wrote into labels.

        Returns
        -------
        bool
            False if the step was painting that napari's own undo had already taken back.
        """
        self.stop_waiting(step.plane)
        if step.edit is None:
            self._turning(step, back=back)
            return True
        self.relabelling.finish()
        self.finish_turning()
        if isinstance(step.edit, Filling):
            self.filling.attach(step.edit)
        for relabel in relabels_in(step.edit):
            self.relabelling.attach(relabel)
        if isinstance(edit := step.edit, JournalEdit):
            edit.attach(self._inference.post)
            self._turned = edit
        self._turning(step, back=back)
        write = self.editor.take_back if back else self.editor.repeat
        if write(step):
            self.saving.changed(step.edit.layer)
            if self._subject.image is not None:
                self.on_changed(self._subject.image, step.plane, undone=True)
            for relabel in relabels_in(step.edit):
                self.relabelling.turned(relabel, not back)
            return True
        return not isinstance(step.edit, Stroke)

    def finish_turning(self) -> None:
        """Write at once what still waits of a step of a journal."""
        if self._turned is not None:
            self._turned.finish()

    def _turning(self, step: Step, *, back: bool) -> None:
        if self._subject.image is not None:
            self.recording.turning(self._subject.image, step, back=back)

    def _note(
        self,
        image: Image,
        plane: Plane,
        text: str,
        edit: Edit | None,
        left: PlaneDrafts | None = None,
        deed: Deed = UNTOLD,
    ) -> None:
        """Record a change of the labels, and the remaining drafts, as one undo step."""
        if edit is not None:
            state = self._subject.memory.state_of(image)
            state.change_drafts(text, plane, left or PlaneDrafts(), edit, deed)
            self.saving.changed(edit.layer)
            self._on_written(image, edit.layer)
            self.on_changed(image, plane, undone=False)

    def _painted(self, layer: Labels, item: Any) -> None:
        """Record painting as an undo step."""
        if self.editor.writing:
            return
        self.saving.changed(layer)
        here, drafts = self._subject.here, self._subject.drafts
        stroke = Stroke(layer, tuple(item))
        self.recording.painted(layer, item, stroke)
        if here is not None and layer is self.outputs.of(here[0]):
            (seconds,) = self.recording.seconds(*here, [ObjectDraft()])
            deed = paint_deed(here[1], stroke.ids, seconds)
            state = self._subject.state
            state.change_drafts("painting", here[1], drafts, stroke, deed)
            # Napari tells of some strokes before they are in the data.
            self._inference.post(partial(self.on_changed, *here, undone=False))
            self._subject.changed.emit()
