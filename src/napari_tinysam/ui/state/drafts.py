"""Drafts: prompts that are not committed yet. Immutable, so undo is a lookup."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import LOGITS
from napari_tinysam.prompts import IGNORED, NEGATIVE, POSITIVE, Prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.masks import BoxedMask

#: (x0, y0, x1, y1) in pixels of the plane.
Box = tuple[float, float, float, float]


def in_box(box: Box, xy: tuple[float, float]) -> bool:
    """Whether a box holds (x, y)."""
    return box[0] <= xy[0] <= box[2] and box[1] <= xy[1] <= box[3]


@dataclass(frozen=True)
class PointPrompt:
    """One point, in pixels of the plane."""

    x: float
    y: float
    label: int  # POSITIVE or NEGATIVE


@dataclass(frozen=True, eq=False)
class EditedObject:
    """An object of the labels layer that is being refined.

    Parameters
    ----------
    label : int
        Its id.
    mask : BoxedMask
        Where it was when it was selected.
    """

    label: int
    mask: BoxedMask


@dataclass(frozen=True)
class ObjectDraft:
    """The user's prompts for one object.

    Parameters
    ----------
    points : tuple of PointPrompt
        In the order they were placed.
    box : (float, float, float, float), optional
        (x0, y0, x1, y1) in pixels of the plane.
    candidate : int, optional
        Which mask the user chose: 0 the smallest, 2 the largest. None: the best by score.
    edited : EditedObject, optional
        The existing object that this refines; it keeps its id.
    """

    points: tuple[PointPrompt, ...] = ()
    box: Box | None = None
    candidate: int | None = None
    edited: EditedObject | None = None

    @property
    def anchor(self) -> object:
        """Its first prompt, which stays while others are added; None without one."""
        if self.edited is not None:
            return self.edited
        return self.points[0] if self.points else self.box

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing yet."""
        return not self.points and self.box is None and self.edited is None

    @property
    def is_predictable(self) -> bool:
        """Whether the prompts ask for a mask: a box, a positive point, or clicks on an object."""
        positive = any(point.label == POSITIVE for point in self.points)
        if self.edited is not None:
            return bool(self.points) or self.box is not None
        return positive or self.box is not None

    @property
    def prompts_key(self) -> ObjectDraft:
        """The same draft without the choice of candidate, which no prediction depends on."""
        return replace(self, candidate=None)

    def with_point(self, point: PointPrompt) -> ObjectDraft:
        """Return the draft with another point; the choice of mask is open again."""
        return replace(self, points=(*self.points, point), candidate=None)

    def with_box(self, box: Box) -> ObjectDraft:
        """Return the draft with another box; the choice of mask is open again."""
        return replace(self, box=box, candidate=None)


@dataclass(frozen=True)
class PlaneDrafts:
    """All drafts of one plane; new prompts go to the last one.

    Parameters
    ----------
    objects : tuple of ObjectDraft
        At least one; the last is the current object.
    """

    objects: tuple[ObjectDraft, ...] = field(default=(ObjectDraft(),))

    @property
    def current(self) -> ObjectDraft:
        """The object that the next prompt belongs to."""
        return self.objects[-1]

    @property
    def is_empty(self) -> bool:
        """Whether no draft has a prompt."""
        return all(draft.is_empty for draft in self.objects)

    @property
    def predictable(self) -> tuple[ObjectDraft, ...]:
        """The drafts that the model is asked about."""
        return tuple(draft for draft in self.objects if draft.is_predictable)

    @property
    def filled(self) -> tuple[ObjectDraft, ...]:
        """The drafts that are not empty."""
        return tuple(draft for draft in self.objects if not draft.is_empty)

    def with_current(self, draft: ObjectDraft) -> PlaneDrafts:
        """Return the drafts with another current object."""
        return PlaneDrafts((*self.objects[:-1], draft))

    def with_next(self) -> PlaneDrafts:
        """Return the drafts with a new, empty current object."""
        return (
            self
            if self.current.is_empty
            else PlaneDrafts((*self.filled, ObjectDraft()))
        )

    def with_next_at(self, xy: tuple[float, float]) -> PlaneDrafts:
        """Make the last object whose box holds (x, y) the current one, or begin a new one."""
        around = [
            draft
            for draft in self.filled
            if draft.box is not None and in_box(draft.box, xy)
        ]
        if not around:
            return self.with_next()
        others = [draft for draft in self.filled if draft is not around[-1]]
        return PlaneDrafts((*others, around[-1]))

    def with_boxes(self, boxes: Sequence[Box]) -> PlaneDrafts:
        """Return the drafts with these boxes, one object each.

        A box that a draft already has stays with it and its points. A draft that loses its box
        keeps its points; without points it is removed.
        """
        left = list(boxes)
        objects: list[ObjectDraft] = []
        for draft in self.filled:
            if draft.box is not None:
                if draft.box in left:
                    left.remove(draft.box)
                else:
                    draft = replace(draft, box=None)
            if not draft.is_empty:
                objects.append(draft)
        if left and objects and objects[-1].box is None:
            objects[-1] = replace(objects[-1], box=left.pop(0))
        objects.extend(ObjectDraft(box=box) for box in left)
        return PlaneDrafts(tuple(objects) or (ObjectDraft(),))

    def with_points(self, points: Sequence[PointPrompt]) -> PlaneDrafts:
        """Return the drafts with these points.

        Points that a draft has already stay with it. A new one joins the object whose box holds
        it, else the current object.
        """
        left = list(points)
        objects = []
        for draft in self.objects:
            kept = []
            for point in draft.points:
                if point in left:
                    left.remove(point)
                    kept.append(point)
            objects.append(replace(draft, points=tuple(kept)))
        for point in left:
            at = _object_for(point, objects)
            objects[at] = replace(objects[at], points=(*objects[at].points, point))
        filled = [draft for draft in objects[:-1] if not draft.is_empty]
        return PlaneDrafts((*filled, objects[-1]))


