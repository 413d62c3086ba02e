"""Adapting the model to one's own images: what it learns from, how far it is, what came of it."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_tinysam.checkpoints import REGISTRY
from napari_tinysam.checkpoints.own import own_model
from napari_tinysam.ui.dock.buttons import explain, set_tip
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.curve import CurveView
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.layouts import form_in
from napari_tinysam.ui.dock.rest_box import RestBox
from napari_tinysam.ui.state.choices import keep_choice

if TYPE_CHECKING:
    from psygnal import SignalInstance

    from napari_tinysam.ui.session.adapting.outcome import Adapted
    from napari_tinysam.ui.session.facade import AnnotationSession

_STEPS = 1000  # of the bar

_MINUTES = tuple(
    Choice(float(minutes), text, tip)
    for minutes, text, tip in (
        (5, "5 minutes", "A first try"),
        (10, "10 minutes", "Enough for most images, on two cores"),
        (20, "20 minutes", ""),
        (60, "1 hour", "For many images"),
    )
)


class AdaptBox(QWidget):
    """One button, progress, and the result.

    Emits `noteworthy` when a run of an earlier napari is there, so that it can be seen.

    Parameters
    ----------
    session : AnnotationSession
        What the buttons act on.
    parent : QWidget, optional
        As in Qt.
    """

    noteworthy = Signal()
    #: It shows something else now: what there is, how far it is, or what came of it.
    turned = Signal()

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._noted = False
        self._phase = False, False, False
        self._titles: dict[str, str] = {}
        self._adapting = adapting = session.adapting
        self._before = ""  # the model that was in use before the new one
        self.found = QLabel()
        self.found.setWordWrap(True)
        self.partly = QCheckBox("Also images that are not done")
        set_tip(
            self.partly,
            "What has no label in them may be an object that nobody labelled: it counts neither as "
            "object nor as background. Leave it off after Auto-segment until the objects are right",
        )
        self.partly.clicked.connect(lambda on: adapting.set(partly=on))
        self.name = QLineEdit()
        self.name.setAccessibleName("Name of the new model")
        self.name.textEdited.connect(lambda text: adapting.set(name=text))
        self.minutes = ChoiceCombo(_MINUTES)
        self.minutes.chosen.connect(lambda value: adapting.set(minutes=value))
        self.begins_with = ChoiceCombo()
        self.begins_with.chosen.connect(lambda value: adapting.set(begins_with=value))
        self.goes_on = QCheckBox("Goes on when napari is closed")
        set_tip(
            self.goes_on,
            "The new model is there at the next start. Otherwise it pauses, and can go on then",
        )
        self.goes_on.clicked.connect(lambda on: adapting.set(goes_on=on))
        self.adapt = KeyButton("Adapt the model", role="primary")
        self.adapt.clicked.connect(lambda: session.adapt())
        self.text = QLabel()
        self.text.setObjectName("TinySAMHint")
        self.text.setWordWrap(True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(4)
        self.bar.setRange(0, _STEPS)
        self.curve = CurveView()
        self.stop = _button(
            "Stop, keep the best", "End learning now; the best model so far is compared"
        )
        self.stop.clicked.connect(lambda: adapting.stop_early())
        self.cancel = _button("Cancel", "End, and keep nothing")
        self.cancel.clicked.connect(lambda: adapting.cancel())
        self.resume = _button("Resume", "Go on from the last checkpoint")
        self.resume.clicked.connect(lambda: adapting.resume())
        self.elsewhere = _button(
            "Other folder…", "Put the new model into another folder"
        )
        self.elsewhere.clicked.connect(lambda: self._put_elsewhere())
        self.discard = _button("Discard", "Delete what the interrupted run has done")
        self.discard.clicked.connect(lambda: adapting.discard())
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setTextFormat(Qt.TextFormat.RichText)
        self.result.setOpenExternalLinks(True)
        self.use = KeyButton("Use it now", role="primary")
        self.use.clicked.connect(self._use)
        self.show_it = _button(
            "Show", "Show held-out images, as found before and after, in the window"
        )
        self.show_it.clicked.connect(self._show)
        self.all_figures = _button("All figures", "Show all that was measured")
        self.all_figures.setCheckable(True)
        self.all_figures.clicked.connect(lambda: self.refresh())
        self.back = _button(
            "Back to the model before", "Any model can be chosen under Settings, too"
        )
        self.back.clicked.connect(self._use)
        self.rest = KeyButton("Auto-segment the rest", role="primary")
        self.rest.clicked.connect(lambda: session.auto_segment_rest())
        self.how_far = RestBox(session)
        self.close_result = _button("Close", "Put the result away; the model stays")
        self.close_result.clicked.connect(self._put_away)
        self._lay_out()
        for signal in self._signals():
            signal.connect(self.refresh)
        session.changed.connect(self._model_changed)
        self.refresh()

    def close_down(self) -> None:
        """Stop following the session."""
        self.how_far.close_down()
        for signal in self._signals():
            signal.disconnect(self.refresh)
        self._session.changed.disconnect(self._model_changed)

    def _signals(self) -> tuple[SignalInstance, ...]:
        session = self._session
        return self._adapting.changed, session.listed.changed, session.files.changed

    def _lay_out(self) -> None:
        self._choices = QWidget()
        form = form_in(self._choices)
        form.addRow(self.partly)
        form.addRow("Name", self.name)
        form.addRow("Takes", self.minutes)
        form.addRow("Begins with", self.begins_with)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        for part in (
            *(self.found, self._choices, self.adapt, self.text),
            *(self.bar, self.curve),
        ):
            column.addWidget(part)
        column.addLayout(_row(self.stop, self.cancel))
        column.addWidget(self.goes_on)
        column.addLayout(_row(self.resume, self.elsewhere, self.discard))
        column.addWidget(self.result)
        column.addWidget(self.use)
        column.addWidget(self.rest)
        column.addWidget(self.how_far)
        column.addWidget(self.back)
        column.addLayout(_row(self.show_it, self.all_figures, self.close_result))

    # ------------------------------------------------------------ session → view

    def refresh(self) -> None:
        """Show what there is to learn from, how far it is, or what came of it."""
        adapting = self._adapting
        found, running = adapting.found, adapting.running
        result, left = adapting.result, adapting.left
        idle = not running and result is None and left is None
        self.found.setText(found.text)
        for part in (self.found, self._choices, self.adapt):
            part.setVisible(idle)
        self.partly.setChecked(adapting.partly)
        if not self.name.hasFocus():
            self.name.setText(adapting.name)
        self.name.setPlaceholderText(adapting.suggested_name)
        self.minutes.show_choice(adapting.minutes)
        self._refresh_starts()
        tip = "Learn from these images, in the background: annotate on meanwhile"
        explain(self.adapt, found.is_enough, tip, found.text)
        self.text.setText(adapting.text)
        self.text.setVisible(bool(adapting.text))
        learning = running and adapting.progress is not None
        self.bar.setVisible(running)
        self.bar.setValue(round(_STEPS * (adapting.progress or 0.0)))
        self.curve.setVisible(running)  # also while empty: nothing moves when it begins
        self.curve.show_curve(adapting.curve.losses, adapting.curve.scores)
        self.stop.setVisible(running)
        explain(
            self.stop,
            learning,
            "End learning now; the best model so far is compared",
            "It has not begun to learn, or has ended.",
        )
        self.cancel.setVisible(running)
        self.goes_on.setVisible(running)
        self.goes_on.setChecked(adapting.goes_on)
        self.resume.setVisible(left is not None and not running)
        self.discard.setVisible(left is not None and not running)
        self.elsewhere.setVisible(adapting.is_homeless and not running)
        self._refresh_result(result)
        worth = running or result is not None or left is not None
        if worth and not self._noted:
            self.noteworthy.emit()
        self._noted = worth
        phase = running, result is not None, left is not None
        if phase != self._phase:
            self._phase = phase
            self.turned.emit()

    def _refresh_starts(self) -> None:
        session = self._session
        self._shown_model = current = session.model_in_use[0]
        title = self._title(current)
        choices = [Choice("", f"{title} (in use)", "What it has learnt is kept")]
        if current != "default":
            choices.append(Choice("default", REGISTRY["default"].title, "Begin anew"))
        self.begins_with.set_choices(choices)
        self.begins_with.show_choice(self._adapting.begins_with)

    _shown_model = ""

    def _title(self, name: str) -> str:
        """Return what a model is called; files are read once."""
        if name in REGISTRY:
            return REGISTRY[name].title
        if name not in self._titles:
            known = own_model(Path(name))
            self._titles[name] = known.title if known is not None else Path(name).stem
        return self._titles[name]

    def _model_changed(self) -> None:
        if self._session.model_in_use[0] != self._shown_model:
            self.refresh()

    def _refresh_result(self, result: Adapted | None) -> None:
        session = self._session
        there = result is not None
        ready = result is not None and bool(result.model)
        used = result is not None and ready and session.model_name == result.model
        self.result.setVisible(there)
        self.use.setVisible(ready and not used)
        self.back.setVisible(used)
        for part in (self.rest, self.how_far):
            part.setVisible(used)
        self.close_result.setVisible(there)
        self.show_it.setVisible(result is not None and result.comparison is not None)
        self.all_figures.setVisible(result is not None and bool(result.table))
        if result is None:
            self.all_figures.setChecked(False)
            return
        self.result.setText(_in_words(result, everything=self.all_figures.isChecked()))
        set_tip(self.use, "Any model can be chosen under Settings at any time")
        self.show_it.setText("Hide" if session.comparison.shown else "Show")
        explain(
            self.rest,
            not session.files.running,
            "Segment the images of the list that are not done, to be corrected",
            "Files are being segmented now.",
        )

    # ------------------------------------------------------------ user → session

    def _use(self) -> None:
        session, result = self._session, self._adapting.result
        if result is None or not result.model:
            return
        if session.model_name == result.model:
            name = self._before or "default"
        else:
            name, self._before = result.model, session.model_name
        keep_choice("model", "name", name)
        session.set_model(name, session.device)
        self.refresh()

    def _show(self) -> None:
        result = self._adapting.result
        if result is not None and result.comparison is not None:
            self._session.comparison.toggle(result.comparison, self.refresh)

    def _put_elsewhere(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "A folder for the new model")
        if folder:
            self._adapting.resume(Path(folder))

    def _put_away(self) -> None:
        if self._session.comparison.shown:
            self._session.comparison.hide()
        self._adapting.put_away()


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    set_tip(button, tip)
    return button


def _row(*buttons: QPushButton) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(6)
    for button in buttons:
        row.addWidget(button, 1)
    return row


def _in_words(result: Adapted, *, everything: bool) -> str:
    """Write the result as a title, a table and sentences."""
    title = f"<b>{escape(result.name)}</b> is ready." if result.model else ""
    figures = result.table if everything else result.figures
    if not figures:
        return "<br>".join(filter(None, (title, escape(result.text))))
    rows = "".join(_row_of(name, *pair) for name, pair in figures.items())
    images = "image" if result.held_out == 1 else "images"
    count = f"{result.held_out} " if result.held_out else ""
    table = f"On {count}held-out {images}:<table>{rows}</table>"
    picture = ""
    if everything and result.comparison is not None:
        path = result.comparison / "before_after.png"
        if path.exists():
            link = f'href="{escape(path.as_uri())}" style="color: #4a90d9"'
            picture = f"<a {link}>Picture before and after</a>"
    remark = escape(result.remark)
    parts = (title, table, remark) if result.model else (remark, table)
    return "<br>".join(filter(None, (*parts, picture, escape(result.caveat))))


def _row_of(name: str, before: float | None, after: float | None) -> str:
    """Write a row of the table; there may be no model after, or nothing measured."""
    cells = [f"<td>{escape(name)}&nbsp;&nbsp;</td>"]
    shown = "–" if before is None else f"{before:.2f}"
    if after is None:
        cells.append(f"<td>{shown}</td>")
    else:
        cells.append(f"<td>{shown}&nbsp;→&nbsp;</td><td><b>{after:.2f}</b></td>")
    return f"<tr>{''.join(cells)}</tr>"
