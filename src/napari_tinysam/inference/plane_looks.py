"""Looks of one plane as the model sees them: any part of it, with one contrast for all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.frame import FRAME
from napari_tinysam.image import (
    PERCENTILES,
    Channels,
    as_rgb,
    channel_axis_of,
    chosen_channels,
    contrast_limits_of,
    is_rgb,
    to_eight_bits,
)
from napari_tinysam.inference.sampling import sampled_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.inference.looks import Look
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor

#: Longest side of what is read for one look, in pixels.
_MOST_READ = 4 * FRAME

#: A look is empty if means over squares of this side, in pixels, differ less than `_LEAST` of the
#: 256 values that the contrast of the plane is stretched to.
_SQUARE = 4
_LEAST = 10


class PlaneLooks:
    """Reads looks of a plane; only one at a time is held.

    Parameters
    ----------
    image : array-like
        One plane, as for `napari_tinysam.image.to_rgb`. Arrays of dask or zarr are read in parts.
    channel, channel_axis, contrast_limits, percentiles
        As for `to_rgb`, with the same errors.
    coarse : array-like, optional
        The same plane with fewer pixels, of which contrast is found then.
    limits : sequence, optional
        As another object for this plane found them; nothing is read then.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the plane.
    limits : list of (float, float) or None
        What becomes black and white, for each channel that is shown; None where values are not
        stretched.
    """

    def __init__(
        self,
        image: Any,
        *,
        channel: Channels | None = None,
        channel_axis: int | None = None,
        contrast_limits: tuple[float, float] | None = None,
        percentiles: tuple[float, float] = PERCENTILES,
        coarse: Any = None,
        limits: Sequence[tuple[float, float] | None] | None = None,
    ) -> None:
        image = image if hasattr(image, "shape") else np.asarray(image)
        axis = channel_axis_of(tuple(image.shape), channel_axis)
        self._image = image
        self._axis = axis
        self._channels: list[int] | None = None
        if axis is not None and not (
            channel is None and is_rgb(tuple(image.shape), axis, image.ndim)
        ):
            self._channels = chosen_channels(channel, int(image.shape[axis]))
        height, width = (int(n) for i, n in enumerate(image.shape) if i != axis)
        self.shape = height, width
        if limits is None and contrast_limits is not None:
            limits = [contrast_limits] * len(self._channels or [0])
        if limits is None:
            limits = self._found_limits(
                image if coarse is None else coarse, percentiles
            )
        self.limits = list(limits)

    def read(self, look: Look) -> npt.NDArray[np.uint8]:
        """Read a look.

        Returns
        -------
        ndarray of uint8, (h, w, 3)
            At the plane's own resolution; of a look at much of it every second, third … pixel.
        """
        step = max(1, max(look.size) // _MOST_READ)
        parts = self._parts(
            self._image, slice(look.y0, look.y1, step), slice(look.x0, look.x1, step)
        )
        planes = [
            to_eight_bits(part, contrast_limits=limits, channel_axis=-1)
            if part.ndim == 3
            else to_eight_bits(part, contrast_limits=limits)
            for part, limits in zip(parts, self.limits, strict=True)
        ]
        if len(planes) == 2:  # red and green
            planes.append(np.zeros_like(planes[0]))
        return as_rgb(np.concatenate(planes, axis=-1))

    def encode(self, predictor: Predictor, look: Look) -> Embedding | None:
        """Encode a look; None if it shows nothing."""
        rgb = self.read(look)
        if is_empty(rgb):
            return None
        embedding = predictor.encode(rgb, channel_axis=2)
        return replace(embedding, original_size=look.size)

    def _found_limits(
        self, image: Any, percentiles: tuple[float, float]
    ) -> list[tuple[float, float] | None]:
        """Find the contrast on a few pixels of all, each column of `sampled` a channel's."""
        axes = [number for number in range(len(image.shape)) if number != self._axis]
        sampled: list[list[npt.NDArray[Any]]] = []
        for rows, columns in sampled_parts(image, axes):
            parts = self._parts(image, rows, columns)
            sampled.append([part.reshape(-1, 1, *part.shape[2:]) for part in parts])
        return [
            contrast_limits_of(np.concatenate(parts), percentiles=percentiles)
            for parts in zip(*sampled, strict=True)
        ]

    def _parts(self, image: Any, rows: slice, columns: slice) -> list[npt.NDArray[Any]]:
        """Read some rows and columns: gray or RGB, or each of the chosen channels."""
        if self._axis is None:
            return [np.asarray(image[rows, columns])]
        cut: list[slice | int] = [rows, columns]
        cut.insert(self._axis, slice(None))
        if self._channels is None:
            return [np.asarray(image[tuple(cut)])[..., :3]]
        parts = []
        for channel in self._channels:
            cut[self._axis] = channel
            parts.append(np.asarray(image[tuple(cut)]))
        return parts


def encode_part(
    predictor: Predictor,
    pixels: Any,
    *,
    size: tuple[int, int],
    limits: tuple[float, float] | None,
    colours: bool,
) -> Embedding:
    """Encode what was read of a plane, or of a look at it, as a click does.

    Parameters
    ----------
    predictor : Predictor
    pixels : array-like
        (h, w) or, with colours, (h, w, 3 or 4); maybe thinned out.
    size : (int, int)
        Height and width in pixels of the plane: prompts and masks of the result are in these.
    limits : (float, float) or None
        Values that become black and white; None: found in the pixels.
    colours : bool
    """
    embedding = predictor.encode(
        pixels, contrast_limits=limits, channel_axis=-1 if colours else None
    )
    return replace(embedding, original_size=size)


def is_empty(rgb: npt.NDArray[np.uint8]) -> bool:
    """Whether nothing stands out in an image, (h, w, 3), whose contrast is that of its plane."""
    height, width = (side - side % _SQUARE for side in rgb.shape[:2])
    if not height or not width:
        return False
    squares = rgb[:height, :width].reshape(
        height // _SQUARE, _SQUARE, width // _SQUARE, _SQUARE, -1
    )
    means = squares.mean(axis=(1, 3), dtype=np.float32)
    return bool(np.ptp(means, axis=(0, 1)).max() < _LEAST)
