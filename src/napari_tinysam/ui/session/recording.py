"""Keeps a journal of each labels layer that objects go to, as they are changed.

`label_edits` tells of each write of ours, napari of painting. What was changed in one turn of the
session's thread is one action: its boxes are copied and handed to the journal's thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_tinysam
from napari_tinysam.errors import FileError
from napari_tinysam.journal.identity import ImageIdentity, identify
from napari_tinysam.journal.lines import About, Window
from napari_tinysam.ui.session.label_edits import full_data, unwatch, watch
from napari_tinysam.ui.state.planes import full_shape

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image, Labels

    from napari_tinysam.journal.folder import HeldJournal, Journals
    from napari_tinysam.ui.session.loading import Notify
    from napari_tinysam.ui.state.images import Memory

#: Ids are named only of actions on up to this many pixels; the reader finds the others. For these,
#: naming takes 1.5 ms of the session's thread.
_NAMED = 2**17

Box = tuple[slice, ...]


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
    """

    def __init__(
        self,
        memory: Memory,
        journals: Journals,
        post: Callable[[Callable[[], None]], None],
        notify: Notify,
        image: Callable[[], Image | None],
    ) -> None:
        self.journals = journals
        self._memory = memory
        self._post = post
        self._notify = notify
        self._image = image
        self._dirty: dict[Labels, list[Box]] = {}
        self._names: dict[Labels, str] = {}
        self._empty: set[Labels] = set()  # made here, and nothing written yet
        self._watched: set[Labels] = set()
        self._taken_back: dict[Labels, int] = {}  # strokes, with napari's own undo
        self._closed = self._given_up = self._complained = False

    # --- which layers --------------------------------------------------------------------

    def watch(self, layer: Labels) -> None:
        """Keep a journal of a layer, from its first change on."""
        if layer in self._watched or not _is_kept(layer):
            return
        self._watched.add(layer)
        watch(layer, self.written)
        layer.events.data.connect(self._replaced)
        layer.events.set_data.connect(self._redrawn)
        self._taken_back[layer] = len(_undone(layer))
        left = self._memory.journals.get(layer)
        if (
            left is not None
        ):  # of an earlier dock: others may have changed the layer since
            self._begin_again(layer)

    def is_new(self, layer: Labels) -> None:
        """Note that a layer was just made, without objects."""
        self._empty.add(layer)

    def removed(self, layer: Labels) -> None:
        """Stop with a layer that left the viewer; what is not saved of it stays on disk."""
        if layer not in self._watched:
            return
        self.collect(layer)
        self._unwatch(layer)
        journal = self._memory.journals.pop(layer, None)
        if journal is not None:
            self._end(layer, journal)

    def close(self, *, window_is_gone: bool) -> None:
        """Stop; the journals of what is not saved stay."""
        for layer in list(self._watched):
            self.collect(layer)
            self._unwatch(layer)
            journal = self._memory.journals.get(layer)
            if journal is None:
                continue
            if window_is_gone or self._given_up or self._is_saved(layer):
                del self._memory.journals[layer]
                self._end(layer, journal)
            else:
                journal.pause()
        self._closed = True

    def give_up(self) -> None:
        """Keep nothing when this ends: the user closes without saving.

        Closing may still be cancelled: then the next change takes it back.
        """
        self._given_up = True

    def _end(self, layer: Labels, journal: HeldJournal) -> None:
        if self._given_up or self._is_saved(layer):
            journal.discard()
        else:
            journal.close()

    def _is_saved(self, layer: Labels) -> bool:
        return not self._memory.changes.get(layer)

    def _unwatch(self, layer: Labels) -> None:
        self._watched.discard(layer)
        self._empty.discard(layer)
        unwatch(layer)
        layer.events.data.disconnect(self._replaced)
        layer.events.set_data.disconnect(self._redrawn)
        del self._taken_back[layer]

    # --- what is changed -----------------------------------------------------------------

    def name(self, layer: Labels, text: str) -> None:
        """Say what the change of this moment is: "commit"."""
        self._names[layer] = text

    def written(self, layer: Labels, box: Box) -> None:
        """Note a box that was changed, or will be in this turn."""
        if self._closed or layer not in self._watched:
            return
        self._given_up = False
        new = layer not in self._dirty
        self._dirty.setdefault(layer, []).append(box)
        if new:
            self._post(lambda: self.collect(layer))

    def painted(self, layer: Labels, item: Iterable[Any]) -> None:
        """Note what napari's own tools have changed: napari's records of it."""
        for atom in item:
            places = atom[0]
            if len(atom) == 3:
                box = box_of([np.asarray(index) for index in places])
            else:
                box = tuple(places)
            self.written(layer, box)

    def _redrawn(self, event: Any) -> None:
        """Note what napari's own undo or redo has changed: it tells nobody, but draws."""
        layer = event.source
        undone = _undone(layer)
        before, self._taken_back[layer] = self._taken_back[layer], len(undone)
        if len(undone) > before:
            self.painted(layer, undone[-1])
        elif len(undone) < before and layer._undo_history:
            self.painted(layer, layer._undo_history[-1])

    def collect(self, layer: Labels) -> None:
        """Hand what was changed to the journal."""
        boxes = self._dirty.pop(layer, [])
        name = self._names.pop(layer, "")
        if not boxes or self._closed:
            return
        journal = self._memory.journals.get(layer) or self._begin(layer)
        if journal is None:
            return
        data, shape = full_data(layer), full_shape(layer)
        windows = [
            Window(tuple(side.start for side in box), np.array(data[box]))
            for box in _merged(_inside(box, shape, data) for box in boxes)
        ]
        ids: set[int] = set()
        if sum(window.labels.size for window in windows) <= _NAMED:
            for window in windows:
                ids.update(np.unique(window.labels).tolist())
        journal.note(
            name or self._last_step(layer),
            ids=sorted(ids - {0}),
            windows=windows,
            at_once=name == "commit",
        )
        if journal.failed:  # too much at once: the layer as it is now is the beginning
            self._begin_again(layer)

    def _last_step(self, layer: Labels) -> str:
        image = self._image_of(layer)
        text = "" if image is None else self._memory.state_of(image).history.undo_text
        return text or "labels"

    def _replaced(self, event: Any) -> None:
        """Begin again with a layer that has other data."""
        layer = event.source
        self._dirty.pop(layer, None)
        if layer in self._memory.journals:
            self._begin_again(layer)

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

    def restored(
        self, layer: Labels, unsaved: Collection[int], instead_of: Path
    ) -> None:
        """Keep a journal of a layer that was restored; then the old one is not needed."""
        self._watch_restored(layer)
        journal = self._begin(layer, unsaved)
        if journal is not None:
            _once_kept(journal, lambda: self.journals.discard(instead_of))

    def _watch_restored(self, layer: Labels) -> None:
        self.watch(layer)
        self._empty.discard(layer)

    def _begin_again(self, layer: Labels) -> None:
        old = self._memory.journals.pop(layer)
        if self._is_saved(layer):
            old.discard()
            return
        new = self._begin(layer, ())
        if new is None:
            old.close()
        else:
            _once_kept(new, old.discard)

    def _begin(
        self, layer: Labels, unsaved: Collection[int] | None = None
    ) -> HeldJournal | None:
        image, data = self._image_of(layer), full_data(layer)
        if image is None:
            return None
        read = identity_reader(image)
        name, shape = layer.name, full_shape(layer)
        dtype, begun = np.dtype(data.dtype).newbyteorder("<").str, time.time()

        def about() -> About:
            version = napari_tinysam.__version__
            return About(read(), name, shape, dtype, begun, version)

        empty = layer in self._empty
        self._empty.discard(layer)
        try:
            journal = self.journals.begin(
                about,
                None if empty else data,
                unsaved=unsaved,
                on_problem=self._problem,
            )
        except FileError as error:
            self._complain(str(error))
            return None
        self._memory.journals[layer] = journal
        return journal

    def _problem(self, text: str) -> None:
        """Tell of a problem; called in the journal's thread."""
        if not self._closed:
            self._post(lambda: self._complain(text))

    def _complain(self, text: str) -> None:
        if not self._complained and not self._closed:
            self._complained = True
            self._notify("warning", text)

    def _image_of(self, layer: Labels) -> Image | None:
        for image, state in self._memory.states.items():
            if state.target is layer:
                return image
        return self._image()


