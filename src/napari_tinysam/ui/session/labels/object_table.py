"""The table of a labels layer's objects: how each came to be, and what it cost.

It is the layer's own table of features, which napari shows beside the layer and under the cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from napari_tinysam.journal.objects import ObjectRecords

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_tinysam.journal.lines import Action
    from napari_tinysam.journal.writing import Journal
    from napari_tinysam.ui.state.images import Memory

#: Columns of the table, after the object's id.
COLUMNS = ("origin", "score", "corrected", "seconds", "model")


class ObjectTable:
    """Keeps what is known of objects, and shows it if the user wants that.

    Parameters
    ----------
    memory : Memory
        Holds journals, and the records of each.
    post : callable
        Runs a callable soon on the session's thread.
    on_change : callable
        Called when what `words` says may have changed.
    """

    def __init__(
        self,
        memory: Memory,
        post: Callable[[Callable[[], None]], None],
        on_change: Callable[[], None],
    ) -> None:
        self._memory = memory
        self._post = post
        self._on_change = on_change
        self._on = self._waits = False

    @property
    def on(self) -> bool:
        """Whether layers have the table."""
        return self._on

    def set_on(self, on: bool) -> None:
        """Give layers the table, from now on."""
        self._on = on
        if on:
            self._soon()

    def add(self, journal: Journal, action: Action) -> None:
        """Take in an action that a journal was told."""
        records = self._memory.objects.setdefault(journal, ObjectRecords())
        records.add(action)
        if self._on:
            self._soon()

    def know(self, journal: Journal | None, actions: Iterable[Action]) -> None:
        """Take what a journal tells that this goes on with, after a crash."""
        if journal is not None:
            self._memory.objects[journal] = ObjectRecords(actions)

    def of(self, layer: Labels | None) -> ObjectRecords:
        """Return what is known of the objects of a layer."""
        journal = None if layer is None else self._memory.journals.get(layer)
        found = None if journal is None else self._memory.objects.get(journal)
        return ObjectRecords() if found is None else found

    def words(self, layer: Labels | None) -> str:
        """Say how many objects were made, and how long one took; "" if nobody wants to know."""
        made = [record for _, record in self.of(layer).made()] if self._on else []
        if not made:
            return ""
        seconds = sum(record.seconds for record in made) / len(made)
        what = "1 object" if len(made) == 1 else f"{len(made):,} objects"
        return f"{what}, {seconds:.1f} s each"

    def _soon(self) -> None:
        """Write the tables once for all that happens in this turn."""
        if not self._waits:
            self._waits = True
            self._post(self._write)

    def _write(self) -> None:
        self._waits = False
        if not self._on:
            return
        for layer in list(self._memory.journals):
            if _is_ours(layer):
                _fill(layer, self.of(layer))
        self._on_change()


def _is_ours(layer: Labels) -> bool:
    """Whether the table of a layer is empty, or from here: one of the user's stays."""
    names = [str(name) for name in layer.features]
    return not names or names == ["index", *COLUMNS]


def _fill(layer: Labels, records: ObjectRecords) -> None:
    rows = [record.to_json() for _, record in records.made()]
    # Napari takes the first row for the background.
    table: dict[str, list[Any]] = {
        "index": [0, *(label for label, _ in records.made())]
    }
    for name in COLUMNS:
        empty = "" if name in ("origin", "model") else float("nan")
        values = [row[name] for row in rows]
        table[name] = [empty, *(empty if each is None else each for each in values)]
    layer.features = table
