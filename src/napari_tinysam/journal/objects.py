"""What is known of each object of a labels layer, as the actions of its journal tell it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_tinysam.journal.lines import Action

#: Of objects that were there when the journal began.
IMPORTED = "imported"

#: Of objects that came by an action that does not say how.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ObjectRecord:
    """How an object came to be.

    Parameters
    ----------
    origin : str
        "clicks", "box", "automatic", "followed", "filled", "painted", "imported" or "unknown".
    model : str
        Name and hash of the model that gave the last mask; "" if none did.
    score : float or None
        The IoU that it predicted for the mask, 0–1.
    seconds : float
        Of the user's work, without long pauses.
    corrected : int
        How often it was changed after it came to be: edited, painted, merged, split.
    """

    origin: str
    model: str = ""
    score: float | None = None
    seconds: float = 0.0
    corrected: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return {**asdict(self), "seconds": _sum(self.seconds)}


@dataclass(frozen=True)
class _Change:
    """Records of some ids before and after an action; None where there was none."""

    before: Mapping[int, ObjectRecord | None]
    after: Mapping[int, ObjectRecord | None]


class ObjectRecords:
    """The records of the objects of a labels layer, kept up to date action by action.

    Objects of which no action told have none; see `of`.
    """

    def __init__(self, actions: Iterable[Action] = ()) -> None:
        self._records: dict[int, ObjectRecord] = {}
        self._steps: dict[int, list[_Change]] = {}
        for action in actions:
            self.add(action)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._records)

    def __iter__(self) -> Iterator[int]:
        """Give the ids that have a record, ascending."""
        return iter(sorted(self._records))

    def get(self, label: int) -> ObjectRecord | None:
        """Return the record of an object, if an action told of it."""
        return self._records.get(label)

    def of(self, ids: Iterable[int]) -> dict[int, ObjectRecord]:
        """Return a record for each of these objects; those without one were imported."""
        unknown = ObjectRecord(IMPORTED)
        return {label: self._records.get(label, unknown) for label in ids}

    def made(self) -> list[tuple[int, ObjectRecord]]:
        """Return the objects that actions told of, by id."""
        return sorted(self._records.items())

    def add(self, action: Action) -> None:
        """Take in what an action did."""
        if action.name in ("undo", "redo"):
            self._turn(action.step, back=action.name == "undo")
            return
        change = _CHANGES.get(action.name, _written)
        after = change(self, action)
        if not after:
            return
        before = {label: self._records.get(label) for label in after}
        self._put(after)
        if action.step:
            # A long step is told of in several actions.
            self._steps.setdefault(action.step, []).append(_Change(before, after))

    def _turn(self, step: int, *, back: bool) -> None:
        changes = self._steps.get(step, [])
        for change in reversed(changes) if back else changes:
            self._put(change.before if back else change.after)

    def _put(self, records: Mapping[int, ObjectRecord | None]) -> None:
        for label, record in records.items():
            if record is None:
                self._records.pop(label, None)
            else:
                self._records[label] = record


_Records = dict[int, ObjectRecord | None]


def _sum(*seconds: float) -> float:
    """Add times that are told in hundredths of a second, without what binary fractions add."""
    return round(sum(seconds), 2)


def _written(records: ObjectRecords, action: Action) -> _Records:
    """Take in the objects that an action wrote."""
    found: _Records = {}
    for told in action.arguments.get("objects", ()):
        label, seconds = int(told["id"]), float(told.get("seconds") or 0.0)
        origin, score = str(told.get("origin", UNKNOWN)), told.get("score")
        old = found.get(label, records.get(label))
        edits = (told.get("prompts") or {}).get("mask") is not None
        if old is None and edits:
            old = ObjectRecord(IMPORTED)
        if old is None:
            found[label] = ObjectRecord(origin, action.model, score, seconds)
        elif origin == "followed":
            continue  # on further planes: the object is what it was
        else:
            found[label] = replace(
                old,
                model=action.model or old.model,
                score=old.score if score is None else score,
                seconds=_sum(old.seconds, seconds),
                corrected=old.corrected + 1,
            )
    return found


def _filled(records: ObjectRecords, action: Action) -> _Records:
    """Take in a plane of objects that an automatic run wrote."""
    told = action.arguments
    if "first" not in told or "count" not in told:
        return _written(records, action)
    origin = str(told.get("origin", "automatic"))
    new = ObjectRecord(origin, action.model)
    first, scores = int(told["first"]), told.get("scores") or ()
    found: _Records = {first + number: new for number in range(int(told["count"]))}
    for number, score in enumerate(scores):
        found[first + number] = replace(new, score=score)
    return found


def _merged(records: ObjectRecords, action: Action) -> _Records:
    """Join the time of two objects; the one that is gone keeps no record."""
    told = action.arguments
    if "into" not in told or "from" not in told:
        return {}
    into, other = int(told["into"]), int(told["from"])
    kept = records.get(into) or ObjectRecord(IMPORTED)
    gone = records.get(other)
    joined = replace(
        kept,
        seconds=_sum(
            kept.seconds,
            0.0 if gone is None else gone.seconds,
            float(told.get("seconds") or 0.0),
        ),
        corrected=kept.corrected + 1,
    )
    return {into: joined, other: None}


def _split(records: ObjectRecords, action: Action) -> _Records:
    """Let the parts of an object come from what it came from; the time stays with the first."""
    into = [int(each) for each in action.arguments.get("into", ())]
    if not into:
        return {}
    old = records.get(into[0]) or ObjectRecord(IMPORTED)
    seconds = float(action.arguments.get("seconds") or 0.0)
    cut = replace(old, corrected=old.corrected + 1)
    found: _Records = {each: replace(cut, seconds=0.0) for each in into[1:]}
    found[into[0]] = replace(cut, seconds=_sum(old.seconds, seconds))
    return found


def _deleted(records: ObjectRecords, action: Action) -> _Records:
    """Forget an object; one that was deleted on one plane of several has been corrected."""
    label = action.arguments.get("id")
    old = None if label is None else records.get(int(label))
    if label is None or old is None:
        return {}
    part = bool(action.arguments.get("part"))
    return {int(label): replace(old, corrected=old.corrected + 1) if part else None}


def _nothing(records: ObjectRecords, action: Action) -> _Records:
    return {}


def made_by(action: Action) -> set[int]:
    """Return the ids of the objects that an action wrote."""
    told = action.arguments
    if action.name in _WRITE_NONE:
        return set()
    made = {int(each["id"]) for each in told.get("objects", ())}
    if action.name == "split":
        made |= {int(each) for each in told.get("into", ())[1:]}
    if action.name == "fill" and "first" in told and "count" in told:
        first = int(told["first"])
        made |= set(range(first, first + int(told["count"])))
    return made


#: They may tell of objects, but write none.
_WRITE_NONE = frozenset({"prompt", "choose", "select", "reject", "propose"})

_CHANGES: dict[str, Callable[[ObjectRecords, Action], _Records]] = {
    "fill": _filled,
    "merge": _merged,
    "split": _split,
    "delete": _deleted,
    **dict.fromkeys(_WRITE_NONE, _nothing),
}
