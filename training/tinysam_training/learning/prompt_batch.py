"""Prompts of many objects as tensors: any number of points each, with or without a box."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: Labels of points: on the object, beside it, and padding of the row.
POSITIVE, NEGATIVE, ABSENT = 1, 0, -1


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """Prompts of N objects, in pixels of their windows.

    Attributes
    ----------
    points : Tensor
        (N, P, 2) float32, x and y. In each row existing points come first; the rest is 0.
    labels : Tensor
        (N, P) int64: 1 on the object, 0 beside it, −1 where there is no point.
    boxes : Tensor
        (N, 4) float32, x0, y0, x1, y1; NaN where there is none.
    """

    points: Tensor
    labels: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.points)

    @property
    def has_box(self) -> Tensor:
        """(N,) bool."""
        return ~self.boxes.isnan().any(1)

    @property
    def point_count(self) -> Tensor:
        """(N,) int64."""
        return (self.labels != ABSENT).sum(1)

    def with_point(self, points: Tensor, labels: Tensor) -> PromptBatch:
        """Add one point to every object.

        Parameters
        ----------
        points : Tensor
            (N, 2), x and y.
        labels : Tensor
            (N,), −1 for objects without a new point.
        """
        labels = torch.cat([self.labels, labels[:, None].to(self.labels)], dim=1)
        points = torch.cat([self.points, points[:, None].to(self.points)], dim=1)
        # Existing points move to the front of their row, in their order.
        order = (labels == ABSENT).long().argsort(dim=1, stable=True)
        labels = labels.gather(1, order)
        points = points.gather(1, order[..., None].expand(-1, -1, 2))
        absent = (labels == ABSENT)[..., None]
        return replace(self, points=points.masked_fill(absent, 0), labels=labels)

    def take(self, rows: Tensor) -> PromptBatch:
        """Select the prompts of some objects.

        Parameters
        ----------
        rows : Tensor
            (n,) int64.
        """
        return PromptBatch(self.points[rows], self.labels[rows], self.boxes[rows])

    def trimmed(self) -> PromptBatch:
        """Drop the columns in which no object has a point."""
        used = int(self.point_count.max()) if len(self) else 0
        return replace(self, points=self.points[:, :used], labels=self.labels[:, :used])
