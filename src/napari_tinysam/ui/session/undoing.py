"""Undo and redo of the steps on an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject


class Undoing:
    """Steps back and forth through the history of the image that is segmented.

    Parameters
    ----------
    subject : Subject
    labelling : Labeller
        Takes back what was written into labels.
    go_to : callable
        Shows a plane, so that its change is seen.
    on_step : callable
        Called when a step was undone or redone.
    before_step : callable
        Called before that.
    on_journal : callable
        Called with the image and the number of a step of a journal that was undone or redone.
    """

    def __init__(
        self,
        subject: Subject,
        labelling: Labeller,
        *,
        go_to: Callable[[Plane], None],
        on_step: Callable[[], None],
        before_step: Callable[[], None],
        on_journal: Callable[[Image, int], None],
    ) -> None:
        self._subject = subject
        self._labelling = labelling
        self._go_to = go_to
        self._on_step = on_step
        self._before_step = before_step
        self._on_journal = on_journal

    @property
    def undo_text(self) -> str:
        """The step to undo, in words; "" if there is none."""
        subject = self._subject
        return "" if subject.image is None else subject.state.history.undo_text

    @property
    def redo_text(self) -> str:
        """The step to redo, in words; "" if there is none."""
        subject = self._subject
        return "" if subject.image is None else subject.state.history.redo_text

    def undo(self) -> None:
        """Undo the last step, wherever it was."""
        self._step(back=True)

    def redo(self) -> None:
        """Redo the step that was undone last."""
        self._step(back=False)

    def _step(self, *, back: bool) -> None:
        image = self._subject.image
        if image is None:
            return
        self._before_step()
        state = self._subject.state
        while step := state.history.undo() if back else state.history.redo():
            if step.classes is not None:
                _ = step.classes.revert() if back else step.classes.apply()
                self._labelling.saving.changed(step.classes.layer)
            if self._labelling.rewrite(step, back=back):
                break
        else:
            return
        state.set_drafts(step.plane, step.before if back else step.after)
        if step.of_journal:
            self._on_journal(image, step.number)
        else:
            proposed = step.proposed_before if back else step.proposed_after
            state.set_proposed(step.plane, proposed)
        self._go_to(step.plane)
        self._on_step()
