"""Labels that save themselves, a while after each change, if the user wants it so.

A file that another program has changed since, or that was there before, is never replaced: that is
said once, and nothing is written until the user has saved by hand.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from napari_tinysam.errors import TinySAMError

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_tinysam.ui.session.embedding.loading import Notify

#: Seconds between a change and the file. What is done meanwhile is in the journal.
_AFTER = 10.0


class ChangedElsewhereError(TinySAMError):
    """A file is not the one that was written last."""


class Timer(Protocol):
    """What waits, as `threading.Timer` does."""

    def start(self) -> None:
        """Begin to wait."""
        ...

    def cancel(self) -> None:
        """Wait no more."""
        ...


class Saves(Protocol):
    """What writes layers into files: `Saving`."""

    def unsaved(self) -> list[Labels]:
        """List the layers that differ from their files."""
        ...

    def is_saved(self, layer: Labels | None) -> bool:
        """Whether removing a layer would lose nothing."""
        ...

    def file_of(self, layer: Labels) -> Path | None:
        """Return the file that a layer was saved to."""
        ...

    def save_quietly(
        self, layer: Labels, path: Path, on_failed: Callable[[Exception, str], None]
    ) -> None:
        """Write a layer into its file, unless another program has changed that."""
        ...


def _timer(seconds: float, call: Callable[[], None]) -> Timer:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    return timer


class Autosave:
    """Saves layers some seconds after they were changed.

    Parameters
    ----------
    saving : Saves
    post : callable
        Runs a callable on the session's thread; may be called from any thread.
    notify : callable
        ``notify(level, text)``.
    timer : callable
        ``timer(seconds, call)`` makes a timer.

    Attributes
    ----------
    first_file : callable
        Returns the file of a layer that was never saved; None: the user has to be asked.
    """

    def __init__(
        self,
        saving: Saves,
        post: Callable[[Callable[[], None]], None],
        notify: Notify,
        timer: Callable[[float, Callable[[], None]], Timer] = _timer,
    ) -> None:
        self._saving = saving
        self._post = post
        self._notify = notify
        self._timer = timer
        self._waiting: weakref.WeakKeyDictionary[Labels, Timer] = (
            weakref.WeakKeyDictionary()
        )
        self._paused: weakref.WeakSet[Labels] = weakref.WeakSet()
        self._on = False
        self.first_file: Callable[[Labels], Path | None] = lambda layer: None

    @property
    def on(self) -> bool:
        """Whether labels save themselves."""
        return self._on

    def set_on(self, on: bool) -> None:
        """Switch it on or off; what has changed already is saved soon."""
        self._on = on
        if on:
            for layer in self._saving.unsaved():
                self.changed(layer)
        else:
            self.close()

    def is_paused(self, layer: Labels) -> bool:
        """Whether the user has to save a layer once by hand."""
        return self._on and layer in self._paused

    def changed(self, layer: Labels) -> None:
        """Save a layer soon."""
        if not self._on or layer in self._paused or layer in self._waiting:
            return
        of = weakref.ref(layer)
        call = partial(self._post, lambda: self._due(of()))
        self._waiting[layer] = timer = self._timer(_AFTER, call)
        timer.start()

    def saved(self, layer: Labels) -> None:
        """Go on with a layer that the user has saved by hand."""
        self._paused.discard(layer)

    def close(self) -> None:
        """Save nothing more by itself."""
        for timer in list(self._waiting.values()):
            timer.cancel()
        self._waiting.clear()

    def _due(self, layer: Labels | None) -> None:
        if layer is None or self._waiting.pop(layer, None) is None or not self._on:
            return
        if self._saving.is_saved(layer):
            return
        path = self._saving.file_of(layer) or self.first_file(layer)
        if path is None or (self._saving.file_of(layer) is None and path.exists()):
            self._pause(
                layer, f"{layer.name} cannot save itself yet: save it once by hand."
            )
            return
        self._saving.save_quietly(layer, path, partial(self._failed, layer))

    def _failed(self, layer: Labels, error: Exception, text: str) -> None:
        """Say once what went wrong, and wait for the user."""
        if isinstance(error, ChangedElsewhereError):
            text = (
                f"{error} {layer.name} does not save itself until you save it by hand."
            )
        self._pause(layer, text)

    def _pause(self, layer: Labels, text: str) -> None:
        if layer not in self._paused:
            self._paused.add(layer)
            self._notify("warning", text)
