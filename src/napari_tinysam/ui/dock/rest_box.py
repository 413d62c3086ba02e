"""The images of a list that are auto-segmented beside the viewer: how many, and how far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_tinysam.ui.dock.buttons import set_tip

if TYPE_CHECKING:
    from qtpy.QtGui import QShowEvent

    from napari_tinysam.ui.session.facade import AnnotationSession
    from napari_tinysam.ui.session.images.rest import Rest

_STEPS = 1000  # of the bar


class RestBox(QWidget):
    """What would be segmented, then progress and how it ended.

    Parameters
    ----------
    session : AnnotationSession
        Whose list it is.
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(
        self, session: AnnotationSession, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = session
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.progress = QLabel()
        self.progress.setObjectName("TinySAMHint")
        self.progress.setWordWrap(True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(4)
        self.bar.setRange(0, _STEPS)
        self.cancel = QPushButton("Cancel")
        set_tip(self.cancel, "Stop. Images that are finished keep their labels")
        self.cancel.clicked.connect(session.files.cancel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        for part in (self.text, self.progress, self.bar, self.cancel):
            column.addWidget(part)
        for signal in (session.files.changed, session.listed.changed):
            signal.connect(self.refresh)
        self.refresh()

    def close_down(self) -> None:
        """Stop following the session."""
        for signal in (self._session.files.changed, self._session.listed.changed):
            signal.disconnect(self.refresh)

    def refresh(self) -> None:
        """Show how many images are not done, or how far they are."""
        if self.isHidden():
            return
        rest, files = self._session.rest, self._session.files
        for part in (self.bar, self.cancel):
            part.setVisible(rest.running)
        self.bar.setValue(round(_STEPS * (files.fraction or 0.0)))
        self.text.setVisible(not rest.running)
        told = rest.begun and files.text
        self.progress.setText(files.text if told else "")
        self.progress.setVisible(bool(told))
        if not rest.running:
            self.text.setText(_in_words(rest.look()))

    def showEvent(self, event: QShowEvent | None) -> None:
        """Show what has changed while it was hidden."""
        super().showEvent(event)
        self.refresh()


def _in_words(rest: Rest) -> str:
    """Say what would be segmented."""
    if not rest.count:
        first = "No other image of the list is without labels and not done."
    elif rest.count == 1:
        first = "1 image that is not done, without opening it."
    else:
        first = f"{rest.count:,} images that are not done, without opening them."
    return f"{first} {rest.left_out}".strip()
