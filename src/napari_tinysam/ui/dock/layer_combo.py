"""A combo box of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Signal
from qtpy.QtWidgets import QComboBox, QWidget

if TYPE_CHECKING:
    from napari.layers import Layer

_SHORTEST = 8  # letters that stay readable when the dock is narrow


class NarrowCombo(QComboBox):
    """A combo box that long entries do not widen: docks are narrow, names of files are not."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setMinimumContentsLength(_SHORTEST)

    def showPopup(self) -> None:
        """Open the list, wide enough for its entries."""
        view = self.view()
        if view is not None:
            view.setMinimumWidth(min(480, view.sizeHintForColumn(0) + 24))
        super().showPopup()

    def minimumSizeHint(self) -> QSize:
        """Return room for a few letters."""
        return QSize(60, super().minimumSizeHint().height())


class LayerCombo(NarrowCombo):
    """Chooses one of some layers, or none.

    Parameters
    ----------
    none_text : str
        Entry for no layer.
    always_none : bool
        Whether "no layer" can be chosen while there are layers.
    parent : QWidget, optional
        As in Qt.
    """

    #: The user chose a layer, or None.
    chosen = Signal(object)

    def __init__(
        self, none_text: str, *, always_none: bool, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._none_text = none_text
        self._always_none = always_none
        self._layers: list[Layer | None] = []
        self.activated.connect(self._choose)

    def set_none_text(self, text: str) -> None:
        """Call the entry for no layer otherwise, from the next `set_layers` on."""
        self._none_text = text

    def set_layers(self, layers: Sequence[Layer], current: Layer | None) -> None:
        """Show these layers and mark the current one. Emits nothing."""
        entries: list[Layer | None] = list(layers)
        if self._always_none or not entries or current is None:
            entries.insert(0, None)
        names = [self._none_text if e is None else e.name for e in entries]
        if names != [self.itemText(i) for i in range(self.count())]:
            blocked = self.blockSignals(True)
            self.clear()
            self.addItems(names)
            self.blockSignals(blocked)
        self._layers = entries
        # `==`, not `is`: napari hands plugins proxies of its layers.
        at = next((i for i, e in enumerate(entries) if e == current), 0)
        if self.currentIndex() != at:
            self.setCurrentIndex(at)
        self.setToolTip("" if current is None else current.name)

    def forget(self) -> None:
        """Let go of all layers."""
        self._layers = []
        self.clear()

    def _choose(self, at: int) -> None:
        if 0 <= at < len(self._layers):
            self.chosen.emit(self._layers[at])
