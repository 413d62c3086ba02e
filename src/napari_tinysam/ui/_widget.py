"""The dock: views on an annotation session, and its life and death in napari's window."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QCloseEvent, QHideEvent, QKeySequence, QShowEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QFormLayout,
    QLabel,
    QMainWindow,
    QScrollArea,
    QShortcut,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible, QToggleSwitch

from napari_tinysam.ui._auto_box import AutoBox
from napari_tinysam.ui._choices import read_choices
from napari_tinysam.ui._context_guard import ContextGuard
from napari_tinysam.ui._edit_buttons import EditButtons
from napari_tinysam.ui._embedder import LoadPredictor, load_predictor
from napari_tinysam.ui._hints import blocked, hint
from napari_tinysam.ui._inference import InferenceThread
from napari_tinysam.ui._layer_combo import LayerCombo, NarrowCombo
from napari_tinysam.ui._model_box import ModelBox
from napari_tinysam.ui._output_box import OutputBox
from napari_tinysam.ui._prompt_buttons import PromptButtons, explain
from napari_tinysam.ui._qt_delivery import GuiDelivery
from napari_tinysam.ui._session import AnnotationSession, Status
from napari_tinysam.ui._status_bar import StatusBar
from napari_tinysam.ui._style import ACCENT, STYLE
from napari_tinysam.ui._wheel import WheelGuard

if TYPE_CHECKING:
    import napari.viewer

#: The model is loaded once the dock has had time to be painted.
_START_AFTER_MS = 30

_WIDTH, _HEIGHT = 300, 640  # px the dock asks for; it shrinks and scrolls


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
            "Whether the first axis of the image is channels, and which of them to segment"
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
        self.settings = _collapsible("Settings", self.models)

        source = QFormLayout()
        source.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        source.addRow("Image", self.image)
        source.addRow(self.channel_label, self.channel)
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(8, 8, 8, 8)
        column.setSpacing(8)
        column.addLayout(source)
        column.addWidget(self.switch)
        column.addWidget(self.status_bar)
        column.addWidget(self.prompts)
        column.addSpacing(4)
        column.addWidget(_section("All objects at once"))
        column.addWidget(self.auto)
        column.addSpacing(4)
        column.addWidget(_section("Save into"))
        column.addWidget(self.output)
        column.addSpacing(4)
        column.addWidget(_section("Change an object"))
        column.addWidget(self.edit)
        column.addSpacing(4)
        column.addWidget(self.settings)
        column.addStretch(1)
        scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidget(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        WheelGuard(scroll)

    def _connect(self) -> None:
        session = self.session
        self.image.chosen.connect(session.set_image)
        self.channel.activated.connect(self._choose_channel)
        self.switch.clicked.connect(self._switch)
        self.status_bar.cancelled.connect(session.cancel)
        self.settings.toggled.connect(self.models.refresh_models)
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

    # ------------------------------------------------------------ life and death

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Start the session at the first time, go on where it was at the others."""
        super().showEvent(a0)
        if self._closed:
            return
        self._watch_window()
        # Drawn from letters in the colour of the text, which the style has set by now.
        self.settings.setExpandedIcon("▾")
        self.settings.setCollapsedIcon("▸")
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
            self.teardown()
        return super().event(a0)

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:
        """Notice that napari's window closes, which hides the dock and tells it nothing."""
        if a1 is not None and a1.type() == QEvent.Type.Close and a0 is self._window:
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

    def _window_stays(self) -> None:
        self._window_closes = False


def _close_if_alive(reference: weakref.ref[AnnotationSession], *_: object) -> None:
    """End a session whose widget Qt deleted unasked; nothing of the widget may be touched."""
    session = reference()
    if session is not None:
        session.close(window_is_gone=True)


def _section(title: str) -> QLabel:
    label = QLabel(title)
    label.setObjectName("TinySAMSection")
    return label


def _collapsible(title: str, content: QWidget) -> QCollapsible:
    collapsible = QCollapsible(title)
    collapsible.setDuration(0)
    for layout in (collapsible.layout(), collapsible.content().layout()):
        if layout is not None:
            layout.setContentsMargins(0, 0, 0, 0)
    collapsible.toggleButton().setFocusPolicy(Qt.FocusPolicy.TabFocus)
    collapsible.addWidget(content)
    # Collapsed it is only flat: the Tab key would still go through what is in it.
    collapsible.toggled.connect(content.setVisible)
    content.hide()
    return collapsible
