"""Objects of planes and frames become one object: buttons, live sliders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_tinysam.ui.dock.buttons import explain, set_tip
from napari_tinysam.ui.dock.filter_sliders import CountSlider, ShareSlider
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.track_box import TrackBox
from napari_tinysam.volume.linking import MOST_GAP

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

#: The overlap slider ends before 0: objects that share nothing are not the same.
_LEAST_OVERLAP = 0.01


class LinkBox(QWidget):
    """Linking through the depth of a stack, and tracking in a movie.

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
        linking = session.linking
        self.link = KeyButton("Link planes")
        self.link.clicked.connect(lambda: session.link_planes())
        self.overlap = ShareSlider(
            "Overlap above",
            "Objects of neighbouring planes are the same object if they overlap by more than "
            "this: the pixels they share, as a share of all pixels of both",
            lambda value: linking.set_settings(overlap=max(value, _LEAST_OVERLAP)),
        )
        self.gap = CountSlider(
            "Gap",
            "An object may be missing in so many planes and go on after them",
            lambda value: linking.set_settings(gap=value),
        )
        self.least = CountSlider(
            "At least",
            "Objects that show in fewer planes are hidden. They are not lost: they come back "
            "when you move the slider back",
            lambda value: linking.set_settings(least_planes=value),
        )
        self.tracks = TrackBox(session)
        self.note = QLabel()
        self.note.setObjectName("TinySAMHint")
        self.note.setWordWrap(True)
        self.sliders = QWidget()
        rows = QGridLayout(self.sliders)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setHorizontalSpacing(6)
        rows.setVerticalSpacing(4)
        rows.setColumnStretch(1, 1)
        for row, item in enumerate((self.overlap, self.gap, self.least)):
            for column, part in enumerate((item.title, item.slider, item.value)):
                rows.addWidget(part, row, column)
        column_ = QVBoxLayout(self)
        column_.setContentsMargins(0, 0, 0, 0)
        column_.setSpacing(6)
        parts = (self.link, self.sliders, self.note, self.tracks)
        for part in parts:
            column_.addWidget(part)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's settings, and what is linked."""
        session = self._session
        linking = session.linking
        depth = session.depth_planes
        settings = linking.settings
        reason = ""
        if session.target is None:
            reason = "No labels yet: segment the planes or choose a labels layer."
        elif depth is None:
            reason = "Say at the top of the dock what the planes are: depth or time."
        explain(
            self.link,
            not reason,
            "Give objects of neighbouring planes that overlap one number. Also after changes "
            "by hand; objects that go through planes already stay as they are",
            reason,
        )
        movie = session.frames > 0
        self.tracks.setVisible(movie)
        if movie:
            self.tracks.refresh()
        self.link.setVisible(depth is not None or not movie)
        self.sliders.setVisible(depth is not None)
        if depth is not None:
            self.overlap.show_value(settings.overlap)
            self.gap.show_count(settings.gap, 0, MOST_GAP, depth.words(settings.gap))
            most = max(depth.length, settings.least_planes, 2)
            words = depth.words(settings.least_planes)
            self.least.show_count(settings.least_planes, 1, most, words)
        self.note.setText(linking.note)
        self.note.setVisible(bool(linking.note))
        set_tip(self.note, "Ctrl+Z takes it back")
