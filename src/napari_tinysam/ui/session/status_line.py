"""The one status that the session shows, of the several things that it may be doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_tinysam.ui.session.viewing import NO_IMAGE
from napari_tinysam.ui.state.status import BESIDE, Status, StatusKind

if TYPE_CHECKING:
    from napari_tinysam.ui.session.runs import Runs
    from napari_tinysam.ui.state.subject import Subject


class StatusLine:
    """Chooses what is said: runs beside the clicks are said rather than that clicks are possible.

    Parameters
    ----------
    subject : Subject
    runs : callable
        Returns the runs beside the clicks.

    Attributes
    ----------
    shown : Status
        What the session is doing or waiting for.
    own : Status
        The same, runs beside the clicks apart.
    """

    changed = Signal(Status)

    def __init__(self, subject: Subject, runs: Callable[[], Runs]) -> None:
        self._subject = subject
        self._runs = runs
        self.shown = self.own = NO_IMAGE
        self._beside: Status | None = None  # what a run has said last
        self._said = ""  # how a large plane is seen
        self._closed = False

    def close(self) -> None:
        """Say nothing more."""
        self._closed = True

    def say(self, status: Status) -> None:
        """Show a status, unless a run is said."""
        if self._closed:
            return
        if status.kind in BESIDE:
            self._beside = status
        else:
            self.own = status
        if status.kind is StatusKind.READY:
            if not self._runs().said:
                self._beside = None
            status = self._beside or status
        if self._subject.image is None and status.kind is StatusKind.READY:
            status = NO_IMAGE
        elif status.kind is StatusKind.READY and not status.text:
            self._said = self._seeing_in_words()
            status = replace(status, text=f"Ready. {self._said}" if self._said else "")
        self.shown = status
        self.changed.emit(status)
        self._subject.changed.emit()

    def say_beside(self, status: Status | None) -> None:
        """Show the status of a run; None: it has ended."""
        if status is None:
            self._beside = None
        self.say(self.own if status is None else status)

    def seeing_changed(self) -> None:
        """Say so if a large plane is now seen through other looks."""
        if self._seeing_in_words() != self._said and not self._runs().searching:
            self.say(self.own)

    def _seeing_in_words(self) -> str:
        seen, current = self._subject.seen, self._subject.drafts.current
        if seen is None:
            return ""
        if current.is_empty:
            return seen.words(self._subject.level)
        return seen.words(self._subject.start(current)[0])
