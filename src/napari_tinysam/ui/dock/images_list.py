"""The images of a list as rows: a small picture, the name, how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QAbstractListModel, QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont, QIcon, QImage, QKeyEvent, QPixmap
from qtpy.QtWidgets import QListView, QWidget

from napari_tinysam.ui.state.image_list import FILTERS, EntryState

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tinysam.ui.session.images.image_list import ListedImages
    from napari_tinysam.ui.state.image_list import ImageEntry

#: Side of a picture, and how many rows are seen at once.
_SIDE = 40
_ROWS = 5

_SAID = {EntryState.NEW: "new", EntryState.STARTED: "started", EntryState.DONE: "done"}
_SIGN = {EntryState.NEW: "○", EntryState.STARTED: "◐", EntryState.DONE: "●"}


class ImagesModel(QAbstractListModel):
    """The rows that a filter lets pass. Pictures are read when their row is seen.

    Parameters
    ----------
    listed : ListedImages
    parent : QWidget, optional
        As in Qt.
    """

    def __init__(self, listed: ListedImages, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._listed = listed
        self._icons: dict[Path, QIcon] = {}
        self.filter = next(iter(FILTERS))
        self.rows: list[ImageEntry] = []

    def refresh(self) -> None:
        """Show the list as it is now."""
        images, passes = self._listed.images, FILTERS[self.filter]
        here = self._listed.current
        rows = [] if images is None else images.entries
        # The open image stays, whatever it has become.
        rows = [entry for entry in rows if passes(entry) or entry is here]
        if rows == self.rows:
            if rows:
                self.dataChanged.emit(self.index(0), self.index(len(rows) - 1))
            return
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """Return what a row shows."""
        if not index.isValid() or index.row() >= len(self.rows):
            return None
        entry = self.rows[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return f"{entry.name}\n{in_words(entry)}"
        if role == Qt.ItemDataRole.DecorationRole:
            return self._icon(entry)
        if role == Qt.ItemDataRole.ToolTipRole:
            labels = "" if entry.labels is None else f"\nLabels: {entry.labels}"
            problem = f"\n{entry.problem}" if entry.problem else ""
            return f"{entry.path or entry.name}{labels}{problem}"
        if role == Qt.ItemDataRole.FontRole and entry is self._listed.current:
            font = QFont()
            font.setBold(True)
            return font
        if role == Qt.ItemDataRole.ForegroundRole and entry.problem:
            return QColor("#d9602f")
        return None

    def _icon(self, entry: ImageEntry) -> QIcon | None:
        path = entry.path
        if path is None:
            return None if entry.layer is None else _icon_of(entry.layer.thumbnail)
        if path not in self._icons:
            pixels = self._listed.thumbnails.of(path)
            if pixels is None:
                return _no_picture()
            if len(self._icons) > 2000:
                self._icons.clear()
            self._icons[path] = _icon_of(pixels)
        return self._icons[path]


class ImagesView(QListView):
    """The rows; a click opens an image.

    Parameters
    ----------
    model : ImagesModel
    """

    #: The user clicked a row: its entry.
    chosen = Signal(object)

    def __init__(self, model: ImagesModel) -> None:
        super().__init__()
        self._rows = model
        self.setModel(model)
        self.setUniformItemSizes(True)
        self.setIconSize(QSize(_SIDE, _SIDE))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionMode(QListView.SelectionMode.NoSelection)
        # Keys stay the canvas's.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName("Images")
        self.clicked.connect(self._clicked)

    def refresh(self, current: ImageEntry | None) -> None:
        """Show the rows, with the open image among those that are seen."""
        self._rows.refresh()
        count = max(1, min(_ROWS, len(self._rows.rows)))
        self.setFixedHeight(count * (_SIDE + 4) + 4)
        if current in self._rows.rows:
            self.scrollTo(self._rows.index(self._rows.rows.index(current)))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Leave keys to the canvas."""
        if event is not None:
            event.ignore()

    def _clicked(self, index: QModelIndex) -> None:
        if index.row() < len(self._rows.rows):
            self.chosen.emit(self._rows.rows[index.row()])


def in_words(entry: ImageEntry) -> str:
    """Say how far an image is: "◐ started · 12 objects"."""
    if entry.problem:
        # The row names the image already, and a whole path would leave no room for the reason.
        path = "" if entry.path is None else str(entry.path)
        name = "" if entry.path is None else entry.path.name
        return f"⚠ {entry.problem.removeprefix(path).removeprefix(name).strip()}"
    sign, said = _SIGN[entry.state], [_SAID[entry.state]]
    if entry.count:
        said.append("1 object" if entry.count == 1 else f"{entry.count:,} objects")
    elif entry.count is None and entry.labels is not None:
        said.append(f"labels in {entry.labels.name}")
    if not entry.saved:  # there is no room for all: the sign says the first as well
        said = [*(said[1:] or said), "not saved"]
    return f"{sign} {' · '.join(said)}"


def _no_picture() -> QIcon:
    """Make an empty icon, so that names stand below each other."""
    picture = QPixmap(_SIDE, _SIDE)
    picture.fill(Qt.GlobalColor.transparent)
    return QIcon(picture)


def _icon_of(pixels: Any) -> QIcon:
    """Make an icon of (H, W), (H, W, 3) or (H, W, 4) uint8."""
    pixels = np.asarray(pixels, np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2)
    pixels = np.ascontiguousarray(pixels[..., :3])
    height, width = pixels.shape[:2]
    image = QImage(
        pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888
    )
    picture = QPixmap.fromImage(image).scaled(
        _SIDE,
        _SIDE,
        Qt.AspectRatioMode.KeepAspectRatioByExpanding,
        Qt.TransformationMode.SmoothTransformation,
    )
    left, top = (picture.width() - _SIDE) // 2, (picture.height() - _SIDE) // 2
    return QIcon(picture.copy(left, top, _SIDE, _SIDE))
