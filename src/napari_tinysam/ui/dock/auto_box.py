"""Auto-segment: the button, where to look, and what is kept of what was found."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, pi, sqrt
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSlider,
    QVBoxLayout,
    QWidget,
)
from superqt import QRangeSlider

from napari_tinysam.ui.canvas.keys import action
from napari_tinysam.ui.dock.key_button import KeyButton
from napari_tinysam.ui.dock.layer_combo import NarrowCombo
from napari_tinysam.ui.dock.prompt_buttons import action_button, explain
from napari_tinysam.ui.session.auto import Region
from napari_tinysam.ui.state.sizes import Lengths, lengths_of

if TYPE_CHECKING:
    from napari_tinysam.ui.session.facade import AnnotationSession

_REGION_TIPS = {
    Region.PLANE: "All of the plane that is shown",
    Region.VIEW: "Only what is on the screen: zoom in first. A part of a plane is read again, "
    "larger, so that small objects are found",
    Region.BOX: "Only inside the box that you drew with Shift+drag. It is read again, larger, so "
    "that small objects are found",
}

#: Places of a slider from 0 to 1.
_STEPS = 100


class AutoBox(QWidget):
    """Region, accept, pick, discard, and the sliders that filter.

    `start` is in no layout: the dock keeps it in sight, whatever is scrolled or folded.

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
        auto = session.auto
        self.start = action_button(
            "auto_segment", "Auto-segment", session, role="primary"
        )
        self.region = NarrowCombo()
        for region in Region:
            self.region.addItem(region.value)
            self.region.setItemData(
                self.region.count() - 1,
                _REGION_TIPS[region],
                Qt.ItemDataRole.ToolTipRole,
            )
        self.region.activated.connect(
            lambda at: session.auto.set_region(list(Region)[at])
        )
        self.count = QLabel()
        self.count.setObjectName("TinySAMHint")
        self.advice = QLabel()
        self.advice.setWordWrap(True)
        self.accept = KeyButton("Accept all")
        self.accept.clicked.connect(lambda: auto.accept_all())
        self.pick = KeyButton("Pick")
        self.pick.setCheckable(True)
        self.pick.clicked.connect(session.set_picking)
        self.discard = KeyButton("Discard")
        self.discard.clicked.connect(lambda: auto.discard())

        self.confidence = _Unit("Confidence", "Keep only what the model is surer of")
        self.confidence.moved = lambda value: auto.set_settings(confidence=value)
        self.diameter = _SizeRange()
        self.diameter.moved = self._set_size
        self.overlap = _Unit(
            "Overlap",
            "How much of an object surer ones may cover before it is left out",
        )
        self.overlap.moved = lambda value: auto.set_settings(overlap=value)
        self.parts = _Unit(
            "Whole ↔ parts", "Left: cells as a whole. Right: what they are made of"
        )
        self.parts.moved = lambda value: auto.set_settings(parts=value)
        self.sliders = QWidget()
        rows = QGridLayout(self.sliders)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setHorizontalSpacing(6)
        rows.setVerticalSpacing(4)
        items: tuple[_Unit | _SizeRange, ...] = (
            self.confidence,
            self.diameter,
            self.parts,
            self.overlap,
        )
        for row, item in enumerate(items):
            rows.addWidget(item.title, row, 0)
            rows.addWidget(item.slider, row, 1)
            rows.addWidget(item.value, row, 2)
        rows.setColumnStretch(1, 1)

        first = QHBoxLayout()
        first.setSpacing(6)
        first.addWidget(QLabel("Look in"))
        first.addWidget(self.region, 1)
        decide = QGridLayout()
        decide.setHorizontalSpacing(6)
        for column, button in enumerate((self.accept, self.pick, self.discard)):
            decide.addWidget(button, 0, column)
            decide.setColumnStretch(column, 1)
        column_ = QVBoxLayout(self)
        column_.setContentsMargins(0, 0, 0, 0)
        column_.setSpacing(6)
        column_.addLayout(first)
        column_.addWidget(self.count)
        column_.addWidget(self.advice)
        column_.addLayout(decide)
        column_.addWidget(self.sliders)
        self.refresh("")

    def refresh(self, blocked: str) -> None:
        """Show the session's state; `blocked` says why nothing can be clicked, "" if it can."""
        auto = self._session.auto
        settings = auto.settings
        explain(
            self.start,
            not blocked and not auto.running,
            f"{action('auto_segment').text}. What is labelled already is left alone",
            blocked or "It is running.",
        )
        self.region.setCurrentIndex(list(Region).index(auto.region))
        self.region.setToolTip(_REGION_TIPS[auto.region])
        there = settings is not None
        for part in (self.count, self.accept, self.pick, self.discard, self.sliders):
            part.setVisible(there)
        self.advice.setText(auto.advice)
        self.advice.setVisible(bool(auto.advice))
        if settings is None:
            return
        number = auto.count
        self.count.setText(
            f"No {'more objects' if auto.decided else 'object'} with these settings"
            if not number
            else f"{number:,} {'object' if number == 1 else 'objects'} proposed"
        )
        none = "There is no proposal with these settings."
        explain(
            self.accept,
            not blocked and number > 0,
            "Write all proposals into the labels",
            blocked or none,
        )
        explain(
            self.pick,
            not blocked and number > 0,
            "Click on a proposal to keep it, right click to drop it; press again to stop",
            blocked or none,
        )
        self.pick.setChecked(auto.picking)
        explain(self.discard, True, "Take all proposals away", "")
        self.confidence.show_value(settings.confidence)
        self.overlap.show_value(settings.overlap)
        self.parts.show_value(settings.parts)
        largest = auto.largest_area
        image, plane = self._session.image, self._session.shown_plane
        lengths = Lengths()
        if image is not None and plane is not None:
            lengths = lengths_of(image, plane, _diameter(largest))
        self.diameter.show_range(
            settings.least_area, settings.largest_area, largest, lengths
        )

    def _set_size(self, least: float, largest: float) -> None:
        self._session.auto.set_settings(least_area=least, largest_area=largest)


