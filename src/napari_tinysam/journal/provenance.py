"""How labels came to be, in a file beside them that people and programs can read.

It is the journal of the labels: every action, with the pixels of those that cannot be run again
(painting, automatic runs, what other programs did), the labels themselves, and a record of each
object. `napari_tinysam.replay` makes the labels again from it. `docs/provenance.md` and
`provenance.schema.json` describe the form.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.journal.objects import ObjectRecord, ObjectRecords, made_by
from napari_tinysam.journal.reading import ids_of, read_journal

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.journal.lines import About, Action
    from napari_tinysam.journal.reading import Recovered
    from napari_tinysam.journal.sparse import SparseLabels

#: What is added to the name of the labels file.
SUFFIX = "_provenance.json"

#: Actions that a replay does again; of others the pixels are kept.
AGAIN = frozenset({"commit", "delete", "merge", "split"})

_TURNS = frozenset({"undo", "redo"})

#: Attempts to read a journal that is being written: it may be rolled in between.
_ATTEMPTS = 5

Box = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Change:
    """What an action changed in a box of the labels.

    Parameters
    ----------
    start : tuple of int
        First index on each axis of the labels.
    before, after : numpy.ndarray
        With the axes of the labels.
    """

    start: tuple[int, ...]
    before: npt.NDArray[Any]
    after: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ToldAction:
    """An action, as a provenance file tells it.

    Parameters
    ----------
    action : Action
        Without windows.
    boxes : tuple of (tuple of int, tuple of int)
        Where it changed the labels: first and last index, exclusive, on each axis.
    changes : tuple of Change
        What it changed there, of actions that are not done again.
    lost : bool
        Whether what it changed is not known any more: a long journal keeps no pixels of the first
        actions.
    """

    action: Action
    boxes: tuple[Box, ...] = ()
    changes: tuple[Change, ...] = ()
    lost: bool = False


@dataclass(eq=False)
class Provenance:
    """How the labels of an image came to be.

    Parameters
    ----------
    about : About
        The image, the labels layer, and the version that began.
    actions : list of ToldAction
        In order.
    labels : SparseLabels
        The labels at the end.
    objects : dict of int to ObjectRecord
        By id, of the objects that are there.
    beginning : SparseLabels or None
        The labels before the first action; None if that is not known.
    shared_axes : tuple of int
        Axes of the labels along which all positions are the same: those of channels. A file of the
        labels lacks them.
    saved : float
        When it was written, in seconds since the epoch.
    labels_file : str
        Name of the file of the labels.
    """

    about: About
    actions: list[ToldAction]
    labels: SparseLabels
    objects: dict[int, ObjectRecord]
    beginning: SparseLabels | None = None
    shared_axes: tuple[int, ...] = ()
    saved: float = field(default_factory=time.time)
    labels_file: str = ""

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models that took part, as the actions "model" tell them, each once."""
        found: list[dict[str, Any]] = []
        for told in self.actions:
            model = dict(told.action.arguments)
            if told.action.name == "model" and model not in found:
                found.append(model)
        return found


def provenance_file(labels: Path) -> Path:
    """Return the file beside a file of labels: ``cells_labels.tif``, ``cells_provenance.json``."""
    stem = labels.stem
    stem = stem[:-4] if stem.lower().endswith(".ome") else stem
    return labels.with_name(stem.removesuffix("_labels") + SUFFIX)


def collect(
    folder: Path,
    labels: SparseLabels,
    through: int,
    *,
    shared_axes: Sequence[int] = (),
) -> Provenance:
    """Make the provenance of labels from their journal.

    Parameters
    ----------
    folder : Path
        Of the journal, which may still be written.
    labels : SparseLabels
        As they were after action number `through`.
    through : int
    shared_axes : sequence of int
        See `Provenance`.

    Raises
    ------
    FileError
        If the journal cannot be read.
    """
    for attempt in range(_ATTEMPTS):
        try:
            found = read_journal(folder)
            break
        except FileError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.05)
    beginning = _beginning(found)
    actions = [action for action in found.actions if action.number <= through]
    first = next((action for action in actions if action.windows), None)
    told = [_told(action, is_first=action is first) for action in actions]
    records = ObjectRecords(each.action for each in told)
    objects = records.of(sorted(ids_of(labels)))
    shared = tuple(int(axis) for axis in shared_axes)
    return Provenance(found.about, told, labels, objects, beginning, shared)


def alone(about: About, labels: SparseLabels, **options: Any) -> Provenance:
    """Return the provenance of labels that nothing was done to here: all objects are imported.

    Parameters
    ----------
    about : About
    labels : SparseLabels
    **options
        Of `Provenance`.
    """
    objects = ObjectRecords().of(sorted(ids_of(labels)))
    return Provenance(about, [], labels, objects, labels, **options)


