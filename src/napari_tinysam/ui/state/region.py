"""Where auto-segmentation looks for objects: in the plane, in all planes, or in files."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import FRAME
from napari_tinysam.inference.looks import Look

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image

    from napari_tinysam.everything.shapes import TakenAt
    from napari_tinysam.ui.state.drafts import Box
    from napari_tinysam.ui.state.planes import Plane


class Region(Enum):
    """Where objects are looked for."""

    PLANE = "plane"
    VIEW = "view"
    BOX = "box"
    #: All planes of the image, or a range of them.
    ALL_PLANES = "all planes"
    #: All planes of all images that the viewer shows.
    ALL_IMAGES = "all images"
    #: Images of the list that are not done, without opening them.
    LIST = "all images of the list"
    #: Image files, outside the viewer.
    FILES = "folder or files"

    @property
    def in_plane(self) -> bool:
        """Whether it lies in the shown plane."""
        return self in (Region.PLANE, Region.VIEW, Region.BOX)


def region_of(
    region: Region, image: Image, plane: Plane, box: Box | None
) -> Look | None:
    """Return the part of a plane that a region covers.

    Parameters
    ----------
    region : Region
    image : napari.layers.Image
    plane : Plane
        Of the image.
    box : (float, float, float, float), optional
        (x0, y0, x1, y1) in pixels of the plane, for `Region.BOX`.

    Returns
    -------
    Look or None
        None if the region is a box and there is none; without pixels if it lies outside the plane.
    """
    height, width = plane.shape
    if region is Region.VIEW:
        rows, columns = in_view(image, plane)
        return Look(
            rows.start, columns.start, min(rows.stop, height), min(columns.stop, width)
        )
    if region is not Region.BOX:
        return Look.whole(plane.shape)
    if box is None:
        return None
    x0, y0, x1, y1 = (int(np.floor(value + 0.5)) for value in box)
    return Look(max(y0, 0), max(x0, 0), min(y1 + 1, height), min(x1 + 1, width))


class FreePixels:
    """The pixels of a region that have no label. The plane's labels are read part by part.

    Parameters
    ----------
    part : Look
        The region.
    taken : callable, optional
        See `napari_tinysam.everything.shapes.TakenAt`.

    Attributes
    ----------
    met_labels : bool
        Whether labels were read so far.
    """

    def __init__(self, part: Look, taken: TakenAt | None) -> None:
        self.part = part
        self.met_labels = False
        self._taken = taken

    def within(self, look: Look) -> npt.NDArray[np.bool_]:
        """Return which pixels of a look are free pixels of the region, (h, w)."""
        free = np.zeros(look.size, bool)
        y0, x0 = max(self.part.y0, look.y0), max(self.part.x0, look.x0)
        y1, x1 = min(self.part.y1, look.y1), min(self.part.x1, look.x1)
        if y0 >= y1 or x0 >= x1:
            return free
        inside = free[y0 - look.y0 : y1 - look.y0, x0 - look.x0 : x1 - look.x0]
        inside[:] = True
        if self._taken is not None:
            taken = self._taken((slice(y0, y1), slice(x0, x1)))
            self.met_labels |= bool(taken.any())
            inside &= ~taken
        return free

    def any(self) -> bool:
        """Whether there are any."""
        part = self.part
        return any(
            self.within(
                Look(y, x, min(y + FRAME, part.y1), min(x + FRAME, part.x1))
            ).any()
            for y in range(part.y0, part.y1, FRAME)
            for x in range(part.x0, part.x1, FRAME)
        )


def in_view(image: Image, plane: Plane) -> tuple[slice, slice]:
    """Rows and columns of the plane that are on the screen."""
    corners = np.asarray(image.corner_pixels, float)
    if image.multiscale:  # corners are in pixels of the level that is shown
        corners = corners * np.asarray(image.downsample_factors)[image.data_level]
    slices = []
    for axis, length in zip(plane.axes, plane.shape, strict=True):
        low, high = sorted(corners[:, axis])
        start = int(np.clip(np.floor(low), 0, length - 1))
        slices.append(slice(start, int(np.clip(np.ceil(high), start, length)) + 1))
    return slices[0], slices[1]
