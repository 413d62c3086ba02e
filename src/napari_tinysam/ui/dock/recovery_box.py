"""The offer of labels that were not saved, on top of the dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFrame, QPushButton

from napari_tinysam.ui.dock.layouts import text_with_buttons

if TYPE_CHECKING:
    from napari_tinysam.ui.session.journals.recovery import Recovery


class RecoveryBox(QFrame):
    """A sentence and four buttons; hidden when there is nothing to offer.

    Parameters
    ----------
    recovery : Recovery
    """

    def __init__(self, recovery: Recovery) -> None:
        super().__init__()
        self._recovery = recovery
        self.setObjectName("TinySAMRecovery")
        self.restore = QPushButton("Restore")
        self.show_it = QPushButton("Show")
        self.discard = QPushButton("Discard")
        self.later = QPushButton("Later")
        tips = {
            self.restore: "Make a labels layer of them, bring prompts back, and go on",
            self.show_it: "Show them, or hide them again, before you decide",
            self.discard: "Delete them for good",
            self.later: "Ask again when the image is opened the next time",
        }
        for button, tip in tips.items():
            button.setToolTip(tip)
        self.text = text_with_buttons(self, list(tips))
        self.restore.clicked.connect(lambda: recovery.restore())
        self.show_it.clicked.connect(lambda: recovery.show())
        self.discard.clicked.connect(lambda: recovery.discard())
        self.later.clicked.connect(lambda: recovery.later())
        self.refresh()

    def refresh(self) -> None:
        """Show what is offered now."""
        offer = self._recovery.offer
        self.setVisible(offer is not None)
        if offer is not None:
            self.text.setText(offer.text)
            self.show_it.setVisible(offer.has_labels)
            self.show_it.setText("Hide" if self._recovery.showing else "Show")
