"""The actions of a provenance are done again: the prompts are run, the rest is put from its pixels.

What a commit, a deletion, a merge or a split does is done to the labels as they are now, so another
model's masks are merged and split where those of the session were. Painting, automatic runs,
objects that were followed, and what other programs did are put from the pixels that were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.inference.candidates import predict
from napari_tinysam.inference.drafts import (
    EditedObject,
    ObjectDraft,
    PointPrompt,
    in_look,
)
from napari_tinysam.inference.looks import Look
from napari_tinysam.journal.objects import made_by
from napari_tinysam.journal.prompted import mask_from_json
from napari_tinysam.journal.provenance import is_done_again, same_weights
from napari_tinysam.journal.reading import ids_of
from napari_tinysam.journal.sparse import SparseLabels
from napari_tinysam.labels import Overlap, draw_mask, move_object
from napari_tinysam.masks import BoxedMask, bounding_slices
from napari_tinysam.objects.splitting import split_mask
from napari_tinysam.replay.image import ReplayedImage, View, view_of
from napari_tinysam.replay.planes import LabelPlane

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.journal.provenance import Box, Provenance, ToldAction

#: Gives the predictor for the name and hash of the model of an action.
Predictors = Callable[[str], "Predictor"]


@dataclass(eq=False)
class Replayed:
    """Labels that were made again.

    Parameters
    ----------
    labels : SparseLabels
    prompted : set of int
        Ids of the objects whose masks were predicted again.
    refused : list of int
        Ids of objects that got no pixel this time.
    remarks : list of str
        What could not be done as it was, in sentences.
    """

    labels: SparseLabels
    prompted: set[int] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Edit:
    """A box of labels before and after it was written."""

    start: tuple[int, ...]
    before: npt.NDArray[Any]
    after: npt.NDArray[Any]


def replay(
    told: Provenance,
    image: ReplayedImage,
    predictors: Predictors,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Replayed:
    """Make labels again.

    Parameters
    ----------
    told : Provenance
    image : ReplayedImage
    predictors : callable
        Called with the model of an action, "name hash"; returns what predicts now.
    on_progress : callable
        Called with the number of actions that are done, and of all.

    Raises
    ------
    FileError
        If the image cannot be read, or an action does not fit it.
    """
    run = _Replay(told, image, predictors)
    for number, each in enumerate(told.actions):
        on_progress(number, len(told.actions))
        try:
            run.do(each)
        except FileError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(
                f"Action {each.action.number} ({each.action.name}) of the provenance file is "
                "damaged, or was changed."
            ) from error
    on_progress(len(told.actions), len(told.actions))
    return run.finish()


class _Replay:
    def __init__(
        self, told: Provenance, image: ReplayedImage, predictors: Predictors
    ) -> None:
        self._told = told
        self._image = image
        self._predictors = predictors
        self._final = told.labels
        self._now = SparseLabels(told.labels.shape, told.labels.dtype)
        self._settings: dict[str, Any] = {}
        self._steps: dict[int, list[_Edit]] = {}
        self._prompted: dict[int, set[int]] = {}  # by step
        self._put_at_end: set[int] = set()  # objects whose way is not known any more
        self._lost = 0
        self._found = Replayed(self._now)
        self._begin()

    def _begin(self) -> None:
        """Put what was there before the first action."""
        beginning = self._told.beginning
        if beginning is not None:
            for start, chunk in beginning.chunks():
                self._now.write(start, chunk)
            return
        made: set[int] = set()
        for each in self._told.actions:
            made |= made_by(each.action)
        there = sorted(ids_of(self._final) - made)
        self._put_final(there, 0)
        self._put_at_end |= set(there)

    def do(self, told: ToldAction) -> None:
        """Do one action again."""
        action = told.action
        if action.name == "setting":
            self._settings |= dict(action.arguments)
        elif action.name in ("undo", "redo"):
            if is_done_again(action) or not told.changes:
                self._turn(action.step, back=action.name == "undo")
            else:
                self._put(told)
        elif is_done_again(action):
            getattr(self, f"_{action.name}")(told)  # one of `provenance.AGAIN`
        elif told.lost:
            self._lost += 1
            ids = sorted(made_by(action) | set(action.ids))
            self._put_final(ids, action.step)
            self._put_at_end |= set(ids)
        else:
            self._put(told)

    def finish(self) -> Replayed:
        """Put the objects whose way is not known as they were at the end."""
        left = sorted(self._put_at_end - self._found.prompted)
        if left:
            for start, chunk in list(self._now.chunks()):
                gone = np.isin(chunk, left)
                if gone.any():
                    self._now.write(start, np.where(gone, 0, chunk).astype(chunk.dtype))
            self._put_final(left, 0)
        if self._lost:
            what = "1 action" if self._lost == 1 else f"{self._lost} actions"
            self._found.remarks.append(
                f"The pixels of {what} are not known any more; what came of it was put as it was "
                "at the end."
            )
        self._found.refused = sorted(
            set(self._found.refused) & ids_of(self._final) - ids_of(self._now)
        )
        return self._found

    # --- what is put from pixels ---------------------------------------------------------

    def _put(self, told: ToldAction) -> None:
        """Write the pixels that an action changed."""
        for change in told.changes:
            before = self._now.read(change.start, change.after.shape)
            changed = change.before != change.after
            after = np.where(changed, change.after, before)
            self._write(change.start, before, after, told.action.step)

    def _put_final(self, ids: Sequence[int], step: int) -> None:
        """Write the last pixels of objects where nothing is."""
        if not ids:
            return
        for start, chunk in self._final.chunks():
            wanted = np.isin(chunk, ids)
            if wanted.any():
                before = self._now.read(start, chunk.shape)
                after = np.where(wanted & (before == 0), chunk, before)
                self._write(start, before, after, step)

    def _write(
        self,
        start: tuple[int, ...],
        before: npt.NDArray[Any],
        after: npt.NDArray[Any],
        step: int,
    ) -> None:
        self._now.write(start, after.astype(self._now.dtype))
        if step:
            edit = _Edit(start, before, np.array(after))
            self._steps.setdefault(step, []).append(edit)

    def _predicted(self, step: int, labels: set[int]) -> None:
        """Note objects that have predicted masks now."""
        new = labels - self._found.prompted
        self._prompted[step] = self._prompted.get(step, set()) | new
        self._found.prompted |= new

    def _turn(self, step: int, *, back: bool) -> None:
        """Undo or redo a step where nothing else has changed since."""
        predicted = self._prompted.get(step, set())
        if back:
            self._found.prompted -= predicted
        else:
            self._found.prompted |= predicted
        edits = self._steps.get(step, [])
        for edit in reversed(edits) if back else edits:
            old, new = (edit.after, edit.before) if back else (edit.before, edit.after)
            now = self._now.read(edit.start, old.shape)
            self._now.write(edit.start, np.where((now == old) & (old != new), new, now))

    # --- what is done again --------------------------------------------------------------

    def _commit(self, told: ToldAction) -> None:
        arguments, step = told.action.arguments, told.action.step
        objects = arguments["objects"]
        if not objects:
            return
        view = view_of(arguments, self._image)
        plane = self._plane(view)
        if plane.shape != self._image.size(view):
            raise FileError("The labels of the provenance file do not fit the image.")
        predictor = self._predictors(told.action.model)
        same = same_weights(told.action.model, predictor.model_id)
        drafts = [self._draft(each, plane, same=same) for each in objects]
        masks = [
            self._mask(predictor, view, plane.shape, draft, each)
            for draft, each in zip(drafts, objects, strict=True)
        ]
        edited = [draft.edited.mask for draft in drafts if draft.edited is not None]
        rows, columns = bounding_slices([*masks, *edited])
        before = plane.read(rows, columns)
        after, overlap = before.copy(), Overlap(arguments["overlap"])
        drawn: set[int] = set()
        for mask, draft, each in zip(masks, drafts, objects, strict=True):
            moved = mask.moved(-rows.start, -columns.start, after.shape)
            label = int(each["id"])
            draw = draw_mask if draft.edited is None else move_object
            if draw(after, moved, label, overlap):
                drawn.add(label)
            else:
                self._found.refused.append(label)
        self._predicted(step, drawn)
        start, old = plane.boxed(rows, columns, before)
        _, new = plane.boxed(rows, columns, after)
        self._write(start, old, new, step)

    def _draft(
        self, each: Mapping[str, Any], plane: LabelPlane, *, same: bool
    ) -> ObjectDraft:
        """Return an object's prompts; with another model it is edited from that model's mask."""
        prompts, edited = each["prompts"], None
        points = tuple(
            PointPrompt(float(x), float(y), int(label))
            for y, x, label in prompts["points"]
        )
        box = prompts.get("box")
        if box is not None:
            y0, x0, y1, x1 = (float(value) for value in box)
            box = (x0, y0, x1, y1)
        if prompts.get("mask") is not None:
            label = int(each["id"])
            mask = mask_from_json(prompts["mask"], plane.shape)
            if not same:
                own = self._mask_of(plane, label)
                mask = own if own.area else mask
            edited = EditedObject(label, mask)
        chosen = each.get("candidate") if each.get("chosen", True) else None
        return ObjectDraft(points, box, None if chosen is None else int(chosen), edited)

    def _mask(
        self,
        predictor: Predictor,
        view: View,
        shape: tuple[int, int],
        draft: ObjectDraft,
        each: Mapping[str, Any],
    ) -> BoxedMask:
        y0, x0, y1, x1 = (int(value) for value in each["look"])
        look = Look(y0, x0, y1, x1)
        if not (0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1]):
            raise FileError("The provenance file tells of a look outside the image.")
        if not draft.is_predictable:  # an object that was committed as it was
            return BoxedMask.empty(shape) if draft.edited is None else draft.edited.mask
        embedding = self._image.embedding(predictor, view, look)
        (found,) = predict(predictor, embedding, [in_look(draft, look)], look, shape)
        return found.mask(draft.candidate)

    def _delete(self, told: ToldAction) -> None:
        self._rename(told, int(told.action.arguments["id"]), 0)

    def _merge(self, told: ToldAction) -> None:
        arguments = told.action.arguments
        self._rename(told, int(arguments["from"]), int(arguments["into"]))

    def _split(self, told: ToldAction) -> None:
        arguments, step = told.action.arguments, told.action.step
        label, *new = (int(each) for each in arguments["into"])
        if "along" in arguments:
            self._rename(told, label, new[0])
            return
        plane = self._plane(view_of(arguments, self._image))
        mask = self._mask_of(plane, label)
        parts = split_mask(mask, [(float(x), float(y)) for y, x in arguments["seeds"]])
        sizes = np.bincount(parts.ravel(), minlength=2)[1:]
        keeper = int(sizes.argmax()) + 1
        others = [part for part in range(1, len(sizes) + 1) if part != keeper]
        if len(others) != len(new):
            self._found.remarks.append(
                f"Object {label} falls into {len(sizes)} parts, not into {len(new) + 1}."
            )
        before = plane.read(*mask.slices)
        after = before.copy()
        for part, fresh in zip(others, new, strict=False):
            after[parts == part] = fresh
            if label in self._found.prompted:
                self._predicted(step, {fresh})
        start, old = plane.boxed(*mask.slices, before)
        _, changed = plane.boxed(*mask.slices, after)
        self._write(start, old, changed, step)

    def _rename(self, told: ToldAction, label: int, new: int) -> None:
        """Give an object another id on the planes where the session did so."""
        for start, stop in self._places(told):
            shape = tuple(b - a for a, b in zip(start, stop, strict=True))
            before = self._now.read(start, shape)
            where = before == label
            if where.any():
                after = np.where(where, new, before)
                self._write(start, before, after, told.action.step)

    def _places(self, told: ToldAction) -> Iterable[Box]:
        """Return the whole planes that an action concerned."""
        arguments = told.action.arguments
        index = arguments["plane"]
        own = list(index[len(index) - len(self._now.shape) :])
        if not told.boxes:
            whole = "planes" in arguments or "along" in arguments
            start = [0 if at is None or whole else at for at in own]
            stop = [
                n if at is None or whole else at + 1
                for at, n in zip(own, self._now.shape, strict=True)
            ]
            along = arguments.get("along")
            if along is not None:
                start[int(along) - (len(index) - len(own))] = int(index[int(along)])
            return [(tuple(start), tuple(stop))]
        places = []
        for first, last in told.boxes:
            start = [0 if at is None else a for at, a in zip(own, first, strict=True)]
            stop = [
                n if at is None else b
                for at, b, n in zip(own, last, self._now.shape, strict=True)
            ]
            places.append((tuple(start), tuple(stop)))
        return dict.fromkeys(places)

    def _plane(self, view: View) -> LabelPlane:
        channel = self._settings.get("channel_axis")
        return LabelPlane(
            self._now,
            view.index,
            transposed=view.transposed,
            channel_axis=None if channel is None else int(channel),
        )

    @staticmethod
    def _mask_of(plane: LabelPlane, label: int) -> BoxedMask:
        rows, columns = slice(0, plane.shape[0]), slice(0, plane.shape[1])
        return BoxedMask.from_full(plane.read(rows, columns) == label)
