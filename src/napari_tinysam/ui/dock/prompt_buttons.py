"""Buttons for the current object, each with its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QPushButton, QWidget

from napari_tinysam.ui.canvas.keys import action
from napari_tinysam.ui.dock.buttons import action_button, explain, set_tip
from napari_tinysam.ui.dock.candidate_slider import CandidateSlider
from napari_tinysam.ui.dock.key_button import shown_key
from napari_tinysam.ui.dock.layouts import grid_in

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession


class PromptButtons(QWidget):
    """Segment, sign, next, clear, the three candidates, undo and redo.

    `commit` is in no layout: the dock keeps it visible while the rest is scrolled or folded.

    Parameters
    ----------
    session : AnnotationSession
        What the buttons act on.
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        self.segment = action_button("segment", "Segment", session)
        self.sign = action_button("toggle_sign", "Add", session, role="positive")
        self.next = action_button("next_object", "Next object", session)
        self.clear = action_button("clear", "Clear", session)
        self.commit = action_button("commit", "Commit", session, role="primary")
        self.undo = action_button("undo", "Undo", session)
        self.redo = action_button("redo", "Redo", session)
        self.layers = QPushButton("Prompts as layers")
        self.layers.clicked.connect(lambda: session.make_prompt_layers())
        self.another = QCheckBox("Click elsewhere for a new object")
        set_tip(
            self.another,
            "On: a click away from the current object starts a new one. Off: every click belongs "
            "to the current object, until Next object (N) or Commit (C)",
        )
        self.another.clicked.connect(session.set_new_objects)
        self.candidates = CandidateSlider(shown_key(action("cycle_candidate").label))
        self.candidates.chosen.connect(session.set_candidate)
        self.candidates.cycled.connect(session.cycle_candidate)

        grid = grid_in(self)
        for column in (0, 1):
            grid.setColumnStretch(column, 1)
        grid.addWidget(self.segment, 0, 0)
        grid.addWidget(self.sign, 0, 1)
        grid.addWidget(self.next, 1, 0)
        grid.addWidget(self.clear, 1, 1)
        grid.addWidget(self.candidates, 2, 0, 1, 2)
        grid.addWidget(self.undo, 3, 0)
        grid.addWidget(self.redo, 3, 1)
        grid.addWidget(self.another, 4, 0, 1, 2)
        grid.addWidget(self.layers, 5, 0, 1, 2)
        self.refresh("")

    def refresh(self, blocked: str) -> None:
        """Show the session's state.

        Parameters
        ----------
        blocked : str
            Why nothing can be clicked at all at the moment; "" if it can.
        """
        session = self._session
        free = not blocked
        first = blocked or "Click an object first."
        explain(self.segment, free, action("segment").text, blocked)
        positive = session.sign == 1
        self.sign.setText("+  Add" if positive else "−  Remove")
        self.sign.set_role("positive" if positive else "negative")
        meaning = (
            "Clicks add to the object; Ctrl+click or right-click removes"
            if positive
            else "All clicks remove from the object"
        )
        explain(self.sign, free, f"{meaning}.\n{action('toggle_sign').text}", blocked)
        explain(
            self.next, free and session.can_clear, action("next_object").text, first
        )
        explain(self.clear, free and session.can_clear, action("clear").text, first)
        self._refresh_commit(free, first)
        self.another.setChecked(session.new_objects)
        self.candidates.show_candidates(
            session.candidate_scores if free else (), session.candidate, first
        )
        explain(
            self.layers,
            free,
            "Add the layers “point_prompts” and “prompts”, where you draw points and boxes with "
            "napari's own tools",
            blocked,
        )
        explain(
            self.undo,
            session.can_undo,
            _sentence("Undo", session.undo_text),
            "Nothing to undo.",
        )
        explain(
            self.redo,
            session.can_redo,
            _sentence("Redo", session.redo_text),
            "Nothing to redo.",
        )

    def _refresh_commit(self, free: bool, reason: str) -> None:
        session = self._session
        if session.edited_id is not None:
            text, brief = (
                f"Commit object {session.edited_id}",
                f"Commit #{session.edited_id}",
            )
            reason = (
                reason
                if not free
                else "Nothing has changed yet: click the object first."
            )
        elif session.object_count > 1:
            count = session.object_count
            text, brief = f"Commit {count} objects", f"Commit ({count})"
        else:
            text, brief = "Commit", ""
        self.commit.set_texts(text, brief)
        explain(self.commit, free and session.can_commit, action("commit").text, reason)


def _sentence(verb: str, what: str) -> str:
    return f"{verb}: {what}" if what else verb
