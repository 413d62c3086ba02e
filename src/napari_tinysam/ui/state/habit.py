"""Which of the model's three masks an object begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam.prompts import POSITIVE

if TYPE_CHECKING:
    from napari_tinysam.ui.state.drafts import ObjectDraft

#: Objects for which the same mask must be chosen until others begin with it.
_TIMES = 2


class MaskHabit:
    """Remembers which mask the user takes.

    Where somebody draws wider or tighter than the model, the same mask is chosen again and again.
    After two objects the next ones begin with it, until an object is committed with another.

    Attributes
    ----------
    choice : int or None
        0 the smallest, 2 the largest; None: the one with the best score.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as for another model."""
        self.choice: int | None = None
        self._last: int | None = None
        self._times = 0

    def note(self, draft: ObjectDraft, best: int) -> None:
        """Learn from an object that was committed.

        Parameters
        ----------
        draft : ObjectDraft
            Only one with a single click counts: further prompts ask for a mask of their own.
        best : int
            Which of its masks has the best score.
        """
        if not is_one_click(draft):
            return
        taken = best if draft.candidate is None else draft.candidate
        if taken != self._last:
            self._last, self._times = taken, 0
        # Where the best mask is that one anyway, nothing was chosen.
        self._times += draft.candidate is not None
        self.choice = taken if self._times >= _TIMES else None


def is_one_click(draft: ObjectDraft) -> bool:
    """Whether a draft is a new object with one positive click."""
    return (
        draft.box is None
        and draft.edited is None
        and [point.label for point in draft.points] == [POSITIVE]
    )
