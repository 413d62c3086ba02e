"""Labels and actions out of the folder of a journal, whatever state a crash left it in.

What is whole is used, what is damaged is left out and said. Nothing but numbers and text is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.journal.lines import (
    About,
    Action,
    DamagedError,
    FirstLine,
    read_about,
    read_action,
)
from napari_tinysam.journal.snapshot import Snapshot, read_snapshot
from napari_tinysam.journal.sparse import SparseLabels

if TYPE_CHECKING:
    import numpy.typing as npt

#: The action that says that labels were saved in a file.
SAVED = "saved"

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
    raise FileError(f"{folder} cannot be read: {reason}")


@dataclass(eq=False)
class Recovered:
    """What a journal tells.

    Parameters
    ----------
    about : About
    labels : SparseLabels
        As they were after the last action.
    actions : list of Action
        In order. Those that are older than the last snapshot have no windows.
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
        what = "1 action is" if damaged == 1 else f"{damaged} actions are"
        remarks.append(f"{what} damaged, and left out.")
    touched, changed = _replay(before, new, first)
    unsaved = touched & ids_of(before.labels) if touched else set()
    return Recovered(
        about,
        before.labels,
        [*before.actions, *new],
        unsaved,
        changed,
        remarks,
    )


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
) -> tuple[set[int], bool]:
    """Write the windows of actions into labels.

    Returns
    -------
    touched : set of int
        Ids of objects that got or lost pixels since the labels were saved.
    changed : bool
        Whether anything was changed since.
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
    for action in actions:
        new = action.number > saved
        if new and action.windows:
            # Named, too: labels that were there may be read when they are changed already.
            changed = True
            touched.update(action.ids)
        for window in action.windows:
            if new:
                old = labels.read(window.start, window.labels.shape)
                where = old != window.labels
                touched.update(np.unique(old[where]).tolist())
                touched.update(np.unique(window.labels[where]).tolist())
            labels.write(window.start, window.labels)
    return touched - {0}, changed


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
