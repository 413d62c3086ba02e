"""What a journal tells of labels beside their pixels: which objects were followed, and tracks.

It comes back with restored labels, and follows undo and redo of the steps of the journal.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_tinysam.ui.session.labels.stack_edits import masks_of
from napari_tinysam.ui.session.worker import Lane
from napari_tinysam.ui.state.planes import full_shape
from napari_tinysam.ui.state.stack_planes import AxisKind
from napari_tinysam.ui.state.traces import Trace, moved_to
from napari_tinysam.volume.followed import Origin, PlaneMask
from napari_tinysam.volume.tracking import TrackSettings

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_tinysam.journal.lines import Action
    from napari_tinysam.journal.steps import JournalStep
    from napari_tinysam.masks import BoxedMask
    from napari_tinysam.ui.session.journals.remembered import Remembered
    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.session.worker import Inference
    from napari_tinysam.ui.state.images import ImageState
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject

#: Called with an image, the mother of each track that has one, and the settings.
BringTracksBack = Callable[["Image", dict[int, int], TrackSettings], None]

#: Names of the steps that tell of it; with the second and third, objects get other ids.
_FOLLOW, _TRACK, _LINK = "follow", "track", "link"


@dataclass(frozen=True, eq=False)
class _Told:
    """Steps of a journal that tell of it, and those that are done for good."""

    layer: weakref.ref[Labels]
    steps: Sequence[JournalStep]
    planes: Mapping[int, Plane]
    for_good: frozenset[int]


class Returning:
    """Brings back what was known of objects of restored labels.

    Parameters
    ----------
    subject : Subject
    inference : Inference
        Where labels are read.
    labelling : Labeller
    bring_tracks : callable
        See `BringTracksBack`.
    forget_tracks : callable
        Called with a labels layer whose objects are no tracks any more.
    """

    def __init__(
        self,
        subject: Subject,
        inference: Inference,
        labelling: Labeller,
        bring_tracks: BringTracksBack,
        forget_tracks: Callable[[Labels], None],
    ) -> None:
        self._subject = subject
        self._inference = inference
        self._labelling = labelling
        self._bring_tracks = bring_tracks
        self._forget_tracks = forget_tracks
        self._told: weakref.WeakKeyDictionary[Image, _Told] = (
            weakref.WeakKeyDictionary()
        )

    def restored(self, image: Image, layer: Labels, before: Remembered) -> None:
        """Bring back what was known of the objects of a layer that was restored."""
        steps = [step for step in before.steps if step.name in (_FOLLOW, _TRACK, _LINK)]
        if not steps:
            return
        turnable = {step.number for step in (*before.done, *before.undone)}
        for_good = frozenset(step.number for step in steps) - turnable
        self._told[image] = _Told(weakref.ref(layer), steps, before.planes, for_good)
        self._bring_back(image)

    def turned(self, image: Image, number: int) -> None:
        """Follow undo and redo of a step of the journal."""
        told = self._told.get(image)
        if told is not None and any(step.number == number for step in told.steps):
            self._labelling.finish_turning()
            self._bring_back(image)

    def _bring_back(self, image: Image) -> None:
        told = self._told[image]
        layer = told.layer()
        if layer is None:
            return
        state = self._subject.memory.state_of(image)
        done = told.for_good | {step.number for step in state.history.done}
        steps = [step for step in told.steps if step.number in done]
        tracked = [step for step in steps if "parents" in step.arguments]
        self._forget_tracks(layer)
        if tracked:
            last = tracked[-1].arguments
            settings = _settings(last.get("settings"))
            self._bring_tracks(image, _parents(last["parents"]), settings)
        renamed = [at for at, step in enumerate(steps) if step.name != _FOLLOW]
        self._subject.memory.traces_of(layer).clear()
        self._bring_traces(
            image, layer, told, steps[renamed[-1] + 1 if renamed else 0 :]
        )

    def _bring_traces(
        self,
        image: Image,
        layer: Labels,
        told: _Told,
        steps: Sequence[JournalStep],
    ) -> None:
        """Note which objects were followed; their masks are read in the background."""
        traces: dict[int, Trace] = {}
        for step in steps:
            plane = told.planes.get(step.number)
            with suppress(KeyError, TypeError, ValueError, IndexError):
                for each in step.arguments.get("objects", ()):
                    if plane is not None:
                        trace = _trace(each, plane, image)
                        traces[trace.label] = trace
        if not traces:
            return
        places: dict[tuple[int, int], Plane] = {}
        for trace in traces.values():
            for at in range(full_shape(image)[trace.axis]):
                there = self._labelling.outputs.plane(image, trace.at(at))
                if there is not None:
                    places[trace.axis, at] = there[1]

        def read() -> dict[tuple[int, int], dict[int, BoxedMask]]:
            found = {}
            for (axis, at), place in places.items():
                wanted = [label for label, each in traces.items() if each.axis == axis]
                found[axis, at] = masks_of(layer, place, wanted)
            return found

        def done(masks: dict[tuple[int, int], dict[int, BoxedMask]]) -> None:
            known = self._subject.memory.traces_of(layer)
            for label, trace in traces.items():
                own = {
                    at: there[label]
                    for (axis, at), there in masks.items()
                    if axis == trace.axis and label in there
                }
                if own and known.get(label) is None:
                    known.put(label, _with_masks(trace, own))
                    known.current = label
            self._subject.changed.emit()

        # Labels that cannot be read are said where they are worked on.
        self._inference.submit(Lane.KEEP, read, done, lambda error: None)


def bring_settings(state: ImageState, actions: Sequence[Action]) -> None:
    """Let an image be what the user said that it is: depth, time, and where to follow."""
    told: dict[str, Any] = {}
    for action in actions:
        if action.name == "setting":
            told |= action.arguments
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        kinds = {int(axis): AxisKind(kind) for axis, kind in told["axes"].items()}
        state.kind.update(kinds)
    follow_axis = told.get("follow_axis")
    if isinstance(follow_axis, int):
        state.follow_axis = follow_axis


def _trace(told: Mapping[str, Any], plane: Plane, image: Image) -> Trace:
    """Make a trace of what a step told, without masks yet.

    Raises
    ------
    KeyError, TypeError, ValueError, IndexError
        If it tells of no object that can be.
    """
    axis = int(told["axis"])
    if plane.index[axis] is None or not 0 <= axis < len(full_shape(image)):
        raise ValueError("The axis is shown.")
    return Trace(
        int(told["id"]),
        axis,
        moved_to(plane, axis, 0),
        frozenset(int(at) for at in told["anchors"]),
        {},
        int(told["first"]),
        int(told["last"]),
    )


def _with_masks(trace: Trace, masks: Mapping[int, BoxedMask]) -> Trace:
    """Return a trace with the planes that have it; how sure they were is not known any more."""
    found = {
        at: PlaneMask(
            at,
            mask,
            Origin.ANCHOR if at in trace.anchors else Origin.FOLLOWED,
            1.0,
        )
        for at, mask in masks.items()
    }
    anchors = trace.anchors & found.keys()
    return Trace(
        trace.label, trace.axis, trace.plane, anchors, found, trace.first, trace.last
    )


def _parents(told: Any) -> dict[int, int]:
    with suppress(TypeError, ValueError):
        return {int(child): int(mother) for child, mother in told}
    return {}


def _settings(told: Any) -> TrackSettings:
    with suppress(TypeError, ValueError):
        return TrackSettings(**told)
    return TrackSettings()
