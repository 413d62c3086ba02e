"""Objects of planes and frames become one object: buttons, live sliders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_tinysam.ui.dock.buttons import explain, set_tip
from napari_tinysam.ui.dock.filter_sliders import CountSlider, ShareSlider, SliderRows
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.range_row import MANY, RangeRow
from napari_tinysam.ui.dock.track_box import TrackBox
from napari_tinysam.volume.linking import MOST_GAP

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

#: Axes of which a range can be chosen.
_AXES = 3

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
        self.sliders = SliderRows(self.overlap, self.gap, self.least)
        self.step = QDoubleSpinBox()
        self.step.setRange(0.1, 1000)
        self.step.setDecimals(1)
        self.step.setKeyboardTracking(False)
        self.step.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        self.step.valueChanged.connect(session.set_z_step)
        set_tip(
            self.step,
            "How far planes lie apart, in pixels of a plane: the layer does not say it. Distances "
            "and sizes in movies of stacks depend on it",
        )
        self.apart = QWidget()
        row = QHBoxLayout(self.apart)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (QLabel("Planes lie"), self.step, QLabel("pixels apart")):
            row.addWidget(widget)
        self.ranges = [RangeRow(linking.part) for _ in range(_AXES)]
        column_ = QVBoxLayout(self)
        column_.setContentsMargins(0, 0, 0, 0)
        column_.setSpacing(6)
        parts = (
            *self.ranges,
            self.apart,
            self.link,
            self.sliders,
            self.note,
            self.tracks,
        )
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
        self._refresh_ranges()
        movie = session.frames > 0
        self.tracks.setVisible(movie)
        if movie:
            self.tracks.refresh()
        self.link.setVisible(depth is not None or not movie)
        self.sliders.setVisible(depth is not None)
        self.apart.setVisible(depth is not None and depth.asked)
        if depth is not None:
            with signals_blocked(self.step):
                self.step.setValue(depth.step or 1.0)
            self.overlap.show_value(settings.overlap)
            self.gap.show_count(settings.gap, 0, MOST_GAP, depth.words(settings.gap))
            most = max(depth.length, settings.least_planes, 2)
            words = depth.words(settings.least_planes)
            self.least.show_count(settings.least_planes, 1, most, words)
        self.note.setText(linking.note)
        self.note.setVisible(bool(linking.note))
        set_tip(self.note, "Ctrl+Z takes it back")

    def _refresh_ranges(self) -> None:
        """Offer a range where there are many planes; those outside stay as they are."""
        session = self._session
        known = {axis.axis for axis in session.stack_axes() if axis.kind is not None}
        ranges = [
            found
            for found in session.linking.part.ranges()
            if found.axis in known and found.end + 1 >= MANY
        ]
        for number, row in enumerate(self.ranges):
            row.show_range(ranges[number] if number < len(ranges) else None)
