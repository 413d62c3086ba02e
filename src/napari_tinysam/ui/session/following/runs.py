"""Runs that follow objects: begun, computed plane by plane between the user's clicks, ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import sentence
from napari_tinysam.ui.session.following.run import FollowRun, StackPlane
from napari_tinysam.ui.session.labels.stack_edits import StackEdit, ids_of, masks_of
from napari_tinysam.ui.session.labels.writing import LabelsError
from napari_tinysam.ui.session.worker import Inference, Lane
from napari_tinysam.ui.state.history import UNTOLD, Deed
from napari_tinysam.ui.state.images import seen_plane
from napari_tinysam.ui.state.planes import full_shape
from napari_tinysam.ui.state.stack_planes import AxisKind, axis_kind
from napari_tinysam.ui.state.status import Status, StatusKind
from napari_tinysam.ui.state.time_left import time_left
from napari_tinysam.ui.state.traces import PlaneState, Trace, Traces, moved_to
from napari_tinysam.volume.followed import FollowSettings

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_tinysam.inference.cache import RecentEmbeddings
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.embedding.embedder import Embedder
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.following.plan import Stage
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject

#: Name of the undo step.
STEP = "follow"

#: Where the labels have objects: by id, then by position on the axis.
Known = dict[int, dict[int, "BoxedMask"]]


@dataclass(frozen=True, eq=False)
class FollowOrder:
    """What is to be followed.

    Attributes
    ----------
    image : napari.layers.Image
    plane : Plane
        One of its planes.
    axis : int
        Of the image, along which objects are followed.
    labels : frozenset of int or None
        Ids of the objects; None for all.
    plan : callable
        ``plan(known, traces)`` returns the stages of the run.
    limits : (int, int), optional
        The range that the objects are followed in from now on, both included.
    step : str
        What the undo step is called.
    spare : int, optional
        The id that the objects' pieces get which lie elsewhere than what is found; they are not
        removed then, and no pixel of another object is taken.
    then : callable, optional
        Called with what was written when the run ends, unless it was taken back.
    """

    image: Image
    plane: Plane
    axis: int
    labels: frozenset[int] | None
    plan: Callable[[Known, Traces], list[Stage]]
    limits: tuple[int, int] | None = None
    step: str = STEP
    spare: int | None = None
    then: Callable[[StackEdit], None] | None = None


class FollowRuns:
    """Follows objects in the background and writes them, one order after the other.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    subject : Subject
    inference : Inference
    embedder : Embedder
        Has the model.
    cache : RecentEmbeddings
    labelling : Labeller
        Has the labels.
    notify : callable
        ``notify(level, text)``.
    busy : callable
        Whether another run over the planes goes on.
    on_status : callable
        Called with a `Status`; None when a run has ended.

    Attributes
    ----------
    note : str
        How the last run ended; "" before.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
        inference: Inference,
        embedder: Embedder,
        cache: RecentEmbeddings,
        labelling: Labeller,
        notify: Notify,
        *,
        busy: Callable[[], bool],
        on_status: Callable[[Status | None], None],
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._inference = inference
        self._embedder = embedder
        self._cache = cache
        self._labelling = labelling
        self._notify = notify
        self._busy = busy
        self._on_status = on_status
        self._run: FollowRun | None = None
        self._waiting: deque[FollowOrder] = deque()
        self.note = ""

    @property
    def running(self) -> bool:
        """Whether objects are being followed."""
        return self._run is not None

    def order(self, order: FollowOrder) -> None:
        """Follow objects, after what is being followed."""
        if self._busy():
            self._notify("info", "Wait until what is running has ended.")
            return
        self._waiting.append(order)
        if self._run is None:
            self._next()

    def stop(self, said: str) -> None:
        """Stop, keep what is written, and say why; what waits is given up."""
        self._waiting.clear()
        if self._run is not None:
            self._end(self._run, said)

    def forget(self, image: Image) -> None:
        """Stop if an image is gone, or has other data."""
        self._waiting = deque(each for each in self._waiting if each.image is not image)
        if self._run is not None and self._run.image is image:
            self._end(self._run, "Following stopped: the image was removed or changed.")

    def labels_gone(self, layer: Labels) -> None:
        """Stop if the labels are gone."""
        if self._run is not None and self._run.layer is layer:
            self.stop("Following stopped: its labels were removed.")

    def close(self) -> None:
        """Stop without telling anyone."""
        self._waiting.clear()
        if self._run is not None:
            self._run.stopped, self._run = True, None

    def _next(self) -> None:
        """Begin with what waits longest."""
        if not self._waiting or self._run is not None:
            return
        order = self._waiting.popleft()
        try:
            run = self._made(order)
        except LabelsError as error:
            self._notify("warning", str(error))
            self._next()
            return
        if run is None:
            self._next()
            return
        self.note = ""
        self._run = run
        self._show_status(run)
        self._embedder.start()
        places = [(at, each.at) for at, each in run.planes.items()]

        def scan() -> Known:
            known: Known = {}
            for at, place in places:
                wanted = order.labels
                if wanted is None:
                    wanted = frozenset(ids_of(run.layer, place))
                for label, mask in masks_of(run.layer, place, wanted).items():
                    known.setdefault(label, {})[at] = mask
            return known

        def scanned(known: Known) -> None:
            run.known = known
            run.plan(order.plan(known, run.traces), order.limits)
            if len(run.labels) == 1:
                (run.traces.current,) = run.labels
            self._go_on(run)

        self._submit(run, scan, scanned)

    def _made(self, order: FollowOrder) -> FollowRun | None:
        found = self._labelling.outputs.plane(order.image, order.plane)
        if found is None or order.image not in self._viewer.layers:
            return None
        layer, memory = found[0], self._subject.memory
        planes = {}
        for at in range(full_shape(order.image)[order.axis]):
            plane = moved_to(order.plane, order.axis, at)
            there = self._labelling.outputs.plane(order.image, plane)
            assert there is not None
            seen = seen_plane(order.image, plane, memory, self._cache)
            planes[at] = StackPlane(plane, there[1], seen)
        state = memory.state_of(order.image)
        moves = axis_kind(order.image, order.axis, state) is AxisKind.TIME
        edit = StackEdit(layer)
        run = FollowRun(
            order.image,
            layer,
            order.axis,
            planes,
            FollowSettings(moves=moves),
            order.spare is None and self._labelling.replaces(layer),
            memory.traces_of(layer),
            edit,
            text=order.step,
            spare=order.spare,
            then=order.then,
        )
        edit.on_turned = run.turned
        return run

    def _go_on(self, run: FollowRun) -> None:
        """Compute the next plane."""
        if self._run is not run:
            return
        if run.stopped:
            self._end(run, "Following stopped: it was taken back.")
            return
        predictor = self._embedder.predictor
        if predictor is None:
            if self._embedder.loading:  # it is loaded before anything of this lane
                self._submit(run, lambda: None, lambda _: self._go_on(run))
            else:
                self._end(run, "Following did not start: there is no model.")
            return
        self._submit(
            run, lambda: run.step(predictor), lambda at: self._stepped(run, at)
        )

    def _stepped(self, run: FollowRun, at: int | None) -> None:
        if run.stopped:
            self._end(run, "Following stopped: it was taken back.")
            return
        if at is not None:
            if run.write(at):
                self._written(run, [at])
            self._show_status(run)
            self._go_on(run)
            return
        gone = run.clean()
        if gone:
            self._written(run, gone)
        self._end(run)

    def _written(self, run: FollowRun, planes: Sequence[int]) -> None:
        if not run.noted:
            run.noted = True
            self.note_step(run.image, run.text, run.edit, _deed(run))
        self._labelling.saving.changed(run.layer)
        self._labelling.filling.show_written(
            run.layer, [run.planes[at].at for at in planes]
        )

    def note_step(
        self, image: Image, text: str, edit: StackEdit, deed: Deed = UNTOLD
    ) -> None:
        """Make an edit a step of the history of its image."""
        state = self._subject.memory.state_of(image)
        plane = edit.planes[0] if edit.planes else None
        shown = self._subject.plane if image is self._subject.image else None
        # Undo shows the plane of the step: it need not go elsewhere.
        where = shown or plane
        if where is not None:
            state.change_drafts(text, where, state.drafts(where), edit, deed)

    def _submit(
        self, run: FollowRun, job: Callable[[], Any], done: Callable[[Any], None]
    ) -> None:
        def finished(result: Any) -> None:
            if self._run is run:
                done(result)

        def failed(error: Exception) -> None:
            if self._run is run:
                self._end(run, sentence(error, "Following stopped"), "error")

        self._inference.submit(Lane.FOLLOW, job, finished, failed)

    def _end(self, run: FollowRun, said: str = "", level: str = "info") -> None:
        self._run, run.stopped = None, True
        self._inference.drop(Lane.FOLLOW)
        self.note = said or _in_words(run)
        if said:
            self._notify(level, said)
        self._on_status(None)
        self._subject.changed.emit()
        if run.then is not None and run.noted and run.edit.applied:
            run.then(run.edit)
        self._next()

    def _show_status(self, run: FollowRun) -> None:
        total = max(run.total, 1)
        done = min(run.done, total)
        text = f"Following: plane {done} of {total}" if run.total else "Following…"
        if left := time_left(time.monotonic() - run.begun, done, total):
            text = f"{text}, {left}"
        self._on_status(Status(StatusKind.SEGMENTING, text, done / total))


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """Say how an object is followed, for the journal."""
    return {
        "id": trace.label,
        "origin": "followed",
        "axis": trace.axis,
        "anchors": sorted(trace.anchors),
        "first": trace.first,
        "last": trace.last,
    }


def _deed(run: FollowRun) -> Deed:
    """Say what is followed, and from which planes."""
    told = [trace_to_json(trace) for trace in run.after.values() if trace is not None]
    moves = run.settings.moves
    arguments = {"objects": told, "moves": moves, "replaces": run.replaces}
    return Deed("follow", arguments, tuple(each["id"] for each in told))


def _in_words(run: FollowRun) -> str:
    """Say what a run did."""
    found = {label: run.after.get(label) for label in run.labels}
    traces = [trace for trace in found.values() if trace is not None]
    if not traces:
        return "There was nothing to follow."
    if len(traces) > 1:
        planes = {at for trace in traces for at in trace.found}
        return f"{len(traces)} objects in {len(planes)} planes."
    (trace,) = traces
    count = len(trace.found)
    said = f"Found in {count} plane{'' if count == 1 else 's'}."
    weak = sum(state is PlaneState.WEAK for state in run.traces.states(trace).values())
    if weak:
        said += f" {weak} {'is' if weak == 1 else 'are'} weak: J shows the weakest."
    return said
