"""The dock: views of an annotation session, and when it starts and ends."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)
from superqt import QToggleSwitch

from napari_tinysam.ui.dock.adapt_box import AdaptBox
from napari_tinysam.ui.dock.auto_box import AutoBox
from napari_tinysam.ui.dock.axis_questions import AxisQuestions
from napari_tinysam.ui.dock.buttons import explain
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.delivery import GuiDelivery
from napari_tinysam.ui.dock.edit_buttons import EditButtons
from napari_tinysam.ui.dock.follow_box import FollowBox
from napari_tinysam.ui.dock.images_box import ImagesBox
from napari_tinysam.ui.dock.layer_combo import LayerCombo
from napari_tinysam.ui.dock.link_box import LinkBox
from napari_tinysam.ui.dock.model_box import ModelBox
from napari_tinysam.ui.dock.output_box import OutputBox
from napari_tinysam.ui.dock.prompt_buttons import PromptButtons
from napari_tinysam.ui.dock.questions import Closing, may_close, warn_of_unsaved
from napari_tinysam.ui.dock.recovery_box import RecoveryBox
from napari_tinysam.ui.dock.scrolling import ScrollingColumn
from napari_tinysam.ui.dock.section import Section
from napari_tinysam.ui.dock.status_bar import StatusBar
from napari_tinysam.ui.dock.style import ACCENT, STYLE
from napari_tinysam.ui.dock.unfinished_box import UnfinishedBox
from napari_tinysam.ui.dock.window import HostWindow
from napari_tinysam.ui.session.embedding.loading import LoadPredictor, load_predictor
from napari_tinysam.ui.session.facade import AnnotationSession, Status
from napari_tinysam.ui.session.hints import blocked, hint
from napari_tinysam.ui.session.worker import InferenceThread
from napari_tinysam.ui.state.choices import read_choices

if TYPE_CHECKING:
    import napari.viewer
    from qtpy.QtGui import QCloseEvent, QHideEvent, QResizeEvent, QShowEvent

#: The model is loaded once the dock has been painted.
_START_AFTER_MS = 30

_WIDTH, _HEIGHT = 300, 640  # px the dock asks for; it shrinks and scrolls

#: Below this height in px, as beside a second dock on a small screen, the hints do not fit.
_COMPACT_HEIGHT = 360


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
        self._delivery = GuiDelivery()
        # Loading the model also slows the GUI thread: the dock appears first.
        self._inference = InferenceThread(self._delivery, start=False)
        self.session = AnnotationSession(
            viewer, self._inference, load_predictor=load_predictor
        )
        self._armed = True  # whether the switch is on, also while the dock is hidden
        self._proposed = False  # whether there were proposals at the last refresh
        self._started = False
        self._closed = False
        self._window = HostWindow(
            viewer,
            self,
            may_close=self._may_close,
            on_tab=self.session.cycle_candidate,
        )
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
        """Return the size the dock asks for."""
        return QSize(_WIDTH, _HEIGHT)

    # ------------------------------------------------------------ contents

    def _build(self) -> None:
        session = self.session
        self.setObjectName("TinySAMWidget")
        self.setStyleSheet(STYLE)
        self.setMinimumWidth(250)
        self.image = LayerCombo(always_none=False)
        self.channel_label = QLabel("Channel")
        self.channel = ChoiceCombo(
            tip="The channel that is shown and segmented. Objects belong to all channels. “None” "
            "makes each channel a plane of a stack"
        )
        self.axes = AxisQuestions(session)
        self.switch = QToggleSwitch("Click to segment")
        self.switch.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.switch.onColor = ACCENT
        self.recovery = RecoveryBox(session.recovery)
        self.unfinished = UnfinishedBox(session.recovery.unfinished)
        self.status_bar = StatusBar()
        self.prompts = PromptButtons(session)
        self.through = FollowBox(session)
        self.auto = AutoBox(session)
        self.link = LinkBox(session)
        self.output = OutputBox(session)
        self.edit = EditButtons(session)
        self.models = ModelBox(session)
        self.images = ImagesBox(session)
        self.adapt = AdaptBox(session)
        self.clicks_section = Section("One object at a time", self.prompts)
        self.through_section = Section("Through the stack", self.through)
        self.auto_section = Section("All objects at once", self.auto)
        self.link_section = Section("Link and track", self.link)
        self.adapt_section = Section("Adapt the model", self.adapt, expanded=False)
        self.adapt.noteworthy.connect(self.adapt_section.expand)
        self.adapt.turned.connect(
            lambda: self._scrolling.keep_in_view(self.adapt_section)
        )
        self.settings = Section("Settings", self.models, expanded=False)
        images = Section("Images", self.images, expanded=session.image is None)
        self.images.opened.connect(images.expand)
        self.images.adapt_wanted.connect(self._show_adapting)
        sections = (
            images,
            self.clicks_section,
            self.through_section,
            self.auto_section,
            self.link_section,
            Section("Labels", self.output),
            Section("Change an object", self.edit),
            self.adapt_section,
            self.settings,
        )

        source = QFormLayout()
        source.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        source.addRow("Image", self.image)
        source.addRow(self.channel_label, self.channel)
        self._scrolling = ScrollingColumn(self)
        self._scrolling.column.addLayout(source)
        self._scrolling.column.addWidget(self.axes)
        self._scrolling.add_sections(*sections)
        # These stay visible while the rest is scrolled or folded.
        self._top = QVBoxLayout()
        self._top.setContentsMargins(8, 8, 8, 4)
        main = QHBoxLayout()
        main.setSpacing(4)
        main.addWidget(self.prompts.commit, 1)
        main.addWidget(self.auto.start, 1)
        self._top.addWidget(self.unfinished)
        self._top.addWidget(self.recovery)
        self._top.addWidget(self.switch)
        self._top.addWidget(self.status_bar)
        self._top.addLayout(main)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        outer.addLayout(self._top)
        outer.addWidget(self._scrolling, 1)

    def _connect(self) -> None:
        session = self.session
        self.image.chosen.connect(session.set_image)
        self.channel.chosen.connect(session.set_channel)
        self.switch.clicked.connect(self._switch)
        self.status_bar.cancelled.connect(session.cancel)
        self.settings.toggled.connect(self.models.refresh_models)
        for button in self.findChildren(QAbstractButton):
            if button is not self.images.classes.add:  # a name may be typed then
                button.clicked.connect(self._window.focus_canvas)
        for combo in self.findChildren(QComboBox):
            combo.activated.connect(self._window.focus_canvas)
        self.prompts.candidates.slider.sliderReleased.connect(self._window.focus_canvas)
        self.images.classes.named.connect(self._window.focus_canvas)
        self._window.entered.connect(self.images.classes.leave_name)

        session.changed.connect(self._refresh)
        session.status_changed.connect(self._show_status)
        session.layers_changed.connect(self._refresh_layers)
        session.files.changed.connect(self._refresh)
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
            "On: clicks and keys segment. Off: they work as usual in napari",
            "Open an image first.",
        )
        self.unfinished.refresh()
        self.recovery.refresh()
        self.status_bar.set_hint(hint(session))
        self.prompts.refresh(reason)
        self.through_section.setVisible(session.follower.axis is not None)
        self.axes.refresh()
        self.through.refresh(reason)
        self.auto.refresh(reason)
        self._reveal_proposals()
        self.link_section.setVisible(bool(session.stack_axes()))
        self.link.refresh()
        self.output.refresh()
        self.edit.refresh(reason)
        self.models.refresh()
        self._refresh_channels()
        self._window.set_tab_enabled(session.active and bool(session.candidate_scores))

    def _show_adapting(self) -> None:
        self.adapt_section.expand()
        self._scrolling.reveal(self.adapt_section, True)

    def _show_status(self, status: Status) -> None:
        if self._closed:
            return
        self._refresh()
        self.status_bar.set_status(status)

    def _refresh_layers(self) -> None:
        session = self.session
        self.image.set_layers(session.image_layers(), session.image, "No image")
        self.output.refresh_layers()
        self._refresh()

    def _refresh_channels(self) -> None:
        count, channel = self.session.channel_count, self.session.channel
        there = count > 1
        self.channel.setVisible(there)
        self.channel_label.setVisible(there)
        if there:
            self.channel.set_choices(
                [
                    Choice(None, "None (a stack)"),
                    *(Choice(at, str(at)) for at in range(count)),
                ]
            )
            self.channel.show_choice(channel)

    # ------------------------------------------------------------ user → session

    def _switch(self, on: bool) -> None:
        self._armed = on
        self.session.set_active(on)

    def _reveal_proposals(self) -> None:
        """Open and show the section with the proposals when there are new ones."""
        there = self.session.proposals.settings is not None
        if there and not self._proposed:
            self.auto_section.expand()
            self._scrolling.reveal(self.auto_section, True)
        self._proposed = there

    # ------------------------------------------------------------ start and end

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        """Hide what a low dock has no room for."""
        super().resizeEvent(a0)
        compact = self.height() < _COMPACT_HEIGHT
        self.status_bar.set_compact(compact)
        self._top.setSpacing(4 if compact else 8)

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Start the session the first time, and continue it later."""
        super().showEvent(a0)
        if self._closed:
            return
        self._window.watch()
        if not self._started:
            self._start_timer.start()
        elif self._armed:
            self.session.set_active(True)

    def hideEvent(self, a0: QHideEvent | None) -> None:
        """Release mouse and keys while the dock is hidden."""
        super().hideEvent(a0)
        if self._window.closing:
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
            if not self._closed:
                warn_of_unsaved(self.session)
            self.teardown()
        return super().event(a0)

    def teardown(self) -> None:
        """End the session and its thread, and release the viewer. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._start_timer.stop()
        session = self.session
        session.changed.disconnect(self._refresh)
        session.status_changed.disconnect(self._show_status)
        session.layers_changed.disconnect(self._refresh_layers)
        session.files.changed.disconnect(self._refresh)
        self.auto.files.close_down()
        self.auto.rest.close_down()
        self.images.close_down()
        self.adapt.close_down()
        session.close()
        self._inference.shutdown()
        self._delivery.close()
        self.status_bar.close_progress()
        for layers in (self.image, self.output.labels):
            layers.set_choices([])
        self.setEnabled(False)
        self._window.close()
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.disconnect(self.teardown)

    def _start(self) -> None:
        """Apply the user's choices, load the model, and switch on."""
        if self._closed or self._started:
            return
        self._started = True
        session, choices = self.session, read_choices()
        session.set_overlap(choices.overlap)
        session.saving.autosave.set_on(choices.autosave)
        session.saving.with_provenance = choices.provenance
        session.objects.set_on(choices.table)
        session.set_hover_enabled(choices.hover)
        session.set_preview_opacity(choices.opacity)
        session.set_cache_capacity(choices.memory)
        session.set_ahead(choices.ahead)
        if (choices.model, choices.device) != (session.model_name, session.device):
            session.set_model(choices.model, choices.device)
        self._inference.start()
        session.adapting.look()
        session.set_active(self._armed)
        self._window.focus_canvas()

    def _may_close(self) -> Closing:
        if self._closed:
            return Closing.GO
        return may_close(self.window() or self, self.session)


def _close_if_alive(reference: weakref.ref[AnnotationSession], *_: object) -> None:
    """End a session whose widget Qt deleted. The widget must not be touched again."""
    session = reference()
    if session is not None:
        session.close(window_is_gone=True)
