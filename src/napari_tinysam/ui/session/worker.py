"""One thread for everything slow: loading the model, embedding, decoding.

Jobs wait in lanes. A lane holds one waiting job: a newer one replaces it, so hovering never builds
a queue. A job that has started is finished and delivered; delivering only the newest result would
starve the hover preview. Receivers drop results that are outdated.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol


class Lane(IntEnum):
    """What a job is for. Lower numbers go first."""

    KEEP = 0
    MODEL = 1
    PROMPT = 2
    SAVE = 3
    EMBED = 4
    COMMIT = 5
    HOVER = 6
    FOLLOW = 7
    LINK = 8
    TRACK = 9
    AUTO = 10
    AHEAD = 11


#: Seconds since the last other job before one of `Lane.AHEAD` begins. It cannot be stopped, so
#: whatever is asked next would wait for it.
_QUIET = 1.0

#: Longest wait at exit for a job that runs, in seconds.
_EXIT_WAIT = 10.0

Deliver = Callable[[Callable[[], None]], None]


class Inference(Protocol):
    """Runs jobs elsewhere and reports on the thread of the session."""

    def submit(
        self,
        lane: Lane,
        job: Callable[[], Any],
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Queue a job, replacing the lane's waiting one."""
        ...

    def post(self, call: Callable[[], None]) -> None:
        """Run something on the session's thread, soon."""
        ...

    def drop(self, lane: Lane) -> None:
        """Forget the lane's waiting job."""
        ...

    def shutdown(self) -> None:
        """Forget waiting jobs and end the thread after the running one. Idempotent."""
        ...


@dataclass(frozen=True)
class _Job:
    run: Callable[[], Any]
    on_done: Callable[[Any], None]
    on_error: Callable[[Exception], None]


class InferenceThread:
    """`Inference` on a thread of its own.

    Parameters
    ----------
    deliver : callable
        Runs a callable later on the session's thread (for Qt, the GUI thread). Called from the
        inference thread.
    start : bool
        Run jobs at once; if not, they wait for `start`.
    """

    def __init__(self, deliver: Deliver, *, start: bool = True) -> None:
        self._deliver = deliver
        self._waiting: dict[Lane, _Job] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._rested = time.monotonic()
        # A daemon: an endless job (a stuck network drive) must not keep Python alive.
        self._thread = threading.Thread(
            target=self._run, name="tinysam-inference", daemon=True
        )
        if start:
            self.start()

    def start(self) -> None:
        """Begin to run jobs. Once only, and not after `shutdown`."""
        _alive.add(self)
        self._thread.start()

    def submit(
        self,
        lane: Lane,
        job: Callable[[], Any],
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Queue a job, replacing the lane's waiting one."""
        with self._changed:
            if not self._closed:
                self._waiting[lane] = _Job(job, on_done, on_error)
                self._changed.notify()

    def post(self, call: Callable[[], None]) -> None:
        """Run something on the session's thread, soon. Call it from any thread."""
        if not self._closed:
            with contextlib.suppress(
                RuntimeError
            ):  # the receiver was deleted meanwhile
                self._deliver(call)

    def drop(self, lane: Lane) -> None:
        """Forget the lane's waiting job."""
        with self._changed:
            self._waiting.pop(lane, None)

    def shutdown(self) -> None:
        """Forget waiting jobs and end the thread after the running one."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread to end, after `shutdown`."""
        if self._thread.ident is not None:  # it was started
            self._thread.join(timeout)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            report: Callable[[], None]
            try:
                result = job.run()
            except Exception as error:  # noqa: BLE001 - every failure is the receiver's to show
                report = _bind(job.on_error, error)
            else:
                report = _bind(job.on_done, result)
                del result
            self.post(report)
            del job, report  # keep no image or model alive while waiting
            self._rested = time.monotonic()

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._closed:
                lane = min(self._waiting, default=None)
                if lane is not None and lane is not Lane.AHEAD:
                    return self._waiting.pop(lane)
                remaining = self._rested + _QUIET - time.monotonic()
                if lane is not None and remaining <= 0:
                    return self._waiting.pop(lane)
                self._changed.wait(None if lane is None else remaining)
            return None


def _bind(call: Callable[[Any], None], argument: Any) -> Callable[[], None]:
    return lambda: call(argument)


_alive: weakref.WeakSet[InferenceThread] = weakref.WeakSet()


@atexit.register
def _end_threads() -> None:
    """End all threads before Python does: killed inside torch they would crash the process."""
    threads = list(_alive)
    for thread in threads:
        thread.shutdown()
    for thread in threads:
        thread.join(_EXIT_WAIT)
