"""A combo box of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt

from napari_tinysam.ui.dock.choice_combo import Choice, ChoiceCombo

if TYPE_CHECKING:
    from napari.layers import Layer
    from qtpy.QtWidgets import QWidget


class LayerCombo(ChoiceCombo):
    """Chooses one of some layers, or none.

    Parameters
    ----------
    always_none : bool
        Whether "no layer" can be chosen while there are layers.
    parent : QWidget, optional
        As in Qt.
    """

    # As napari's list of layers does.
    shortened = Qt.TextElideMode.ElideMiddle

    def __init__(self, *, always_none: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._always_none = always_none

    def set_layers(
        self, layers: Sequence[Layer], current: Layer | None, none_text: str
    ) -> None:
        """Show these layers, "no layer" as `none_text`, and mark the current one. Emits nothing."""
        choices = [Choice(layer, layer.name, layer.name) for layer in layers]
        if self._always_none or not choices or current is None:
            choices.insert(0, Choice(None, none_text))
        self.set_choices(choices)
        self.show_choice(current)
