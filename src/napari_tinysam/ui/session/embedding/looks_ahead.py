"""Reading the looks of a large plane before they are asked for, while nothing else is done."""

from __future__ import annotations

import logging
from collections.abc import Callable
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

    Parameters
    ----------
    inference : Inference
        Its last lane is used: all that the user asks for goes first.
    subject : Subject
    embedder : Embedder
        Has the model.
    may_read : callable
        Whether nothing is running that the user waits for.
    """

    def __init__(
        self,
        inference: Inference,
        subject: Subject,
        embedder: Embedder,
        may_read: Callable[[], bool],
    ) -> None:
        self._inference = inference
        self._subject = subject
        self._embedder = embedder
        self._may_read = may_read
        self._reading: tuple[SeenPlane, Look] | None = None
        self._failed: SeenPlane | None = None  # not tried again and again

    def go_on(self) -> None:
        """Read the next look, unless one is being read."""
        subject, predictor = self._subject, self._embedder.predictor
        seen, shown = subject.seen, subject.shown
        if (
            predictor is None
            or seen is None
            or shown is None
            or not seen.in_parts
            or seen is self._failed
            or self._reading is not None
            or not self._may_read()
        ):
            return
        at = subject.cursor or ((shown.x0 + shown.x1) / 2, (shown.y0 + shown.y1) / 2)
        looks = seen.ahead(subject.level, shown, at)
        look = next((each for each in looks if not seen.has(predictor, each)), None)
        if look is None:
            return
        self._reading = job = seen, look
        self._inference.submit(
            Lane.AHEAD,
            lambda: seen.embedding(predictor, look),
            lambda _: self._done(job),
            lambda error: self._broke(job, error),
        )

    def stop(self) -> None:
        """Read no further: another plane is shown."""
        self._inference.drop(Lane.AHEAD)
        self._reading = self._failed = None

    def _done(self, job: tuple[SeenPlane, Look]) -> None:
        if self._reading is job:
            self._reading = None
            self.go_on()

    def _broke(self, job: tuple[SeenPlane, Look], error: Exception) -> None:
        """Keep silent: whoever asks for the look is told."""
        logger.debug("A part of the image could not be read", exc_info=error)
        if self._reading is job:
            self._reading, self._failed = None, job[0]
