"""Steps of undo from a journal: what was done before a crash can be taken back after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import TinySAMError
from napari_tinysam.files.label_store import LabelStore
from napari_tinysam.inference.drafts import EditedObject, ObjectDraft, PointPrompt
from napari_tinysam.journal.lines import DamagedError, size_of
from napari_tinysam.journal.prompted import mask_from_json
from napari_tinysam.journal.reading import UNDO
from napari_tinysam.journal.steps import JournalStep, steps_of, turned_steps
from napari_tinysam.ui.session.journals.deeds import DRAFTS
from napari_tinysam.ui.session.labels.edits import belonging_to, full_data, tell_written
from napari_tinysam.ui.session.labels.writing_queue import WritingQueue
from napari_tinysam.ui.state.drafts import PlaneDrafts
from napari_tinysam.ui.state.history import Deed, Step
from napari_tinysam.ui.state.planes import Plane

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_tinysam.journal.lines import Action, AnyWindow
    from napari_tinysam.journal.reading import Recovered
    from napari_tinysam.ui.session.labels.writing_queue import Post

_Change = tuple["AnyWindow", "AnyWindow"]

#: Steps that may have changed what was proposed, and nothing else.
_OF_PROPOSALS = ("propose", "reject", "setting")

#: What is raised where an action says nothing of its plane, or nothing that can be.
_UNREADABLE = (KeyError, TypeError, ValueError, IndexError, TinySAMError)


class JournalEdit:
    """What a step of a journal changed in a labels layer.

    As with all edits, what was changed since stays: ids are replaced only where the layer is as the
    step left it.

    Parameters
    ----------
    layer : napari.layers.Labels
    changes : sequence of (AnyWindow, AnyWindow)
        What was there before, and what the step wrote, in order.
    plane : Plane
        Of the step.
    post : callable
        Runs a callable soon on the session's thread: many windows are spread over its turns.
    """

    def __init__(
        self, layer: Labels, changes: Sequence[_Change], plane: Plane, post: Post
    ) -> None:
        self.layer = layer
        self._changes = changes
        self._plane = plane
        self._queue: WritingQueue[_Change] = WritingQueue(
            layer, self._write, post, lambda layer, planes: layer.refresh()
        )

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(size_of(window) for change in self._changes for window in change)

    def attach(self, post: Post) -> None:
        """Report to another session: the dock may have been closed and opened again."""
        self._queue.attach(post, lambda layer, planes: layer.refresh())

    def apply(self) -> bool:
        """Write everything again; return whether there is anything."""
        return self._queue.replace(self._changes)

    def revert(self) -> bool:
        """Take everything back, the last first; return whether there is anything."""
        return self._queue.replace(
            [(after, before) for before, after in reversed(self._changes)]
        )

    def finish(self) -> None:
        """Write at once what still waits."""
        self._queue.finish()

    def _write(self, change: _Change) -> Plane | None:
        """Replace the first labels by the second, where they still are."""
        first, shape = change[0].start, change[0].shape
        box = tuple(
            slice(at, at + length) for at, length in zip(first, shape, strict=True)
        )
        data = full_data(self.layer)
        try:
            have, want = (window.labels for window in change)
        except DamagedError:
            return None  # the rest can be taken back all the same
        now = np.asarray(data[box])
        where = (now == have) & (now != want)
        if not where.any():
            return None
        if isinstance(data, LabelStore):
            inside = np.nonzero(where)
            places = [at + start for at, start in zip(inside, first, strict=True)]
            data.write(places, want[where].astype(now.dtype))
        else:
            data[box] = np.where(where, want, now).astype(now.dtype)
        with belonging_to(self):
            tell_written(self.layer, box)
        return self._plane


@dataclass(eq=False)
class Remembered:
    """What a journal tells of an image.

    Parameters
    ----------
    done, undone : list of Step
        The last of each is undone or redone next.
    drafts : dict of Plane to PlaneDrafts
        That were not committed.
    last : int
        The highest number of a step.
    steps : list of JournalStep
        All that are told, in order, also those that are undone, or too long ago to be.
    planes : dict of int to Plane
        Of each step.
    """

    done: list[Step] = field(default_factory=list)
    undone: list[Step] = field(default_factory=list)
    drafts: dict[Plane, PlaneDrafts] = field(default_factory=dict)
    last: int = 0
    steps: list[JournalStep] = field(default_factory=list)
    planes: dict[int, Plane] = field(default_factory=dict)


def open_drafts(told: Recovered) -> dict[Plane, PlaneDrafts]:
    """Return the prompts that were not committed, of each plane that has some.

    Of labels that were saved they are new objects only: nobody knows whether the layer that these
    prompts would go to holds the objects that were being edited.
    """
    drafts, _ = _drafts(told)
    if told.changed:
        return drafts
    new = {
        plane: PlaneDrafts(
            tuple(each for each in all_.filled if each.edited is None)
            or (ObjectDraft(),)
        )
        for plane, all_ in drafts.items()
    }
    return {plane: each for plane, each in new.items() if not each.is_empty}


def remembered(told: Recovered, layer: Labels, post: Post) -> Remembered:
    """Make the history of an image of what its journal tells.

    Parameters
    ----------
    told : Recovered
    layer : napari.layers.Labels
        With the labels as they are after the last action.
    post : callable
        As `JournalEdit` takes it.
    """
    done, undone = steps_of(told.actions)
    found = Remembered(last=max((action.step for action in told.actions), default=0))
    drafts, changed = _drafts(told)
    found.drafts = drafts
    found.steps = sorted(chain(*turned_steps(told.actions)), key=lambda at: at.number)
    found.planes = {number: plane for number, (plane, _, _) in changed.items()}

    def steps(of: Iterable[JournalStep]) -> list[Step]:
        made: list[Step] = []
        for each in of:
            if each.number not in changed:
                made.clear()  # nothing before it can be undone
                continue
            plane, before, after = changed[each.number]
            if not each.changes and each.name in _OF_PROPOSALS:
                continue  # they are gone: there is nothing to take back
            edit = None
            if each.changes:
                edit = JournalEdit(layer, each.changes, plane, post)
            text = str(each.arguments.get("text", each.name))
            deed = Deed(each.name)
            made.append(
                Step(
                    text,
                    plane,
                    before,
                    after,
                    edit,
                    deed=deed,
                    number=each.number,
                    of_journal=True,
                )
            )
        return made

    found.done, found.undone = steps(done), steps(undone)
    return found


_Changed = dict[int, tuple[Plane, PlaneDrafts, PlaneDrafts]]


def _drafts(told: Recovered) -> tuple[dict[Plane, PlaneDrafts], _Changed]:
    """Follow the drafts of all planes; those of each step before and after it."""
    now: dict[Plane, PlaneDrafts] = {}
    changed: _Changed = {}
    shape, channel_axis = told.about.image.shape, None
    for action in told.actions:
        channel_axis = action.arguments.get("channel_axis", channel_axis)
        if action.name == DRAFTS:
            now = _all_drafts(action, shape, channel_axis)
        if not action.step:
            continue
        if action.name in (UNDO, "redo"):
            if action.step in changed:
                plane, before, after = changed[action.step]
                now[plane.without_channel()] = before if action.name == UNDO else after
            continue
        try:
            plane = _plane(action.arguments, shape, channel_axis)
            key = plane.without_channel()
            before = after = now.get(key, PlaneDrafts())
            if "drafts" in action.arguments:
                after = _after(before, action.arguments["drafts"], plane.shape)
        except _UNREADABLE:
            continue  # a later part of a long step says nothing of its plane
        now[key] = after
        if action.step in changed:
            before = changed[action.step][1]
        changed[action.step] = plane, before, after
    return {key: each for key, each in now.items() if not each.is_empty}, changed


def _all_drafts(
    action: Action, shape: tuple[int, ...], channel_axis: int | None
) -> dict[Plane, PlaneDrafts]:
    """Return the drafts of all planes, see `open_drafts_to_json`."""
    found = {}
    with suppress(*_UNREADABLE):
        for told in action.arguments["planes"]:
            plane = _plane(told, shape, channel_axis)
            drafts = _after(PlaneDrafts(), told["drafts"], plane.shape)
            found[plane.without_channel()] = drafts
    return found


def _plane(
    told: Mapping[str, Any], shape: tuple[int, ...], channel_axis: int | None
) -> Plane:
    """Find the plane that an action names in an image of this shape, maybe with colours.

    Raises
    ------
    KeyError, TypeError, ValueError, IndexError
        If the image has none such.
    """
    index = tuple(None if at is None else int(at) for at in told["plane"])
    shape = shape[: len(index)]
    rows, columns = (axis for axis, at in enumerate(index) if at is None)
    if told.get("transposed"):
        rows, columns = columns, rows
    inside = len(index) == len(shape) and all(
        at is None or 0 <= at < length for at, length in zip(index, shape, strict=True)
    )
    if not inside:
        raise ValueError("The image has no such plane.")
    channels = None if channel_axis in (rows, columns) else channel_axis
    return Plane(index, (rows, columns), (shape[rows], shape[columns]), channels)


def _after(
    before: PlaneDrafts, told: Mapping[str, Any], shape: tuple[int, int]
) -> PlaneDrafts:
    """Return the drafts that a step left, see `drafts_to_json`."""
    kept = before.objects[: int(told["keep"])]
    then = tuple(_draft(each, shape) for each in told["then"])
    return PlaneDrafts((*kept, *then) or (ObjectDraft(),))


def _draft(told: Mapping[str, Any], shape: tuple[int, int]) -> ObjectDraft:
    points = tuple(
        PointPrompt(float(x), float(y), int(label))
        for y, x, label in told.get("points", ())
    )
    box = told.get("box")
    if box is not None:
        y0, x0, y1, x1 = (float(at) for at in box)
        box = (x0, y0, x1, y1)
    candidate = told.get("candidate")
    edited = None
    if "mask" in told:
        edited = EditedObject(int(told["id"]), mask_from_json(told["mask"], shape))
    return ObjectDraft(
        points, box, None if candidate is None else int(candidate), edited
    )
