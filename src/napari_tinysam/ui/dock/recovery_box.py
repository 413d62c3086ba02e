"""The offer of labels that were not saved, on top of the dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout

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
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.restore = QPushButton("Restore")
        self.show_it = QPushButton("Show")
        self.discard = QPushButton("Discard")
        self.later = QPushButton("Later")
        tips = {
            self.restore: "Make a labels layer of them and go on with it",
            self.show_it: "Show them, or hide them again, before you decide",
            self.discard: "Delete them for good",
            self.later: "Ask again when the image is opened the next time",
        }
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button, tip in tips.items():
            button.setToolTip(tip)
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.text)
        column.addLayout(buttons)
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
            self.show_it.setText("Hide" if self._recovery.showing else "Show")
