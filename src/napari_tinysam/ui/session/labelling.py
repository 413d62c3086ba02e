"""Objects in the labels layer: committed, edited, deleted, merged, split, painted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from napari_tinysam.errors import sentence
from napari_tinysam.journal.folder import Journals
from napari_tinysam.labels import Overlap
from napari_tinysam.prompts import POSITIVE
from napari_tinysam.ui.session.filling import Filling
from napari_tinysam.ui.session.label_editor import LabelEditor
from napari_tinysam.ui.session.label_edits import Stroke
from napari_tinysam.ui.session.label_filling import LabelFilling
from napari_tinysam.ui.session.label_writing import LabelsError
from napari_tinysam.ui.session.outputs import Outputs
from napari_tinysam.ui.session.pending import PendingCommit, PendingCommits
from napari_tinysam.ui.session.recording import Recording
from napari_tinysam.ui.session.relabelling import Relabelling, relabels_in
from napari_tinysam.ui.session.saving import Saving
from napari_tinysam.ui.session.whole_objects import WholeObject, WholeObjects
from napari_tinysam.ui.state.drafts import ObjectDraft, PlaneDrafts
from napari_tinysam.ui.state.traces import position

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.everything.shapes import TakenAt
    from napari_tinysam.inference.candidates import Candidates
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.draft_masks import DraftMasks
    from napari_tinysam.ui.session.embedder import Embedder
    from napari_tinysam.ui.session.label_edits import LabelEdit
    from napari_tinysam.ui.session.loading import Notify
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


class Labeller:
    """Writes drafts and proposals into the labels of their image, and changes existing objects.

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
    offered : int or None
        The labelled object that was clicked; a second click edits it.
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
        self._subject = subject
        self._inference = inference
        self._embedder = embedder
        self._masks = masks
        self._notify = notify
        self._on_written = on_written
        self.outputs = Outputs(viewer, subject.memory.state_of, self._painted)
        self.editor = LabelEditor(viewer, self.outputs, notify, on_layer_made)
        self.whole = WholeObjects(self.outputs, subject.memory)
        self.saving = Saving(inference, subject.memory, notify, subject.changed.emit)
        self.recording = Recording(
            subject.memory, Journals(), inference.post, notify, lambda: subject.image
        )
        self.saving.recording = self.recording
        self.outputs.on_used = self.recording.watch
        self.outputs.on_new = self.recording.is_new
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
        self.relabelling = Relabelling(
            viewer,
            subject.memory,
            self.outputs,
            self.saving,
            inference.post,
            on_written=on_filled,
        )
        self.pending = PendingCommits(inference, self._write, self._commit_failed)
        self.overlap = Overlap.NEVER
        self.offered: int | None = None
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
        self.filling.finish()
        self.recording.close(window_is_gone=window_is_gone)
        self.outputs.close()

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
        lost = self.pending.of_image(image)
        self.pending.done(lost)
        if lost:
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
        written = self.editor.commit(image, plane, objects, commit.overlap)
        if written is None:
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
        self._note(image, plane, "commit", edit, drafts)
        if commit.follow:
            self.on_followed(image, plane, [label for label in labels if label])

    def _commit_failed(self, commit: PendingCommit, error: Exception) -> None:
        place = ", ".join(str(at) for at in commit.plane.index if at is not None)
        where = f"plane {place} of {commit.image.name}" if place else commit.image.name
        text = sentence(error, f"Objects on {where} were not committed")
        self._notify("error", f"{text} Their prompts are still there.")

    # --- existing objects ----------------------------------------------------------------

    @property
    def edited_id(self) -> int | None:
        """Id of the labelled object that is edited."""
        edited = self._subject.drafts.current.edited
        return None if edited is None else edited.label

    def id_at(self, xy: tuple[float, float] | None) -> int:
        """Return the id at (x, y) of the shown plane; 0 where there is none."""
        here = self._subject.here
        return 0 if here is None or xy is None else self.editor.id_at(*here, xy)

    def offer_edit(self, xy: tuple[float, float]) -> bool:
        """Offer to edit the object at (x, y); edit it at the second click.

        Returns
        -------
        bool
            Whether the click was used up.
        """
        label = self.id_at(xy) if self.overlap is Overlap.NEVER else 0
        if not label:
            return False
        if label == self.offered:
            self.select(xy)
        else:
            self.offered = label
            self._notify(
                "info",
                f"Object {label} is already here. Click it again to edit it.",
            )
            self._subject.changed.emit()
        return True

    def select(self, xy: tuple[float, float]) -> None:
        """Edit the object at (x, y)."""
        if (here := self._subject.here) is None:
            return
        edited = self.editor.select(*here, xy)
        if edited is not None:
            draft = ObjectDraft(edited=edited)
            drafts = self._subject.drafts.with_next().with_current(draft)
            self._subject.change_drafts("selection", drafts)

    def delete(self) -> None:
        """Remove the edited object, or the one under the cursor."""
        if (here := self._subject.here) is None:
            return
        label, left = self.edited_id, PlaneDrafts()
        if label is None:
            label, left = self.id_at(self._subject.cursor), self._subject.drafts
        if not label:
            self._notify("info", "Move over a labelled object, or edit one first.")
        elif (whole := self.find_whole(label)) is not None:
            self._note(*here, "delete", self.whole.remove(whole), left)
            self._notify(
                "info",
                f"Object {label} was removed from {len(whole.planes)} planes. Ctrl+Z brings it "
                "back.",
            )
        else:
            self._note(*here, "delete", self.editor.delete(*here, label), left)

    def find_whole(self, label: int) -> WholeObject | None:
        """Find the planes of an object; None if it has one, or only the shown one is meant."""
        here = self._subject.here
        if here is None or not self._subject.memory.whole:
            return None
        try:
            return self.whole.find(*here, label)
        except LabelsError:
            return None  # what is done to the shown plane says so

    def merge(self, xy: tuple[float, float]) -> None:
        """Merge the object at (x, y) into the edited one."""
        here, label = self._subject.here, self.edited_id
        if here is None or label is None:
            return
        other = self.id_at(xy)
        whole = None if other in (0, label) else self.find_whole(other)
        if whole is not None:
            self._note(*here, "merge", self.whole.merge(whole, label))
        else:
            self._note(*here, "merge", self.editor.merge(*here, xy, label))

    def split_along(self) -> None:
        """Let another object begin in the shown plane: the edited one, or that under the cursor."""
        if (here := self._subject.here) is None:
            return
        label = self.edited_id or self.id_at(self._subject.cursor)
        try:
            whole = self.whole.find(*here, label) if label else None
            if whole is None:
                self._notify(
                    "info", "Move over an object that has several planes, or edit one."
                )
                return
            edit, new = self.whole.split(whole, position(here[1], whole.axis))
        except LabelsError as error:
            self._notify("info", str(error))
            return
        self._note(*here, "split here", edit, self._subject.drafts)
        self._notify("info", f"From here on it is object {new}. Ctrl+Z takes it back.")

    def split(self) -> None:
        """Split the edited object, at the clicks inside it if there are two."""
        if (here := self._subject.here) is None:
            return
        if self.edited_id is None:
            self._notify("info", "Edit an object first (E), then split it (X).")
            return
        points = self._subject.drafts.current.points
        seeds = [(p.x, p.y) for p in points if p.label == POSITIVE]
        self._note(*here, "split", self.editor.split(*here, self.edited_id, seeds))

    # --- proposals -----------------------------------------------------------------------

    def labelled(self, plane: Plane) -> TakenAt | None:
        """Return what tells which pixels of a plane are labelled; None without labels."""
        image = self._subject.image
        return None if image is None else self.editor.labelled(image, plane)

    def paste(self, plane: Plane, masks: Sequence[BoxedMask]) -> LabelEdit | None:
        """Write accepted proposals of a plane into the user's labels, with new ids."""
        image = self._subject.image
        if image is None:
            return None
        edit = self.editor.paste(image, plane, masks, self.overlap)
        if edit is not None:
            self.saving.changed(edit.layer)
        return edit

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
            return True
        self.relabelling.finish()
        if isinstance(step.edit, Filling):
            self.filling.attach(step.edit)
        for relabel in relabels_in(step.edit):
            self.relabelling.attach(relabel)
        write = self.editor.take_back if back else self.editor.repeat
        if write(step):
            self.recording.name(step.edit.layer, "undo" if back else "redo")
            self.saving.changed(step.edit.layer)
            if self._subject.image is not None:
                self.on_changed(self._subject.image, step.plane, undone=True)
            for relabel in relabels_in(step.edit):
                self.relabelling.turned(relabel, not back)
            return True
        return not isinstance(step.edit, Stroke)

    def _note(
        self,
        image: Image,
        plane: Plane,
        text: str,
        edit: Edit | None,
        left: PlaneDrafts | None = None,
    ) -> None:
        """Record a change of the labels, and the remaining drafts, as one undo step."""
        if edit is not None:
            state = self._subject.memory.state_of(image)
            state.change_drafts(text, plane, left or PlaneDrafts(), edit)
            self.recording.name(edit.layer, text)
            self.saving.changed(edit.layer)
            self._on_written(image, edit.layer)
            self.on_changed(image, plane, undone=False)

    def _painted(self, layer: Labels, item: Any) -> None:
        """Record painting as an undo step."""
        if self.editor.writing:
            return
        self.saving.changed(layer)
        self.recording.name(layer, "painting")
        self.recording.painted(layer, item)
        here, drafts = self._subject.here, self._subject.drafts
        if here is not None and layer is self.outputs.of(here[0]):
            stroke = Stroke(layer, tuple(item))
            self._subject.state.change_drafts("painting", here[1], drafts, stroke)
            # Napari tells of some strokes before they are in the data.
            self._inference.post(partial(self.on_changed, *here, undone=False))
            self._subject.changed.emit()
