"""Auto-segmentation: looks for all objects of a plane in the background, in steps.

Between two steps of the search the inference thread serves the user's clicks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

#: Goes on in steps in the inference thread; each takes the time of a click at most, or of reading a
#: look. The last one gives the proposals.
Sorting = Callable[["Proposed"], Iterator["Proposed | None"]]


@dataclass(frozen=True)
class Question:
    """What a search is for.

    Parameters
    ----------
    text : str
        Of the step, for the button.
    region : Region
    sorting : callable
        Sorts what was found, see `Sorting`.
    on_proposed : callable
        Called when it is proposed on the shown plane.
    """

    text: str
    region: Region
    sorting: Sorting
    on_proposed: Callable[[], None] = lambda: None


@dataclass(eq=False)
class _Again:
    """What was found before is sorted again, without a search."""

    scene: EmbeddedPlane
    stopped: bool = False


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
        self.scene = scene
        self._labelled = labelled
        self._on_status = on_status
        self._run: Run | _Again | None = None
        self._question: Question | None = None  # of the run
        #: Called with the plane that was searched: how to sort what was found, if at all.
        self.sorting: Callable[[EmbeddedPlane], Sorting | None] = lambda scene: None
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

    def run(self, question: Question | None = None) -> None:
        """Segment the shown plane, except where it is labelled.

        Parameters
        ----------
        question : Question, optional
            What to do with what is found; by default it is proposed in the chosen region.
        """
        if self._run is not None:
            self._notify("info", "Auto-segmentation is already running.")
            return
        if self._subject.here is None:  # no image, or the 3-D view: the status says so
            return
        scene = self.scene()
        self._awaited = self._subject.here if scene is None else None
        if scene is None:
            self._subject.changed.emit()
            return
        region = self.region if question is None else question.region
        part = region_of(region, scene.image, scene.plane, self._subject.last_box)
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
            whole=region is Region.PLANE,
            contrast=self._subject.memory.contrast,
        )
        self._question = question
        self._show_status("Looking for objects…", None)
        self._advance(run)

    def sort(self, found: Proposed, question: Question) -> None:
        """Sort what was found on the shown plane before."""
        scene = self.scene()
        if scene is not None and self._run is None:
            self._run = run = _Again(scene)
            self._question = question
            self._show_status("Comparing the objects…", None)
            self._sort(run, found, question.sorting(found))

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
        self._run = self._question = None
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
        if step.new or step.afresh:
            run.add(step)
            self._proposals.show_found(run.scene.image, run.scene.plane, run.found)
        masks = f"{len(run.found)} masks"
        if step.unit == "places":
            self._show_status(f"Choosing the scale, {masks}", None)
        else:
            text = f"Auto-segment: {step.done} of {step.total} {step.unit}, {masks}"
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

    def _finished(self, run: Run, found: Proposed) -> None:
        if self._run is not run:
            return
        question = self._question
        sorting = question.sorting if question else self.sorting(run.scene)
        if sorting is None or not len(found.proposals):
            self._propose(run, found)
        else:
            self._show_status("Comparing the objects…", None)
            self._sort(run, found, sorting(found))

    def _sort(
        self, run: Run | _Again, found: Proposed, steps: Iterator[Proposed | None]
    ) -> None:
        """Sort what was found, step by step; a cancelled search proposes it unsorted."""

        def stepped(after: Proposed | None) -> None:
            if self._run is not run:
                return
            if after is not None or (run.stopped and self._question is None):
                self._propose(run, after or found)
            elif run.stopped:
                self._end()
                self._proposals.show()
            else:
                self._sort(run, found, steps)

        self._inference.submit(
            Lane.AUTO,
            lambda: next(steps),
            stepped,
            lambda error: self._failed(run, error),
        )

    def _propose(self, run: Run | _Again, after: Proposed) -> None:
        scene, question = run.scene, self._question
        text = "auto-segment" if question is None else question.text
        self._end()
        self._proposals.replace(scene.image, scene.plane, after, text)
        if not len(after.proposals):
            told = after.advice or "Auto-segmentation found nothing here."
            self._notify("info", told)
        elif question is not None and self._subject.here == (scene.image, scene.plane):
            question.on_proposed()

    def _failed(self, run: Run | _Again, error: Exception) -> None:
        if self._run is not run:
            return
        what = "Auto-segmentation stopped"
        if self._question is not None:
            what = "Objects were not compared"
        self._end()
        self._proposals.show()
        self._notify("error", sentence(error, what))

    def _show_status(self, text: str, fraction: float | None) -> None:
        self._on_status(Status(StatusKind.SEGMENTING, text, fraction))