def identity_reader(image: Image) -> Callable[[], ImageIdentity]:
    """Prepare to identify an image; the callable may be called in any thread."""
    data = image.data[0] if image.multiscale else image.data
    address, name = image.source.path or "", image.name
    return lambda: identify(data, address=str(address), name=name)


def _undone(layer: Labels) -> Any:
    """Return what napari's own redo would do; private, like all of its history."""
    return getattr(layer, "_redo_history", ())


def box_of(indices: Iterable[Any]) -> Box:
    """Return the box around pixels, given by their indices on each axis."""
    sides = [np.asarray(at) for at in indices]
    return tuple(slice(int(at.min()), int(at.max()) + 1) for at in sides)


def _is_kept(layer: Labels) -> bool:
    """Whether the labels are not on disk anyway."""
    return not type(layer.data).__module__.startswith("zarr.")


def _inside(box: Box, shape: tuple[int, ...], data: Any) -> Box:
    """Return a box with numbers for both ends of each side, in all channels that share memory."""
    strides = data.strides if isinstance(data, np.ndarray) else (1,) * len(shape)
    return tuple(
        slice(*side.indices(length)[:2]) if stride else slice(0, length)
        for side, length, stride in zip(box, shape, strides, strict=True)
    )


def _merged(boxes: Iterable[Box]) -> list[Box]:
    """Leave out boxes that lie in others: all are read as they are now."""
    kept: list[Box] = []
    for box in boxes:
        if any(_holds(other, box) for other in kept):
            continue
        kept = [other for other in kept if not _holds(box, other)]
        kept.append(box)
    return kept


def _holds(outer: Box, inner: Box) -> bool:
    return all(
        a.start <= b.start and b.stop <= a.stop
        for a, b in zip(outer, inner, strict=True)
    )


def _once_kept(journal: HeldJournal, then: Callable[[], None]) -> None:
    """Do something in the background once all of a journal is on disk."""

    def wait() -> None:
        if journal.flush(None):
            then()

    threading.Thread(target=wait, name="tinysam-journal-change", daemon=True).start()
