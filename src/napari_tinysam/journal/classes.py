"""Which object has which class, as the actions of a journal tell it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tinysam.journal.reading import REDO, UNDO

if TYPE_CHECKING:
    from napari_tinysam.journal.lines import Action

#: The action that tells which classes there were when a journal began.
CLASSES = "classes"

#: The action that tells of a new name.
RENAMED = "class name"

#: Names of classes by the ids of objects; "" for none.
Named = dict[int, str]


@dataclass(eq=False)
class ClassChange:
    """What a step changed.

    Parameters
    ----------
    before, after : dict of int to str
        See `Named`.
    """

    before: Named
    after: Named


class ClassesTold:
    """Follows the classes of objects, action by action.

    Attributes
    ----------
    named : dict of int to str
        The classes of the objects that have one, by their ids.
    steps : dict of int to ClassChange
        What the steps of undo changed, by their numbers.
    """

    def __init__(self, actions: Iterable[Action] = ()) -> None:
        self.named: Named = {}
        self.steps: dict[int, ClassChange] = {}
        for action in actions:
            self.add(action)

    def add(self, action: Action) -> None:
        """Take in what an action did."""
        told = action.arguments
        if action.name in (UNDO, REDO):
            change = self.steps.get(action.step)
            if change is not None:
                self._put(change.before if action.name == UNDO else change.after)
        elif action.name == RENAMED:
            self.rename(str(told.get("from", "")), str(told.get("to", "")))
        elif (after := _named(told.get("classes"))) is not None:
            if action.step:
                before = _named(told.get("were")) or dict.fromkeys(after, "")
                self.steps[action.step] = ClassChange(before, after)
            self._put(after)

    def _put(self, classes: Named) -> None:
        for label, name in classes.items():
            if name:
                self.named[label] = name
            else:
                self.named.pop(label, None)

    def rename(self, old: str, new: str) -> None:
        """Give a class another name, also in the steps of undo."""
        every = [self.named]
        for change in self.steps.values():
            every += [change.before, change.after]
        for classes in every:
            for label, name in classes.items():
                if name == old:
                    classes[label] = new


def _named(told: Any) -> Named | None:
    """Read names by id; None if it is something else."""
    if not isinstance(told, Mapping):
        return None
    try:
        return {int(label): str(name) for label, name in told.items()}
    except (TypeError, ValueError):
        return None
