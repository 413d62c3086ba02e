"""Threads for short work aside, which end before Python does."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that Python waits at its end for all of them.
EXIT_WAIT = 5.0

#: Set when Python ends: who works in steps does no other one.
ending = threading.Event()

_started: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def start_thread(work: Callable[[], None], name: str) -> threading.Thread:
    """Do something in a thread of its own.

    Python waits some seconds for it when it ends, not longer: a disk that does not answer must not
    keep it alive. Without waiting the thread would be killed in the middle of a library, and some
    of them (imagecodecs, torch) abort the process then.

    Parameters
    ----------
    work : callable
        Ends by itself, soon.
    name : str
        Of the thread.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    _started.add(thread)
    thread.start()
    return thread


@atexit.register
def _wait_for_threads() -> None:
    ending.set()
    until = time.monotonic() + EXIT_WAIT
    for thread in list(_started):
        thread.join(max(0.0, until - time.monotonic()))
