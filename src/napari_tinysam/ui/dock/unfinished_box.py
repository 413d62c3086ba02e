"""What was not finished when napari ended, on top of the dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QApplication, QFrame, QPushButton

from napari_tinysam.ui.dock.layouts import text_with_buttons
from napari_tinysam.ui.dock.questions import confirmed

if TYPE_CHECKING:
    from napari_tinysam.ui.session.journals.unfinished import Unfinished

#: Letters of a file's name on a button.
_LONGEST = 14


class UnfinishedBox(QFrame):
    """A line or two and their buttons; hidden when there is nothing to tell.

    Parameters
    ----------
    unfinished : Unfinished
    """

    def __init__(self, unfinished: Unfinished) -> None:
        super().__init__()
        self._unfinished = unfinished
        self.setObjectName("TinySAMUnfinished")
        self.open = QPushButton("Open")
        self.go_on = QPushButton("Go on")
        self.copy = QPushButton("Copy command")
        self.discard = QPushButton("Discard")
        self.later = QPushButton("Later")
        self.open.setToolTip("Open the image; its objects are offered then")
        self.go_on.setToolTip(
            "Choose these files again: Auto-segment goes on after what is finished"
        )
        self.copy.setToolTip(
            "Copy the command that goes on with the training, for a terminal"
        )
        self.discard.setToolTip("Delete what was not saved of these images for good")
        self.later.setToolTip("Ask again when the dock opens the next time")
        self.text = text_with_buttons(
            self, (self.open, self.go_on, self.copy, self.discard, self.later)
        )
        self.open.clicked.connect(lambda: unfinished.open_next())
        self.go_on.clicked.connect(lambda: unfinished.go_on())
        self.copy.clicked.connect(lambda: _copy(unfinished.take_command()))
        self.discard.clicked.connect(self._discard)
        self.later.clicked.connect(lambda: unfinished.later())
        self.refresh()

    def refresh(self) -> None:
        """Show what is told now."""
        unfinished = self._unfinished
        text, image = unfinished.text, unfinished.next_image
        self.setVisible(bool(text))
        self.text.setText(text)
        self.open.setVisible(image is not None)
        if image is not None:
            name = Path(image.address).name
            short = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
            self.open.setText(f"Open {short}")
        self.go_on.setVisible(unfinished.work is not None)
        self.copy.setVisible(unfinished.training is not None)
        self.discard.setVisible(bool(unfinished.images))
        self._fit()

    def _discard(self) -> None:
        names = "\n".join(each.words for each in self._unfinished.images)
        text = f"Delete what was not saved of these images?\n{names}"
        if confirmed(self, text):
            self._unfinished.discard()

    def resizeEvent(self, event: Any) -> None:
        """Give the text the room that its lines need in this width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        self.text.setMinimumHeight(max(0, self.text.heightForWidth(self.text.width())))


def _copy(text: str) -> None:
    clipboard = QApplication.clipboard()
    if clipboard is not None:
        clipboard.setText(text)
