"""Through the stack: follow an object, see where it is known, correct and limit it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QWidget

from napari_tinysam.ui.canvas.keys import action
from napari_tinysam.ui.dock.buttons import action_button, explain
from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.layouts import grid_in
from napari_tinysam.ui.dock.plane_bar import PlaneBar

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession


class FollowBox(QWidget):
    """Buttons for following, and the bar of the object that was followed or edited last.

    Parameters
    ----------
    session : AnnotationSession
        What they act on.
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        follower = session.follower
        self.axis_label, self.axis = QLabel("Along"), ChoiceCombo()
        self.follow = action_button("follow_object", "Follow", session)
        self.all = KeyButton("All of plane")
        self.fill = KeyButton("Fill between annotated planes")
        self.title = QLabel()
        self.bar = PlaneBar()
        self.end = action_button("end_object_here", "Ends here", session)
        self.weakest = action_button("show_weakest_plane", "Weakest", session)
        self.accept = action_button("accept_plane", "Accept", session)
        self.split = action_button("split_here", "Split here", session)
        self.note = QLabel()
        self.note.setObjectName("TinySAMHint")
        self.note.setWordWrap(True)

        self.axis.chosen.connect(follower.set_axis)
        self.all.clicked.connect(lambda: follower.follow_all())
        self.fill.clicked.connect(lambda: follower.fill_between())
        self.bar.clicked.connect(follower.go_to)
        self.bar.ends_moved.connect(follower.move_ends)

        grid = grid_in(self)
        for column in range(2):
            grid.setColumnStretch(column, 1)
        grid.addWidget(self.axis_label, 0, 0)
        grid.addWidget(self.axis, 0, 1)
        grid.addWidget(self.follow, 2, 0)
        grid.addWidget(self.all, 2, 1)
        grid.addWidget(self.title, 3, 0, 1, 2)
        grid.addWidget(self.bar, 4, 0, 1, 2)
        for place, button in enumerate(
            (self.end, self.weakest, self.split, self.accept)
        ):
            grid.addWidget(button, 5 + place // 2, place % 2)
        grid.addWidget(self.fill, 7, 0, 1, 2)
        grid.addWidget(self.note, 8, 0, 1, 2)
        self.refresh("")

    def refresh(self, blocked: str) -> None:
        """Show the session's state; `blocked` says why nothing can be clicked, "" if it can."""
        session = self._session
        follower = session.follower
        axes = follower.axes
        for part in (self.axis_label, self.axis):
            part.setVisible(len(axes) > 1)
        self.axis.set_choices([Choice(axis, name) for axis, name in axes])
        self.axis.show_choice(follower.axis)

        of_object = (
            (self.end, "end_object_here"),
            (self.weakest, "show_weakest_plane"),
            (self.split, "split_here"),
            (self.accept, "accept_plane"),
        )
        for button, method in ((self.follow, "follow_object"), *of_object):
            button.set_key_works(session.key_works(method))
        free = not blocked
        explain(
            self.follow,
            free,
            "Find the clicked object in all planes, or the one under the mouse: one id through "
            "all of them. Ctrl+Z takes the whole step back",
            blocked,
        )
        labelled = session.target is not None
        none = blocked or "No labels yet: commit an object or choose a labels layer."
        explain(
            self.all, free and labelled, "Follow all objects of the shown plane", none
        )
        explain(
            self.fill,
            free and labelled,
            "Label every few planes, by clicks or another tool, with the same number for the same "
            "object: the planes between them are filled. What is labelled stays as it is",
            none,
        )
        trace = follower.current
        there = trace is not None
        self.title.setVisible(there)
        self.bar.setVisible(there)
        if trace is not None:
            states = follower.states
            planes = sorted(states)
            where = f"planes {planes[0]} to {planes[-1]}" if planes else "no plane"
            self.title.setText(f"Object {trace.label}: {where}")
            self.bar.show_planes(states, follower.length, follower.shown)
        reason = blocked or "Follow an object first."
        for button, method in of_object:
            button.setVisible(there)
            explain(button, free and there, action(method).text, reason)
        self.note.setText(self._note())

    def _note(self) -> str:
        follower = self._session.follower
        if follower.asks_for_kind:
            return (
                "Are these planes depth or time? Following begins when you have chosen."
            )
        if follower.current is None and not follower.note:
            return "Click an object, press G: it is followed through all planes."
        return follower.note
