"""The object of a track is followed anew by the model, from a frame on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tinysam.ui.session.following import plan as follow_plan
from napari_tinysam.ui.session.following.runs import FollowOrder
from napari_tinysam.ui.session.labels.writing import LabelsError
from napari_tinysam.ui.session.tracks.changes import Arrival, with_followed
from napari_tinysam.ui.state.stack_planes import AxisKind, axis_of_kind
from napari_tinysam.volume.corrections import Kind

if TYPE_CHECKING:
    from napari_tinysam.ui.session.embedding.loading import Notify
    from napari_tinysam.ui.session.following.plan import Stage
    from napari_tinysam.ui.session.following.runs import FollowRuns, Known
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.session.labels.stack_edits import StackEdit
    from napari_tinysam.ui.session.tracks.state import TrackState
    from napari_tinysam.ui.session.tracks.tracked_movie import TrackedMovie
    from napari_tinysam.ui.session.tracks.tracking import Tracking
    from napari_tinysam.ui.state.subject import Subject
    from napari_tinysam.ui.state.traces import Traces

#: Earlier frames that tell how an object moves.
_EARLIER = 3


class TrackFollowing:
    """Follows tracks anew.

    What the model finds replaces the later pieces of the track. A piece that lies elsewhere, and
    those of frames in which the model does not find the object, are left: they are another track
    from there on. Other tracks keep all of their pixels. Frames in which the user has said what the
    object is stay as they are.

    Parameters
    ----------
    subject : Subject
    labelling : Labeller
        Has the labels.
    runs : FollowRuns
        Does the work.
    tracking : Tracking
        Has the tracks.
    notify : callable
        ``notify(level, text)``.
    """

    def __init__(
        self,
        subject: Subject,
        labelling: Labeller,
        runs: FollowRuns,
        tracking: Tracking,
        notify: Notify,
    ) -> None:
        self._subject = subject
        self._labelling = labelling
        self._runs = runs
        self._tracking = tracking
        self._notify = notify

    @property
    def running(self) -> bool:
        """Whether objects are being followed: what they are is not known until that has ended."""
        return self._runs.running

    def follow(self, movie: TrackedMovie, label: int, first: int) -> None:
        """Follow a track of the shown image from a frame of the movie on."""
        here = self._subject.here
        if here is None:
            return
        image, plane = here
        state, layer = self._subject.state, self._labelling.outputs.of(image)
        axis = axis_of_kind(image, plane, state, AxisKind.TIME)
        if layer is None or axis is None:
            return
        if axis_of_kind(image, plane, state, AxisKind.DEPTH) is not None:
            self._notify(
                "info",
                "Tracks of stacks are not followed by the model: it sees one plane at a time.",
            )
            return
        frame, end = first + movie.start, len(movie.frames) - 1 + movie.start
        if frame == end:
            self._notify("info", "This is the last frame: there is nothing to follow.")
            return
        ids = self._labelling.outputs.ids(layer)
        try:
            (spare,) = ids.next()
        except LabelsError as error:
            self._notify("warning", str(error))
            return
        ids.used(spare)

        def plan(known: Known, traces: Traces) -> list[Stage]:
            own, trace = known.get(label, {}), traces.get(label)
            near = {
                at: mask for at, mask in own.items() if frame - _EARLIER <= at <= frame
            }
            if frame not in near:
                return []
            if trace is not None:
                anchors = traces.anchors(trace)
                near |= {at: anchors[at] for at in anchors if at > frame}
            return follow_plan.outwards({label: near}, frame, end)

        def then(edit: StackEdit) -> None:
            def change(state: TrackState, now: TrackedMovie) -> TrackState:
                # A range may have been chosen meanwhile.
                begin = max(first + movie.start - now.start, 0)
                return with_followed(state, now, label, begin, spare)

            arrival = Arrival(layer, change, edit)
            self._tracking.arrive(image, Kind.FOLLOW.value, arrival)

        before = self._subject.memory.traces_of(layer).get(label)
        begin = frame if before is None else min(before.first, frame)
        self._runs.order(
            FollowOrder(
                image,
                plane,
                axis,
                frozenset([label]),
                plan,
                (begin, end),
                Kind.FOLLOW.value,
                spare,
                then,
            )
        )
