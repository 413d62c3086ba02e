"""Helpers for buttons: those that do what a key does, and tooltips that say why one is disabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam.ui.canvas.keys import action
from napari_tinysam.ui.dock.key_button import KeyButton, shown_key

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_tinysam.ui.session.facade import AnnotationSession


def action_button(
    method: str, text: str, session: AnnotationSession, *, role: str = ""
) -> KeyButton:
    """Make the button that does what the key of a session's method does."""
    button = KeyButton(text, shown_key(action(method).label), role=role)
    button.clicked.connect(lambda: getattr(session, method)())
    return button


def explain(widget: QWidget, enabled: bool, text: str, reason: str = "") -> None:
    """Enable or disable a widget. Its tooltip says what it does, and if disabled, why."""
    if widget.isEnabled() != enabled:
        widget.setEnabled(enabled)
    tip = text if enabled else f"{text}.\n{reason}"
    if widget.toolTip() != tip:
        widget.setToolTip(tip)
