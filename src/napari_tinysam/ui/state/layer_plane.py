"""A plane of an image layer as an array that is read in parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.ui.state.contrast import limits_reader
from napari_tinysam.ui.state.planes import Contrast, Plane

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image

    from napari_tinysam.inference.looks import Look
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor


class LayerPlane:
    """Full-resolution pixels of a plane: ``plane[rows, columns]`` reads them.

    Parameters
    ----------
    image : napari.layers.Image
    plane : Plane
        Of the image.

    Attributes
    ----------
    shape : tuple of int
        (H, W), or (H, W, 3 or 4) for RGB.
    """

    def __init__(self, image: Image, plane: Plane) -> None:
        self._data = image.data[0] if image.multiscale else image.data
        self._plane = plane
        self._order = (1, 0, 2) if image.rgb else (1, 0)
        self.shape = (*plane.shape, *self._data.shape[image.ndim :])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, part: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Read rows and columns; all colours."""
        pixels = np.asarray(self._data[self._plane.cut(*part[:2])])
        return pixels.transpose(self._order) if self._plane.transposed else pixels


def embed_looks(
    image: Image, plane: Plane, contrast: Contrast, predictor: Predictor
) -> Callable[[Look], Embedding | None]:
    """Describe the embeddings of looks at a plane, for the inference thread.

    Returns
    -------
    callable
        Reads and embeds a look, with the contrast of the plane; None if it shows nothing.
    """
    from napari_tinysam.inference.plane_looks import PlaneLooks

    limits: tuple[float, float] | None = None
    if contrast is Contrast.DISPLAYED and not image.rgb:
        low, high = image.contrast_limits
        limits = (float(low), float(high))
    of_plane = limits_reader(image, plane)
    pixels: Any = LayerPlane(image, plane)
    axis = 2 if image.rgb else None

    @cache
    def looks() -> PlaneLooks:
        known = limits or of_plane()
        return PlaneLooks(pixels, contrast_limits=known, channel_axis=axis)

    return lambda look: looks().encode(predictor, look)
