"""One plane of a run over many: checked, read, encoded and searched, in jobs between clicks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_tinysam.background import start_thread
from napari_tinysam.inference.looks import Look
from napari_tinysam.ui.session.auto.run import EmbeddedPlane, Run
from napari_tinysam.ui.session.embedding.ahead import is_cheap
from napari_tinysam.ui.session.labels.edits import read_ids
from napari_tinysam.ui.session.labels.filling import packed
from napari_tinysam.ui.session.worker import Inference, Lane
from napari_tinysam.ui.state.region import FreePixels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from napari.layers import Image, Labels

    from napari_tinysam.everything import LabelSettings, Progress
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.ui.session.labels.filling import Packed
    from napari_tinysam.ui.state.planes import Contrast, Plane
    from napari_tinysam.ui.state.seeing import SeenPlane


@dataclass(frozen=True, eq=False)
class PlaneTask:
    """What is searched, and how.

    Attributes
    ----------
    image : napari.layers.Image
    version : int
        Of the image's data.
    plane : Plane
    seen : SeenPlane
        How the model sees the plane.
    predictor : Predictor
    contrast : Contrast
    labels : (Labels, Plane) or None
        The labels of the image, and their plane.
    fill : bool
        Whether a plane that has objects is searched where it is free.
    settings : LabelSettings or None
        Which proposals become objects; None: the model's own choice.
    """

    image: Image
    version: int
    plane: Plane
    seen: SeenPlane
    predictor: Predictor
    contrast: Contrast
    labels: tuple[Labels, Plane] | None
    fill: bool
    settings: LabelSettings | None


class PlaneSearch:
    """Searches a plane, step by step.

    Parameters
    ----------
    inference : Inference
    task : PlaneTask
    on_progress : callable
        Called with the share that is done.
    on_skipped : callable
        Called if there is nothing to search.
    on_found : callable
        Called with the number of objects and their pixels.
    on_failed : callable
        Called with the error.
    """

    def __init__(
        self,
        inference: Inference,
        task: PlaneTask,
        *,
        on_progress: Callable[[float], None],
        on_skipped: Callable[[], None],
        on_found: Callable[[int, list[Packed]], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self._inference = inference
        self._task = task
        self._on_progress = on_progress
        self._on_skipped = on_skipped
        self._on_found = on_found
        self._on_failed = on_failed
        self._labelled: npt.NDArray[np.bool_] | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin, with a look at the labels."""
        self._submit(self._check, self._checked)

    def stop(self) -> None:
        """Stop without a report."""
        self._stopped = True
        self._inference.drop(Lane.AUTO)

    def _check(self) -> bool:
        """Read the labels; return whether there is something to search."""
        task = self._task
        if task.labels is None:
            return True
        self._labelled = labelled = read_ids(*task.labels) > 0
        return not (labelled.all() if task.fill else labelled.any())

    def _checked(self, wanted: bool) -> None:
        if not wanted:
            self._on_skipped()
            return
        task, seen = self._task, self._task.seen
        whole = Look.whole(task.plane.shape)
        begin, predictor = seen.begin, task.predictor
        if seen.in_parts:  # it is read tile by tile
            self._search(None)
            return
        if begin is None or is_cheap(task.image) or seen.has(predictor, whole):
            self._encode(
                lambda: seen.known(predictor, whole) or seen.read(predictor, whole)
            )
            return

        def read() -> None:
            """Read slow pixels in a thread of their own: clicks do not wait for them."""
            try:
                encode = begin()
            except Exception as error:  # noqa: BLE001 - every failure is the receiver's
                self._inference.post(partial(self._report, self._on_failed, error))
            else:
                ready = partial(encode, predictor)
                self._inference.post(partial(self._report, self._encode, ready))

        start_thread(read, "tinysam-read")

    def _encode(self, encode: Callable[[], Embedding]) -> None:
        self._submit(encode, self._search)

    def _search(self, embedding: Embedding | None) -> None:
        task, labelled = self._task, self._labelled
        scene = EmbeddedPlane(
            task.image, task.version, task.plane, task.predictor, embedding
        )
        at = None if labelled is None else labelled.__getitem__
        where = FreePixels(Look.whole(task.plane.shape), at)
        run = Run(scene, where, whole=True, contrast=task.contrast)
        self._advance(run)

    def _advance(self, run: Run) -> None:
        def stepped(step: Progress | None) -> None:
            if step is None:
                self._submit(finish, lambda found: self._on_found(*found))
                return
            self._on_progress(min(step.done / max(step.total, 1), 1.0))
            self._advance(run)

        def finish() -> tuple[int, list[Packed]]:
            from napari_tinysam.everything import label_proposals

            proposals, own = run.outcome()
            settings = self._task.settings or own
            found = label_proposals(proposals, settings, taken=self._labelled)
            return len(found.numbers), packed(found.labels)

        self._submit(run.step, stepped)

    def _submit(self, job: Callable[[], Any], on_done: Callable[[Any], None]) -> None:
        self._inference.submit(
            Lane.AUTO,
            job,
            lambda result: self._report(on_done, result),
            lambda error: self._report(self._on_failed, error),
        )

    def _report(self, call: Callable[[Any], None], what: Any) -> None:
        if not self._stopped:
            call(what)
