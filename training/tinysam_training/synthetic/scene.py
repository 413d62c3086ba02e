"""The labels of a scene while it is drawn, and the visible parts of its objects at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from skimage.measure import label as connected_regions

if TYPE_CHECKING:
    from tinysam_training.synthetic.shapes import BoolArray, FloatArray, Patch

LabelArray = npt.NDArray[np.int32]

#: An image (H, W) or (H, W, 3), and its labels (H, W) or (L, H, W) as drawn.
Picture = tuple[npt.NDArray[np.generic], LabelArray]

#: Least pixels of a visible part that counts as an object.
LEAST_PIXELS = 12


class Scene:
    """Objects drawn one after the other.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels.

    Attributes
    ----------
    labels : ndarray of int32, (H, W)
        The top object at each pixel, from 1; 0 for none.
    depth : ndarray of float32, (H, W)
        Depth of that object at the pixel (see `Patch`), 0 outside.
    count : int
        Objects drawn so far.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.labels: LabelArray = np.zeros(shape, np.int32)
        self.depth: FloatArray = np.zeros(shape, np.float32)
        self.count = 0

    def add_on_top(self, patch: Patch) -> BoolArray:
        """Draw an object over the previous ones.

        Parameters
        ----------
        patch : Patch

        Returns
        -------
        ndarray of bool, (h, w)
            The object's pixels in its box.
        """
        won = patch.inside
        self._own(patch, won)
        return won

    def add_beside(self, patch: Patch) -> BoolArray:
        """Draw an object that shares overlaps: each pixel goes to the object deepest there.

        Parameters
        ----------
        patch : Patch

        Returns
        -------
        ndarray of bool, (h, w)
            The pixels in the box that the object got.
        """
        won = patch.inside & (patch.depth > self.depth[patch.rows, patch.cols])
        self._own(patch, won)
        return won

    def _own(self, patch: Patch, won: BoolArray) -> None:
        self.count += 1
        self.labels[patch.rows, patch.cols][won] = self.count
        np.copyto(self.depth[patch.rows, patch.cols], patch.depth, where=won)

    def is_free(self, patch: Patch, share: float) -> bool:
        """Whether at least this share of a shape would cover no other object."""
        inside = patch.inside
        taken = inside & (self.labels[patch.rows, patch.cols] > 0)
        size = int(np.count_nonzero(inside))
        return size > 0 and int(np.count_nonzero(taken)) <= (1 - share) * size


def visible_objects(
    labels: npt.NDArray[np.integer], least_pixels: int = LEAST_PIXELS
) -> LabelArray:
    """Turn drawn labels into those of an annotator.

    If another object separates parts of an object, large parts become objects of their own, as an
    annotator who sees only this image would mark them. Small parts are dropped.

    Parameters
    ----------
    labels : ndarray of int, (H, W)
        Any numbers, 0 for none.
    least_pixels : int
        Smaller parts are dropped.

    Returns
    -------
    ndarray of int32, (H, W)
        1…N without gaps, each one region connected by the sides of its pixels.
    """
    regions = connected_regions(labels, background=0, connectivity=1)
    sizes = np.bincount(regions.ravel())
    if len(sizes) == 1:
        return np.zeros(labels.shape, np.int32)
    owner = np.zeros(len(sizes), np.int64)
    owner[regions.ravel()] = labels.ravel()
    largest = np.zeros(int(owner.max()) + 1, np.int64)
    np.maximum.at(largest, owner[1:], sizes[1:])
    kept = (sizes >= least_pixels) & (sizes >= 0.3 * largest[owner])
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return np.asarray(numbers[regions])
