"""A run that follows objects of a stack, plane by plane, and writes them into the labels."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.inference.looks import Look
from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.session.following.plan import Stage, nearest_beyond
from napari_tinysam.ui.session.labels.edits import read_ids
from napari_tinysam.ui.session.labels.stack_edits import StackEdit, redrawn, renamed
from napari_tinysam.ui.state.traces import Trace, same
from napari_tinysam.volume.followed import (
    FollowedObject,
    FollowSettings,
    PlaneMask,
)
from napari_tinysam.volume.following import follow

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image, Labels

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.seeing import SeenPlane
    from napari_tinysam.ui.state.traces import Traces

#: A look has this many times the room that an object takes, so that it may move.
_ROOM = 3

#: An object is followed in another look if it comes this near to the border of its look, as a
#: share of the look's side.
_NEAR_BORDER = 1 / 16

#: Two masks that share less of the smaller one are those of different objects.
_SAME = 0.5


@dataclass(frozen=True, eq=False)
class StackPlane:
    """One plane along the axis.

    Attributes
    ----------
    plane : Plane
        Of the image.
    at : Plane
        Of the labels.
    seen : SeenPlane
        How the model sees it.
    """

    plane: Plane
    at: Plane
    seen: SeenPlane


@dataclass(eq=False)
class FollowRun:
    """What a run needs, and how far it is.

    Attributes
    ----------
    image, layer
        The image and its labels.
    axis : int
        Of the image.
    planes : dict of int to StackPlane
        By position on the axis.
    settings : FollowSettings
    replaces : bool
        Whether objects take pixels of others.
    traces : Traces
        Of the layer; what is found is noted there.
    edit : StackEdit
        What is written.
    known : dict of int to dict of int to BoxedMask
        Where the labels have the objects, by id and plane.
    before, after : dict of int to Trace or None
        The traces before the run, and as they are now.
    stages : deque of Stage
        Still to do.
    done : int
        Planes that are done.
    text : str
        Of the undo step.
    spare, then
        As `FollowOrder` has them.
    """

    image: Image
    layer: Labels
    axis: int
    planes: dict[int, StackPlane]
    settings: FollowSettings
    replaces: bool
    traces: Traces
    edit: StackEdit
    known: dict[int, dict[int, BoxedMask]] = field(default_factory=dict)
    before: dict[int, Trace | None] = field(default_factory=dict)
    after: dict[int, Trace | None] = field(default_factory=dict)
    stages: deque[Stage] = field(default_factory=deque)
    done: int = 0
    total: int = 0
    begun: float = field(default_factory=time.monotonic)
    text: str = ""
    spare: int | None = None
    then: Callable[[StackEdit], None] | None = None
    stopped: bool = False
    #: Whether it is a step of the history already.
    noted: bool = False
    #: What objects had where they were found anew, unless it was left to `spare`.
    _had: dict[tuple[int, int], BoxedMask | None] = field(default_factory=dict)
    _stage: _RunningStage | None = None
    #: Objects and planes in which they were, and were not found again.
    _gone: dict[tuple[int, int], None] = field(default_factory=dict)

    def plan(self, stages: list[Stage], limits: tuple[int, int] | None = None) -> None:
        """Take what is to be done, and note the objects it concerns.

        Parameters
        ----------
        stages : list of Stage
        limits : (int, int), optional
            The range that the objects are followed in from now on.
        """
        self.stages = deque(stages)
        self.total = sum(stage.count for stage in stages)
        for stage in stages:
            for label, anchors in stage.anchors.items():
                trace = self.traces.get(label)
                self.before.setdefault(label, trace)
                if trace is None:
                    ends = min(self.planes), max(self.planes)
                    some = self.planes[stage.first].plane
                    trace = Trace(label, self.axis, some, frozenset(), {}, *ends)
                if limits is not None:
                    trace = replace(trace, first=limits[0], last=limits[1])
                for at, mask in anchors.items():
                    if at not in trace.anchors:
                        trace = trace.with_anchor(at, mask)
                self._keep(trace)
                self.traces.settle(label, anchors)

    @property
    def labels(self) -> set[int]:
        """The objects it concerns."""
        return set(self.before)

    def step(self, predictor: Predictor) -> int | None:
        """Compute the next plane; for the inference thread.

        Returns
        -------
        int or None
            The plane, None when everything is done.
        """
        while True:
            if self._stage is None:
                if not self.stages:
                    return None
                self._stage = self._begin(self.stages.popleft(), predictor)
            found = next(self._stage.planes, None)
            if found is not None:
                return found[0]
            self.stages.extendleft(self._stage.further(self))
            self._finish(self._stage)
            self._stage = None

    def write(self, number: int) -> bool:
        """Write what is known of a plane now; return whether the labels changed."""
        stage, plane = self._stage, self.planes[number]
        if stage is None:
            return False
        self.done += 1
        changed = False
        for label, known in stage.objects.items():
            if number in known.anchors:
                continue
            found = known.found.get(number)
            if found is not None:
                mask = stage.look.placed(found.mask, plane.plane.shape)
                found = replace(found, mask=mask)
            changed |= self._put(label, number, found)
        return changed

    def clean(self) -> list[int]:
        """Remove objects from planes in which they were, and were not found again.

        Returns
        -------
        list of int
            The planes that changed.
        """
        changed = []
        for label, number in self._gone:
            if self._put(label, number, None):
                changed.append(number)
        self._gone.clear()
        return changed

    def turned(self, applied: bool) -> None:
        """Follow undo and redo: what is known of the objects belongs to the step."""
        for label, trace in (self.after if applied else self.before).items():
            self.traces.put(label, trace)
        if not applied:
            self.stopped = True

    # --- one stage ------------------------------------------------------------------------

    def _begin(self, stage: Stage, predictor: Predictor) -> _RunningStage:
        seen = self.planes[stage.first].seen
        look = Look.whole(seen.pyramid.shape)
        if seen.in_parts:
            label, *others = stage.anchors
            if others:  # each may need a look of its own
                self.stages.extendleft(stage.of(other) for other in others)
                stage = stage.of(label)
            look = _look_around(list(stage.anchors[label].values()), seen)
        objects = {}
        for label, own in stage.anchors.items():
            known = {**stage.beyond.get(label, {}), **own}
            cut = {at: look.cut(mask) for at, mask in known.items()}
            objects[label] = FollowedObject(
                {at: mask for at, mask in cut.items() if mask.area}
            )
        labels = list(objects)

        def embedding(plane: int) -> Embedding:
            return self.planes[plane].seen.embedding(predictor, look)

        def taken(number: int) -> npt.NDArray[np.bool_]:
            at = self.planes[number].at
            ids = read_ids(self.layer, at, look.rows, look.columns)
            return (ids > 0) & ~np.isin(ids, labels)

        planes = follow(
            predictor,
            embedding,
            list(objects.values()),
            stage.first,
            stage.last,
            self.settings,
            None if self.replaces else taken,
        )
        return _RunningStage(stage, look, objects, planes)

    def _finish(self, done: _RunningStage) -> None:
        for label, known in done.objects.items():
            trace = self.after.get(label)
            if trace is None:
                continue
            had = {*trace.found}
            if self.spare is not None:
                had |= self.known.get(label, {}).keys()
            for number in sorted(had - known.found.keys()):
                if done.stage.first <= number <= done.stage.last:
                    self._gone[label, number] = None

    def _put(self, label: int, number: int, found: PlaneMask | None) -> bool:
        trace = self.after.get(label)
        if trace is None or number in trace.anchors:
            return False
        if found is not None:
            self._gone.pop((label, number), None)  # in another look, it is there
        mask = None if found is None else found.mask
        changed = self.spare is not None and self._spared(label, number, mask)
        old = self.known.setdefault(label, {}).get(number)
        plane = self.planes[number]
        if not (old is None and mask is None) and not same(
            mask or BoxedMask.empty(plane.plane.shape), old
        ):
            edit = redrawn(
                self.layer,
                plane.at,
                label,
                mask,
                replace=self.replaces,
                old=old or BoxedMask.empty(plane.plane.shape),
            )
            if edit is None:
                return changed  # the user has changed it meanwhile
            self.edit.add(edit)
            changed = True
            mask = edit.shape_of(label)
            if mask.area:
                self.known[label][number] = mask
            else:
                self.known[label].pop(number, None)
        if found is None or mask is None or not mask.area:
            self._keep(trace.without([number]))
        else:
            each = PlaneMask(number, mask, found.origin, found.trust)
            self._keep(replace(trace, found={**trace.found, number: each}))
        return changed

    def _spared(self, label: int, number: int, mask: BoxedMask | None) -> bool:
        """Leave what lies elsewhere than a new mask to another object; return whether it was."""
        assert self.spare is not None
        key, at = (label, number), self.planes[number].at
        if key not in self._had:
            self._had[key] = old = self.known.get(label, {}).get(number)
            if old is None or (mask is not None and _are_same(mask, old)):
                return False
            edit = renamed(self.layer, at, label, self.spare)
            del self.known[label][number]
            self._had[key] = None
        elif mask is None and (old := self._had.pop(key)) is not None:
            # What was found here is taken back: it had replaced this.
            edit = redrawn(self.layer, at, label, None, replace=False)
            if edit is not None:
                self.edit.add(edit)
            self.known[label].pop(number, None)
            edit = redrawn(self.layer, at, self.spare, old, replace=False)
        else:
            return False
        if edit is not None:
            self.edit.add(edit)
        return edit is not None

    def _keep(self, trace: Trace) -> None:
        self.after[trace.label] = trace
        self.traces.put(trace.label, trace)


def _are_same(mask: BoxedMask, other: BoxedMask) -> bool:
    """Whether two masks of a plane may be of one object."""
    least = _SAME * min(mask.area, other.area)
    return bool(least) and mask.shared_area(other) >= least


@dataclass(eq=False)
class _RunningStage:
    stage: Stage
    look: Look
    objects: dict[int, FollowedObject]
    planes: Iterator[tuple[int, dict[int, PlaneMask]]]

    def further(self, run: FollowRun) -> list[Stage]:
        """Go on in other looks with objects that came to the border of this one."""
        shape = run.planes[self.stage.first].plane.shape
        near = _NEAR_BORDER * max(self.look.size)
        stages = []
        for label, known in self.objects.items():
            for end, limit in (
                (min(known.found), self.stage.first),
                (max(known.found), self.stage.last),
            ):
                if end == limit or end in known.anchors:
                    continue
                mask = self.look.placed(known.found[end].mask, shape)
                if self.look.clearance(mask.box, shape) < near:
                    first, last = sorted((end, limit))
                    masks = {
                        at: self.look.placed(each.mask, shape)
                        for at, each in known.found.items()
                    }
                    beyond = {label: nearest_beyond(masks, first, last)}
                    stages.append(Stage({label: {end: mask}}, first, last, beyond))
        return stages


def _look_around(masks: list[BoxedMask], seen: SeenPlane) -> Look:
    """Return the look of a large plane that shows an object, with room to move."""
    boxes = np.array([mask.box for mask in masks], float)
    x0, y0 = boxes[:, :2].min(axis=0)
    x1, y1 = boxes[:, 2:].max(axis=0)
    size = float((boxes[:, 2:] - boxes[:, :2]).max()) + 1
    level = seen.pyramid.fitting(_ROOM * size, seen.pyramid.own)
    return seen.pyramid.holding((x0, y0, x1, y1), level)[1]
