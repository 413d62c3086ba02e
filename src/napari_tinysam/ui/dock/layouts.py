"""The spacing of the dock's layouts, in one place."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import (
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

_GAP = 6  # px

#: Between a text and its buttons.
_NEAR = 4  # px


def form_in(widget: QWidget) -> QFormLayout:
    """Lay a widget out as a form, with fields that take the full width."""
    form = QFormLayout(widget)
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(_GAP)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def grid_in(widget: QWidget) -> QGridLayout:
    """Lay a widget out as a grid."""
    grid = QGridLayout(widget)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(_GAP)
    grid.setVerticalSpacing(_GAP)
    return grid


def text_with_buttons(widget: QWidget, buttons: Sequence[QPushButton]) -> QLabel:
    """Lay a widget out as a text of some lines with a row of buttons; return the text."""
    text = QLabel()
    text.setWordWrap(True)
    row = QHBoxLayout()
    row.setSpacing(_NEAR)
    for button in buttons:
        row.addWidget(button)
    column = QVBoxLayout(widget)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(_NEAR)
    column.addWidget(text)
    column.addLayout(row)
    return text
