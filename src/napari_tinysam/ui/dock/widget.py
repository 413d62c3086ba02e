"""The dock: views on an annotation session, and its life and death in napari's window."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QThread, QTimer
from qtpy.QtGui import QCloseEvent, QHideEvent, QKeySequence, QResizeEvent, QShowEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QMessageBox,
    QScrollArea,
    QShortcut,
    QVBoxLayout,
    QWidget,
)
from superqt import QToggleSwitch

from napari_tinysam.ui.canvas.context_guard import ContextGuard
from napari_tinysam.ui.dock.auto_box import AutoBox
from napari_tinysam.ui.dock.edit_buttons import EditButtons
from napari_tinysam.ui.dock.layer_combo import LayerCombo, NarrowCombo
from napari_tinysam.ui.dock.model_box import ModelBox
from napari_tinysam.ui.dock.output_box import OutputBox, asked_for_file
from napari_tinysam.ui.dock.prompt_buttons import PromptButtons, explain
from napari_tinysam.ui.dock.qt_delivery import GuiDelivery
from napari_tinysam.ui.dock.section import Section
from napari_tinysam.ui.dock.status_bar import StatusBar
from napari_tinysam.ui.dock.style import ACCENT, STYLE
from napari_tinysam.ui.dock.wheel import WheelGuard
from napari_tinysam.ui.session.embedder import LoadPredictor, load_predictor
from napari_tinysam.ui.session.facade import AnnotationSession, Status
from napari_tinysam.ui.session.hints import blocked, hint
from napari_tinysam.ui.session.worker import InferenceThread
from napari_tinysam.ui.state.choices import read_choices

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels

#: The model is loaded once the dock has had time to be painted.
_START_AFTER_MS = 30

_WIDTH, _HEIGHT = 300, 640  # px the dock asks for; it shrinks and scrolls

#: Below so many px, as beside a second dock on a small screen, there is no room for hints.
_COMPACT_HEIGHT = 360

#: px of what scrolls that are left in the lowest dock.
_LEAST_SCROLLING = 44


class TinySAMWidget(QWidget):
    """Segment objects by clicking on them.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The window's viewer.
    load_predictor : callable, optional
        ``load_predictor(name, device, progress)`` returns a `Predictor`.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        *,
        load_predictor: LoadPredictor = load_predictor,
    ) -> None:
        super().__init__()
        self._viewer = viewer
        self._delivery = GuiDelivery()
        # Loading the model takes time from the GUI thread too: first the dock is to be seen.
        self._inference = InferenceThread(self._delivery, start=False)
        self.session = AnnotationSession(
            viewer, self._inference, load_predictor=load_predictor
        )
        self._armed = True  # whether the switch is on, also while the dock is hidden
        self._proposed = False  # whether there were proposals the last time
        self._started = False
        self._closed = False
        self._window: QMainWindow | None = None
        self._window_closes = False
        self._tab_key: QShortcut | None = None
        self._context_guard: ContextGuard | None = None
        self._start_timer = QTimer(self)
        self._start_timer.setSingleShot(True)
        self._start_timer.setInterval(_START_AFTER_MS)
        self._start_timer.timeout.connect(self._start)

        self._build()
        self._connect()
        self._refresh_layers()
        self._refresh()
        self._show_status(self.session.status)

    def sizeHint(self) -> QSize:
        """Return the size at which nothing scrolls and nothing is wide."""
        return QSize(_WIDTH, _HEIGHT)

    # ------------------------------------------------------------ what is in it

    def _build(self) -> None:
        session = self.session
        self.setObjectName("TinySAMWidget")
        self.setStyleSheet(STYLE)
        self.setMinimumWidth(250)
        self.image = LayerCombo("no image", always_none=False)
        self.channel_label = QLabel("Channel")
        self.channel = NarrowCombo()
        self.channel.setToolTip(
            "Which channel is shown and segmented. Objects belong to all channels; “none” makes "
            "a stack of them"
        )
        self.switch = QToggleSwitch("Click to segment")
        self.switch.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.switch.onColor = ACCENT
        self.status_bar = StatusBar()
        self.prompts = PromptButtons(session)
        self.auto = AutoBox(session)
        self.output = OutputBox(session)
        self.edit = EditButtons(session)
        self.models = ModelBox(session)
        self.clicks_section = Section("One object at a time", self.prompts)
        self.auto_section = Section("All objects at once", self.auto)
        self.settings = Section("Settings", self.models, expanded=False)
        self._sections = (
            self.clicks_section,
            self.auto_section,
            Section("Save into", self.output),
            Section("Change an object", self.edit),
            self.settings,
        )

        source = QFormLayout()
        source.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        source.addRow("Image", self.image)
        source.addRow(self.channel_label, self.channel)
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(8, 2, 8, 8)
        column.setSpacing(8)
        column.addLayout(source)
        for section in self._sections:
            column.addWidget(section)
        column.addStretch(1)
        self._scrolling = QScrollArea(self)
        self._scrolling.setWidgetResizable(True)
        self._scrolling.setHorizontalScrollBarPolicy(
            Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        )
        self._scrolling.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scrolling.setMinimumHeight(_LEAST_SCROLLING)
        self._scrolling.setWidget(inside)
        # Whatever is scrolled or folded, these are in sight.
        self._top = QVBoxLayout()
        self._top.setContentsMargins(8, 8, 8, 4)
        main = QHBoxLayout()
        main.setSpacing(4)
        main.addWidget(self.prompts.commit, 1)
        main.addWidget(self.auto.start, 1)
        self._top.addWidget(self.switch)
        self._top.addWidget(self.status_bar)
        self._top.addLayout(main)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        outer.addLayout(self._top)
        outer.addWidget(self._scrolling, 1)
        WheelGuard(self._scrolling)

    def _connect(self) -> None:
        session = self.session
        self.image.chosen.connect(session.set_image)
        self.channel.activated.connect(self._choose_channel)
        self.switch.clicked.connect(self._switch)
        self.status_bar.cancelled.connect(session.cancel)
        self.settings.toggled.connect(self.models.refresh_models)
        for section in self._sections:
            section.toggled.connect(partial(self._reveal, section))
        for button in self.findChildren(QAbstractButton):
            button.clicked.connect(self._focus_canvas)
        for combo in self.findChildren(QComboBox):
            combo.activated.connect(self._focus_canvas)
        self.prompts.candidates.slider.sliderReleased.connect(self._focus_canvas)

        session.changed.connect(self._refresh)
        session.status_changed.connect(self._show_status)
        session.layers_changed.connect(self._refresh_layers)
        self.destroyed.connect(partial(_close_if_alive, weakref.ref(session)))
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.teardown)

    # ------------------------------------------------------------ session → views

    def _refresh(self) -> None:
        session = self.session
        reason = blocked(session)
        self.switch.setChecked(session.active)
        explain(
            self.switch,
            session.image is not None,
            "On: the mouse and the keys segment. Off: they are napari's own",
            "There is no image yet.",
        )
        self.status_bar.set_hint(hint(session))
        self.prompts.refresh(reason)
        self.auto.refresh(reason)
        self._reveal_proposals()
        self.output.refresh()
        self.edit.refresh(reason)
        self.models.refresh()
        self._refresh_channels()
        if self._tab_key is not None:
            self._tab_key.setEnabled(session.active and bool(session.candidate_scores))

    def _show_status(self, status: Status) -> None:
        if self._closed:
            return
        self._refresh()
        self.status_bar.set_status(status)

    def _refresh_layers(self) -> None:
        session = self.session
        self.image.set_layers(session.image_layers(), session.image)
        self.output.refresh_layers()
        self._refresh()

    def _refresh_channels(self) -> None:
        count, channel = self.session.channel_count, self.session.channel
        there = count > 1
        self.channel.setVisible(there)
        self.channel_label.setVisible(there)
        if not there:
            return
        if self.channel.count() != count + 1:
            self.channel.clear()
            self.channel.addItems(["none (a stack)", *map(str, range(count))])
        self.channel.setCurrentIndex(0 if channel is None else channel + 1)

    # ------------------------------------------------------------ user → session

    def _switch(self, on: bool) -> None:
        self._armed = on
        self.session.set_active(on)

    def _choose_channel(self, at: int) -> None:
        self.session.set_channel(at - 1 if at else None)

    def _focus_canvas(self) -> None:
        """Give the keyboard back to the canvas, where the keys work."""
        window = self._window
        canvas = None if window is None else window.centralWidget()
        if window is None or canvas is None:
            return
        if self.window() is not window:  # the dock floats
            window.activateWindow()
        canvas.setFocus(Qt.FocusReason.OtherFocusReason)

    def _reveal_proposals(self) -> None:
        """Open and show the section that decides about proposals, when there are new ones."""
        there = self.session.auto.settings is not None
        if there and not self._proposed:
            self.auto_section.expand()
            self._reveal(self.auto_section, True)
        self._proposed = there

    def _reveal(self, section: Section, expanded: bool) -> None:
        """Scroll to a section that was opened."""
        if expanded:
            # Once the layout knows how tall it is.
            QTimer.singleShot(0, partial(self._scroll_to, section))

    def _scroll_to(self, section: Section) -> None:
        if self._closed:
            return
        inside = self._scrolling.widget()
        bar = self._scrolling.verticalScrollBar()
        if inside is None or bar is None:
            return
        inside.adjustSize()
        top, height = section.y(), section.height()
        room = bar.pageStep()
        if top < bar.value() or top + height > bar.value() + room:
            # All of it, or what fits of it from its title on.
            bar.setValue(top if height > room else top + height - room)

    # ------------------------------------------------------------ life and death

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        """Leave out what a low dock has no room for."""
        super().resizeEvent(a0)
        compact = self.height() < _COMPACT_HEIGHT
        self.status_bar.set_compact(compact)
        self._top.setSpacing(4 if compact else 8)

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Start the session at the first time, go on where it was at the others."""
        super().showEvent(a0)
        if self._closed:
            return
        self._watch_window()
        if not self._started:
            self._start_timer.start()
        elif self._armed:
            self.session.set_active(True)

    def hideEvent(self, a0: QHideEvent | None) -> None:
        """Let go of mouse and keys while nobody sees the dock."""
        super().hideEvent(a0)
        if self._window_closes:
            self.teardown()
        elif not self._closed and a0 is not None and not a0.spontaneous():
            self._start_timer.stop()
            self.session.set_active(False)

    def closeEvent(self, a0: QCloseEvent | None) -> None:
        """End the session."""
        self.teardown()
        super().closeEvent(a0)

    def event(self, a0: QEvent | None) -> bool:
        """End the session when the dock is closed: its X sends no close event."""
        if (
            a0 is not None
            and a0.type() == QEvent.Type.ParentChange
            and self.parent() is None
        ):
            self._tell_unsaved()
            self.teardown()
        return super().event(a0)

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:
        """Notice that napari's window closes, which hides the dock and tells it nothing."""
        if a1 is not None and a1.type() == QEvent.Type.Close and a0 is self._window:
            if not self._may_close():
                a1.ignore()
                return True
            self._window_closes = True
            # The user may be asked and say no; then the window stays.
            QTimer.singleShot(0, self._window_stays)
        return super().eventFilter(a0, a1)

    def teardown(self) -> None:
        """End the session and its thread, and let go of the viewer. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._start_timer.stop()
        session = self.session
        session.changed.disconnect(self._refresh)
        session.status_changed.disconnect(self._show_status)
        session.layers_changed.disconnect(self._refresh_layers)
        session.close()
        if self._context_guard is not None:
            self._context_guard.close()
            self._context_guard = None
        self._inference.shutdown()
        self._delivery.close()
        self.status_bar.close_progress()
        self.image.forget()
        self.output.labels.forget()
        self.setEnabled(False)
        if self._window is not None:
            self._window.removeEventFilter(self)
            self._window = None
        if self._tab_key is not None:
            self._tab_key.setEnabled(False)
            self._tab_key.deleteLater()
            self._tab_key = None
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.disconnect(self.teardown)

    def _start(self) -> None:
        """Take up the user's choices, load the model, and arm."""
        if self._closed or self._started:
            return
        self._started = True
        session, choices = self.session, read_choices()
        session.set_overlap(choices.overlap)
        session.set_hover_enabled(choices.hover)
        session.set_preview_opacity(choices.opacity)
        session.set_cache_capacity(choices.planes)
        if (choices.model, choices.device) != (session.model_name, session.device):
            session.set_model(choices.model, choices.device)
        self._inference.start()
        session.set_active(self._armed)
        self._focus_canvas()

    def _watch_window(self) -> None:
        """Find napari's window, also from a dock that floats."""
        parent = self.parent()
        while parent is not None and not isinstance(parent, QMainWindow):
            parent = parent.parent()
        if parent is None or parent is self._window:
            return
        self._window = parent
        parent.installEventFilter(self)
        # Qt takes the Tab key for moving the focus before napari sees it.
        canvas = parent.centralWidget()
        if canvas is not None:
            if self._context_guard is not None:  # the dock was in another window
                self._context_guard.close()
            self._context_guard = ContextGuard(self._viewer, canvas)
            self._tab_key = QShortcut(QKeySequence("Tab"), canvas)
            self._tab_key.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            self._tab_key.setEnabled(False)
            self._tab_key.activated.connect(self.session.cycle_candidate)

    def _may_close(self) -> bool:
        """Ask before the window closes with work that is not saved; return whether it may.

        A program that closes the viewer outside the event loop is not asked.
        """
        thread = QThread.currentThread()
        if self._closed or thread is None or thread.loopLevel() == 0:
            return True
        session = self.session
        unsaved = session.unsaved_layers()
        count = session.uncommitted_count
        if not unsaved and not count:
            return True
        parts = []
        if count:
            what = "1 object is" if count == 1 else f"{count} objects are"
            parts.append(f"{what} not committed.")
        if unsaved:
            names = ", ".join(layer.name for layer in unsaved)
            parts.append(f"Not saved: {names}.")
        box = QMessageBox(self._window)
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("TinySAM")
        box.setText("\n".join(parts))
        if count:
            it = "it" if count == 1 else "them"
            box.setInformativeText(
                f"What is not committed is not saved either: Cancel, then press C to keep {it}."
            )
        buttons = QMessageBox.StandardButton
        choices = buttons.Discard | buttons.Cancel
        if unsaved:
            choices |= buttons.Save
        box.setStandardButtons(choices)
        box.setDefaultButton(buttons.Save if unsaved else buttons.Cancel)
        discard = box.button(buttons.Discard)
        if discard is not None:
            discard.setText("Close without saving" if unsaved else "Close anyway")
        answer = buttons(box.exec())
        if answer == buttons.Discard:
            return True
        return answer == buttons.Save and self._save(unsaved)

    def _tell_unsaved(self) -> None:
        """Say which labels nobody will ask about any more when napari closes."""
        unsaved = [] if self._closed else self.session.unsaved_layers()
        if unsaved:
            names = ", ".join(layer.name for layer in unsaved)
            self.session.say(
                "warning",
                f"Not saved: {names}. Without TinySAM's dock napari closes without asking.",
            )

    def _save(self, layers: list[Labels]) -> bool:
        """Save layers, each into its file; return whether all are saved."""
        for layer in layers:
            file = asked_for_file(self, self.session, layer)
            if file is None or not self.session.saving.save_now(layer, file):
                return False
        return True

    def _window_stays(self) -> None:
        self._window_closes = False


def _close_if_alive(reference: weakref.ref[AnnotationSession], *_: object) -> None:
    """End a session whose widget Qt deleted unasked; nothing of the widget may be touched."""
    session = reference()
    if session is not None:
        session.close(window_is_gone=True)
