"""Requests masks of drafts from the model, and remembers them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from napari_tinysam.ui.session.worker import Inference, Lane

if TYPE_CHECKING:
    from napari_tinysam.inference.candidates import Candidates
    from napari_tinysam.inference.looks import Look
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.inference.pyramid import Answer
    from napari_tinysam.ui.state.drafts import ObjectDraft
    from napari_tinysam.ui.state.seeing import SeenPlane

#: Objects whose masks are kept, so that undo shows them at once; 0.8 MB each.
_KEPT = 64

_Key = tuple[Hashable, "ObjectDraft"]


class Predictions:
    """Known and requested masks of drafts.

    Parameters
    ----------
    inference : Inference
        Where prompts are decoded.
    start : callable
        Returns the level of looks to begin a draft with, see `SizesSeen.start`.
    on_found : callable
        Called with the plane, drafts of it, and the answers to these.
    on_error : callable
        Called with the error.
    on_read : callable
        Called with what a click waits for, in words; with None when no click waits any more.
    """

    def __init__(
        self,
        inference: Inference,
        start: Callable[[ObjectDraft], tuple[int, bool]],
        on_found: Callable[
            [SeenPlane, Sequence[ObjectDraft], Sequence[Answer[Candidates]]], None
        ],
        on_error: Callable[[Exception], None],
        on_read: Callable[[str | None], None],
    ) -> None:
        self._inference = inference
        self._on_read = on_read
        self._start = start
        self._on_found = on_found
        self._on_error = on_error
        self._known: OrderedDict[_Key, Candidates] = OrderedDict()
        self._asked: set[_Key] = set()
        self._epoch = 0  # of the model: results of an older one are dropped

    def get(self, plane: Hashable, draft: ObjectDraft) -> Candidates | None:
        """Return the masks of a draft, if they are known."""
        return self._known.get((plane, draft.prompts_key))

    def ask(
        self,
        seen: SeenPlane,
        predictor: Predictor,
        drafts: Sequence[ObjectDraft],
    ) -> None:
        """Compute the masks that are not known yet, in one batch for each look."""
        plane = seen.key
        missing = [draft for draft in drafts if self.get(plane, draft) is None]
        wanted = {(plane, draft.prompts_key) for draft in missing}
        if wanted <= self._asked:
            return
        self._asked = wanted
        epoch = self._epoch
        levels = [self._start(draft) for draft in missing]

        def tell(look: Look) -> None:
            """Tell the session's thread what is being read."""

            def told() -> None:
                if epoch == self._epoch and wanted & self._asked:
                    self._on_read(seen.reading_words(look))

            self._inference.post(told)

        for look in seen.first_looks(missing, levels):
            if not seen.has(predictor, look):
                self._on_read(seen.reading_words(look))
                break
        self._inference.submit(
            Lane.PROMPT,
            lambda: seen.answer(predictor, missing, levels, on_read=tell),
            lambda found: self._found(epoch, seen, missing, found),
            lambda error: self._failed(epoch, error),
        )

    def hover(
        self,
        seen: SeenPlane,
        predictor: Predictor,
        draft: ObjectDraft,
        on_found: Callable[[Answer[Candidates]], None],
        *,
        briefly: bool,
    ) -> None:
        """Request masks for a possible draft, replacing the last request.

        `briefly` is that of `SeenPlane.answer`.
        """
        epoch, level = self._epoch, self._start(draft)

        def remember(answers: list[Answer[Candidates]]) -> None:
            if epoch != self._epoch:
                return
            if answers[0].settled:
                # A click on this very pixel needs no second prediction.
                self._keep(seen.key, draft, answers[0].found)
            on_found(answers[0])

        self._inference.submit(
            Lane.HOVER,
            lambda: seen.answer(predictor, [draft], [level], briefly=briefly),
            remember,
            lambda error: self._failed(epoch, error),
        )

    def stop_hover(self) -> None:
        """Cancel the hover request."""
        self._inference.drop(Lane.HOVER)

    def stop(self) -> None:
        """Forget waiting requests; known masks stay."""
        self._inference.drop(Lane.HOVER)
        self._inference.drop(Lane.PROMPT)
        self._asked.clear()
        self._on_read(None)

    def clear(self) -> None:
        """Forget all masks and running requests: the model has changed."""
        self._epoch += 1
        self.stop()
        self._known.clear()

    def _found(
        self,
        epoch: int,
        seen: SeenPlane,
        drafts: Sequence[ObjectDraft],
        answers: Sequence[Answer[Candidates]],
    ) -> None:
        if epoch != self._epoch:
            return
        for draft, answer in zip(drafts, answers, strict=True):
            self._keep(seen.key, draft, answer.found, room=len(drafts))
            self._asked.discard((seen.key, draft.prompts_key))
        if not self._asked:
            self._on_read(None)
        self._on_found(seen, drafts, answers)

    def _keep(
        self, plane: Hashable, draft: ObjectDraft, found: Candidates, room: int = 1
    ) -> None:
        self._known[plane, draft.prompts_key] = found
        while len(self._known) > max(_KEPT, room):
            self._known.popitem(last=False)

    def _failed(self, epoch: int, error: Exception) -> None:
        if epoch != self._epoch:
            return
        self._asked.clear()
        self._on_read(None)
        self._on_error(error)
