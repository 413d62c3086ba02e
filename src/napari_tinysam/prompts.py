"""Prompts: points, boxes and mask prompts of N objects as arrays. numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.frame import LOGITS

if TYPE_CHECKING:
    import numpy.typing as npt

#: Labels of points: on the object, outside it, and padding of a row.
POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts for N objects of one image.

    Each row is one object. Its result does not depend on the other rows.

    Parameters
    ----------
    points : array-like, optional
        (N, P, 2) float, (x, y) in pixels of the image; the centre of the first pixel is (0, 0).
        A (P, 2) array is for one object.
    labels : array-like, optional
        (N, P) int: 1 on the object, 0 outside it, −1 no point (pads rows of unequal length).
        All 1 by default.
    boxes : array-like, optional
        (N, 4) float, (x0, y0, x1, y1) in pixels of the image. A row of NaN is an object without a
        box. A (4,) array is for one object.
    masks : array-like, optional
        (N, 256, 256) float, logits of an earlier prediction (`Masks.logits`). A row of NaN is an
        object without a mask prompt.

    Raises
    ------
    ValueError
        If there are no prompts, an object has none, shapes do not match, or values are not finite.
    """

    points: npt.NDArray[np.float32] | None = None
    labels: npt.NDArray[np.int32] | None = None
    boxes: npt.NDArray[np.float32] | None = None
    masks: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        points = _rows(self.points, 3, "points", (2,))
        boxes = _rows(self.boxes, 2, "boxes", (4,))
        masks = _rows(self.masks, 3, "masks", (LOGITS, LOGITS))
        labels = _labels(self.labels, points)
        counts = {len(rows) for rows in (points, boxes, masks) if rows is not None}
        if not counts:
            raise ValueError("Prompts need at least one point, box or mask.")
        if len(counts) > 1:
            raise ValueError(
                "Points, boxes and masks must be for the same number of objects; got "
                + ", ".join(
                    f"{len(rows)} {name}"
                    for name, rows in (
                        ("rows of points", points),
                        ("boxes", boxes),
                        ("masks", masks),
                    )
                    if rows is not None
                )
                + "."
            )
        if points is not None and labels is not None:
            real = labels != IGNORED
            if not np.isfinite(points[real]).all():
                raise ValueError("Points must be finite.")
            points = np.where(real[..., np.newaxis], points, np.float32(0))
        if boxes is not None:
            _check_rows(boxes, "Boxes")
            boxes = _ordered_boxes(boxes)
        if masks is not None:
            _check_rows(masks.reshape(len(masks), -1), "Masks")
        for name, value in (
            ("points", points),
            ("labels", labels),
            ("boxes", boxes),
            ("masks", masks),
        ):
            object.__setattr__(self, name, value)
        if np.any(~(self.has_box | self.has_mask | (self.point_counts > 0))):
            raise ValueError("Every object needs at least one point, box or mask.")

    def __len__(self) -> int:
        """Return the number of objects, N."""
        for rows in (self.points, self.boxes, self.masks):
            if rows is not None:
                return len(rows)
        return 0  # unreachable: __post_init__ refuses empty prompts

    @property
    def point_counts(self) -> npt.NDArray[np.intp]:
        """(N,) number of points of each object, without padding."""
        if self.labels is None:
            return np.zeros(len(self), np.intp)
        return np.asarray(np.count_nonzero(self.labels != IGNORED, axis=1), np.intp)

    @property
    def has_box(self) -> npt.NDArray[np.bool_]:
        """(N,) whether an object has a box."""
        if self.boxes is None:
            return np.zeros(len(self), bool)
        return np.asarray(~np.isnan(self.boxes).any(axis=1))

    @property
    def has_mask(self) -> npt.NDArray[np.bool_]:
        """(N,) whether an object has a mask prompt."""
        if self.masks is None:
            return np.zeros(len(self), bool)
        return np.asarray(~np.isnan(self.masks).any(axis=(1, 2)))


def _rows(
    values: Any, ndim: int, name: str, tail: tuple[int, ...]
) -> npt.NDArray[np.float32] | None:
    """Convert to float32 with `ndim` axes that end in `tail`; one axis fewer is one object."""
    if values is None:
        return None
    array = np.array(values, dtype=np.float32)
    if array.ndim == ndim - 1:
        array = array[np.newaxis]
    if array.ndim != ndim or array.shape[-len(tail) :] != tail or len(array) == 0:
        letters = ("N", "P") if name == "points" else ("N",)
        wanted = "(" + ", ".join([*letters, *map(str, tail)]) + ")"
        raise ValueError(f"{name} must have shape {wanted}; got {np.shape(values)}.")
    return array


def _labels(
    labels: Any, points: npt.NDArray[np.float32] | None
) -> npt.NDArray[np.int32] | None:
    if points is None:
        if labels is not None:
            raise ValueError("labels were given without points.")
        return None
    if labels is None:
        return np.full(points.shape[:2], POSITIVE, np.int32)
    array = np.array(labels)
    if array.ndim == 1 and len(points) == 1:
        array = array[np.newaxis]
    if array.shape != points.shape[:2]:
        raise ValueError(
            f"labels must have shape {points.shape[:2]}, one for each point; got "
            f"{np.shape(labels)}."
        )
    if not np.isin(array, (POSITIVE, NEGATIVE, IGNORED)).all():
        raise ValueError("labels must be 1 (on the object), 0 (outside it) or -1.")
    return array.astype(np.int32)


def _check_rows(rows: npt.NDArray[np.float32], name: str) -> None:
    """Raise if a row, (N, M), is neither all finite nor all NaN."""
    if not (np.isfinite(rows).all(axis=1) | np.isnan(rows).all(axis=1)).all():
        raise ValueError(f"{name} must be finite; a row of NaN stands for none.")


def _ordered_boxes(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Sort the corners: a box dragged in any direction is the same box."""
    x0, y0, x1, y1 = boxes.T
    return np.stack(
        [
            np.minimum(x0, x1),
            np.minimum(y0, y1),
            np.maximum(x0, x1),
            np.maximum(y0, y1),
        ],
        axis=1,
    )
