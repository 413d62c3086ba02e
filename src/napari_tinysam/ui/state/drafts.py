"""Drafts: prompts that are not committed yet. Immutable, so undo is a lookup."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from napari_tinysam.inference.drafts import (
    Box,
    EditedObject,
    ObjectDraft,
    PointPrompt,
)
from napari_tinysam.prompts import NEGATIVE, POSITIVE

if TYPE_CHECKING:
    from collections.abc import Sequence


def in_box(box: Box, xy: tuple[float, float]) -> bool:
    """Whether a box holds (x, y)."""
    return box[0] <= xy[0] <= box[2] and box[1] <= xy[1] <= box[3]


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


__all__ = [
    "NEGATIVE",
    "POSITIVE",
    "Box",
    "EditedObject",
    "ObjectDraft",
    "PlaneDrafts",
    "PointPrompt",
    "in_box",
]
