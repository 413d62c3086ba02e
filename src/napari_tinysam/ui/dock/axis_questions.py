"""What the axes of a stack are: asked once, where neither layer nor file says it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QWidget

from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.layouts import grid_in
from napari_tinysam.ui.state.stack_planes import AxisKind

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession
    from napari_tinysam.ui.session.stacks.axes import StackAxis

#: Axes that are asked about; further ones are neither depth nor time.
_AXES = 3

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
        waits = self._session.follower.asks_for_kind
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
                bold = waits and axis.axis == self._session.follower.axis
                style = "font-weight: bold;" if bold else ""
                if title.styleSheet() != style:
                    title.setStyleSheet(style)

    def _answer(self, row: int, kind: AxisKind | None) -> None:
        if row < len(self._asked):
            self._session.set_axis_kind(self._asked[row].axis, kind)
