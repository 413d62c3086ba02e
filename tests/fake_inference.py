"""Inference without a thread: at once, or step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_tinysam.ui.session.worker import Lane

Callback = Callable[[Any], None]


class ImmediateInference:
    """Does every job when it is submitted."""

    def __init__(self) -> None:
        self.closed = False

    def submit(
        self,
        lane: Lane,
        job: Callable[[], Any],
        on_done: Callback,
        on_error: Callback,
    ) -> None:
        if self.closed:
            return
        try:
            result = job()
        except Exception as error:  # noqa: BLE001 - as the thread does
            on_error(error)
        else:
            on_done(result)

    def post(self, call: Callable[[], None]) -> None:
        call()

    def drop(self, lane: Lane) -> None:
        """Nothing ever waits."""

    def shutdown(self) -> None:
        self.closed = True


class SteppedInference(ImmediateInference):
    """Keeps one job a lane, as the thread does, until the test lets it run."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[Lane, tuple[Callable[[], Any], Callback, Callback]] = {}

    def submit(
        self,
        lane: Lane,
        job: Callable[[], Any],
        on_done: Callback,
        on_error: Callback,
    ) -> None:
        if not self.closed:
            self.waiting[lane] = (job, on_done, on_error)

    def drop(self, lane: Lane) -> None:
        self.waiting.pop(lane, None)

    def shutdown(self) -> None:
        super().shutdown()
        self.waiting.clear()

    def step(self) -> Lane:
        """Run the most urgent job and deliver its result."""
        lane = min(self.waiting)
        super().submit(lane, *self.waiting.pop(lane))
        return lane

    def start(self) -> Callable[[], None]:
        """Run the most urgent job; return what delivers its result, for a test to delay."""
        job, on_done, _ = self.waiting.pop(min(self.waiting))
        result = job()
        return lambda: on_done(result)

    def run_all(self) -> None:
        while self.waiting:
            self.step()


class QueuedInference(ImmediateInference):
    """Runs what is posted later, as the event loop does: when a test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: list[Callable[[], None]] = []

    def post(self, call: Callable[[], None]) -> None:
        self.posted.append(call)

    def turn(self) -> None:
        """Run what was posted, and what that posts."""
        while self.posted:
            self.posted.pop(0)()


class TurnedInference(SteppedInference, QueuedInference):
    """Runs jobs and what is posted when a test lets it, each in its turn."""

    def run_all(self) -> None:
        self.turn()
        while self.waiting:
            self.step()
            self.turn()
