"""What linking and tracking have in common: labels are measured and worked on, image by image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from napari_tinysam.errors import sentence
from napari_tinysam.ui.session.stacks.part import StackPart
from napari_tinysam.ui.session.stacks.piece_measuring import PieceMeasuring
from napari_tinysam.ui.session.stacks.relabelling import with_background
from napari_tinysam.ui.state.stack_planes import axis_ranges, nearest_plane
from napari_tinysam.ui.state.status import Status, StatusKind

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.labels.outputs import Outputs
    from napari_tinysam.ui.session.labels.saving import Saving
    from napari_tinysam.ui.session.labels.stack_edits import StackEdit
    from napari_tinysam.ui.session.stacks.piece_measuring import (
        Group,
        KnownPieces,
        MeasuredPieces,
    )
    from napari_tinysam.ui.session.stacks.pieces import Pieces, Relabel
    from napari_tinysam.ui.session.stacks.relabelling import Relabelling
    from napari_tinysam.ui.session.worker import Inference, Lane
    from napari_tinysam.ui.state.history import Deed
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject


Found = TypeVar("Found")


@dataclass(frozen=True)
class Workplace:
    """The parts of the session that the work needs.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    subject : Subject
    inference : Inference
    outputs : Outputs
    saving : Saving
    relabelling : Relabelling
        Writes the ids.
    notify : callable
        ``notify(level, text)``.
    on_status : callable
        Called with a `Status`; None when nothing is running.
    """

    viewer: ViewerModel
    subject: Subject
    inference: Inference
    outputs: Outputs
    saving: Saving
    relabelling: Relabelling
    notify: Notify
    on_status: Callable[[Status | None], None]


@dataclass(eq=False, kw_only=True)
class MeasuredLayer:
    """A labels layer whose planes or frames were measured.

    Attributes
    ----------
    image : napari.layers.Image
    measured : MeasuredPieces
    pieces : Pieces
        Which ids the layer shows them with.
    own : list of ndarray of int64
        For each group, (N,) an id that no other piece has.
    version : int
        Of the layer when its pieces were as the layer is, see `Saving.version`.
    first : bool
        Whether no step has been made with these pieces.
    edit : Relabel, optional
        The last step, unless that was undone.
    """

    image: Image
    measured: MeasuredPieces
    pieces: Pieces
    own: list[npt.NDArray[np.int64]]
    version: int
    first: bool = True
    edit: Relabel | None = None

    @property
    def layer(self) -> Labels:
        """The labels."""
        return self.pieces.layer


class StackWork:
    """Work on the labels of images, one image after the other.

    Parameters
    ----------
    place : Workplace
    name : str
        What is done, for messages: "Linking".
    lane : Lane
        Of its jobs on the inference thread.

    Attributes
    ----------
    part : StackPart
        Which planes are worked on; the others stay as they are.
    """

    def __init__(self, place: Workplace, name: str, lane: Lane) -> None:
        self._viewer = place.viewer
        self._subject = place.subject
        self._inference = place.inference
        self._outputs = place.outputs
        self._saving = place.saving
        self._relabelling = place.relabelling
        self._notify = place.notify
        self._on_status = place.on_status
        self.part = StackPart(place.subject, lambda state: state.part)
        self._name = name
        self._lane = lane
        self._measuring: PieceMeasuring | None = None
        self._now: Image | None = None
        self._next: deque[Image] = deque()
        self._asked = 0  # counts what was asked of the inference thread

    @property
    def running(self) -> bool:
        """Whether planes are being measured or worked on."""
        return self._now is not None

    @property
    def place(self) -> tuple[Image, Plane] | None:
        """The image and its plane that is nearest to what the viewer shows."""
        image = self._subject.image
        plane = None if image is None else self._plane(image)
        return None if image is None or plane is None else (image, plane)

    def cancel(self, said: str = "") -> None:
        """Stop, and leave the labels as they are."""
        if self._now is not None:
            self._next.clear()
            self._end(said or f"{self._name} was cancelled.")

    def interrupt(self) -> None:
        """Stop before a step is undone or redone, and write what still waits."""
        self.cancel(f"{self._name} stopped: a step was undone.")
        self._relabelling.finish()

    def forget(self, layer: Image | Labels) -> None:
        """Forget a layer that left the viewer, or an image that has other data."""
        self._next = deque(image for image in self._next if image is not layer)
        now = self._now
        if now is not None and (
            layer is now or self._subject.memory.state_of(now).target is layer
        ):
            self._end("")
            self._go_on()

    def close(self) -> None:
        """Stop without telling anyone; what was found is written."""
        self._next.clear()
        self._stop()
        self._relabelling.finish()

    def _work_on(self, images: Sequence[Image]) -> None:
        self._next.extend(image for image in images if image not in self._next)
        self._go_on()

    def _begin(self, image: Image) -> None:
        """Begin with an image."""
        raise NotImplementedError

    def _measure(
        self,
        layer: Labels,
        stacks: Sequence[Sequence[Group]],
        before: KnownPieces | None,
        centres: bool,
        on_done: Callable[[MeasuredPieces], None],
    ) -> None:
        """Measure the planes of a layer."""
        self._relabelling.finish()
        self._measuring = measuring = PieceMeasuring(
            self._inference,
            layer,
            self._saving.version(layer),
            stacks,
            before,
            lane=self._lane,
            centres=centres,
            on_progress=lambda done: self._show_progress(done, measuring.total),
            on_done=lambda found: self._measured(found, on_done),
            on_failed=self._failed,
        )
        self._show_progress(0, measuring.total)
        measuring.start()

    def _measured(
        self, found: MeasuredPieces, on_done: Callable[[MeasuredPieces], None]
    ) -> None:
        self._measuring = None
        if sum(map(len, found.ids)):
            on_done(found)
        else:
            self._end(f"{found.layer.name} has no objects.")
            self._go_on()

    def _in_part(self, image: Image) -> bool:
        """Whether there are planes that are not worked on."""
        plane, state = self._plane(image), self._subject.memory.state_of(image)
        return plane is not None and any(
            (part.first, part.last) != (0, part.end)
            for part in axis_ranges(image, plane, state.part)
        )

    def _is_current(self, work: MeasuredLayer, groups: Sequence[Group]) -> bool:
        """Whether a layer still is as it was measured, and these groups of it were."""
        return work.version == self._saving.version(work.layer) and (
            [*map(tuple, groups)] == [*map(tuple, work.measured.groups)]
        )

    def _compute(
        self,
        work: MeasuredLayer,
        job: Callable[[], Found],
        on_found: Callable[[Found, bool], None],
    ) -> None:
        """Find something on the inference thread; also say whether nothing newer was asked."""
        self._asked += 1
        asked = self._asked

        def found(result: Found) -> None:
            if self._now is work.image and work.layer in self._viewer.layers:
                on_found(result, asked == self._asked)

        self._inference.submit(self._lane, job, found, self._failed)

    def _goes_on(self, work: MeasuredLayer, step: str, slider: str) -> bool:
        """Whether a slider goes on with the last step: all that it passes through is one step."""
        last = self._subject.memory.state_of(work.image).history.last
        return (
            step == slider
            and work.edit is not None
            and last is not None
            and last.edit is work.edit
            and last.text == slider
        )

    def _write(
        self,
        work: MeasuredLayer,
        edit: Relabel,
        ids: Sequence[npt.NDArray[np.int64]],
        step: str,
        deed: Deed,
        part_of: StackEdit | None = None,
    ) -> None:
        """Show the pieces of a layer with other ids."""
        unchanged = self._saving.version(work.layer) == work.version
        work.edit, work.first = edit, False
        tables = [with_background(each) for each in ids]
        self._relabelling.show(work.image, edit, tables, step, part_of, deed)
        if unchanged:
            work.version = self._saving.version(work.layer)

    def _show_progress(self, done: int, total: int) -> None:
        text = f"{self._name}: plane {min(done + 1, total)} of {total}"
        self._on_status(Status(StatusKind.LINKING, text, done / max(total, 1)))

    def _plane(self, image: Image) -> Plane | None:
        state = self._subject.memory.state_of(image)
        return nearest_plane(image, self._viewer.dims, state.channel_axis)

    def _failed(self, error: Exception) -> None:
        self._next.clear()
        self._end(sentence(error, f"{self._name} stopped"), "error")

    def _stop(self) -> None:
        if self._now is not None:
            self._inference.drop(self._lane)
        self._now = None
        self._asked += 1
        if self._measuring is not None:
            self._measuring.stop()
            self._measuring = None

    def _end(self, said: str, level: str = "info") -> None:
        self._stop()
        self._on_status(None)  # tells of the change, too
        if said:
            self._notify(level, said)

    def _go_on(self) -> None:
        if self._now is None and self._next:
            self._begin(self._next.popleft())
