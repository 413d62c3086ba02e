"""Reading the looks of a large plane before they are asked for, while nothing else is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from napari_tinysam.ui.session.worker import Inference, Lane

if TYPE_CHECKING:
    from napari_tinysam.inference.looks import Look
    from napari_tinysam.ui.session.embedding.embedder import Embedder
    from napari_tinysam.ui.state.seeing import SeenPlane
    from napari_tinysam.ui.state.subject import Subject

logger = logging.getLogger(__name__)


class LooksAhead:
    """Reads the looks under the cursor, on the screen and around it, one at a time.

    Then that under the cursor in the planes beside it.

    Parameters
    ----------
    inference : Inference
        Its last lane is used: all that the user asks for goes first.
    subject : Subject
    embedder : Embedder
        Has the model.
    may_read : callable
        Whether nothing is running that the user waits for.
    beside : callable
        Returns the planes beside the shown one.
    """

    def __init__(
        self,
        inference: Inference,
        subject: Subject,
        embedder: Embedder,
        may_read: Callable[[], bool],
        beside: Callable[[], list[SeenPlane]] = list,
    ) -> None:
        self._inference = inference
        self._subject = subject
        self._embedder = embedder
        self._may_read = may_read
        self._beside = beside
        self._reading: tuple[SeenPlane, Look] | None = None
        self._failed: set[Hashable] = set()  # planes that are not tried again and again

    def go_on(self) -> None:
        """Read the next look, unless one is being read."""
        subject, predictor = self._subject, self._embedder.predictor
        seen, shown = subject.seen, subject.shown
        if (
            predictor is None
            or seen is None
            or shown is None
            or not seen.in_parts
            or seen.key in self._failed
            or self._reading is not None
            or not self._may_read()
        ):
            return
        at = subject.cursor or ((shown.x0 + shown.x1) / 2, (shown.y0 + shown.y1) / 2)
        looks = seen.ahead(subject.level, shown, at)
        wanted = [(seen, look) for look in looks if not seen.has(predictor, look)]
        if not wanted:  # all of it is read
            wanted = [
                (other, look)
                for other in self._beside()
                for look in other.ahead(subject.level, shown, at)[:1]
                if other.key not in self._failed and not other.has(predictor, look)
            ]
        if not wanted:
            return
        self._reading = job = wanted[0]
        self._inference.submit(
            Lane.AHEAD,
            lambda: job[0].embedding(predictor, job[1]),
            lambda _: self._done(job),
            lambda error: self._broke(job, error),
        )

    def stop(self) -> None:
        """Read no further: another plane is shown."""
        self._inference.drop(Lane.AHEAD)
        self._reading = None
        self._failed.clear()

    def _done(self, job: tuple[SeenPlane, Look]) -> None:
        if self._reading is job:
            self._reading = None
            self.go_on()

    def _broke(self, job: tuple[SeenPlane, Look], error: Exception) -> None:
        """Keep silent: whoever asks for the look is told."""
        logger.debug("A part of the image could not be read", exc_info=error)
        if self._reading is job:
            self._reading = None
            self._failed.add(job[0].key)
            self.go_on()
