"""The longest pause of a window."""

from __future__ import annotations

import time

from qtpy.QtCore import Qt, QTimer

HEARTBEAT_MS = 5


class Heart:
    """Beats in the GUI thread and remembers its longest pause.

    On a busy machine a pause means little. `work` is the longest time that the GUI thread itself
    computed between two beats, for the plugin and napari.
    """

    def __init__(self) -> None:
        self.pause = self.work = 0.0  # ms
        self._last, self._last_work = time.perf_counter(), time.thread_time()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(HEARTBEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now, worked = time.perf_counter(), time.thread_time()
        self.pause = max(self.pause, 1000 * (now - self._last) - HEARTBEAT_MS)
        self.work = max(self.work, 1000 * (worked - self._last_work))
        self._last, self._last_work = now, worked

    def stop(self) -> None:
        """Beat no more."""
        self._timer.stop()
