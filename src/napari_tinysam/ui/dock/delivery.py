"""Calls from worker threads to the GUI thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from qtpy.QtCore import QObject, Qt, Signal, Slot


class _Mailbox(QObject):
    """Runs what any thread posts, on the thread that made the mailbox."""

    posted = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        # Queued even from the GUI thread: a caller is never called back inside its own call.
        queued = Qt.ConnectionType.QueuedConnection
        self.posted.connect(self._run, queued)  # type: ignore[call-arg]

    @Slot(object)
    def _run(self, call: Callable[[], None]) -> None:
        call()


class GuiDelivery:
    """Calls functions later on the GUI thread, until it is closed.

    Make it on the GUI thread. Calls that wait at `close`, or come later, are dropped: the widget
    that would have shown them is gone.
    """

    def __init__(self) -> None:
        self._mailbox: _Mailbox | None = _Mailbox()
        # Held while posting, so that `close` never deletes the mailbox under another thread's post.
        self._lock = Lock()

    def __call__(self, call: Callable[[], None]) -> None:
        """Run `call` later on the GUI thread. May be called from any thread."""
        with self._lock:
            if self._mailbox is not None:
                self._mailbox.posted.emit(lambda: self._run(call))

    def close(self) -> None:
        """Drop waiting and later calls. Idempotent; call it on the GUI thread."""
        with self._lock:
            mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            mailbox.deleteLater()

    def _run(self, call: Callable[[], None]) -> None:
        if self._mailbox is not None:
            call()
