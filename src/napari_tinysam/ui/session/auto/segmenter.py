"""Auto-segmentation: looks for all objects of a plane in the background, in steps.

Between two steps of the search the inference thread serves the user's clicks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_tinysam.errors import sentence
from napari_tinysam.ui.session.auto.run import Run
from napari_tinysam.ui.session.worker import Inference, Lane
from napari_tinysam.ui.state.region import FreePixels, Region, region_of
from napari_tinysam.ui.state.status import Status, StatusKind

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_tinysam.everything import Progress
    from napari_tinysam.everything.shapes import TakenAt
    from napari_tinysam.ui.session.auto.proposals import ShownProposals
    from napari_tinysam.ui.session.auto.run import EmbeddedPlane
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.proposed import Proposed
    from napari_tinysam.ui.state.subject import Subject

Labelled = Callable[["Plane"], "TakenAt | None"]


class AutoSegmenter:
    """Runs one search at a time.

    Parameters
    ----------
    inference : Inference
    subject : Subject
    proposals : ShownProposals
        Shows what is found.
    notify : callable
        ``notify(level, text)``.
    scene : callable
        Returns the shown plane once it can be decoded; None after asking for its embedding.
    labelled : callable
        Returns what tells which pixels of a plane are labelled; None without labels.
    on_status : callable
        Called with a `Status`; None when auto-segmentation has no status left.
    """

    def __init__(
        self,
        inference: Inference,
        subject: Subject,
        proposals: ShownProposals,
        notify: Notify,
        *,
        scene: Callable[[], EmbeddedPlane | None],
        labelled: Labelled,
        on_status: Callable[[Status | None], None],
    ) -> None:
        self._inference = inference
        self._subject = subject
        self._proposals = proposals
        self._notify = notify
        self._scene = scene
        self._labelled = labelled
        self._on_status = on_status
        self._run: Run | None = None
        #: The plane whose embedding the search waits for.
        self._awaited: tuple[Image, Plane] | None = None

    @property
    def running(self) -> bool:
        """Whether a search is running or waiting for the image."""
        return self._run is not None or self._awaited is not None

    @property
    def decoding(self) -> bool:
        """Whether a search is running."""
        return self._run is not None

    @property
    def region(self) -> Region:
        """Where objects are looked for."""
        return self._subject.memory.region

    def set_region(self, region: Region) -> None:
        """Choose where objects are looked for."""
        self._subject.memory.region = region
        self._subject.changed.emit()

    # --- begin and end -------------------------------------------------------------------

    def run(self) -> None:
        """Segment the shown plane, except where it is labelled."""
        if self._run is not None:
            self._notify("info", "Auto-segmentation is already running.")
            return
        if self._subject.here is None:  # no image, or the 3-D view: the status says so
            return
        scene = self._scene()
        self._awaited = self._subject.here if scene is None else None
        if scene is None:
            self._subject.changed.emit()
            return
        part = region_of(self.region, scene.image, scene.plane, self._subject.last_box)
        if part is None:
            self._notify("info", "Draw a box first: drag with Shift held down.")
            return
        where = FreePixels(part, self._labelled(scene.plane))
        if not where.any():
            self._notify("info", "Everything here is already labelled.")
            return
        self._run = run = Run(
            scene,
            where,
            whole=self.region is Region.PLANE,
            contrast=self._subject.memory.contrast,
        )
        self._show_status("Looking for objects…", None)
        self._advance(run)

    def ready(self) -> None:
        """Begin the search that waited for the embedding, unless another plane is shown by then."""
        awaited, self._awaited = self._awaited, None
        if awaited is None:
            return
        if awaited == self._subject.here:
            self.run()
        else:
            self._notify("info", "Auto-segmentation did not start: the plane changed.")
            self._subject.changed.emit()

    def cancel(self) -> None:
        """Stop, and keep what was found so far."""
        self._awaited = None
        if self._run is not None:
            self._run.stopped = True
        self._subject.changed.emit()

    def forget(self, image: Image) -> None:
        """Stop working on an image: it is gone, or has other data."""
        if self._subject.image is image:
            self._awaited = None
        if self._run is not None and self._run.scene.image is image:
            self._inference.drop(Lane.AUTO)
            self._end()
            self._proposals.layer.remove()

    def model_changed(self) -> None:
        """Stop, and drop what the old model found; a waiting search begins with the new model."""
        if self._run is not None:
            self._inference.drop(Lane.AUTO)
            self._end()
            self._proposals.show()
            self._notify("info", "Auto-segmentation stopped: the model was changed.")

    def close(self) -> None:
        """Stop without telling anyone."""
        self._run = self._awaited = None

    def _end(self) -> None:
        self._run = None
        self._proposals.forget_found()
        self._on_status(None)

    # --- steps ---------------------------------------------------------------------------

    def _advance(self, run: Run) -> None:
        """Do one step in the background; clicks and hovering go before the next."""
        self._inference.submit(
            Lane.AUTO,
            run.step,
            lambda step: self._stepped(run, step),
            lambda error: self._failed(run, error),
        )

    def _stepped(self, run: Run, step: Progress | None) -> None:
        if self._run is not run:
            return
        if step is None or run.stopped:
            self._finish(run)
            return
        if step.new:
            run.add(step)
            self._proposals.show_found(run.scene.image, run.scene.plane, run.found)
        text = f"Auto-segment: {step.done} of {step.total} {step.unit}, {len(run.found)} masks"
        self._show_status(text, min(step.done / max(step.total, 1), 1.0))
        self._advance(run)

    def _finish(self, run: Run) -> None:
        """Compare all masks with one another, in the background too."""
        self._show_status("Comparing the masks…", 1.0)
        self._inference.submit(
            Lane.AUTO,
            run.result,
            lambda found: self._finished(run, found),
            lambda error: self._failed(run, error),
        )

    def _finished(self, run: Run, after: Proposed) -> None:
        if self._run is not run:
            return
        self._end()
        scene = run.scene
        self._proposals.replace(scene.image, scene.plane, after, "auto-segment")
        if not len(after.proposals):
            text = after.advice or "Auto-segmentation found nothing here."
            self._notify("info", text)

    def _failed(self, run: Run, error: Exception) -> None:
        if self._run is not run:
            return
        self._end()
        self._proposals.show()
        self._notify("error", sentence(error, "Auto-segmentation stopped"))

    def _show_status(self, text: str, fraction: float | None) -> None:
        self._on_status(Status(StatusKind.SEGMENTING, text, fraction))
