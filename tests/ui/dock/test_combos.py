"""What the dock's combo boxes show where they are narrower than their text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from qtpy.QtWidgets import QWidget

from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo
from napari_tinysam.ui.dock.layer_combo import LayerCombo

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot
    from qtpy.QtGui import QImage

_STYLE = "QComboBox { padding: 2px 4px; border: 0; }"  # styled, as napari's are


def picture(combo: ChoiceCombo, width: int) -> QImage:
    """Return how a combo of some width looks."""
    combo.resize(width, 24)
    return combo.grab().toImage()


def test_layers_whose_long_names_end_differently_can_be_told_apart(
    qtbot: QtBot,
) -> None:
    window = QWidget()
    window.setStyleSheet(_STYLE)
    qtbot.addWidget(window)
    combo = LayerCombo(always_none=False, parent=window)
    pictures = []
    for end in ("nuclei", "membranes"):
        layer = Labels(
            np.zeros((2, 2), int), name=f"2026-11-28 embryo 7 of the long series {end}"
        )
        combo.set_layers([layer], layer, "none")
        pictures.append(picture(combo, 140))
    assert pictures[0] != pictures[1]


def test_a_text_that_is_too_long_ends_with_an_ellipsis(qtbot: QtBot) -> None:
    window = QWidget()
    window.setStyleSheet(_STYLE)
    qtbot.addWidget(window)
    combo = ChoiceCombo(parent=window)

    def shown(text: str, width: int) -> QImage:
        combo.set_choices([Choice(1, text)])
        return picture(combo, width)

    letters = "Microscopy (bundled) and more of it"
    beginnings = [f"{letters[:many]}…" for many in range(3, len(letters))]
    # Those that have room with their ellipsis.
    width = combo.fontMetrics().horizontalAdvance
    assert shown(letters, 140) in [
        shown(text, 140) for text in beginnings if width(text) < 120
    ]
    assert shown("Plane", 140) != shown("Pla…", 140)
