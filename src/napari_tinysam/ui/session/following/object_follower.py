"""Following objects through a stack or movie: what keys and buttons ask for, one run at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.following import plan as follow_plan
from napari_tinysam.ui.session.following.overview import FollowedOverview
from napari_tinysam.ui.session.following.runs import FollowOrder, trace_to_json
from napari_tinysam.ui.session.labels.stack_edits import (
    StackEdit,
    ids_of,
    masks_of,
    redrawn,
)
from napari_tinysam.ui.session.labels.writing import LabelsError
from napari_tinysam.ui.state.history import Deed
from napari_tinysam.ui.state.planes import full_shape
from napari_tinysam.ui.state.traces import Trace, Traces, moved_to, position

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.following.plan import Stage
    from napari_tinysam.ui.session.following.runs import FollowRuns, Known
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject

_NONE_YET = "Follow an object first (G)."


class ObjectFollower(FollowedOverview):
    """Objects of a stack or movie that are followed: clicked once, one id through all planes.

    Parameters
    ----------
    subject : Subject
    labelling : Labeller
        Commits the drafts that are followed, and has the labels.
    runs : FollowRuns
        Does the work.
    notify : callable
        ``notify(level, text)``.
    go_to : callable
        Shows a plane of the image.
    """

    def __init__(
        self,
        subject: Subject,
        labelling: Labeller,
        runs: FollowRuns,
        notify: Notify,
        *,
        go_to: Callable[[Plane], None],
    ) -> None:
        self._subject = subject
        self._labelling = labelling
        self._runs = runs
        self._notify = notify
        self._go_to = go_to
        self._unanswered: Callable[[], None] | None = None
        labelling.on_changed = self.labels_changed
        labelling.on_followed = self.committed

    @property
    def running(self) -> bool:
        """Whether objects are being followed."""
        return self._runs.running

    @property
    def note(self) -> str:
        """How the last run ended; "" before."""
        return self._runs.note

    @property
    def asks_for_kind(self) -> bool:
        """Whether following waits for the user to say what the axis is."""
        return self._unanswered is not None and self.kind is None

    # --- what keys and buttons do ---------------------------------------------------------

    def set_axis(self, axis: int) -> None:
        """Follow along another axis."""
        self._subject.state.follow_axis = axis
        self._subject.changed.emit()

    def kind_known(self) -> None:
        """Begin what waited for the user to say what the axis is."""
        if self._unanswered is not None and self.kind is not None:
            waiting, self._unanswered = self._unanswered, None
            waiting()

    def follow(self) -> None:
        """Follow the clicked object, else the edited one, else the one under the cursor."""
        here, axis = self._subject.here, self.axis
        if here is None:
            return
        if axis is None:
            self._notify(
                "info", "This image has one plane: there is nothing to follow."
            )
            return
        if self._subject.drafts.predictable:
            self._ask_kind(lambda: self._labelling.commit(follow=True))
            return
        label = self._labelling.edited_id or self._labelling.id_at(self._subject.cursor)
        if not label:
            self._notify("info", "Click an object first, or move over a labelled one.")
            return
        self._ask_kind(lambda: self.follow_labels(*here, [label]))

    def follow_all(self) -> None:
        """Follow all objects of the shown plane."""
        here, found = self._subject.here, self._find()
        labels = [] if found is None else sorted(ids_of(*found))
        if here is None or not labels:
            self._notify("info", "There are no labelled objects in this plane.")
            return
        self._ask_kind(lambda: self.follow_labels(*here, labels))

    def follow_labels(self, image: Image, plane: Plane, labels: Sequence[int]) -> None:
        """Follow labelled objects from a plane of the image."""
        axis = self._axis_of(image, plane)
        if axis is None or not labels:
            return
        at, end = position(plane, axis), full_shape(image)[axis] - 1

        def plan(known: Known, traces: Traces) -> list[Stage]:
            new: Known = {}
            stages = []
            for label in labels:
                masks, trace = known.get(label, {}), traces.get(label)
                if at not in masks:
                    continue
                if trace is None:
                    new[label] = masks
                    continue
                anchors = {**traces.anchors(trace), at: masks[at]}
                stages += follow_plan.around(
                    {label: anchors}, at, min(trace.first, at), max(trace.last, at)
                )
            return [*follow_plan.outwards(new, 0, end), *stages]

        self._runs.order(FollowOrder(image, plane, axis, frozenset(labels), plan))

    def fill_between(self) -> None:
        """Fill the planes between those that have objects: all that are labelled in them."""
        here, axis = self._subject.here, self.axis
        if here is None or axis is None or self._find() is None:
            return

        def plan(known: Known, traces: Traces) -> list[Stage]:
            del traces
            annotated = {at for masks in known.values() for at in masks}
            return follow_plan.between(known, annotated)

        self._ask_kind(lambda: self._runs.order(FollowOrder(*here, axis, None, plan)))

    def accept(self) -> None:
        """Take the current object in the shown plane as it is: it is not computed again."""
        traces, trace, at = self.traces, self.current, self.shown
        if traces is None or trace is None or at is None:
            self._notify("info", _NONE_YET)
            return
        mask = traces.masks(trace).get(at)
        if mask is None:
            self._notify("info", f"Object {trace.label} is not in this plane.")
        elif at not in traces.anchors(trace):
            self._change("accept", trace, trace.with_anchor(at, mask), [])

    def end_here(self) -> None:
        """Let the current object end in the shown plane, on the side that is nearer."""
        traces, trace, at = self.traces, self.current, self.shown
        if traces is None or trace is None or at is None:
            self._notify("info", _NONE_YET)
            return
        planes = list(traces.masks(trace))
        if not planes:
            return
        anchors = list(traces.anchors(trace)) or planes
        middle = (min(anchors) + max(anchors)) / 2
        if at < middle or (at == middle and at - planes[0] < planes[-1] - at):
            self._limit(traces, trace, at, trace.last)
        else:
            self._limit(traces, trace, trace.first, at)

    def move_ends(self, first: int, last: int) -> None:
        """Let the current object begin and end in other planes; it is followed into new ones.

        Parameters
        ----------
        first, last : int
            Positions on the axis, both included.
        """
        traces, trace, here = self.traces, self.current, self._subject.here
        if traces is None or trace is None or here is None or first > last:
            return
        planes = list(traces.masks(trace))
        if not planes or first > planes[-1] or last < planes[0]:
            self._notify("info", f"Object {trace.label} is not in this range.")
            return
        # An end that stays is no limit: the object may go on there when it is followed again.
        low = first if first != planes[0] else trace.first
        high = last if last != planes[-1] else trace.last
        ends = [(planes[0], first)] if first < planes[0] else []
        ends += [(planes[-1], last)] if last > planes[-1] else []
        if first > planes[0] or last < planes[-1] or not ends:
            self._limit(traces, trace, low, high)
        if ends:
            self._extend(here[0], trace, ends, (low, high))

    def _limit(self, traces: Traces, trace: Trace, first: int, last: int) -> None:
        outside = [at for at in traces.masks(trace) if not first <= at <= last]
        limited = replace(trace.without(outside), first=first, last=last)
        if outside or (first, last) != (trace.first, trace.last):
            self._change("range", trace, limited, outside)

    def _extend(
        self,
        image: Image,
        trace: Trace,
        ends: list[tuple[int, int]],
        limits: tuple[int, int],
    ) -> None:
        """Follow an object from its ends, each up to a plane beyond."""

        def plan(known: Known, traces: Traces) -> list[Stage]:
            del traces
            own = known.get(trace.label, {})
            return [
                stage
                for end, limit in ends
                if end in own
                for stage in follow_plan.outwards(
                    {trace.label: {end: own[end]}}, *sorted((end, limit))
                )
            ]

        labels = frozenset([trace.label])
        self._runs.order(
            FollowOrder(image, trace.plane, trace.axis, labels, plan, limits)
        )

    def go_to(self, number: int) -> None:
        """Show a plane."""
        plane, axis = self._subject.plane, self.axis
        if plane is not None and axis is not None:
            self._go_to(moved_to(plane, axis, number))

    def to_weakest(self) -> None:
        """Show the plane of the current object that needs a look most."""
        traces, trace = self.traces, self.current
        if traces is None or trace is None:
            self._notify("info", _NONE_YET)
            return
        weakest = traces.weakest(trace)
        if weakest is None:
            self._notify("info", f"All planes of object {trace.label} are your own.")
        else:
            self.go_to(weakest)

    def cancel(self) -> None:
        """Stop, and keep what is written."""
        self._unanswered = None
        self._runs.stop("Following was cancelled.")

    # --- what the user does to followed objects -------------------------------------------

    def committed(self, image: Image, plane: Plane, labels: Sequence[int]) -> None:
        """Follow objects that were committed for that; known ones are followed anew already."""
        layer = self._labelling.outputs.of(image)
        traces = None if layer is None else self._subject.memory.traces_of(layer)
        new = [each for each in labels if traces is None or traces.get(each) is None]
        self.follow_labels(image, plane, new)

    def labels_changed(self, image: Image, plane: Plane, *, undone: bool) -> None:
        """Note what the user did to followed objects; follow them anew from there."""
        found = self._find(image, plane)
        if found is None:
            return
        traces = self._subject.memory.traces_of(found[0])
        concerned = [trace for trace in traces if trace.holds(plane)]
        if not concerned:
            return
        now = masks_of(*found, [trace.label for trace in concerned])
        nothing = BoxedMask.empty(found[1].shape)
        changed = []
        for trace in concerned:
            at = position(plane, trace.axis)
            mask = now.get(trace.label, nothing)
            if traces.is_other(trace, at, mask):
                traces.put(trace.label, None)
                continue
            if traces.check(trace, at, mask) and not undone and mask.area:
                changed.append(trace)
        for trace in changed:
            traces.current = trace.label
            self._follow_anew(image, plane, trace)
        self._subject.changed.emit()

    def _follow_anew(self, image: Image, plane: Plane, trace: Trace) -> None:
        at = position(plane, trace.axis)

        def plan(known: Known, traces: Traces) -> list[Stage]:
            now, own = traces.get(trace.label), known.get(trace.label, {})
            if now is None or at not in own:
                return []
            anchors = {**traces.anchors(now), at: own[at]}
            return follow_plan.around(
                {trace.label: anchors}, at, min(now.first, at), max(now.last, at)
            )

        labels = frozenset([trace.label])
        self._runs.order(FollowOrder(image, plane, trace.axis, labels, plan))

    def _ask_kind(self, go_on: Callable[[], None]) -> None:
        """Go on, after the user has said what the axis is."""
        if self.kind is not None:
            go_on()
            return
        self._unanswered = go_on
        self._notify(
            "info",
            "Are these planes depth or time? Choose it in the dock, and following begins.",
        )
        self._subject.changed.emit()

    def _find(
        self, image: Image | None = None, plane: Plane | None = None
    ) -> tuple[Labels, Plane] | None:
        """Return the labels of a plane; None without, or where they do not fit."""
        here = self._subject.here
        if image is None or plane is None:
            if here is None:
                return None
            image, plane = here
        try:
            return self._labelling.outputs.plane(image, plane)
        except LabelsError as error:
            if here == (image, plane):
                self._notify("warning", str(error))
            return None

    def _change(
        self, text: str, trace: Trace, changed: Trace, gone: Sequence[int]
    ) -> None:
        """Change what is known of an object, and remove it from planes, as one step."""
        here, traces = self._subject.here, self.traces
        found = self._find()
        if here is None or traces is None or found is None:
            return
        layer = found[0]

        def turned(applied: bool) -> None:
            traces.put(trace.label, changed if applied else trace)

        edit = StackEdit(layer, turned)
        for at in gone:
            plane = self._labelling.outputs.plane(here[0], trace.at(at))
            if plane is None:
                continue
            piece = redrawn(*plane, trace.label, None, replace=False)
            if piece is not None:
                edit.add(piece)
        traces.put(trace.label, changed)
        traces.settle(trace.label, gone)
        told = {"planes": list(gone), "objects": [trace_to_json(changed)]}
        deed = Deed("follow", told, (trace.label,))
        self._runs.note_step(here[0], text, edit, deed)
        self._runs.note = ""  # it told of the last run
        if gone:
            self._labelling.saving.changed(layer)
            layer.refresh()
        self._subject.changed.emit()
