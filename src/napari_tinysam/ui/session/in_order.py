"""A queue in front of a lane: the lane keeps only its newest job, the queue keeps all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_tinysam.ui.session.worker import Inference, Lane

_Entry = tuple[
    Callable[[], Any], Callable[[Any], None], Callable[[Exception], None], object
]


class InOrder:
    """Submits jobs to a lane one at a time.

    Parameters
    ----------
    inference : Inference
        Where jobs run.
    lane : Lane
        Of this queue alone.
    """

    def __init__(self, inference: Inference, lane: Lane) -> None:
        self._inference = inference
        self._lane = lane
        self._waiting: deque[_Entry] = deque()
        self._running: object | None = None

    def submit(
        self,
        job: Callable[[], Any],
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Queue a job; unlike a lane's, it replaces none."""
        self._waiting.append((job, on_done, on_error, object()))
        self._next()

    def clear(self) -> None:
        """Forget all waiting jobs; the running one ends without a report."""
        self._waiting.clear()
        self._running = None
        self._inference.drop(self._lane)

    def _next(self) -> None:
        if self._running is not None or not self._waiting:
            return
        job, on_done, on_error, mark = self._waiting.popleft()
        self._running = mark

        def finish(call: Callable[[], None]) -> None:
            if self._running is not mark:
                return
            self._running = None
            try:
                call()
            finally:
                self._next()

        self._inference.submit(
            self._lane,
            job,
            lambda result: finish(lambda: on_done(result)),
            lambda error: finish(lambda: on_error(error)),
        )
