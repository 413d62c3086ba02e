"""The status while a click waits: what is being read for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam.ui.state.status import Status, StatusKind

if TYPE_CHECKING:
    from collections.abc import Callable


class ClickStatus:
    """Says what is being read for a click, and afterwards what was said before.

    Parameters
    ----------
    current : callable
        Returns the status, that of auto-segmentation apart.
    show : callable
        Shows a status.
    on_end : callable
        Called when no click waits any more.
    """

    def __init__(
        self,
        current: Callable[[], Status],
        show: Callable[[Status], None],
        on_end: Callable[[], None],
    ) -> None:
        self._current = current
        self._show = show
        self._on_end = on_end
        self._said: Status | None = None
        self._before: Status | None = None

    def waits(self, text: str | None) -> None:
        """Say what a click waits for; None: no click waits."""
        current = self._current()
        if text is None:
            before, said = self._before, self._said
            self._before = self._said = None
            if before is not None and current is said:
                self._show(before)
                self._on_end()
        elif current is self._said or current.kind is StatusKind.READY:
            if current is not self._said:
                self._before = current
            self._said = Status(StatusKind.EMBEDDING, text)
            self._show(self._said)
