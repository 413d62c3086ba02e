"""Work beside the window's thread that is not the model's: reading from slow disks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_tinysam.background import start_thread


class Aside:
    """Runs jobs, each in a thread of its own, and reports on the session's thread.

    Parameters
    ----------
    post : callable
        Runs a callable soon on the session's thread; called from any thread.
    """

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        self._post = post
        self._closed = False

    def close(self) -> None:
        """Report nothing any more."""
        self._closed = True

    def run(
        self,
        job: Callable[[], Any],
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Do a job without waiting for it."""

        def tell(call: Callable[[Any], None], what: Any) -> None:
            if not self._closed:
                call(what)

        def work() -> None:
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - whatever a disk answers
                failure = error
                self._post(lambda: tell(on_error, failure))
            else:
                self._post(lambda: tell(on_done, result))

        start_thread(work, "tinysam-aside")