def joined(
    earlier: Provenance, later: Provenance, *, known: bool = False
) -> Provenance | None:
    """Put what was done in an earlier session before what was done in a later one.

    Parameters
    ----------
    earlier, later : Provenance
    known : bool
        Whether they are known to fit; then only their shapes are compared.

    Returns
    -------
    Provenance or None
        None if the later one does not begin with the labels that the earlier one ended with.
    """
    begins = later.beginning
    if (
        later.labels.shape != earlier.labels.shape
        or earlier.about.image.content != later.about.image.content
        or not (known or (begins and _goes_on(begins, earlier.labels, later)))
    ):
        return None
    last = max((each.action.number for each in earlier.actions), default=0)
    step = max((each.action.step for each in earlier.actions), default=0)
    moved = [
        replace(
            each,
            action=replace(
                each.action,
                number=each.action.number + last,
                step=each.action.step + step if each.action.step else 0,
            ),
        )
        for each in later.actions
    ]
    actions = [*earlier.actions, *moved]
    records = ObjectRecords(each.action for each in actions)
    return replace(
        later,
        about=replace(later.about, begun=earlier.about.begun),
        actions=actions,
        objects=records.of(later.objects),
        beginning=earlier.beginning,
    )


def _goes_on(begins: SparseLabels, earlier: SparseLabels, later: Provenance) -> bool:
    """Whether labels are those of an earlier end, but for what the first action changed."""
    one, other = begins.copy(), earlier.copy()
    first = next((each for each in later.actions if each.boxes), None)
    for start, stop in () if first is None else first.boxes:
        shape = tuple(b - a for a, b in zip(start, stop, strict=True))
        for labels in (one, other):
            labels.write(start, np.zeros(shape, labels.dtype))
    return same_labels(one, other)


def same_labels(one: SparseLabels, other: SparseLabels) -> bool:
    """Whether two labels have the same shape and ids."""
    if one.shape != other.shape:
        return False
    mine, its = dict(one.chunks()), dict(other.chunks())
    return mine.keys() == its.keys() and all(
        np.array_equal(chunk, its[start]) for start, chunk in mine.items()
    )


def _beginning(found: Recovered) -> SparseLabels | None:
    """Return the labels before the first action; None if they are not known any more."""
    if any(action.cut for action in found.actions):
        return None
    labels = found.labels.copy()
    for action in reversed(found.actions):
        for before in reversed(action.before):
            labels.write(before.start, before.labels)
    first = next((action for action in found.actions if action.windows), None)
    if first is not None:
        made = sorted(made_by(first))
        for window in first.before:
            labels.write(window.start, _without(window.labels, made))
    return labels


def _without(labels: npt.NDArray[Any], ids: Sequence[int]) -> npt.NDArray[Any]:
    """Take objects out of labels.

    A journal begins with the first change, so the labels that it begins with may have that already.
    """
    return np.where(np.isin(labels, ids), 0, labels).astype(labels.dtype)


def _told(action: Action, *, is_first: bool) -> ToldAction:
    """Say what an action changed."""
    plain = replace(action, windows=(), before=(), cut=False)
    again = is_done_again(action)
    if action.cut:
        return ToldAction(plain, lost=not again)
    boxes, changes = [], []
    for window, was in zip(action.windows, action.before, strict=True):
        shape = window.labels.shape
        stop = tuple(at + n for at, n in zip(window.start, shape, strict=True))
        boxes.append((window.start, stop))
        if not again:
            made = sorted(made_by(action)) if is_first else []
            before = _without(was.labels, made)
            changes.append(Change(window.start, before, window.labels))
    return ToldAction(plain, tuple(boxes), tuple(changes))


def is_done_again(action: Action) -> bool:
    """Whether a replay needs no pixels of an action."""
    if action.name in _TURNS:
        return action.arguments.get("of") in AGAIN and action.step > 0
    if action.name != "commit":
        needed = {"delete": "id", "merge": "into", "split": "into"}.get(action.name)
        return needed is not None and needed in action.arguments
    return all(_tells_all(told) for told in action.arguments.get("objects", ()))


def _tells_all(told: Mapping[str, Any]) -> bool:
    return bool(told.get("prompts")) and bool(told.get("look"))


def same_weights(one: str, other: str) -> bool:
    """Whether two models have the same weights, whatever runs them.

    Parameters
    ----------
    one, other : str
        As of `Action`, or `Predictor.model_id` alone: a hash, then maybe a slash and the runtime.
    """
    first, second = (each.rpartition(" ")[2].partition("/")[0] for each in (one, other))
    return first == second
