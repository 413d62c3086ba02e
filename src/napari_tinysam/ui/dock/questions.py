"""Questions to the user before labels are saved, replaced or lost."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QThread
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_tinysam.ui.session.facade import AnnotationSession


def ask_for_file(
    parent: QWidget, session: AnnotationSession, layer: Labels
) -> Path | None:
    """Return the file of a labels layer; ask for it the first time. None if the user declines."""
    known = session.saving.file_of(layer)
    if known is not None and known.parent.is_dir():
        text = f"Another program has changed {known.name}. Replace it?"
        changed = session.saving.changed_elsewhere(layer)
        if not changed or confirmed(parent, text):
            return known
    owner = next(
        (i for i in session.image_layers() if session.state_of(i).target is layer), None
    )
    name, _ = QFileDialog.getSaveFileName(
        parent,
        f"Save {layer.name}",
        str(session.saving.suggestion(layer, owner)),
        "TIFF (*.tif *.tiff)",
    )
    if not name:
        return None
    path = Path(name)
    if path.suffix.lower() not in (".tif", ".tiff"):
        path = Path(f"{name}.tif")
        # The file dialog asked about the name without the ending.
        text = f"{path.name} already exists. Replace it?"
        if path.exists() and not confirmed(parent, text):
            return None
    for image in session.image_layers():
        if _is_same_file(image.source.path, path):
            session.say(
                "warning",
                f"{layer.name} was not saved: {path.name} is the file of the image "
                f"{image.name}. Choose another name.",
            )
            return None
    return path


class Closing(Enum):
    """Whether the window may close."""

    STAY = "stay"
    GO = "go"
    #: The user was asked, and wants it.
    WANTED = "wanted"


def may_close(parent: QWidget, session: AnnotationSession) -> Closing:
    """Ask before the window closes with work that is not saved; return whether it may.

    A program that closes the viewer outside the event loop is not asked.
    """
    thread = QThread.currentThread()
    if thread is None or thread.loopLevel() == 0:
        return Closing.GO
    unsaved = session.unsaved_layers()
    count = session.uncommitted_count
    if not unsaved and not count:
        return Closing.GO
    parts = []
    if count:
        what = "1 object is" if count == 1 else f"{count} objects are"
        parts.append(f"{what} not committed.")
    if unsaved:
        parts.append(f"Not saved: {_names(unsaved)}.")
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Warning)
    box.setWindowTitle("TinySAM")
    box.setText("\n".join(parts))
    if count:
        it = "it" if count == 1 else "them"
        box.setInformativeText(
            f"Saving leaves out what is not committed. To keep {it}, cancel and press C."
        )
    buttons = QMessageBox.StandardButton
    offered = buttons.Discard | buttons.Cancel
    if unsaved:
        offered |= buttons.Save
    box.setStandardButtons(offered)
    box.setDefaultButton(buttons.Save if unsaved else buttons.Cancel)
    discard = box.button(buttons.Discard)
    if discard is not None:
        discard.setText("Close without saving" if unsaved else "Close anyway")
    answer = buttons(box.exec())
    if answer == buttons.Discard:
        session.give_up_unsaved()
        return Closing.WANTED
    saved = answer == buttons.Save and _save_all(parent, session, unsaved)
    return Closing.WANTED if saved else Closing.STAY


def warn_of_unsaved(session: AnnotationSession) -> None:
    """Name the unsaved labels: without the dock nobody asks about them."""
    if unsaved := session.unsaved_layers():
        session.say(
            "warning",
            f"Not saved: {_names(unsaved)}. Without the TinySAM dock napari closes without "
            "asking.",
        )


def _save_all(
    parent: QWidget, session: AnnotationSession, layers: list[Labels]
) -> bool:
    """Save layers, each into its file; return whether all are saved."""
    for layer in layers:
        file = ask_for_file(parent, session, layer)
        if file is None or not session.saving.save_now(layer, file):
            return False
    return True


def _names(layers: list[Labels]) -> str:
    return ", ".join(layer.name for layer in layers)


def confirmed(parent: QWidget, text: str) -> bool:
    """Ask whether to do what cannot be taken back; No is what Enter answers."""
    buttons = QMessageBox.StandardButton
    answer = QMessageBox.question(
        parent, "TinySAM", text, buttons.Yes | buttons.No, buttons.No
    )
    return answer == buttons.Yes


def _is_same_file(source: str | None, path: Path) -> bool:
    try:
        return source is not None and path.samefile(source)
    except OSError:  # one of them does not exist
        return False
