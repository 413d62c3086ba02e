"""What the session is doing, what to do next, progress, and a button to cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils import progress
from qtpy.QtCore import QRectF, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import Status

#: Shorter work shows no progress: bars that flash up and vanish only disturb.
_PATIENCE_MS = 600

#: After this time napari's own progress appears as well. It spins, and every movement redraws the
#: whole window: without a graphics card, as in remote desktops, that took more processor time than
#: loading the model.
_NAPARI_PATIENCE_MS = 4000

#: Between two updates of it.
_TELLING_MS = 200

#: A bar with an unknown end creeps, and redraws seldom for the same reason. It takes the first
#: number of steps to half-way, or the second where something takes longer the first time.
_CREEP_MS, _HALF_WAY, _HALF_WAY_FIRST = 400, 5, 40

_STEPS = 100  # of a bar

_MARGIN, _COMPACT_MARGIN = 6, 2  # px above and below

_READY, _BUSY, _PROBLEM, _IDLE = "#35a26b", "#2f7fd1", "#d9822b", "#8a8f98"


class StatusBar(QFrame):
    """Status line, hint, progress bar and Cancel button.

    If the session is busy for some seconds, napari's own progress (the activity dialog at the lower
    right of the window) shows the same.
    """

    cancelled = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("TinySAMStatus")
        self._status: Status | None = None
        self._napari_progress: progress | None = None
        self._shows_progress = False
        self._in_napari_progress = False
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(_PATIENCE_MS)
        self._patience.timeout.connect(self._show_progress)
        self._napari_patience = QTimer(self)
        self._napari_patience.setSingleShot(True)
        self._napari_patience.setInterval(_NAPARI_PATIENCE_MS)
        self._napari_patience.timeout.connect(self._show_napari_progress)
        self._creep = QTimer(self)
        self._creep.setInterval(_CREEP_MS)
        self._creep.timeout.connect(self._creep_on)
        self._crept = 0
        self._telling = QTimer(self)
        self._telling.setSingleShot(True)
        self._telling.setInterval(_TELLING_MS)
        self._telling.timeout.connect(self._tell_napari)
        self._told = "", 0, 0
        self._in_activity = False
        self._compact = False

        self._light = _Light(self)
        self.text = QLabel(self)
        self.text.setWordWrap(True)
        self.cancel = QPushButton("Cancel", self)
        self.cancel.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.cancel.setToolTip("Stop what is running")
        self.cancel.clicked.connect(self.cancelled)
        self.bar = QProgressBar(self)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(4)
        self.hint = QLabel(self)
        self.hint.setObjectName("TinySAMHint")
        self.hint.setWordWrap(True)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        for keeps_its_place in (self.bar, self.cancel):
            policy = keeps_its_place.sizePolicy()
            policy.setRetainSizeWhenHidden(True)
            keeps_its_place.setSizePolicy(policy)
            keeps_its_place.hide()
        self.text.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred
        )

        line = QHBoxLayout()
        line.setSpacing(6)
        line.addWidget(self._light)
        line.addWidget(self.text, 1)
        line.addWidget(self.cancel)
        column = self._column = QVBoxLayout(self)
        column.setContentsMargins(8, _MARGIN, 8, _MARGIN)
        column.setSpacing(4)
        column.addLayout(line)
        column.addWidget(self.hint)
        column.addWidget(self.bar)

    def set_hint(self, text: str) -> None:
        """Show what to do next."""
        # Always two lines: nothing below moves when the hint changes. With the font and the
        # margins of napari's style, which are not there at the beginning.
        self.hint.setText("\n")
        self.hint.setMinimumHeight(self.hint.heightForWidth(self.hint.width()))
        self.hint.setText(text)
        self._refresh_tip()

    def set_compact(self, compact: bool) -> None:
        """Show one line if there is no room for two; the tooltip has the rest."""
        if compact == self._compact:
            return
        self._compact = compact
        self.hint.setVisible(not compact)
        # A text that needs two lines, or a wider dock, would move everything below.
        self.text.setWordWrap(not compact)
        policy = QSizePolicy.Policy.Ignored if compact else QSizePolicy.Policy.Expanding
        self.text.setSizePolicy(policy, QSizePolicy.Policy.Preferred)
        self._refresh_tip()
        margin = _COMPACT_MARGIN if compact else _MARGIN
        self._column.setContentsMargins(8, margin, 8, margin)

    def set_status(self, status: Status) -> None:
        """Show a status, and progress if it lasts."""
        self._status = status
        self.text.setText(status.text or status.kind.value.capitalize())
        self._refresh_tip()
        self._light.set_colour(_colour(status))
        if not status.busy:
            self.close_progress()
        elif self._shows_progress:
            self._update_progress()
        elif not self._patience.isActive():
            self._patience.start()
            self._napari_patience.start()

    def _refresh_tip(self) -> None:
        said = f"{self.text.text()}\n{self.hint.text()}"
        self.setToolTip(said if self._compact else "")

    def close_progress(self) -> None:
        """Hide the progress, also in napari's activity dialog. Idempotent."""
        timers = self._patience, self._napari_patience, self._creep, self._telling
        for timer in timers:
            timer.stop()
        self._shows_progress = self._in_activity = False
        self.bar.hide()
        self.cancel.hide()
        self._close_napari_progress()

    def _show_progress(self) -> None:
        status = self._status
        if status is None or not status.busy:
            return
        self._shows_progress = True
        self._crept = 0
        self.bar.setRange(0, _STEPS)
        self.bar.show()
        self.cancel.show()
        self._creep.start()
        self._update_progress()

    def _show_napari_progress(self) -> None:
        self._in_activity = True
        self._update_progress()

    def _creep_on(self) -> None:
        self._crept += 1
        status = self._status
        if status is None or status.fraction is not None:
            return
        half_way = _HALF_WAY_FIRST if status.first_time else _HALF_WAY
        self.bar.setValue(round(_STEPS * self._crept / (self._crept + half_way)))

    def _update_progress(self) -> None:
        status = self._status
        if status is None or not self._shows_progress:
            return
        total = 0 if status.fraction is None else _STEPS
        done = 0 if status.fraction is None else round(_STEPS * status.fraction)
        if status.fraction is not None:
            self.bar.setValue(done)
        # Later: napari's bars run the event loop, and vispy refuses a key that comes while it
        # handles another one.
        self._told = status.text, done, total
        if self._in_activity and not self._telling.isActive():
            self._telling.start()

    def _tell_napari(self) -> None:
        if self._in_napari_progress or not self._in_activity:
            return  # that event loop called this again; or there is nothing to tell any more
        self._in_napari_progress = True
        try:
            self._update_napari_progress(*self._told)
        finally:
            self._in_napari_progress = False
        if not self._shows_progress:  # the work ended within that event loop
            self._close_napari_progress()

    def _update_napari_progress(self, text: str, done: int, total: int) -> None:
        bar = self._napari_progress
        if bar is not None and bar.total != total:
            self._close_napari_progress()
            bar = None
        if bar is None:
            # Not in the terminal: most users of a window have none.
            self._napari_progress = progress(total=total, desc=text, file=_Silence())
            return
        if bar.desc != f"{text}: ":
            bar.set_description(text)
        if done > bar.n:
            bar.update(done - bar.n)

    def _close_napari_progress(self) -> None:
        bar, self._napari_progress = self._napari_progress, None
        if bar is not None:
            bar.close()


class _Silence:
    """A file that keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


class _Light(QWidget):
    """A coloured dot; the text beside it says the same in words."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._colour = QColor(_IDLE)
        self.setFixedSize(10, 10)

    def set_colour(self, colour: str) -> None:
        if self._colour != QColor(colour):
            self._colour = QColor(colour)
            self.update()

    def paintEvent(self, a0: QPaintEvent | None) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._colour)
        painter.drawEllipse(QRectF(1, 1, 8, 8))


def _colour(status: Status) -> str:
    """Colour of the light. By name, so that this module does not import the session."""
    if status.busy:
        return _BUSY
    return {
        "READY": _READY,
        "FAILED": _PROBLEM,
        "UNSUPPORTED": _PROBLEM,
        "VIEW_3D": _PROBLEM,
    }.get(status.kind.name, _IDLE)
