"""Undo is the journal read backwards: which steps are done, and which are undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_tinysam.journal.reading import REDO, UNDO

if TYPE_CHECKING:
    from napari_tinysam.journal.lines import Action, AnyWindow


@dataclass(eq=False)
class JournalStep:
    """A step of undo.

    Parameters
    ----------
    number : int
        See `Action.step`.
    name : str
    arguments : mapping
        Of its actions; those of later ones count.
    changes : list of (AnyWindow, AnyWindow)
        What was there before, and what it wrote, in order.
    cut : bool
        Whether something of that is no longer kept.
    """

    number: int
    name: str
    arguments: Mapping[str, Any]
    changes: list[tuple[AnyWindow, AnyWindow]] = field(default_factory=list)
    cut: bool = False


def steps_of(
    actions: Sequence[Action],
) -> tuple[list[JournalStep], list[JournalStep]]:
    """Find the steps that actions leave.

    Parameters
    ----------
    actions : sequence of Action
        With what was there before, as `read_journal` gives them.

    Returns
    -------
    done, undone : list of JournalStep
        The last of each is undone or redone next. What cannot be undone any more is left out, and
        all before it.
    """
    done, undone = turned_steps(actions)
    return _after_cut(done), _after_cut(undone)


def turned_steps(
    actions: Sequence[Action],
) -> tuple[list[JournalStep], list[JournalStep]]:
    """Find the steps that actions leave, as `steps_of` does, also those that are too long ago."""
    done: list[JournalStep] = []
    undone: list[JournalStep] = []
    known: dict[int, JournalStep] = {}
    for action in actions:
        if action.name == UNDO:
            while done and done[-1].number >= action.step > 0:
                undone.append(done.pop())
        elif action.name == REDO:
            while undone and 0 < undone[-1].number <= action.step:
                done.append(undone.pop())
        elif action.step:
            step = known.get(action.step)
            if step is None:
                step = JournalStep(action.step, action.name, action.arguments)
                known[action.step] = step
                undone.clear()
                done.append(step)
            elif action.arguments:
                step.arguments = {**step.arguments, **action.arguments}
            step.changes += zip(action.before, action.windows, strict=False)
            step.cut |= action.cut
    return done, undone


def _after_cut(steps: list[JournalStep]) -> list[JournalStep]:
    cut = [at for at, step in enumerate(steps) if step.cut]
    return steps[cut[-1] + 1 :] if cut else steps
