"""The objects of a file, as the forms read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from scipy.ndimage import find_objects

from napari_tinysam.masks import BoxedMask

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt


class FoundObject(NamedTuple):
    """An object of a plane.

    Attributes
    ----------
    label : int
    mask : BoxedMask
    row : dict
        Its row of the table: area, centroid, intensities and so on.
    """

    label: int
    mask: BoxedMask
    row: dict[str, Any]


@dataclass(frozen=True, eq=False)
class PlaneObjects:
    """The objects of one plane.

    Attributes
    ----------
    index : tuple of int
        Of the plane, one for each axis of the stack; empty for a single plane.
    labels : ndarray of int, (H, W)
    rows : list of dict
        Of the table, one for each label.
    """

    index: tuple[int, ...]
    labels: npt.NDArray[np.integer[Any]]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __iter__(self) -> Iterator[FoundObject]:
        """Go through the objects by their labels."""
        rows = {row["label"]: row for row in self.rows}
        height, width = self.labels.shape
        for label, place in enumerate(find_objects(self.labels), start=1):
            if place is not None:
                mask = self.labels[place] == label
                y0, x0 = place[0].start, place[1].start
                boxed = BoxedMask(mask, y0, x0, (height, width))
                yield FoundObject(label, boxed, rows.get(label, {"label": label}))


@dataclass(frozen=True, eq=False)
class FoundObjects:
    """The objects in all planes of a file.

    Attributes
    ----------
    image : str
        Name of the file.
    axes : str
        Letters of the stack's own axes, as of `PlaneSeries`.
    names : list of str
        Those of the columns that tell the plane, one for each of `axes`.
    planes : list of PlaneObjects
    """

    image: str
    axes: str
    names: list[str]
    planes: list[PlaneObjects]
