"""Reading a part of a plane by itself, where the model would see the whole plane too coarsely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.ui._planes import MODEL_SIDE, Contrast, Plane

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image

    from napari_tinysam.predictor import Embedding, Predictor

#: A plane that the model sees shrunk by no more than this is not read again for a part of it, nor
#: for a part which it would see at hardly more than the plane's scale.
_WORTH = 1.25


def finer_part(where: npt.NDArray[np.bool_], frame: int) -> tuple[slice, slice] | None:
    """Find the rectangle to read by itself for a region; None where the whole plane will do.

    Parameters
    ----------
    where : ndarray of bool, (H, W)
        The region; not empty.
    frame : int
        Pixels that the model sees of the longer side.
    """
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    part = (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )
    whole = max(where.shape) / frame
    seen = max(side.stop - side.start for side in part) / frame
    # A part that is smaller than the frame is enlarged, which shows nothing more.
    return part if whole > _WORTH * max(seen, 1.0) else None


def embed_part(
    image: Image, plane: Plane, contrast: Contrast, rows: slice, columns: slice
) -> Callable[[Predictor], Embedding]:
    """Describe the embedding of a part of a plane, for the inference thread.

    Returns
    -------
    callable
        Reads and embeds it. Prompts and masks of the result are in full-resolution pixels of the
        part. Contrast is stretched over the values of the part, or as the image is displayed.
    """
    limits: tuple[float, float] | None = None
    if contrast is Contrast.DISPLAYED and not image.rgb:
        low, high = image.contrast_limits
        limits = (float(low), float(high))
    channel_axis = -1 if image.rgb else None
    size = rows.stop - rows.start, columns.stop - columns.start
    levels = list(image.data) if image.multiscale else [image.data]
    order = (1, 0, 2) if image.rgb else (1, 0)

    def read() -> Any:
        full = levels[0].shape
        level = next(
            level
            for level in reversed(levels)
            if level is levels[0]
            or max(
                length * level.shape[axis] / full[axis]
                for length, axis in zip(size, plane.axes, strict=True)
            )
            >= MODEL_SIDE
        )
        cut: list[int | slice] = []
        for axis, part in enumerate(plane.cut(rows, columns)):
            ratio = full[axis] / level.shape[axis]
            if isinstance(part, slice):
                stop = max(int(part.stop / ratio), int(part.start / ratio) + 1)
                cut.append(slice(int(part.start / ratio), stop))
            else:
                cut.append(min(int(part / ratio), level.shape[axis] - 1))
        pixels = np.asarray(level[tuple(cut)])
        return pixels.transpose(order) if plane.transposed else pixels

    def embed(predictor: Predictor) -> Embedding:
        embedding = predictor.encode(
            read(), contrast_limits=limits, channel_axis=channel_axis
        )
        return replace(embedding, original_size=size)

    return embed
