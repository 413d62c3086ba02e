"""The prompts of one object, as a user gives them, and how the model is asked about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import LOGITS
from napari_tinysam.prompts import IGNORED, POSITIVE, Prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.inference.looks import Look
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.masks import BoxedMask

#: (x0, y0, x1, y1) in pixels of the plane.
Box = tuple[float, float, float, float]


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


def in_look(draft: ObjectDraft, look: Look) -> ObjectDraft:
    """Return a draft in pixels of a look.

    Prompts further apart than the largest look is wide are moved to its border.
    """
    if look.y0 == look.x0 == 0 and not draft.edited:
        return draft
    height, width = look.size

    def moved(x: float, y: float) -> tuple[float, float]:
        return (
            min(max(x - look.x0, -0.5), width - 0.5),
            min(max(y - look.y0, -0.5), height - 0.5),
        )

    points = tuple(
        PointPrompt(*moved(point.x, point.y), point.label) for point in draft.points
    )
    box, edited = draft.box, draft.edited
    if box is not None:
        box = (*moved(*box[:2]), *moved(*box[2:]))
    if edited is not None:
        edited = replace(edited, mask=look.cut(edited.mask))
    return replace(draft, points=points, box=box, edited=edited)


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
