"""Keeps a journal of what is done to images, and of each labels layer that objects go to.

The states of images tell of each step, `labels.edits` of each write of ours, napari of painting.
What a step changed in one turn of the session's thread is one action: its boxes are copied and
handed to the journal's thread.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.journal.classes import CLASSES, RENAMED
from napari_tinysam.journal.lines import Window
from napari_tinysam.ui.session.journals.deeds import deed_of
from napari_tinysam.ui.session.journals.layer_journals import LayerJournals
from napari_tinysam.ui.session.journals.telling import Circumstances, Early, Telling
from napari_tinysam.ui.session.labels.changed_boxes import (
    Box,
    before_painting,
    inside,
    merged,
    painted_boxes,
)
from napari_tinysam.ui.session.labels.edits import full_data, unwatch, watch
from napari_tinysam.ui.session.labels.object_table import ObjectTable
from napari_tinysam.ui.state.history import Deed
from napari_tinysam.ui.state.planes import full_shape
from napari_tinysam.ui.state.work_time import WorkTime

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image, Labels

    from napari_tinysam.inference.drafts import ObjectDraft
    from napari_tinysam.journal.folder import HeldJournal, Journals
    from napari_tinysam.journal.reading import Recovered
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.state.history import Edit, Step
    from napari_tinysam.ui.state.images import Memory
    from napari_tinysam.ui.state.planes import Plane

#: Ids are named only of actions on up to this many pixels; the reader finds the others. For these,
#: naming takes 1.5 ms of the session's thread.
_NAMED = 2**17


@dataclass(eq=False)
class _Change:
    """What an edit, or somebody else, has changed in this turn, or will have."""

    edit: Edit | None
    boxes: list[Box]


@dataclass(eq=False)
class _Turn:
    """What is known of an edit: its step, and whether it is undone or redone now."""

    image: weakref.ref[Image]
    step: int
    deed: Deed | None
    name: str


class Recording:
    """Journals of the labels layers of a viewer.

    Parameters
    ----------
    memory : Memory
        Which image a layer belongs to; holds the journals from one dock to the next.
    journals : Journals
    post : callable
        Runs a callable soon on the session's thread; may be called from any thread.
    notify : callable
        ``notify(level, text)``.
    image : callable
        Returns the image that is segmented.
    circumstances : callable
        Called with an image; returns what is chosen now.
    on_objects : callable
        As `ObjectTable` takes it.

    Attributes
    ----------
    objects : ObjectTable
    work : WorkTime
        On each object.
    kept : LayerJournals
    """

    def __init__(
        self,
        memory: Memory,
        journals: Journals,
        post: Callable[[Callable[[], None]], None],
        notify: Notify,
        image: Callable[[], Image | None],
        circumstances: Callable[[Image], Circumstances] = lambda image: Circumstances(),
        on_objects: Callable[[], None] = lambda: None,
    ) -> None:
        self.journals = journals
        self.work = WorkTime()
        self._memory = memory
        self._post = post
        self._image = image
        self._telling = Telling(memory, circumstances)
        self.kept = LayerJournals(memory, journals, post, notify, on_begun=self._begun)
        #: Returns the names of the classes of a layer's objects, by their ids.
        self.classes_of: Callable[[Labels], dict[str, str]] = lambda layer: {}
        self._telling.begin_early = self.kept.begin_early
        self.objects = ObjectTable(memory, post, on_objects)
        self._telling.on_told = self.objects.add
        self._dirty: dict[Labels, list[_Change]] = {}
        self._before: dict[Labels, list[Window]] = {}
        self._edits: weakref.WeakKeyDictionary[Edit, _Turn] = (
            weakref.WeakKeyDictionary()
        )
        self._watched: set[Labels] = set()
        self._taken_back: dict[Labels, int] = {}  # strokes, with napari's own undo
        self._closed = False
        #: Whether nothing is to be kept when this ends.
        self.given_up = False
        memory.on_step = self.stepped

    # --- which layers --------------------------------------------------------------------

    def watch(self, layer: Labels) -> None:
        """Keep a journal of a layer, from its first change on."""
        if layer in self._watched or not _is_kept(layer):
            return
        self._watch(layer)
        image = self.image_of(layer)
        if image is not None:  # others may have changed it since an earlier dock
            self.kept.compare(image, layer)

    def _watch(self, layer: Labels) -> None:
        if layer in self._watched:
            return
        self._watched.add(layer)
        watch(layer, self.writes, self.written)
        layer.events.data.connect(self._replaced)
        layer.events.set_data.connect(self._redrawn)
        self._taken_back[layer] = len(_undone(layer))

    def removed(self, layer: Labels) -> None:
        """Stop with a layer that left the viewer; what is not saved of it stays on disk."""
        if layer not in self._watched:
            return
        self.collect(layer)
        self._unwatch(layer)
        self.kept.end(layer, given_up=self.given_up)

    def forget(self, image: Image) -> None:
        """Stop with an image that left the viewer; prompts that are not committed stay on disk."""
        self.kept.end_early(image, given_up=self.given_up)

    def close(self, *, window_is_gone: bool) -> None:
        """Stop; the journals of what is not saved stay."""
        for layer in list(self._watched):
            self.collect(layer)
            self._unwatch(layer)
            self.kept.leave(
                layer, window_is_gone=window_is_gone, given_up=self.given_up
            )
        self.kept.leave_early(window_is_gone=window_is_gone, given_up=self.given_up)
        self._closed = True
        self._memory.on_step = lambda image, step: None
        self.kept.close()
        self._telling.close()

    def give_up(self) -> None:
        """Keep nothing when this ends: the user closes without saving.

        Closing may still be cancelled: then the next change takes it back.
        """
        self.given_up = True

    def _unwatch(self, layer: Labels) -> None:
        self._watched.discard(layer)
        unwatch(layer)
        self._before.pop(layer, None)
        layer.events.data.disconnect(self._replaced)
        layer.events.set_data.disconnect(self._redrawn)
        del self._taken_back[layer]

    # --- what is done --------------------------------------------------------------------

    def stepped(self, image: Image, step: Step) -> None:
        """Note a step that was done on an image."""
        if self._closed:
            return
        #: Whether nothing is to be kept when this ends.
        self.given_up = False
        deed = deed_of(step)
        if step.classes is not None:
            self._begin_for_classes(image, step.classes.layer)
        if step.edit is None:
            if step.after is not step.before:
                key = self._work_key(image, step.plane, step.after.current)
                self.work.spend(key, self.work.passed())
            self._say(image, deed, step.number)
            return
        known = self._edits.get(step.edit)
        if known is not None and known.deed is None and known.step == step.number:
            known.deed, known.name = deed, deed.name
        else:
            turn = _Turn(weakref.ref(image), step.number, deed, deed.name)
            self._edits[step.edit] = turn
        self._add(step.edit.layer, step.edit, [])

    def _begin_for_classes(self, image: Image, layer: Labels) -> None:
        """Begin the journal of a layer of which nothing but a class was changed."""
        if layer in self._watched and layer not in self._memory.journals:
            self.kept.begin(image, layer)

    def _begun(self, image: Image, layer: Labels, journal: HeldJournal) -> Early | None:
        """Tell a journal that begins what was done before, and which classes there are."""
        early = self._telling.begun(image, journal)
        if classes := self.classes_of(layer):
            self._telling.tell(image, journal, Deed(CLASSES, {"classes": classes}))
        return early

    def renamed(self, layer: Labels, old: str, new: str) -> None:
        """Note that the class of objects of a layer has another name."""
        image, journal = self.image_of(layer), self._memory.journals.get(layer)
        if image is not None and journal is not None:
            self._telling.tell(image, journal, Deed(RENAMED, {"from": old, "to": new}))

    def turning(self, image: Image, step: Step, *, back: bool) -> None:
        """Note that a step is undone, or redone, now."""
        name = "undo" if back else "redo"
        deed = Deed(name, {"of": deed_of(step).name})
        self.work.passed()
        if step.edit is None:
            self._say(image, deed, step.number)
            return
        layer = step.edit.layer
        self.collect(layer)  # what was done until now has another name
        self._edits[step.edit] = _Turn(weakref.ref(image), step.number, deed, name)
        self._add(layer, step.edit, [])

    def note(
        self,
        image: Image,
        name: str,
        arguments: Mapping[str, Any],
        ids: Sequence[int] = (),
    ) -> None:
        """Note something that is no step of its own."""
        self._say(image, Deed(name, arguments, tuple(ids)))

    def seconds(
        self, image: Image, plane: Plane, drafts: Sequence[ObjectDraft]
    ) -> list[float]:
        """Return the seconds of work on each of some drafts that are committed now."""
        share = self.work.passed() / max(len(drafts), 1)
        keys = [self._work_key(image, plane, draft) for draft in drafts]
        return [share + self.work.take(key) for key in keys]

    def _work_key(self, image: Image, plane: Plane, draft: ObjectDraft) -> Any:
        version = self._memory.state_of(image).version
        return version, plane.without_channel(), draft.anchor

    def _say(self, image: Image, deed: Deed, step: int = 0) -> None:
        """Note what changes no labels."""
        if self._closed:
            return
        target = self._memory.state_of(image).target
        if target is not None:
            self.collect(target)
        journal = None if target is None else self._memory.journals.get(target)
        self._telling.tell(image, journal, deed, step)

    # --- what is changed -----------------------------------------------------------------

    def writes(self, layer: Labels, box: Box) -> None:
        """Keep what is in a box that will be changed, until the journal has read the labels."""
        if self._begins(layer):
            data = full_data(layer)
            box = inside(box, full_shape(layer), data)
            start = tuple(side.start for side in box)
            self._before[layer].append(Window(start, np.array(data[box])))

    def _begins(self, layer: Labels) -> bool:
        journal = self._memory.journals.get(layer)
        if self._closed or (journal is not None and journal.has_begun):
            self._before.pop(layer, None)
            return False
        self._before.setdefault(layer, [])
        return True

    def written(self, layer: Labels, box: Box, edit: Edit | None = None) -> None:
        """Note a box that was changed, or will be in this turn."""
        self.given_up = False
        self._add(layer, edit, [box])

    def painted(self, layer: Labels, item: Iterable[Any], edit: Edit | None) -> None:
        """Note what napari's own tools have changed: napari's records of it."""
        self.given_up, item = False, tuple(item)
        if edit is not None and self._begins(layer):
            self._before[layer] += before_painting(item, full_data(layer))
        self._add(layer, edit, list(painted_boxes(item)))

    def _add(self, layer: Labels, edit: Edit | None, boxes: list[Box]) -> None:
        if self._closed or layer not in self._watched:
            return
        new = layer not in self._dirty
        changes = self._dirty.setdefault(layer, [])
        if changes and changes[-1].edit is edit:
            changes[-1].boxes += boxes
        else:
            changes.append(_Change(edit, boxes))
        if new:
            self._post(lambda: self.collect(layer))

    def _redrawn(self, event: Any) -> None:
        """Note what napari's own undo or redo has changed: it tells nobody, but draws."""
        layer = event.source
        undone = _undone(layer)
        before, self._taken_back[layer] = self._taken_back[layer], len(undone)
        if len(undone) > before:
            self.painted(layer, undone[-1], None)
        elif len(undone) < before and layer._undo_history:
            self.painted(layer, layer._undo_history[-1], None)

    def collect(self, layer: Labels) -> None:
        """Hand what was changed to the journal."""
        for change in self._dirty.pop(layer, []):
            if not self._closed:
                self._collect(layer, change)

    def _collect(self, layer: Labels, change: _Change) -> None:
        turn = None if change.edit is None else self._edits.get(change.edit)
        image = self.image_of(layer) if turn is None else turn.image()
        journal = self._memory.journals.get(layer)
        if change.boxes and journal is None and image is not None:
            journal = self.kept.begin(image, layer, self._before.get(layer, ()))
        if image is None or (journal is None and change.boxes):
            return
        data, shape = full_data(layer), full_shape(layer)
        windows = [
            Window(tuple(side.start for side in box), np.array(data[box]))
            for box in merged(inside(box, shape, data) for box in change.boxes)
        ]
        ids: set[int] = set()
        if sum(window.labels.size for window in windows) <= _NAMED:
            for window in windows:
                ids.update(np.unique(window.labels).tolist())
        deed = Deed("labels" if turn is None else turn.name)
        if turn is not None and turn.deed is not None:
            deed, turn.deed = turn.deed, None
        elif not windows:
            return
        ids.update(deed.ids)
        deed = Deed(deed.name, deed.arguments, tuple(sorted(ids - {0})))
        self._telling.tell(
            image, journal, deed, 0 if turn is None else turn.step, windows
        )
        if journal is not None and journal.failed:
            # Too much at once: the layer as it is now is the beginning.
            self.kept.begin_again(image, layer)

    def _replaced(self, event: Any) -> None:
        """Note what is different in a layer that has other data."""
        layer = event.source
        self._dirty.pop(layer, None)
        image = self.image_of(layer)
        if image is not None:
            self.kept.compare(image, layer)

    # --- what is saved -------------------------------------------------------------------

    def through(self, layer: Labels) -> int:
        """Return the number of the last action on a layer."""
        self.collect(layer)
        journal = self._memory.journals.get(layer)
        return 0 if journal is None else journal.last

    def saved(self, layer: Labels, file: Path, through: int) -> None:
        """Note that a layer is in a file, as it was after an action."""
        journal = self._memory.journals.get(layer)
        if journal is not None:
            journal.saved(str(file), through)

    def go_on(
        self, image: Image, layer: Labels, folder: Path, found: Recovered
    ) -> bool:
        """Go on with the journal of a layer that was restored, as `LayerJournals.go_on` does."""
        if not self.kept.go_on(image, layer, folder, found):
            return False
        self.objects.know(self._memory.journals.get(layer), found.actions)
        self._watch(layer)
        return True

    def journal_of(self, image: Image) -> HeldJournal | None:
        """Return the journal of what is done on an image now; None if there is none yet."""
        target = self._memory.state_of(image).target
        journal = None if target is None else self._memory.journals.get(target)
        early = self._memory.early.get(image)
        return early.journal if journal is None and early is not None else journal

    def image_of(self, layer: Labels) -> Image | None:
        """Return the image that a layer belongs to, or the one that is segmented."""
        for image, state in self._memory.states.items():
            if state.target is layer:
                return image
        return self._image()


def _undone(layer: Labels) -> Any:
    """Return what napari's own redo would do; private, like all of its history."""
    return getattr(layer, "_redo_history", ())


def _is_kept(layer: Labels) -> bool:
    """Whether the labels are not on disk anyway."""
    return not type(layer.data).__module__.startswith("zarr.")
