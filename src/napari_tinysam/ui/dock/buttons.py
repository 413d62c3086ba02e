"""Helpers for the dock's controls: buttons that do what a key does, and tooltips."""

from __future__ import annotations

import textwrap
from functools import lru_cache
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


#: Letters in a line of a tooltip. Qt itself never wraps plain text.
_TIP_WIDTH = 60


def set_tip(widget: QWidget, text: str) -> None:
    """Set a tooltip, in lines that are not wider than the dock."""
    tip = wrapped(text)
    if widget.toolTip() != tip:
        widget.setToolTip(tip)


@lru_cache(maxsize=1000)
def wrapped(text: str) -> str:
    """Wrap the lines of a tooltip."""
    return "\n".join(textwrap.fill(line, _TIP_WIDTH) for line in text.splitlines())


def explain(widget: QWidget, enabled: bool, text: str, reason: str = "") -> None:
    """Enable or disable a widget. Its tooltip says what it does, and if disabled, why."""
    if widget.isEnabled() != enabled:
        widget.setEnabled(enabled)
    set_tip(widget, text if enabled else f"{text}.\n{reason}")
