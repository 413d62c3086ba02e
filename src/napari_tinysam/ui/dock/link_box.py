"""Objects of planes and frames become one object: what planes are, buttons, live sliders."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_tinysam.ui.dock.buttons import explain, set_tip
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.filter_sliders import CountSlider, ShareSlider
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.layouts import grid_in
from napari_tinysam.ui.dock.track_box import TrackBox
from napari_tinysam.ui.state.stack_planes import AxisKind
from napari_tinysam.volume.linking import MOST_GAP

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession
    from napari_tinysam.ui.session.stack_axes import StackAxis

#: Axes that are asked about; further ones are neither depth nor time.
_AXES = 3

#: The overlap slider ends before 0: objects that share nothing are not the same.
_LEAST_OVERLAP = 0.01

_KINDS = (
    Choice(None, "choose …", "Say what these planes are; it is remembered"),
    Choice(
        AxisKind.DEPTH,
        "depth (z)",
        "Planes through a specimen: an object stays where it is from plane to plane",
    ),
    Choice(AxisKind.TIME, "time (t)", "Frames of a movie: objects move and divide"),
)


class AxisQuestions(QWidget):
    """Asks what axes are that neither layer nor file name.

    Parameters
    ----------
    session : AnnotationSession
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        grid = grid_in(self)
        grid.setColumnStretch(1, 1)
        self.titles = [QLabel() for _ in range(_AXES)]
        self.answers = [ChoiceCombo(_KINDS) for _ in range(_AXES)]
        for row, (title, answer) in enumerate(
            zip(self.titles, self.answers, strict=True)
        ):
            grid.addWidget(title, row, 0)
            grid.addWidget(answer, row, 1)
            answer.chosen.connect(partial(self._answer, row))
        self._asked: list[StackAxis] = []

    def refresh(self) -> None:
        """Show the axes that are not named, with the answers so far."""
        axes = self._session.stack_axes()
        self._asked = [axis for axis in axes if not axis.named]
        self.setVisible(bool(self._asked))
        for row, (title, answer) in enumerate(
            zip(self.titles, self.answers, strict=True)
        ):
            there = row < len(self._asked)
            title.setVisible(there)
            answer.setVisible(there)
            if there:
                axis = self._asked[row]
                plain = "Planes are" if len(axes) == 1 else f"Axis {axis.axis} is"
                title.setText(f"{axis.name} is" if axis.name else plain)
                answer.show_choice(axis.kind)

    def _answer(self, row: int, kind: AxisKind | None) -> None:
        if row < len(self._asked):
            self._session.set_axis_kind(self._asked[row].axis, kind)


class LinkBox(QWidget):
    """Linking through the depth of a stack, and tracking in a movie.

    Parameters
    ----------
    session : AnnotationSession
        What the choices go to.
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        linking = session.linking
        self.questions = AxisQuestions(session)
        self.link = KeyButton("Link planes")
        self.link.clicked.connect(lambda: session.link_planes())
        self.overlap = ShareSlider(
            "Overlap above",
            "Objects of neighbouring planes are the same object if they overlap by more than "
            "this: the pixels they share, as a share of all pixels of both",
            lambda value: linking.set_settings(overlap=max(value, _LEAST_OVERLAP)),
        )
        self.gap = CountSlider(
            "Gap",
            "An object may be missing in so many planes and go on after them",
            lambda value: linking.set_settings(gap=value),
        )
        self.least = CountSlider(
            "At least",
            "Objects that show in fewer planes are hidden. They are not lost: they come back "
            "when you move the slider back",
            lambda value: linking.set_settings(least_planes=value),
        )
        self.tracks = TrackBox(session)
        self.note = QLabel()
        self.note.setObjectName("TinySAMHint")
        self.note.setWordWrap(True)
        self.sliders = QWidget()
        rows = QGridLayout(self.sliders)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setHorizontalSpacing(6)
        rows.setVerticalSpacing(4)
        rows.setColumnStretch(1, 1)
        for row, item in enumerate((self.overlap, self.gap, self.least)):
            for column, part in enumerate((item.title, item.slider, item.value)):
                rows.addWidget(part, row, column)
        column_ = QVBoxLayout(self)
        column_.setContentsMargins(0, 0, 0, 0)
        column_.setSpacing(6)
        parts = (self.questions, self.link, self.sliders, self.note, self.tracks)
        for part in parts:
            column_.addWidget(part)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's settings, and what is linked."""
        session = self._session
        linking = session.linking
        self.questions.refresh()
        depth = session.depth_planes
        settings = linking.settings
        reason = ""
        if session.target is None:
            reason = "No labels yet: segment the planes or choose a labels layer."
        elif depth is None:
            reason = "Say above what these planes are."
        explain(
            self.link,
            not reason,
            "Give objects of neighbouring planes that overlap one number. Also after changes "
            "by hand; objects that go through planes already stay as they are",
            reason,
        )
        movie = session.frames > 0
        self.tracks.setVisible(movie)
        if movie:
            self.tracks.refresh()
        self.link.setVisible(depth is not None or not movie)
        self.sliders.setVisible(depth is not None)
        if depth is not None:
            self.overlap.show_value(settings.overlap)
            self.gap.show_count(settings.gap, 0, MOST_GAP, depth.words(settings.gap))
            most = max(depth.length, settings.least_planes, 2)
            words = depth.words(settings.least_planes)
            self.least.show_count(settings.least_planes, 1, most, words)
        self.note.setText(linking.note)
        self.note.setVisible(bool(linking.note))
        set_tip(self.note, "Ctrl+Z takes it back")
