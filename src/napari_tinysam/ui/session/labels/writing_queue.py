"""Writing many or large planes is spread over the session's turns: the window never waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_tinysam.ui.state.planes import Plane

#: Seconds that writing may take at once on the session's thread.
_SLICE = 0.02

Post = Callable[[Callable[[], None]], None]
OnWritten = Callable[["Labels", "Sequence[Plane]"], None]

Piece = TypeVar("Piece")


class WritingQueue(Generic[Piece]):
    """Pieces that wait to be written into a labels layer.

    Parameters
    ----------
    layer : napari.layers.Labels
    write : callable
        Writes a piece; returns the plane that changed, or None.
    post : callable
        Runs a callable soon on the session's thread.
    on_written : callable
        Called with the layer and its planes after some of them were written.
    """

    def __init__(
        self,
        layer: Labels,
        write: Callable[[Piece], Plane | None],
        post: Post,
        on_written: OnWritten,
    ) -> None:
        self._layer = layer
        self._write = write
        self._waiting: deque[Piece] = deque()
        self._posted = False
        self.attach(post, on_written)

    def attach(self, post: Post, on_written: OnWritten) -> None:
        """Report to another session: the dock may have been closed and opened again."""
        self._post, self._on_written = post, on_written

    def add(self, pieces: Iterable[Piece]) -> None:
        """Write pieces, after those that wait."""
        self._waiting.extend(pieces)
        self._go_on()

    def replace(self, pieces: Iterable[Piece]) -> bool:
        """Write pieces instead of those that wait; return whether there are any."""
        self._waiting = deque(pieces)
        there = bool(self._waiting)
        self._go_on()
        return there

    def finish(self) -> None:
        """Write at once what still waits."""
        self._work(float("inf"))

    def _go_on(self) -> None:
        if self._posted:
            return
        self._work(_SLICE)
        if self._waiting:
            self._posted = True
            self._post(self._continue)

    def _continue(self) -> None:
        self._posted = False
        self._go_on()

    def _work(self, seconds: float) -> None:
        begun, planes = time.perf_counter(), []
        while self._waiting and time.perf_counter() - begun < seconds:
            plane = self._write(self._waiting.popleft())
            if plane is not None:
                planes.append(plane)
        if planes:
            self._on_written(self._layer, planes)
