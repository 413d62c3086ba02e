"""A combo box that holds values, each with its text and tooltip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QPaintEvent, QStandardItemModel
from qtpy.QtWidgets import (
    QComboBox,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QWidget,
)

from napari_tinysam.ui.dock.buttons import set_tip, wrapped

_SHORTEST = 8  # letters that stay readable when the dock is narrow
_MARGIN = 2  # pixels beside the text in its field


class Choice(NamedTuple):
    """One entry."""

    value: Any
    text: str
    tip: str = ""
    enabled: bool = True


class ChoiceCombo(QComboBox):
    """Chooses one of some values. Long entries do not widen it: docks are narrow.

    Parameters
    ----------
    choices : iterable of Choice
        The entries; see `set_choices`.
    tip : str
        Tooltip where the current entry has none.
    parent : QWidget, optional
        As in Qt.
    """

    #: The user chose an entry; its value.
    chosen = Signal(object)
    #: Where a text that is too long is shortened.
    shortened = Qt.TextElideMode.ElideRight

    def __init__(
        self,
        choices: Iterable[Choice] = (),
        *,
        tip: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._tip = tip
        self._values: list[Any] = []
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setMinimumContentsLength(_SHORTEST)
        self.activated.connect(self._choose)
        self.set_choices(list(choices))

    def set_choices(self, choices: Sequence[Choice]) -> None:
        """Replace the entries. Emits nothing."""
        self._values = [choice.value for choice in choices]
        texts = [choice.text for choice in choices]
        if texts == [self.itemText(at) for at in range(self.count())]:
            return
        self.clear()
        for choice in choices:
            self.addItem(choice.text)
            self.setItemData(
                self.count() - 1, wrapped(choice.tip), Qt.ItemDataRole.ToolTipRole
            )
            if not choice.enabled:
                self._disable(self.count() - 1)

    def show_choice(self, value: Any) -> None:
        """Mark a value as the current one, or the first where there is none. Emits nothing."""
        # `==`, not `is`: napari hands plugins proxies of its layers.
        at = next((i for i, known in enumerate(self._values) if known == value), 0)
        self.setCurrentIndex(at)
        set_tip(self, self.itemData(at, Qt.ItemDataRole.ToolTipRole) or self._tip)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paint the current entry, shortened with an ellipsis: napari's style cuts letters."""
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        style, field = self.style(), QStyle.SubControl.SC_ComboBoxEditField
        control = QStyle.ComplexControl.CC_ComboBox
        if style is not None:
            room = style.subControlRect(control, option, field, self).width() - _MARGIN
            option.currentText = self.fontMetrics().elidedText(
                option.currentText, self.shortened, room
            )
        painter.drawComplexControl(control, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def showPopup(self) -> None:
        """Open the list, wide enough for its entries."""
        view = self.view()
        if view is not None:
            view.setMinimumWidth(min(480, view.sizeHintForColumn(0) + 24))
        super().showPopup()

    def minimumSizeHint(self) -> QSize:
        """Return room for a few letters."""
        return QSize(60, super().minimumSizeHint().height())

    def _disable(self, at: int) -> None:
        model = self.model()
        item = model.item(at) if isinstance(model, QStandardItemModel) else None
        if item is not None:
            item.setEnabled(False)

    def _choose(self, at: int) -> None:
        if 0 <= at < len(self._values):
            self.chosen.emit(self._values[at])