def _object_for(point: PointPrompt, objects: Sequence[ObjectDraft]) -> int:
    """Which object a point belongs to: the smallest box around it, else the current object."""
    around = [
        ((draft.box[2] - draft.box[0]) * (draft.box[3] - draft.box[1]), i)
        for i, draft in enumerate(objects)
        if draft.box is not None and in_box(draft.box, (point.x, point.y))
    ]
    return min(around)[1] if around else len(objects) - 1


def to_prompts(drafts: Sequence[ObjectDraft], embedding: Embedding) -> Prompts:
    """Turn drafts into one batch of prompts.

    Parameters
    ----------
    drafts : sequence of ObjectDraft
        N objects, each predictable.
    embedding : Embedding
        Of the plane; mask prompts are made for its frame.

    Returns
    -------
    Prompts
        N rows. An edited object adds a box around its mask, a point in its middle and the mask
        itself, because a mask prompt alone hardly guides the model (segment-anything, issue 169).
    """
    rows = [_row(draft) for draft in drafts]
    most = max(len(points) for points, _ in rows)
    points = np.zeros((len(rows), most, 2), np.float32)
    labels = np.full((len(rows), most), IGNORED, np.int32)
    boxes = np.full((len(rows), 4), np.nan, np.float32)
    for i, (row_points, box) in enumerate(rows):
        for j, point in enumerate(row_points):
            points[i, j] = point.x, point.y
            labels[i, j] = point.label
        if box is not None:
            boxes[i] = box
    masks = None
    if any(draft.edited is not None for draft in drafts):
        masks = np.full((len(rows), LOGITS, LOGITS), np.nan, np.float32)
        for i, draft in enumerate(drafts):
            if draft.edited is not None:
                masks[i] = embedding.upscaler.mask_prompt(draft.edited.mask)
    return Prompts(
        points=points if most else None,
        labels=labels if most else None,
        boxes=boxes if not np.isnan(boxes).all() else None,
        masks=masks,
    )


def _row(draft: ObjectDraft) -> tuple[list[PointPrompt], Box | None]:
    """Points and box of one draft, with those derived from an edited object's mask."""
    points, box = list(draft.points), draft.box
    if draft.edited is None:
        return points, box
    mask = draft.edited.mask
    if not mask.area:
        return points, box
    x, y = mask.deepest
    points.insert(0, PointPrompt(x, y, POSITIVE))
    outside = any(
        point.label == POSITIVE and not _in_rectangle(point, mask)
        for point in draft.points
    )
    # A box would keep the mask from growing beyond it.
    if box is None and not outside:
        box = mask.box
    return points, box


def _in_rectangle(point: PointPrompt, mask: BoxedMask) -> bool:
    height, width = mask.mask.shape
    return bool(
        mask.x0 - 0.5 <= point.x < mask.x0 + width - 0.5
        and mask.y0 - 0.5 <= point.y < mask.y0 + height - 0.5
    )


__all__ = [
    "NEGATIVE",
    "POSITIVE",
    "Box",
    "EditedObject",
    "ObjectDraft",
    "PlaneDrafts",
    "PointPrompt",
    "in_box",
    "to_prompts",
]
