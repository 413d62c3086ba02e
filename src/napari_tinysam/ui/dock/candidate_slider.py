"""Smaller or larger: which of the model's three candidate masks to take."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_tinysam.ui.dock.buttons import set_tip
from napari_tinysam.ui.dock.key_button import KeyButton

_NAMES = ("Smallest", "Middle", "Largest")


class CandidateSlider(QWidget):
    """A slider with three places, the score of the current mask, and a button for the next one.

    Parameters
    ----------
    key : str
        The key that goes to the next mask, as it is shown.
    parent : QWidget, optional
        As in Qt.
    """

    #: The user chose a mask: 0 the smallest, 2 the largest.
    chosen = Signal(int)
    #: The user asked for the next one.
    cycled = Signal()

    def __init__(self, key: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.slider.setRange(0, len(_NAMES) - 1)
        self.slider.setPageStep(1)
        self.slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.slider.setMinimumWidth(48)
        self.slider.valueChanged.connect(self.chosen)
        self.next = KeyButton("", key)
        self.next.setAccessibleName("Next mask")
        self.next.clicked.connect(self.cycled)
        self.score = QLabel(self)
        self.score.setObjectName("TinySAMHint")

        line = QHBoxLayout()
        line.setSpacing(6)
        line.addWidget(QLabel("Smaller", self))
        line.addWidget(self.slider, 1)
        line.addWidget(QLabel("Larger", self))
        line.addWidget(self.next)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(line)
        column.addWidget(self.score)

    def show_candidates(
        self, scores: Sequence[float], candidate: int | None, reason: str
    ) -> None:
        """Show the masks. Emits nothing.

        Parameters
        ----------
        scores : sequence of float
            Predicted IoU from the smallest to the largest mask; empty where there is no mask.
        candidate : int or None
            The one shown.
        reason : str
            Why there are none, for the tooltip.
        """
        there = bool(scores) and candidate is not None
        self.setEnabled(there)
        with QSignalBlocker(self.slider):
            self.slider.setValue(1 if candidate is None else candidate)
        if there and candidate is not None:
            percent = round(100 * min(1.0, max(0.0, scores[candidate])))
            self.score.setText(f"{_NAMES[candidate]} of 3, fits {percent} %")
            tip = (
                "The model gives three masks for each object. The percentage is how well "
                "it expects this one to fit. Choose the same one for two objects, and the next "
                "ones begin with it"
            )
        else:
            self.score.setText(" ")
            tip = reason
        set_tip(self, tip)