class _Unit:
    """A slider from 0 to 1, its title and its value."""

    def __init__(self, title: str, tip: str) -> None:
        self.moved: Callable[[float], None] = lambda value: None
        self.title = QLabel(title)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _STEPS)
        self.slider.setPageStep(10)
        self.slider.setMinimumWidth(48)
        self.slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.slider.setAccessibleName(title)
        self.slider.valueChanged.connect(lambda at: self.moved(at / _STEPS))
        self.value = QLabel()
        for part in (self.title, self.slider, self.value):
            part.setToolTip(tip)

    def show_value(self, value: float) -> None:
        """Show a value; tells nobody."""
        blocked = self.slider.blockSignals(True)
        self.slider.setValue(round(value * _STEPS))
        self.slider.blockSignals(blocked)
        self.value.setText(f"{value:.2f}")


class _SizeRange:
    """A slider with two ends for the diameter of objects, by pixels.

    What it says is in the unit of the image: "1.2–4.0 µm".
    """

    def __init__(self) -> None:
        self.moved: Callable[[float, float], None] = lambda least, largest: None
        self.title = QLabel("Size")
        self.slider = QRangeSlider(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call]
        self.slider.setMinimumWidth(48)
        self.slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.slider.valueChanged.connect(self._move)
        self.value = QLabel()
        self.slider.setAccessibleName("Size")

    def show_range(
        self, least: float, largest: float, available: float, lengths: Lengths
    ) -> None:
        """Show limits.

        Parameters
        ----------
        least, largest : float
            Areas in pixels.
        available : float
            The largest area there is.
        lengths : Lengths
            Writes diameters.
        """
        end = max(1, int(_diameter(available)) + 1)
        low = min(end, round(_diameter(least)))
        high = end if largest == inf else min(end, round(_diameter(largest)))
        blocked = self.slider.blockSignals(True)
        self.slider.setRange(0, end)
        self.slider.setValue((low, high))
        self.slider.blockSignals(blocked)
        self.value.setText(lengths.range(low, high, end))
        unit = "pixels of the image" if lengths.unit == "px" else lengths.unit
        for part in (self.title, self.slider, self.value):
            part.setToolTip(
                f"Diameter of the objects that are kept, in {unit}: of the disc with their area"
            )

    def _move(self, ends: tuple[int, int]) -> None:
        low, high = ends
        # The right end means no limit: larger objects may be found later.
        largest = inf if high >= self.slider.maximum() else _area(high + 0.5)
        self.moved(_area(max(0.0, low - 0.5)), largest)


def _diameter(area: float) -> float:
    """Diameter of the disc with an area."""
    return 2 * sqrt(area / pi)


def _area(diameter: float) -> float:
    return pi * (diameter / 2) ** 2
