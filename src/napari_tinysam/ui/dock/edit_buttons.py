"""Buttons for existing objects: choose one, then refine, delete, merge or split it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QWidget

from napari_tinysam.ui.canvas.keys import action
from napari_tinysam.ui.dock.buttons import explain, set_tip
from napari_tinysam.ui.dock.key_button import KeyButton, shown_key
from napari_tinysam.ui.dock.layouts import grid_in
from napari_tinysam.ui.state.mode import Mode

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession


class EditButtons(QWidget):
    """Edit, delete, merge and split.

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
        self.edit = KeyButton("Edit object", shown_key(action("edit_object").label))
        self.edit.setCheckable(True)
        self.delete = KeyButton("Delete", shown_key(action("delete_object").label))
        self.merge = KeyButton("Merge", shown_key(action("merge_objects").label))
        self.merge.setCheckable(True)
        self.split = KeyButton("Split", shown_key(action("split_object").label))
        self.whole = QCheckBox("In all planes")
        self.whole.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.whole.clicked.connect(session.set_whole)
        set_tip(
            self.whole,
            "Delete and merge concern an object in all of its planes; else only in the shown one",
        )
        self._keys = {
            self.edit: "edit_object",
            self.delete: "delete_object",
            self.merge: "merge_objects",
            self.split: "split_object",
        }
        # `clicked`, not `toggled`: `refresh` also sets the buttons.
        self.edit.clicked.connect(self._edit)
        self.delete.clicked.connect(lambda: session.delete_object())
        self.merge.clicked.connect(self._merge)
        self.split.clicked.connect(lambda: session.split_object())

        grid = grid_in(self)
        grid.addWidget(self.edit, 0, 0, 1, 3)
        for column, button in enumerate((self.delete, self.merge, self.split)):
            grid.addWidget(button, 1, column)
            grid.setColumnStretch(column, 1)
        grid.addWidget(self.whole, 2, 0, 1, 3)
        self.refresh("")

    def refresh(self, blocked: str) -> None:
        """Show the session's state; `blocked` says why nothing can be clicked, "" if it can."""
        session = self._session
        self.whole.setVisible(session.follower.axis is not None)
        self.whole.setChecked(session.whole)
        free = not blocked
        target = session.target
        if session.edited_id is None:
            self.edit.setText("Edit object")
        else:
            self.edit.setText(f"Editing object {session.edited_id}")
        self.edit.setChecked(session.mode is Mode.EDIT or session.edited_id is not None)
        self.merge.setChecked(session.mode is Mode.MERGE)
        for button, method in self._keys.items():
            button.set_key_works(session.key_works(method))
        explain(
            self.edit,
            free and target is not None,
            "Click an object in the labels to edit it. Press again to stop",
            blocked or "No labels yet: commit an object or choose a labels layer.",
        )
        picked = free and session.can_edit
        reason = blocked or "Press “Edit object” and click an object first."
        explain(self.delete, picked, "Delete this object", reason)
        explain(
            self.merge, picked, "Click another object to merge it into this one", reason
        )
        explain(
            self.split,
            picked,
            "Click once in each part, then press Split: the cut goes through the neck between "
            "the clicks, or halfway. Without clicks, separate pieces become separate objects",
            reason,
        )

    def _edit(self, checked: bool) -> None:
        self._session.set_edit_mode(checked)

    def _merge(self) -> None:
        self._session.merge_objects()
