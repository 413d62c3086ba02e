"""Which planes are auto-segmented together, and what happens to those that have objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QWidget

from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.layouts import grid_in
from napari_tinysam.ui.dock.range_row import RangeRow
from napari_tinysam.ui.state.region import Region
from napari_tinysam.ui.state.stack_planes import AxisKind

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

#: Axes of which a part can be chosen; of further ones all is taken.
_AXES = 3

_EXISTING = (
    Choice(
        True,
        "Fill the rest",
        "Objects are added where a plane has none. Those that are there stay as they are",
    ),
    Choice(False, "Skip", "Planes that have objects are left as they are"),
)


_THEN = {
    AxisKind.DEPTH: Choice(
        AxisKind.DEPTH,
        "as depth (z)",
        "Objects of neighbouring planes that overlap get one number, as soon as all planes "
        "are segmented",
    ),
    AxisKind.TIME: Choice(
        AxisKind.TIME,
        "as time (t)",
        "Objects are tracked through the frames as soon as all are segmented",
    ),
}
_NOT_LINKED = Choice(None, "not", "Each plane has objects of its own")


class PlanesBox(QWidget):
    """Ranges of planes, and what happens to planes with objects.

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
        self.rows = [RangeRow(session.all_planes.part) for _ in range(_AXES)]
        self.existing = ChoiceCombo(_EXISTING)
        self.existing.chosen.connect(session.all_planes.set_fill)
        self.then = ChoiceCombo()
        self.then.chosen.connect(self._choose_then)
        self.then_title = QLabel("Then link")
        self.note = QLabel()
        self.note.setObjectName("TinySAMHint")
        self.note.setWordWrap(True)

        grid = grid_in(self)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(3, 1)
        for number, row in enumerate(self.rows):
            grid.addWidget(row, number, 0, 1, 4)
        grid.addWidget(QLabel("With objects"), _AXES, 0)
        grid.addWidget(self.existing, _AXES, 1, 1, 3)
        grid.addWidget(self.then_title, _AXES + 1, 0)
        grid.addWidget(self.then, _AXES + 1, 1, 1, 3)
        grid.addWidget(self.note, _AXES + 2, 0, 1, 4)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's choices."""
        session = self._session
        runs, region = session.all_planes, session.region
        ranges = runs.ranges() if region is Region.ALL_PLANES else []
        for number, row in enumerate(self.rows):
            row.show_range(ranges[number] if number < len(ranges) else None)
        self.existing.show_choice(runs.fill)
        self._refresh_then()
        self.note.setText(runs.note or self._what_happens())

    def _refresh_then(self) -> None:
        session = self._session
        axes = session.stack_axes()
        there = session.region is Region.ALL_PLANES and bool(axes)
        self.then.setVisible(there)
        self.then_title.setVisible(there)
        if not there:
            return
        known = {axis.kind for axis in axes if axis.named}
        kinds = [kind for kind in _THEN if kind in known or not known]
        self.then.set_choices([*(_THEN[kind] for kind in kinds), _NOT_LINKED])
        kind = next((axis.kind for axis in axes if axis.kind in kinds), None)
        self.then.show_choice(kind if session.then_link else None)

    def _choose_then(self, kind: AxisKind | None) -> None:
        """Remember whether objects are linked, and what the axis is if that was not known."""
        session = self._session
        session.set_then_link(kind is not None)
        axes = session.stack_axes()
        if kind is not None and len(axes) == 1 and not axes[0].named:
            session.set_axis_kind(axes[0].axis, kind)

    def _what_happens(self) -> str:
        session = self._session
        how = session.all_planes.settings_in_words
        how = f"Filtered as you set the sliders ({how})." if how else ""
        what = "Objects go into the labels, plane by plane."
        if session.region is Region.ALL_IMAGES:
            what = (
                "Images that are shown, all their planes. Objects go into the labels."
            )
        return f"{what} {how}".strip()
