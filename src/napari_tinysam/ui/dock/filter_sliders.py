"""Sliders that filter, link and track: each has a title, a slider and the value it stands on."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, pi, sqrt
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QLabel, QSlider, QWidget
from superqt import QRangeSlider

from napari_tinysam.ui.dock.buttons import set_tip
from napari_tinysam.ui.dock.layouts import grid_in

if TYPE_CHECKING:
    from napari_tinysam.ui.state.sizes import Lengths

#: Places of a slider from 0 to 1.
_STEPS = 100


class FilterRow:
    """The three widgets of a row.

    Parameters
    ----------
    title : str
    slider : QSlider or QRangeSlider
    tip : str
        Tooltip of all three.
    """

    def __init__(self, title: str, slider: Any, tip: str = "") -> None:
        self.title = QLabel(title)
        self.slider = slider
        self.value = QLabel()
        slider.setMinimumWidth(48)
        slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        slider.setAccessibleName(title)
        self._set_tip(tip)

    def set_visible(self, visible: bool) -> None:
        """Show or hide the row."""
        for part in (self.title, self.slider, self.value):
            part.setVisible(visible)

    def _set_tip(self, tip: str) -> None:
        for part in (self.title, self.slider, self.value):
            set_tip(part, tip)


class SliderRows(QWidget):
    """Sliders one below the other.

    Parameters
    ----------
    *rows : FilterRow
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(self, *rows: FilterRow, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.grid = grid_in(self)
        self.grid.setVerticalSpacing(4)
        self.grid.setColumnStretch(1, 1)
        for number, row in enumerate(rows):
            for column, part in enumerate((row.title, row.slider, row.value)):
                self.grid.addWidget(part, number, column)


class ShareSlider(FilterRow):
    """A slider from 0 to 1.

    Parameters
    ----------
    title, tip : str
    moved : callable
        Called with the value that the user chose.
    """

    def __init__(self, title: str, tip: str, moved: Callable[[float], Any]) -> None:
        super().__init__(title, QSlider(Qt.Orientation.Horizontal), tip)
        self.slider.setRange(0, _STEPS)
        self.slider.setPageStep(10)
        self.slider.valueChanged.connect(lambda at: moved(at / _STEPS))

    def show_value(self, value: float) -> None:
        """Show a value. Calls nothing."""
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(value * _STEPS))
        self.value.setText(f"{value:.2f}")


class CountSlider(FilterRow):
    """A slider over whole numbers.

    Parameters
    ----------
    title, tip : str
    moved : callable
        Called with the number that the user chose.
    """

    def __init__(self, title: str, tip: str, moved: Callable[[int], Any]) -> None:
        super().__init__(title, QSlider(Qt.Orientation.Horizontal), tip)
        self.slider.setPageStep(1)
        self.slider.valueChanged.connect(moved)

    def show_count(self, count: int, least: int, most: int, words: str) -> None:
        """Show a number between limits, and how it is written. Calls nothing."""
        with QSignalBlocker(self.slider):
            self.slider.setRange(least, most)
            self.slider.setValue(count)
        self.value.setText(words)


class SizeSlider(FilterRow):
    """A slider with two ends for the diameter of proposals, in pixels.

    Its text is in the unit of the image: "1.2–4.0 µm".

    Parameters
    ----------
    moved : callable
        Called with the least and the largest area in pixels that the user chose.
    """

    def __init__(self, moved: Callable[[float, float], Any]) -> None:
        super().__init__("Size", QRangeSlider(Qt.Orientation.Horizontal))  # type: ignore[no-untyped-call]
        self._moved = moved
        self.slider.valueChanged.connect(self._move)

    def show_range(
        self, least: float, largest: float, available: float, lengths: Lengths
    ) -> None:
        """Show limits. Calls nothing.

        Parameters
        ----------
        least, largest : float
            Areas in pixels; `largest` may be infinite.
        available : float
            The largest area there is.
        lengths : Lengths
            Writes diameters.
        """
        end = max(1, int(diameter_of(available)) + 1)
        low = min(end, round(diameter_of(least)))
        high = end if largest == inf else min(end, round(diameter_of(largest)))
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, end)
            self.slider.setValue((low, high))
        self.value.setText(lengths.range(low, high, end))
        unit = "pixels of the image" if lengths.unit == "px" else lengths.unit
        self._set_tip(
            f"Show only proposals of this diameter, in {unit} (of a disc with the same area)"
        )

    def _move(self, ends: tuple[int, int]) -> None:
        low, high = ends
        # The right end means no limit: larger objects may be found later.
        largest = inf if high >= self.slider.maximum() else _area(high + 0.5)
        self._moved(_area(max(0.0, low - 0.5)), largest)


def diameter_of(area: float) -> float:
    """Diameter of the disc with an area."""
    return 2 * sqrt(area / pi)


def _area(diameter: float) -> float:
    return pi * (diameter / 2) ** 2
