"""Changes of objects that are there: selected, deleted, merged, split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from napari_tinysam.labels import Overlap
from napari_tinysam.prompts import POSITIVE
from napari_tinysam.ui.session.labels.writing import LabelsError
from napari_tinysam.ui.state.drafts import ObjectDraft, PlaneDrafts
from napari_tinysam.ui.state.history import UNTOLD, Deed
from napari_tinysam.ui.state.traces import position

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.labels.editor import LabelEditor
    from napari_tinysam.ui.session.labels.whole_objects import WholeObject, WholeObjects
    from napari_tinysam.ui.state.history import Edit
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject


class ObjectEditing(ABC):
    """Changes objects of the labels of the image.

    Parameters
    ----------
    subject : Subject
    editor : LabelEditor
        Of one plane.
    whole : WholeObjects
        Of all planes of an object.
    notify : callable
        ``notify(level, text)``.

    Attributes
    ----------
    overlap : Overlap
        What a commit does to existing objects.
    offered : int or None
        The labelled object that was clicked; a second click edits it.
    """

    def __init__(
        self,
        subject: Subject,
        editor: LabelEditor,
        whole: WholeObjects,
        notify: Notify,
    ) -> None:
        self._subject = subject
        self.editor = editor
        self.whole = whole
        self._notify = notify
        self.overlap = Overlap.NEVER
        self.offered: int | None = None

    @abstractmethod
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
            deed = Deed("delete", {"id": label, "planes": len(whole.planes)}, (label,))
            self._note(*here, "delete", self.whole.remove(whole), left, deed)
            self._notify(
                "info",
                f"Object {label} was removed from {len(whole.planes)} planes. Ctrl+Z brings it "
                "back.",
            )
        else:
            # Without the whole object, it may still be on other planes.
            part = not self._subject.memory.whole
            deed = Deed("delete", {"id": label, "part": part}, (label,))
            edit = self.editor.delete(*here, label)
            self._note(*here, "delete", edit, left, deed)

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
        edit: Edit | None
        if whole is not None:
            edit = self.whole.merge(whole, label)
        else:
            edit = self.editor.merge(*here, xy, label)
        told = {"into": label, "from": other, "at": [xy[1], xy[0]]}
        self._note(*here, "merge", edit, None, Deed("merge", told, (label, other)))

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
        told = {"along": whole.axis, "into": [label, new]}
        deed = Deed("split", told, (label, new))
        self._note(*here, "split here", edit, self._subject.drafts, deed)
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
        label = self.edited_id
        edit = self.editor.split(*here, label, seeds)
        new = (
            [] if edit is None else sorted(set(edit.after.flat) - set(edit.before.flat))
        )
        into = [label, *(int(each) for each in new)]
        told = {"seeds": [[y, x] for x, y in seeds], "into": into}
        self._note(*here, "split", edit, None, Deed("split", told, tuple(into)))
