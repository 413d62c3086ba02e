"""The journals of the labels layers of a viewer: begun, gone on with, ended.

What is clicked before an image has labels goes to a journal without labels; the layer that is made
for the image takes it over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_tinysam
from napari_tinysam.errors import FileError
from napari_tinysam.journal.folder import InUseError
from napari_tinysam.journal.identity import ImageIdentity, identify
from napari_tinysam.journal.lines import About
from napari_tinysam.ui.session.labels.edits import full_data
from napari_tinysam.ui.session.labels.outputs import committed_name, new_layout
from napari_tinysam.ui.state.planes import full_shape

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image, Labels

    from napari_tinysam.journal.folder import HeldJournal, Journals
    from napari_tinysam.journal.lines import Window
    from napari_tinysam.journal.reading import Recovered
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.journals.telling import Early
    from napari_tinysam.ui.state.images import Memory

#: The action that tells what others changed.
ELSEWHERE = "elsewhere"


class LayerJournals:
    """The journal of each labels layer that was changed.

    Parameters
    ----------
    memory : Memory
        Holds them from one dock to the next.
    journals : Journals
    post : callable
        Runs a callable soon on the session's thread; may be called from any thread.
    notify : callable
        ``notify(level, text)``; told once if nothing can be written.
    on_begun : callable
        Called with an image, its layer, and a journal that begins, or goes on; returns what was
        done before, which the journal was told.
    """

    def __init__(
        self,
        memory: Memory,
        journals: Journals,
        post: Callable[[Callable[[], None]], None],
        notify: Notify,
        *,
        on_begun: Callable[[Image, Labels, HeldJournal], Early | None],
    ) -> None:
        self._memory = memory
        self._journals = journals
        self._post = post
        self._notify = notify
        self._on_begun = on_begun
        self._empty: set[Labels] = set()  # made here, and nothing written yet
        self._closed = self._complained = False

    def is_new(self, layer: Labels) -> None:
        """Note that a layer was just made, without objects."""
        self._empty.add(layer)

    def begin(
        self,
        image: Image,
        layer: Labels,
        before: Sequence[Window] = (),
        unsaved: Collection[int] | None = None,
    ) -> HeldJournal | None:
        """Begin the journal of a layer; None if nothing can be written, which is said.

        Parameters
        ----------
        image, layer
        before, unsaved
            As `Journals.begin` takes them.
        """
        empty = layer in self._empty
        self._empty.discard(layer)
        early: Early | None = self._memory.early.get(image)
        journal = None if early is None else early.journal
        if empty and journal is not None and journal.layout == _layout(layer):
            del self._memory.early[image]
            self._memory.journals[layer] = journal
            return journal
        about = self._about(image, layer.name, _layout(layer))
        labels = None if empty else full_data(layer)
        journal = self._begun(about, labels, before, unsaved)
        if journal is not None:
            self._take(image, layer, journal)
        return journal

    def begin_early(self, image: Image) -> HeldJournal | None:
        """Begin the journal of an image whose labels have none; None as `begin` returns it."""
        channel_axis = self._memory.state_of(image).channel_axis
        layout = new_layout(image, channel_axis)
        journal = self._begun(self._about(image, committed_name(image), layout))
        if journal is not None:
            journal.layout = layout
        return journal

    def _begun(
        self,
        about: Callable[[], About],
        labels: Any = None,
        before: Sequence[Window] = (),
        unsaved: Collection[int] | None = None,
    ) -> HeldJournal | None:
        try:
            return self._journals.begin(
                about,
                labels,
                before=before,
                unsaved=unsaved,
                on_problem=self._problem,
            )
        except FileError as error:
            self._complain(str(error))
            return None

    def go_on(
        self, image: Image, layer: Labels, folder: Path, found: Recovered
    ) -> bool:
        """Go on with the journal of a layer that was restored; return whether that may be.

        It may not if another window does so already. Where nothing can be written, this is said,
        and the work goes on.
        """
        try:
            journal = self._journals.go_on(
                folder,
                self._about(image, layer.name, _layout(layer)),
                found,
                on_problem=self._problem,
            )
        except InUseError as error:
            self._notify("warning", str(error))
            return False
        except FileError as error:
            self._complain(str(error))
        else:
            self._take(image, layer, journal)
        return True

    def compare(self, image: Image, layer: Labels) -> None:
        """Let the journal of a layer tell what others have changed of it."""
        journal = self._memory.journals.get(layer)
        if journal is None:
            return
        if journal.layout == _layout(layer):
            journal.compare(ELSEWHERE, full_data(layer))
        else:
            self.begin_again(image, layer)

    def begin_again(self, image: Image, layer: Labels) -> None:
        """Begin with a layer as it is now: its journal cannot go on."""
        old = self._memory.journals.pop(layer)
        if self._is_saved(layer):
            old.discard()
            return
        new = self.begin(image, layer, unsaved=())
        if new is None:
            old.close()
        else:
            once_kept(new, old.discard)

    def end(self, layer: Labels, *, given_up: bool) -> None:
        """End the journal of a layer; it stays if there is anything to save."""
        self._empty.discard(layer)
        journal = self._memory.journals.pop(layer, None)
        if journal is None:
            return
        if given_up or self._is_saved(layer):
            journal.discard()
        else:
            journal.close()

    def end_early(self, image: Image, *, given_up: bool) -> None:
        """End the journal of an image without labels; it stays if prompts are not committed."""
        early = self._memory.early.pop(image, None)
        if early is None or early.journal is None:
            return
        if given_up or not self._memory.state_of(image).draft_count:
            early.journal.discard()
        else:
            early.journal.close()

    def leave_early(self, *, window_is_gone: bool, given_up: bool) -> None:
        """Leave prompts that are not committed to the next dock, or end their journals."""
        for image, early in list(self._memory.early.items()):
            drafts = self._memory.state_of(image).draft_count
            if window_is_gone or given_up or not drafts:
                self.end_early(image, given_up=given_up)
            elif early.journal is not None:
                early.journal.pause()

    def leave(self, layer: Labels, *, window_is_gone: bool, given_up: bool) -> None:
        """Leave a layer to the next dock, or end its journal if there is nothing to save."""
        journal = self._memory.journals.get(layer)
        if journal is None:
            return
        if given_up or (self._is_saved(layer) and not self._has_drafts(layer)):
            self.end(layer, given_up=given_up)
        elif window_is_gone:
            del self._memory.journals[layer]
            journal.close()
        else:
            journal.pause()

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._closed = True
        self._on_begun = lambda image, layer, journal: None

    def _take(self, image: Image, layer: Labels, journal: HeldJournal) -> None:
        journal.layout = _layout(layer)
        self._memory.journals[layer] = journal
        early = self._on_begun(image, layer, journal)
        if early is not None and early.journal is not None:
            once_kept(journal, early.journal.discard)

    def _is_saved(self, layer: Labels) -> bool:
        return not self._memory.changes.get(layer)

    def _has_drafts(self, layer: Labels) -> bool:
        states = self._memory.states.values()
        return any(state.target is layer and state.draft_count for state in states)

    def _about(
        self, image: Image, name: str, layout: tuple[tuple[int, ...], str]
    ) -> Callable[[], About]:
        """Prepare to say what the journal of a layer of this name is about."""
        read = identity_reader(image)
        begun, (shape, dtype) = time.time(), layout
        version = napari_tinysam.__version__
        return lambda: About(read(), name, shape, dtype, begun, version)

    def _problem(self, text: str) -> None:
        """Tell of a problem; called in the journal's thread."""
        if not self._closed:
            self._post(lambda: self._complain(text))

    def _complain(self, text: str) -> None:
        if not self._complained and not self._closed:
            self._complained = True
            self._notify("warning", text)


def identity_reader(image: Image) -> Callable[[], ImageIdentity]:
    """Prepare to identify an image; the callable may be called in any thread."""
    data = image.data[0] if image.multiscale else image.data
    address, name = image.source.path or "", image.name
    return lambda: identify(data, address=str(address), name=name)


def _layout(layer: Labels) -> tuple[tuple[int, ...], str]:
    """Return shape and dtype of the labels, as a journal names them."""
    dtype = np.dtype(full_data(layer).dtype).newbyteorder("<")
    return full_shape(layer), dtype.str


def once_kept(journal: HeldJournal, then: Callable[[], None]) -> None:
    """Do something in the background once all of a journal is on disk."""

    def wait() -> None:
        if journal.flush(None):
            then()

    threading.Thread(target=wait, name="tinysam-journal-change", daemon=True).start()
