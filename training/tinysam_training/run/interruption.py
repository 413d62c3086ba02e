"""Requests to stop, delayed while a block must run as a whole.

Python handles a signal between any two of its instructions: the handler may raise after the
optimiser moved the weights and before the step is counted.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType


class Interruption:
    """Ctrl+C and a request to terminate (SIGTERM), both as `KeyboardInterrupt`.

    Handlers belong to the process, and signals are handled in its main thread. In other threads
    this does nothing.
    """

    def __init__(self) -> None:
        self._held = 0
        self._due: Callable[[], Any] | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle both signals within the block, and as before after it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[signal.Signals, Any] = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                current = signal.getsignal(number)
                # In the background of a shell, Ctrl+C is for other processes.
                if number is signal.SIGTERM or current is not signal.SIG_IGN:
                    own = current if number is signal.SIGINT else None
                    before[number] = current
                    signal.signal(number, self._handler(own))
            yield
        finally:
            for number, handler in before.items():
                # None: a handler that Python did not set and cannot restore.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Run the block uninterrupted; handle signals afterwards.

        If the block fails, its error is raised and the request is dropped: the error ends the run
        as well.
        """
        self._held += 1
        try:
            yield
        except BaseException:
            self._due = None
            raise
        finally:
            self._held -= 1
        due, self._due = self._due, None
        if due is not None:
            due()

    def _handler(self, own: Any) -> Callable[[int, FrameType | None], None]:
        """Make a handler; `own` is the surrounding program's, if it has one."""

        def handle(number: int, frame: FrameType | None) -> None:
            def interrupt() -> None:
                if callable(own):
                    own(number, frame)
                else:
                    raise KeyboardInterrupt

            if self._held:
                self._due = interrupt
            else:
                interrupt()

        return handle
