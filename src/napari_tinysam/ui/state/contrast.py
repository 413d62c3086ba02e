"""The contrast of a large plane, from a few of its pixels: no tile has a contrast of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import FRAME
from napari_tinysam.image import contrast_limits_of
from napari_tinysam.inference.sampling import sampled_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Image

    from napari_tinysam.ui.state.planes import Plane


def limits_reader(
    image: Image, plane: Plane
) -> Callable[[], tuple[float, float] | None]:
    """Prepare to find the values of a plane that become black and white.

    Returns
    -------
    callable
        Reads every second, third … pixel of a plane in memory; of others, parts of 5 × 5 chunks;
        of a pyramid, all from its coarsest level of at least 1024 pixels. For the inference thread:
        reading may take long. It returns None where values are not stretched.
    """
    levels = list(image.data) if image.multiscale else [image.data]
    full = levels[0].shape
    enough = [
        level for level in levels if max(level.shape[a] for a in plane.axes) >= FRAME
    ]
    data = enough[-1] if enough else levels[0]
    cut: list[int | slice] = [
        slice(None)
        if at is None
        else min(int(at * data.shape[axis] / full[axis]), data.shape[axis] - 1)
        for axis, at in enumerate(plane.index)
    ]

    def read() -> tuple[float, float] | None:
        parts = []
        for rows, columns in sampled_parts(data, plane.axes):
            cut[plane.axes[0]], cut[plane.axes[1]] = rows, columns
            pixels = np.asarray(data[tuple(cut)])
            parts.append(pixels.reshape(-1, 1, *pixels.shape[2:]))
        return contrast_limits_of(np.concatenate(parts))

    return read
