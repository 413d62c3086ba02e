"""Napari's window around the dock: when it closes, the focus of its canvas, and the Tab key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QMainWindow, QShortcut, QWidget

from napari_tinysam.ui.canvas.context_guard import ContextGuard
from napari_tinysam.ui.dock.questions import Closing

if TYPE_CHECKING:
    import napari.viewer


class HostWindow(QObject):
    """The main window that holds the dock, found by `watch`.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The window's viewer.
    dock : QWidget
        The docked widget. It owns this object.
    may_close : callable
        Asked when the window is about to close.
    on_tab : callable
        Called when Tab is pressed on the canvas, while `set_tab_enabled`.
    """

    #: The mouse came over the canvas.
    entered = Signal()

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        dock: QWidget,
        *,
        may_close: Callable[[], Closing],
        on_tab: Callable[[], None],
    ) -> None:
        super().__init__(dock)
        self._viewer = viewer
        self._dock = dock
        self._may_close = may_close
        self._on_tab = on_tab
        self._window: QMainWindow | None = None
        self._tab_key: QShortcut | None = None
        self._context_guard: ContextGuard | None = None
        self._wanted = False
        #: Whether the window is closing: it hides the dock then, and sends it no event.
        self.closing = False

    def watch(self) -> None:
        """Find the window, also from a dock that floats, and follow it to another one."""
        window = self._dock.parent()
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parent()
        if window is None or window is self._window:
            return
        self.close()
        self._window = window
        window.installEventFilter(self)
        canvas = window.centralWidget()
        if canvas is not None:
            canvas.installEventFilter(self)
            self._context_guard = ContextGuard(self._viewer, canvas)
            # Qt takes the Tab key for moving the focus before napari sees it.
            self._tab_key = QShortcut(QKeySequence("Tab"), canvas)
            self._tab_key.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            self._tab_key.setEnabled(False)
            self._tab_key.activated.connect(self._on_tab)

    def set_tab_enabled(self, enabled: bool) -> None:
        """Take the Tab key on the canvas, or leave it to Qt."""
        if self._tab_key is not None:
            self._tab_key.setEnabled(enabled)

    def focus_canvas(self) -> None:
        """Give the keyboard back to the canvas, where the keys work."""
        canvas = None if self._window is None else self._window.centralWidget()
        if self._window is None or canvas is None:
            return
        if self._dock.window() is not self._window:  # the dock floats
            self._window.activateWindow()
        canvas.setFocus(Qt.FocusReason.OtherFocusReason)

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:
        """Notice that the window closes, and stop it where it may not; and the mouse."""
        if a1 is not None and a1.type() == QEvent.Type.Enter and a0 is not self._window:
            self.entered.emit()
        if a1 is not None and a1.type() == QEvent.Type.Close and a0 is self._window:
            closing = Closing.GO if self._wanted else self._may_close()
            # Napari would ask whoever closes the window by mouse once more.
            again = closing is Closing.WANTED and a1.spontaneous() and not self._busy
            if again:
                QTimer.singleShot(0, self._close_window)
            if again or closing is Closing.STAY:
                a1.ignore()
                return True
            self.closing = True
            # Napari may ask as well, and the user may decline: then the window stays.
            QTimer.singleShot(0, self._stays)
        return super().eventFilter(a0, a1)

    def close(self) -> None:
        """Stop watching the window. Idempotent."""
        if self._context_guard is not None:
            self._context_guard.close()
            self._context_guard = None
        if self._tab_key is not None:
            self._tab_key.setEnabled(False)
            self._tab_key.deleteLater()
            self._tab_key = None
        if self._window is not None:
            self._window.removeEventFilter(self)
            canvas = self._window.centralWidget()
            if canvas is not None:
                canvas.removeEventFilter(self)
            self._window = None

    @property
    def _busy(self) -> bool:
        """Whether napari has tasks of plugins to ask about."""
        window = getattr(self._window, "_window", None)
        tasks = getattr(window, "_task_status_manager", None)
        return tasks is not None and bool(tasks.get_status())

    def _close_window(self) -> None:
        if self._window is not None:
            self._wanted = True
            self._window.close()
            self._wanted = False

    def _stays(self) -> None:
        self.closing = False
