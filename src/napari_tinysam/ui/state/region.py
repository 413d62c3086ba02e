"""Where auto-segmentation looks for objects: in the plane, in all planes, or in files."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image

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
    #: Image files, outside the viewer.
    FILES = "folder or files"

    @property
    def in_plane(self) -> bool:
        """Whether it lies in the shown plane."""
        return self in (Region.PLANE, Region.VIEW, Region.BOX)


def region_mask(
    region: Region, image: Image, plane: Plane, box: Box | None
) -> npt.NDArray[np.bool_] | None:
    """Return which pixels of a plane a region covers.

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
    ndarray of bool, (H, W), or None
        None if the region is a box and there is none.
    """
    where = np.zeros(plane.shape, bool)
    if region is Region.VIEW:
        where[in_view(image, plane)] = True
    elif region is not Region.BOX:
        where[:] = True
    elif box is None:
        return None
    else:
        x0, y0, x1, y1 = (int(np.floor(value + 0.5)) for value in box)
        where[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1] = True
    return where


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
