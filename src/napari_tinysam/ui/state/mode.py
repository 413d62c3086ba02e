"""The mode: what a click means, and how modes change."""

from __future__ import annotations

from enum import Enum

from psygnal import Signal


class Mode(Enum):
    """What a click on the plane does."""

    #: It prompts the current object.
    PROMPT = "prompt"
    #: It selects a labelled object; the clicks after it prompt that object.
    EDIT = "edit"
    #: It joins another labelled object to the edited one.
    MERGE = "merge"
    #: It accepts a proposal, or rejects it if it is a negative click.
    PICK = "pick"


class ModeSwitch:
    """Holds the mode.

    Attributes
    ----------
    value : Mode
    changed : Signal
        Emitted with the new mode.
    """

    changed = Signal(Mode)

    def __init__(self) -> None:
        self.value = Mode.PROMPT
        self._back = Mode.PROMPT

    def enter(self, mode: Mode) -> None:
        """Change to a mode."""
        if mode is self.value:
            return
        # Merging is one click: then editing continues.
        merging_from_edit = mode is Mode.MERGE and self.value is Mode.EDIT
        self._back = Mode.EDIT if merging_from_edit else Mode.PROMPT
        self.value = mode
        self.changed.emit(mode)

    def leave(self, mode: Mode) -> None:
        """Go back to where the user was before a mode; nothing happens in any other mode."""
        if mode is self.value:
            self.enter(self._back)

    def toggle(self, mode: Mode) -> None:
        """Enter a mode, or leave it."""
        if mode is self.value:
            self.leave(mode)
        else:
            self.enter(mode)
