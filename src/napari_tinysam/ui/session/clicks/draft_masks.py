"""Masks of the drafts: requested, remembered and drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari_tinysam.ui.canvas.preview import Preview
from napari_tinysam.ui.session.clicks.predictions import Predictions
from napari_tinysam.ui.state.images import put_above

if TYPE_CHECKING:
    from collections.abc import Hashable

    from napari.components import ViewerModel

    from napari_tinysam.inference.candidates import Candidates
    from napari_tinysam.inference.pyramid import Answer
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.embedding.embedder import Embedder
    from napari_tinysam.ui.session.worker import Inference
    from napari_tinysam.ui.state.drafts import ObjectDraft
    from napari_tinysam.ui.state.seeing import SeenPlane
    from napari_tinysam.ui.state.subject import Subject


class DraftMasks:
    """Requests and draws the masks of the drafts on the shown plane.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where they are drawn.
    subject : Subject
    inference : Inference
        Where prompts are decoded.
    embedder : Embedder
        Has the model and the embedding of the plane.
    resume : callable
        Embeds the plane again if the user cancelled that; returns whether it did.
    on_found : callable
        Called when masks of the shown plane came in.
    on_error : callable
        Called with the error.
    on_read : callable
        As `Predictions` takes it.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        inference: Inference,
        embedder: Embedder,
        *,
        resume: Callable[[], bool],
        on_found: Callable[[], None],
        on_error: Callable[[Exception], None],
        on_read: Callable[[str | None], None],
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._embedder = embedder
        self._resume = resume
        self._on_found = on_found
        self._on_error = on_error
        self._predictions = Predictions(
            inference, subject.start, self._found, self._failed, on_read
        )
        # The masks drawn last, of the plane and by the first prompt of each draft.
        self._drawn: dict[Hashable, BoxedMask] = {}
        self.preview = Preview(viewer)

    def of(self, draft: ObjectDraft) -> Candidates | None:
        """Return the masks of a draft of the shown plane; None while they are not known."""
        return self._predictions.get(self._subject.key, draft)

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width of what the model sees at once."""
        seen, plane = self._subject.seen, self._subject.plane
        if seen is None or plane is None:
            return 0, 0
        side = seen.pyramid.sides[self._subject.level]
        return min(side, plane.shape[0]), min(side, plane.shape[1])

    def known(self) -> list[BoxedMask]:
        """Return the masks of all drafts that have one; an edited object has its own."""
        masks = []
        for draft in self._subject.drafts.filled:
            found = self.of(draft)
            if found is not None:
                masks.append(found.mask(draft.candidate))
            elif draft.edited is not None:
                masks.append(draft.edited.mask)
        return masks

    def show(self) -> None:
        """Draw the masks of all drafts that have one, and request the missing ones."""
        if self._subject.here is None:
            return
        drafts = self._subject.drafts.predictable
        if any(self.of(draft) is None for draft in drafts):
            self._ask(drafts)
        self._draw()
        self._subject.changed.emit()

    def show_hover(self, mask: BoxedMask | None) -> None:
        """Draw the mask under the cursor with the masks of the drafts."""
        self._draw([] if mask is None else [mask])

    def show_instance(self, xy: tuple[float, float]) -> None:
        """Draw what the object head sees at (x, y), until the decoder has answered.

        Nothing changes while the cursor stays on what is drawn, or where nothing is seen.
        """
        if not self.hovers_over(xy):
            found = self._instance(xy)
            if found is not None:
                self.show_hover(found)

    def hovers_over(self, xy: tuple[float, float]) -> bool:
        """Whether the mask that is drawn for the cursor holds (x, y)."""
        shown = self.preview.shown
        return shown is not None and any(mask.holds(*xy) for mask in shown.hover)

    @property
    def is_ready(self) -> bool:
        """Whether the model can be asked about the shown plane."""
        embedder = self._embedder
        return embedder.embedding is not None and embedder.predictor is not None

    def hover(
        self,
        draft: ObjectDraft,
        on_found: Callable[[Hashable, Answer[Candidates]], None],
        *,
        briefly: bool = True,
    ) -> None:
        """Request masks for a possible draft, replacing the last request.

        Parameters
        ----------
        draft : ObjectDraft
        on_found : callable
            Called with the key of the plane and the masks.
        briefly : bool
            Read one look at the plane at most; the masks are not settled if they need another.
        """
        seen, predictor = self._subject.seen, self._embedder.predictor
        if self.is_ready and seen is not None and predictor is not None:
            key = seen.key
            self._predictions.hover(
                seen,
                predictor,
                draft,
                lambda answer: on_found(key, answer),
                briefly=briefly,
            )

    def stop_hover(self) -> None:
        """Cancel the hover request."""
        self._predictions.stop_hover()

    def stop(self) -> None:
        """Cancel all requests; known masks stay."""
        self._predictions.stop()

    def forget(self) -> None:
        """Forget all masks: the model has changed."""
        self._drawn.clear()
        self._predictions.clear()

    def _ask(self, drafts: Sequence[ObjectDraft]) -> None:
        if self._resume():
            return
        seen, predictor = self._subject.seen, self._embedder.predictor
        if self.is_ready and seen is not None and predictor is not None:
            self._predictions.ask(seen, predictor, drafts)

    def _found(
        self,
        seen: SeenPlane,
        drafts: Sequence[ObjectDraft],
        answers: Sequence[Answer[Candidates]],
    ) -> None:
        if seen.key == self._subject.key:
            for draft, answer in zip(drafts, answers, strict=True):
                self._subject.state.sizes.note(seen, draft, answer)
            self._on_found()

    def _failed(self, error: Exception) -> None:
        self._draw(waits=False)
        self._on_error(error)

    def _instance(self, xy: tuple[float, float]) -> BoxedMask | None:
        seen, predictor = self._subject.seen, self._embedder.predictor
        if seen is None or predictor is None:
            return None
        return seen.instance(predictor, self._subject.level, xy)

    def _waiting(self) -> list[BoxedMask]:
        """Return what stands for the drafts that have no mask yet, so that no click seems lost."""
        return [
            self._stand_in(draft)
            for draft in self._subject.drafts.predictable
            if self.of(draft) is None and draft.edited is None
        ]

    def _stand_in(self, draft: ObjectDraft) -> BoxedMask:
        """Return the last mask, that under the cursor, an instance, or a mark."""
        before = self._drawn.get((self._subject.key, draft.anchor))
        if before is not None:
            return before
        here, shown = self._subject.here, self.preview.shown
        assert here is not None
        if draft.box is not None:
            return self.preview.rectangle(here[1], draft.box)
        place = next((each.x, each.y) for each in draft.points if each.label)
        for mask in () if shown is None else shown.hover:
            if mask.holds(*place):
                return mask
        return self._instance(place) or self.preview.mark(*here, place)

    def _draw(self, hover: Sequence[BoxedMask] = (), *, waits: bool = True) -> None:
        here = self._subject.here
        if here is None:
            return
        masks, waiting = self.known(), self._waiting() if waits else []
        self._remember()
        draft = self._subject.drafts.current
        current = draft.edited is not None or (
            not draft.is_empty and self.of(draft) is not None
        )
        self.preview.show(*here, masks, hover=hover, waiting=waiting, current=current)
        if self.preview.layer is not None:
            put_above(self._viewer, self.preview.layer, here[0])

    def _remember(self) -> None:
        """Keep the masks that are drawn, for drafts that are refined meanwhile."""
        key = self._subject.key
        drawn: dict[Hashable, BoxedMask] = {}
        for draft in self._subject.drafts.predictable:
            place = key, draft.anchor
            found = self.of(draft)
            if found is not None:
                drawn[place] = found.mask(draft.candidate)
            elif place in self._drawn:
                drawn[place] = self._drawn[place]
        self._drawn = drawn
