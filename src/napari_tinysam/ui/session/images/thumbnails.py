"""Small pictures of the images of a list, read one after the other in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.files.formats import open_stack

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.files.formats.stack import Stack
    from napari_tinysam.ui.session.aside import Aside

#: Longest side of a thumbnail, and pixels of the largest plane that is read for one.
_THUMBNAIL = 64
_LARGEST_FOR_THUMBNAIL = 2**26


class Thumbnails:
    """Reads small pictures of files, those asked for last first.

    Parameters
    ----------
    aside : Aside
        Where files are read.
    on_read : callable
        Called with the path of a file whose picture is there now.
    """

    def __init__(self, aside: Aside, on_read: Callable[[Path], None]) -> None:
        self._aside = aside
        self._on_read = on_read
        self._known: dict[Path, npt.NDArray[np.uint8] | None] = {}
        self._waiting: list[Path] = []
        self._reading = False

    def of(self, path: Path) -> npt.NDArray[np.uint8] | None:
        """Return the picture of a file, (H, W) or (H, W, 3); None if it has to be read first."""
        if path in self._known:
            return self._known[path]
        if path not in self._waiting:
            self._waiting.append(path)
            self._go_on()
        return None

    def clear(self) -> None:
        """Forget all pictures, and read no more."""
        self._known.clear()
        self._waiting.clear()

    def _go_on(self) -> None:
        if self._reading or not self._waiting:
            return
        path = self._waiting.pop()
        self._reading = True

        def done(found: npt.NDArray[np.uint8] | None) -> None:
            self._reading = False
            self._known[path] = found
            self._on_read(path)
            self._go_on()

        # An image that cannot be read is said where it is opened.
        self._aside.run(lambda: read_thumbnail(path), done, lambda error: done(None))


def read_thumbnail(path: Path) -> npt.NDArray[np.uint8] | None:
    """Read a small picture of an image's middle plane.

    Returns
    -------
    ndarray, (H, W) or (H, W, 3), or None
        At most 64 pixels a side; None if the plane is too large to be read for it.

    Raises
    ------
    TinySAMError
        If the image cannot be read.
    """
    stack = open_stack(path)
    while stack.coarse is not None:
        stack = stack.coarse
    height, width = (stack.shape[stack.axes.index(axis)] for axis in "YX")
    if height * width > _LARGEST_FOR_THUMBNAIL:
        return None
    pixels = _middle(stack)
    step = max(1, -(-max(height, width) // _THUMBNAIL))
    # The mean of blocks: single pixels of a noisy image say little.
    small = _shrunk(pixels.astype(np.float32), step)
    low, high = np.percentile(small, (0.5, 99.5))
    scaled = np.clip((small - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.asarray(scaled, np.uint8)


def _middle(stack: Stack) -> npt.NDArray[Any]:
    index = tuple(
        None if axis in "YXS" else 0 if axis == "C" else length // 2
        for axis, length in zip(stack.axes, stack.shape, strict=True)
    )
    pixels = stack.read(index)
    left = [axis for axis in stack.axes if axis in "YXS"]
    pixels = pixels.transpose([left.index(axis) for axis in "YXS" if axis in left])
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[-1] in (3, 4) else pixels[..., 0]
    return pixels


def _shrunk(pixels: npt.NDArray[np.float32], step: int) -> npt.NDArray[np.float32]:
    height, width = (length // step * step for length in pixels.shape[:2])
    if step == 1 or not height or not width:
        return pixels[:_THUMBNAIL, :_THUMBNAIL]
    blocks = pixels[:height, :width].reshape(
        height // step, step, width // step, step, *pixels.shape[2:]
    )
    shrunk: npt.NDArray[np.float32] = blocks.mean(axis=(1, 3))
    return shrunk
