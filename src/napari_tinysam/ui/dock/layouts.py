"""The spacing of the dock's layouts, in one place."""

from __future__ import annotations

from qtpy.QtWidgets import QFormLayout, QGridLayout, QWidget

_GAP = 6  # px


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
