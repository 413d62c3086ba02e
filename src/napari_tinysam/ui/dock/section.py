"""A part of the dock under a title that folds it."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

#: Which sections the user opened or folded since napari started, for docks opened again.
_remembered: dict[str, bool] = {}


class Section(QWidget):
    """A title that shows and hides what is below it.

    Unlike superqt's `QCollapsible` it grows with its content, and hides what is folded, so that the
    Tab key skips it.

    Parameters
    ----------
    title : str
        Names the content; also its key in `_remembered`.
    content : QWidget
        The widget to show and hide.
    expanded : bool
        Whether it is open the first time.
    parent : QWidget, optional
        As in Qt.
    """

    #: Whether it is open now.
    toggled = Signal(bool)

    def __init__(
        self,
        title: str,
        content: QWidget,
        *,
        expanded: bool = True,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._title = title
        self._content = content
        self.button = QPushButton()
        self.button.setObjectName("TinySAMSection")
        self.button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.button.setCheckable(True)
        self.button.setAccessibleName(title)
        self.button.clicked.connect(self._set_expanded)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.button)
        column.addWidget(content)
        self._show(_remembered.get(title, expanded))

    @property
    def expanded(self) -> bool:
        """Whether it is open."""
        return self.button.isChecked()

    def expand(self) -> None:
        """Open it."""
        self._set_expanded(True)

    def collapse(self) -> None:
        """Fold it."""
        self._set_expanded(False)

    def _set_expanded(self, expanded: bool) -> None:
        # Do not ask the button: a click has changed it already.
        if expanded is not self._content.isHidden():
            return
        _remembered[self._title] = expanded
        self._show(expanded)
        self.toggled.emit(expanded)

    def _show(self, expanded: bool) -> None:
        self.button.setChecked(expanded)
        self.button.setText(f"{'▾' if expanded else '▸'}  {self._title}")
        self.button.setToolTip("Hide" if expanded else "Show")
        self._content.setVisible(expanded)
