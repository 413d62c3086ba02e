"""Auto-segmentation of many planes: of a stack or a movie, or of all images in the viewer.

Each plane is searched as `AutoSegmenter` searches the shown one, in steps between which the
inference thread serves the user's clicks. What is found goes into the labels of the image as soon
as its plane is done, only where they are free. A run is one undo step for each image.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari_tinysam.errors import sentence
from napari_tinysam.ui.session.auto.plane_search import PlaneSearch, PlaneTask
from napari_tinysam.ui.session.auto.planes_run import (
    PlanesRun,
    in_words,
    objects_in_words,
)
from napari_tinysam.ui.session.labels.writing import LabelsError
from napari_tinysam.ui.session.stacks.part import StackPart
from napari_tinysam.ui.session.worker import Inference, Lane
from napari_tinysam.ui.state.images import seen_plane
from napari_tinysam.ui.state.stack_planes import (
    nearest_plane,
    planes_in,
    stack_axes,
)
from napari_tinysam.ui.state.status import Status, StatusKind
from napari_tinysam.ui.state.time_left import time_left

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.inference.cache import RecentEmbeddings
    from napari_tinysam.ui.session.auto.planes_run import Place
    from napari_tinysam.ui.session.embedding.embedder import Embedder
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.labels.filling import Packed
    from napari_tinysam.ui.session.labels.label_filling import LabelFilling
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.stack_planes import AxisRange, Range
    from napari_tinysam.ui.state.subject import Subject


class AllPlanes:
    """Runs over many planes, one run at a time.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    subject : Subject
    inference : Inference
    embedder : Embedder
        Has the model.
    cache : RecentEmbeddings
        Planes of which the embedding is in memory are not read again.
    filling : LabelFilling
        Writes what is found.
    notify : callable
        ``notify(level, text)``.
    on_status : callable
        Called with a `Status`; None when the run has ended.
    on_done : callable
        Called with the images of a run that went through to its end, and found objects.

    Attributes
    ----------
    note : str
        How the last run ended; "" before.
    part : StackPart
        Which planes are searched.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        inference: Inference,
        embedder: Embedder,
        cache: RecentEmbeddings,
        filling: LabelFilling,
        notify: Notify,
        *,
        on_status: Callable[[Status | None], None],
        on_done: Callable[[list[Image]], None],
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._inference = inference
        self._embedder = embedder
        self._cache = cache
        self._filling = filling
        self._notify = notify
        self._on_status = on_status
        self._on_done = on_done
        self.part = StackPart(subject, lambda state: state.ranges)
        self._run: PlanesRun | None = None
        #: The image, an axis, its range before a cancelled run shortened it, and after.
        self._shortened: tuple[Image, int, Range, Range] | None = None
        self._resumed: tuple[Image, int, Range] | None = None
        self.note = ""
        filling.on_turned = self._turned

    @property
    def running(self) -> bool:
        """Whether a run goes on."""
        return self._run is not None

    # --- what the user chooses -----------------------------------------------------------

    @property
    def fill(self) -> bool:
        """Whether planes that have objects are searched where they are free."""
        return self._subject.memory.fill

    def set_fill(self, fill: bool) -> None:
        """Search planes that have objects where they are free, or leave them as they are."""
        self._subject.memory.fill = fill
        self._subject.changed.emit()

    def ranges(self) -> list[AxisRange]:
        """Return which part of each axis of the image is searched."""
        return self.part.ranges()

    def set_range(self, axis: int, first: int, last: int) -> None:
        """Search the planes from a first to a last position on an axis of the image."""
        self.part.set_range(axis, first, last)

    @property
    def settings_in_words(self) -> str:
        """Which proposals become objects, if the user chose that; "" for the model's choice."""
        tuned = self._subject.memory.tuned
        return "" if tuned is None else f"confidence {tuned.confidence:.2f}"

    # --- begin and end -------------------------------------------------------------------

    def planes_of(self, image: Image) -> list[Plane]:
        """List the planes of an image that would be searched, in its ranges."""
        state = self._subject.memory.state_of(image)
        plane = nearest_plane(image, self._viewer.dims, state.channel_axis)
        return [] if plane is None else planes_in(image, plane, state.ranges)

    def searched(self, image: Image) -> dict[int, Range]:
        """Return the ranges that the last run has searched, with the one that it went on with."""
        ranges = dict(self._subject.memory.state_of(image).ranges)
        if self._resumed is not None and self._resumed[0] is image:
            ranges[self._resumed[1]] = self._resumed[2]
        return ranges

    def run(self, images: Sequence[Image]) -> None:
        """Search all planes of images, in their ranges, and write what is found."""
        if self._run is not None:
            self._notify("info", "Auto-segmentation is already running.")
            return
        memory = self._subject.memory
        places = [(image, plane) for image in images for plane in self.planes_of(image)]
        if not places:
            self._notify("info", "There are no planes in this range.")
            return
        self.note, self._resumed = "", None
        if self._shortened is not None:
            image, axis, whole, rest = self._shortened
            if memory.state_of(image).ranges.get(axis) == rest:
                self._resumed = image, axis, whole
        self._shortened = None
        self._run = run = PlanesRun(
            places, memory.tuned, memory.fill, todo=deque(places)
        )
        self._filling.begin()
        self._show_status(run)
        self._embedder.start()
        self._wait(run)

    def cancel(self) -> None:
        """Stop, and keep what is written."""
        if self._run is not None:
            self._run.stop()
            self._end(self._run, "Auto-segmentation was cancelled.")

    def model_changed(self) -> None:
        """Stop: the rest would be found by another model."""
        if self._run is not None:
            self._run.stop()
            self._end(self._run, "Auto-segmentation stopped: the model was changed.")

    def forget(self, image: Image) -> None:
        """Leave out an image: it is gone, or has other data."""
        run = self._run
        if run is None or all(each is not image for each, _ in run.places):
            return
        run.todo = deque(place for place in run.todo if place[0] is not image)
        settled = [*run.done, *run.skipped, *(place for place, _ in run.failed)]
        run.places = [
            place for place in run.places if place[0] is not image or place in settled
        ]
        run.left_out.append(image.name)
        if run.now is not None and run.now[0] is image:
            run.stop()
            run.now = None
            self._next(run)

    def labels_gone(self, layer: Labels) -> None:
        """Stop if a layer is gone that the run has written into; the next run begins anew."""
        memory, note = self._subject.memory, ""
        if self._run is not None and self._filling.fills(layer):
            self._run.stop()
            self._run.can_undo = False
            self._end(self._run, "Auto-segmentation stopped: its labels were removed.")
            note = self.note
        elif (
            self._shortened is None
            or memory.state_of(self._shortened[0]).target is not layer
        ):
            return
        self._turned()
        self.note = note
        self._subject.changed.emit()

    def close(self) -> None:
        """Stop without telling anyone; what is found is written."""
        self._run = None
        self._filling.finish()

    def _end(self, run: PlanesRun, said: str = "") -> None:
        self._run = None
        if run.now is not None:
            run.todo.appendleft(run.now)
        self.note = in_words(run, said)
        self._go_on_later(run)
        level = "warning" if run.failed else "info"
        self._on_status(None)
        self._notify(level, self.note)
        self._subject.changed.emit()
        if not said and run.objects:
            self._on_done(list(dict.fromkeys(image for image, _ in run.done)))

    def _go_on_later(self, run: PlanesRun) -> None:
        """Let the range begin with the first plane that was not searched."""
        if not run.todo:
            return
        image, plane = run.todo[0]
        axes = stack_axes(image, plane)
        if len(axes) == 1 and image in self._viewer.layers:
            ranges = self._subject.memory.state_of(image).ranges
            last = run.places[-1][1] if run.places[-1][0] is image else None
            end = None if last is None else last.index[axes[0]]
            first = plane.index[axes[0]]
            if first is not None and end is not None:
                begin = run.places[0][1].index[axes[0]] or 0
                if self._resumed is not None and self._resumed[0] is image:
                    begin = self._resumed[2][0]
                ranges[axes[0]] = first, end
                self._shortened = image, axes[0], (begin, end), (first, end)

    def _turned(self) -> None:
        """Forget how the last run ended: it was taken back, or is there again."""
        self.note = ""
        if self._shortened is not None:
            image, axis, whole, _ = self._shortened
            self._subject.memory.state_of(image).ranges[axis] = whole
            self._shortened = None

    # --- planes --------------------------------------------------------------------------

    def _next(self, run: PlanesRun) -> None:
        """Begin with the next plane."""
        if self._run is not run:
            return
        if not self._filling.wanted:
            self._end(run, "Auto-segmentation stopped: it was taken back.")
            return
        predictor = self._embedder.predictor
        if predictor is None and self._embedder.loading:
            # Such as its faster form. It is loaded before anything of this lane is done.
            self._wait(run)
            return
        if predictor is None:
            self._end(run, "Auto-segmentation did not start: there is no model.")
            return
        if not run.todo:
            self._end(run)
            return
        place = image, plane = run.now = run.todo.popleft()
        self._show_status(run)
        try:
            there = self._filling.find(image, plane)
        except LabelsError as error:
            self._settle_failed(run, place, error)
            return
        memory = self._subject.memory
        task = PlaneTask(
            image,
            memory.state_of(image).version,
            plane,
            seen_plane(image, plane, memory, self._cache),
            predictor,
            memory.contrast,
            there,
            run.fill,
            run.settings,
        )

        def skipped() -> None:
            run.skipped.append(place)
            run.now = None
            self._next(run)

        run.search = PlaneSearch(
            self._inference,
            task,
            on_progress=lambda part: self._show_status(run, part),
            on_skipped=skipped,
            on_found=lambda count, rows: self._found(run, place, count, rows),
            on_failed=lambda error: self._settle_failed(run, place, error),
        )
        run.search.start()

    def _found(
        self, run: PlanesRun, place: Place, count: int, rows: list[Packed]
    ) -> None:
        """Write the objects of a plane, and go on."""
        try:
            if rows:
                self._filling.write(*place, count, rows)
        except LabelsError as error:
            self._settle_failed(run, place, error)
            return
        run.done.append(place)
        run.objects += count
        run.now = None
        self._next(run)

    def _wait(self, run: PlanesRun) -> None:
        """Begin with the next plane after the jobs that go first."""

        def go_on(_: None) -> None:
            if self._run is run:
                self._next(run)

        def broken(error: Exception) -> None:
            if self._run is run:
                self._end(run, sentence(error, "Auto-segmentation stopped"))

        self._inference.submit(Lane.AUTO, lambda: None, go_on, broken)

    def _settle_failed(self, run: PlanesRun, place: Place, error: Exception) -> None:
        """Note that a plane failed; the others are done all the same."""
        run.failed.append((place, sentence(error)))
        run.now = None
        self._next(run)

    def _show_status(self, run: PlanesRun, part: float = 0.0) -> None:
        total = len(run.places)
        done = max(run.past - 1, 0) + part
        text = f"Plane {max(run.past, 1)} of {total}"  # two lines of the dock, with the time
        if left := time_left(time.monotonic() - run.begun, done, total):
            text = f"{text}, {left}"
        if run.objects:
            self.note = f"{objects_in_words(run)} so far."
        self._on_status(Status(StatusKind.SEGMENTING, text, done / total))
