"""Undo and redo of everything the annotator does, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_tinysam.ui.state.classes import ClassEdit
    from napari_tinysam.ui.state.drafts import PlaneDrafts
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.proposed import Proposed

#: Steps kept. A step is some hundred bytes, and the rectangle that it changed.
_LEVELS = 20_000

#: Most bytes of those rectangles; the last step is always kept.
_BYTES = 2**25

#: Steps after which these bytes are counted anew: long steps go on growing.
_COUNTED = 64


class Edit(Protocol):
    """A change of a labels layer that can be undone."""

    @property
    def layer(self) -> Labels:
        """The layer that was changed."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes it keeps."""
        ...

    def apply(self) -> bool:
        """Redo the change; return whether anything changed."""
        ...

    def revert(self) -> bool:
        """Undo the change; return whether anything changed."""
        ...


@dataclass(frozen=True)
class Deed:
    """What a step was, as the journal tells it.

    Parameters
    ----------
    name : str
        "prompt", "commit" …; "" leaves it to the step's text.
    arguments : mapping
        What JSON can hold, with places in pixels of the image; not changed afterwards.
    ids : tuple of int
        Of the objects it concerns.
    """

    name: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ids: tuple[int, ...] = ()


#: Leaves everything to the step's text.
UNTOLD = Deed()


@dataclass(frozen=True, eq=False)
class Step:
    """One step to undo or redo.

    Parameters
    ----------
    text : str
        What was done, for the button: "point", "commit".
    plane : Plane
        Where.
    before, after : PlaneDrafts
        The drafts of that plane.
    edit : Edit, optional
        What it wrote into a labels layer.
    proposed_before, proposed_after : Proposed, optional
        What auto-segmentation proposes on that plane.
    deed : Deed
    classes : ClassEdit, optional
        Which objects it gave other classes.
    of_journal : bool
        Whether it was read from a journal: what was proposed then is not known.
    number : int
        Counts the steps of an image, from 1; joined steps have one number.
    """

    text: str
    plane: Plane
    before: PlaneDrafts
    after: PlaneDrafts
    edit: Edit | None = None
    proposed_before: Proposed | None = None
    proposed_after: Proposed | None = None
    deed: Deed = UNTOLD
    number: int = 0
    of_journal: bool = False
    classes: ClassEdit | None = None

    def then(self, later: Step) -> Step:
        """Join a later step of the same kind with this one."""
        return replace(
            self,
            after=later.after,
            proposed_after=later.proposed_after,
            deed=later.deed,
        )


class History:
    """The steps that are done, and those undone.

    Parameters
    ----------
    most_bytes : int
        Limit for what the steps wrote into labels; the oldest are forgotten.
    """

    def __init__(self, most_bytes: int = _BYTES) -> None:
        self._done: deque[Step] = deque(maxlen=_LEVELS)
        self._undone: list[Step] = []
        self._most_bytes = most_bytes
        self._count = 0
        self._bytes = 0  # nearly

    @property
    def nbytes(self) -> int:
        """Bytes of what the steps wrote."""
        return sum(
            step.edit.nbytes
            for step in (*self._done, *self._undone)
            if step.edit is not None
        )

    def push(self, step: Step) -> Step:
        """Remember a step that was just done, with its number; forget the undone ones."""
        if not step.number:
            self._count += 1
            step = replace(step, number=self._count)
        self._done.append(step)
        self._undone.clear()
        if step.edit is None:
            return step
        self._bytes += step.edit.nbytes
        if self._bytes > self._most_bytes or not self._count % _COUNTED:
            self._bytes = self.nbytes
        while self._bytes > self._most_bytes and len(self._done) > 1:
            oldest = self._done.popleft()
            self._bytes -= 0 if oldest.edit is None else oldest.edit.nbytes
        return step

    def push_joined(self, step: Step) -> Step:
        """Remember a step as part of the last one, if that was of the same kind and place.

        A slider that is dragged is one step, however many values it passes through.
        """
        last = self._done[-1] if self._done else None
        if last is not None and (last.text, last.plane) == (step.text, step.plane):
            step = last.then(step)
            self._done.pop()
        return self.push(step)

    def remember(self, done: Iterable[Step], undone: Iterable[Step], last: int) -> None:
        """Replace all steps by those of a journal.

        Parameters
        ----------
        done, undone : iterable of Step
            The last of each is undone or redone next.
        last : int
            The highest number that a step has had.
        """
        self._done.clear()
        self._done.extend(done)
        self._undone = list(undone)
        self._count = max(self._count, last)

    def undo(self) -> Step | None:
        """Move the last step to the undone ones and return it."""
        if not self._done:
            return None
        self._undone.append(self._done.pop())
        return self._undone[-1]

    def redo(self) -> Step | None:
        """Move the step that was undone last to the done ones and return it."""
        if not self._undone:
            return None
        self._done.append(self._undone.pop())
        return self._done[-1]

    @property
    def done(self) -> tuple[Step, ...]:
        """All steps that are done; the last is undone next."""
        return tuple(self._done)

    @property
    def last(self) -> Step | None:
        """The step to undo."""
        return self._done[-1] if self._done else None

    @property
    def undo_text(self) -> str:
        """The step to undo, in words; "" if there is none."""
        return self._done[-1].text if self._done else ""

    @property
    def redo_text(self) -> str:
        """The step to redo, in words; "" if there is none."""
        return self._undone[-1].text if self._undone else ""
