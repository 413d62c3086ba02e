"""Labels and actions out of the folder of a journal, whatever state a crash left it in.

What is whole is used, what is damaged is left out and said. Nothing but numbers and text is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.journal.lines import (
    About,
    Action,
    DamagedError,
    FirstLine,
    PackedWindow,
    read_about,
    read_action,
)
from napari_tinysam.journal.snapshot import Snapshot, read_snapshot
from napari_tinysam.journal.sparse import SparseLabels

if TYPE_CHECKING:
    import numpy.typing as npt

#: The action that says that labels were saved in a file.
SAVED = "saved"

#: The actions that take a step back, and do it again.
UNDO, REDO = "undo", "redo"

_LINES = re.compile(r"^lines-(\d{6})\.jsonl$")

#: No first line is longer.
_FIRST = 2**20


def lines_file(folder: Path, generation: int) -> Path:
    """Return the file of lines; generations are counted from 1."""
    return folder / f"lines-{generation:06d}.jsonl"


def snapshot_file(folder: Path, generation: int) -> Path:
    """Return the file of the labels that the lines of a generation begin with."""
    return folder / f"snapshot-{generation:06d}.labels"


def generations(folder: Path) -> list[int]:
    """List the generations that a folder has lines of, the newest first."""
    found = (_LINES.match(path.name) for path in folder.iterdir())
    return sorted((int(each[1]) for each in found if each is not None), reverse=True)


def read_first(folder: Path) -> tuple[int, FirstLine]:
    """Return the newest generation of a journal whose first line is whole, and that line.

    A process that ends while it begins a generation leaves the one before.

    Raises
    ------
    FileError
        If there is none.
    """
    reason = "It is no journal."
    try:
        for generation in generations(folder):
            with open(lines_file(folder, generation), "rb") as file:
                line = file.readline(_FIRST)
            try:
                return generation, read_about(line.removesuffix(b"\n"))
            except DamagedError as error:
                reason = str(error)
    except OSError as error:
        raise FileError(sentence(error, f"{folder} cannot be read")) from error
    raise FileError(f"What was kept in {folder} cannot be read. {reason}")


@dataclass(eq=False)
class Recovered:
    """What a journal tells.

    Parameters
    ----------
    about : About
    labels : SparseLabels
        As they were after the last action.
    actions : list of Action
        In order, with what was there before; the windows of those of long ago are cut.
    unsaved : set of int
        Ids of objects that were changed, and not saved since, and are still there.
    changed : bool
        Whether anything is not saved, deleted objects too.
    remarks : list of str
        What could not be read, in sentences.
    """

    about: About
    labels: SparseLabels
    actions: list[Action]
    unsaved: set[int]
    changed: bool
    remarks: list[str]

    @property
    def last(self) -> int:
        """Number of the last action; 0 without one."""
        return max((action.number for action in self.actions), default=0)

    @property
    def time(self) -> float:
        """Of the last action, in seconds since the epoch."""
        return self.actions[-1].time if self.actions else self.about.begun


def read_journal(folder: Path) -> Recovered:
    """Read a journal; nothing is changed by it.

    Raises
    ------
    FileError
        If nothing of it can be read.
    """
    generation, first = read_first(folder)
    about, remarks = first.about, list[str]()
    before = _nothing(about)
    if first.snapshot:
        before = _snapshot(folder, generation, about, remarks)
    try:
        content = lines_file(folder, generation).read_bytes()
    except OSError as error:
        raise FileError(sentence(error, f"{folder} cannot be read")) from error
    *lines, torn = content.split(b"\n")[1:] or [b""]
    if torn:
        remarks.append("The last action was being written, and is left out.")
    new, damaged = _actions(lines, about)
    if damaged:
        remarks.append(_left_out(damaged))
    touched, changed, new, damaged = _replay(before, new, first)
    if damaged:
        remarks.append(_left_out(damaged))
    unsaved = touched & ids_of(before.labels) if touched else set()
    return Recovered(
        about,
        before.labels,
        [*before.actions, *new],
        unsaved,
        changed,
        remarks,
    )


def _left_out(damaged: int) -> str:
    what = "1 action is" if damaged == 1 else f"{damaged} actions are"
    return f"{what} damaged, and left out."


def _nothing(about: About) -> Snapshot:
    return Snapshot(SparseLabels(about.shape, about.dtype), [], set())


def _snapshot(
    folder: Path, generation: int, about: About, remarks: list[str]
) -> Snapshot:
    path = snapshot_file(folder, generation)
    try:
        snapshot, damaged = read_snapshot(path, about)
    except (DamagedError, OSError) as error:
        remarks.append(
            f"{sentence(error, f'{path.name} cannot be read')} What was done after it is there."
        )
        return _nothing(about)
    if damaged:
        what = "1 part" if damaged == 1 else f"{damaged} parts"
        remarks.append(f"{path.name} is damaged: {what} of it are left out.")
    return snapshot


def _actions(lines: Sequence[bytes], about: About) -> tuple[list[Action], int]:
    actions, damaged = [], 0
    for line in lines:
        try:
            actions.append(read_action(line, about))
        except DamagedError:
            damaged += 1
    return actions, damaged


def _replay(
    before: Snapshot, actions: Sequence[Action], first: FirstLine
) -> tuple[set[int], bool, list[Action], int]:
    """Write the windows of actions into labels.

    Returns
    -------
    touched : set of int
        Ids of objects that got or lost pixels since the labels were saved.
    changed : bool
        Whether anything was changed since.
    actions : list of Action
        With what was there before.
    damaged : int
        Actions that could not be used.
    """
    saved = max(
        (
            int(action.arguments.get("through", action.number))
            for action in actions
            if action.name == SAVED
        ),
        default=-1,
    )
    labels = before.labels
    changed = not first.clean and saved < first.number
    touched = set(before.unsaved) if changed else set()
    classing = {each.step for each in before.actions if _gives_classes(each)}
    read, damaged = [], 0
    for action in actions:
        try:
            windows = [(each, each.labels) for each in action.windows]
        except DamagedError:
            damaged += 1
            continue
        new = action.number > saved
        if _gives_classes(action):
            classing.add(action.step)
        if new and (windows or action.step in classing):
            # Named, too: labels that were there may be read when they are changed already.
            changed = True
            touched.update(action.ids)
        was = []
        for window, after in windows:
            old = labels.read(window.start, after.shape)
            if new:
                where = old != after
                touched.update(np.unique(old[where]).tolist())
                touched.update(np.unique(after[where]).tolist())
            labels.write(window.start, after)
            was.append(PackedWindow.of(window.start, old))
        read.append(replace(action, before=tuple(was)))
    return touched - {0}, changed, read, damaged


def _gives_classes(action: Action) -> bool:
    """Whether an action is a step that gave objects classes."""
    return action.step > 0 and "classes" in action.arguments


def ids_of(labels: SparseLabels) -> set[int]:
    """Return the ids of all objects."""
    ids: set[int] = set()
    for _, chunk in labels.chunks():
        ids.update(np.unique(chunk).tolist())
    return ids - {0}


def labels_of(found: Recovered) -> npt.NDArray[Any]:
    """Return the labels as they were.

    Raises
    ------
    MemoryError
        If they do not fit into memory.
    """
    return found.labels.to_array()
