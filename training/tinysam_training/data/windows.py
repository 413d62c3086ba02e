"""Windows of the model's frame, with the same pixels as in inference, and matching labels.

`tinysam_training.data.pool` cuts windows at any other place, scale and angle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.frame import CELL, FRAME
from napari_tinysam.inference.resize import resize_longest_side

if TYPE_CHECKING:
    import numpy.typing as npt

    from tinysam_training.labelled_image import LabelledImage


@dataclass(frozen=True, eq=False)
class Window:
    """A window of the model's frame, S × S pixels. Padding is at its right and at its bottom.

    Parameters
    ----------
    rgb : ndarray of float32, (3, S, S)
        0–255, and exactly 0 in the padding.
    labels : ndarray of int32, (L, S, S)
        As in the image, with gaps in the numbers; 0 in the padding.
    boundary_distance, centre_distance : ndarray of float32, (S, S)
        0–1, of the whole objects of layer 0, even where the window cuts them
        (`tinysam_training.object_maps`); 0 and 1 in the padding.
    height, width : int
        The part that shows the image.
    complete : bool
        False if a pixel without label may belong to an object.
    dataset : str
        Where the image is from.
    """

    rgb: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    boundary_distance: npt.NDArray[np.float32]
    centre_distance: npt.NDArray[np.float32]
    height: int
    width: int
    complete: bool
    dataset: str

    @property
    def size(self) -> int:
        """Side in pixels of the frame, S."""
        return int(self.rgb.shape[-1])


def size_balanced(
    extents: npt.NDArray[np.number], layers: npt.NDArray[np.integer] | None = None
) -> npt.NDArray[np.float64]:
    """Compute probabilities for choosing among objects of different sizes.

    Objects of one layer with sizes between the same powers of two form a group. A group of n is
    chosen in proportion to √n: one object of 300 pixels among a thousand of 20 is chosen about
    every thirtieth time, rather than every thousandth or every second time.

    Parameters
    ----------
    extents : ndarray, (N,)
        Sizes, in pixels.
    layers : ndarray of int, (N,), optional

    Returns
    -------
    ndarray of float64, (N,)
        With sum 1.
    """
    groups = np.log2(np.maximum(extents, 1)).astype(np.int64)
    if layers is not None:
        groups += 64 * layers.astype(np.int64)
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts[group])
    return np.asarray(weights / weights.sum(), np.float64)


def whole_frame(image: LabelledImage) -> Window:
    """Resize the whole image as inference does for the model, S = 1024."""
    return _frame_part(image, FRAME, 0, 0)


def frame_window(
    image: LabelledImage,
    size: int,
    top_cell: int,
    left_cell: int,
    frame: Window | None = None,
) -> Window:
    """Cut a window out of `whole_frame`, along cells in which embeddings can also be cut.

    Parameters
    ----------
    image : LabelledImage
    size : int
        S, a multiple of 32 up to 1024.
    top_cell, left_cell : int
        Top left corner of the window, in cells of 16 pixels.
    frame : Window, optional
        `whole_frame(image)`, if available: it makes cutting very fast.

    Raises
    ------
    ValueError
        If the size is not possible or the window reaches beyond the frame.
    """
    _check_size(size)
    cells = (FRAME - size) // CELL
    if not (0 <= top_cell <= cells and 0 <= left_cell <= cells):
        raise ValueError(
            f"A window of {size} pixels begins in cells 0 to {cells} of the frame, not in "
            f"({top_cell}, {left_cell})."
        )
    top, left = top_cell * CELL, left_cell * CELL
    if frame is None:
        return _frame_part(image, size, top, left)
    part = np.s_[..., top : top + size, left : left + size]
    return Window(
        frame.rgb[part].copy(),
        frame.labels[part].copy(),
        frame.boundary_distance[part].copy(),
        frame.centre_distance[part].copy(),
        int(np.clip(frame.height - top, 0, size)),
        int(np.clip(frame.width - left, 0, size)),
        frame.complete,
        frame.dataset,
    )


def _frame_part(image: LabelledImage, size: int, top: int, left: int) -> Window:
    resized = resize_longest_side(image.rgb, FRAME)
    height, width = resized.shape[:2]
    bottom, right = min(top + size, height), min(left + size, width)
    rows = _nearest(top, bottom, height, image.rgb.shape[0])
    columns = _nearest(left, right, width, image.rgb.shape[1])
    rgb = resized[top : max(bottom, top), left : max(right, left)]
    maps = _labels_and_distances(image, rows, columns)
    return _padded(image, rgb.transpose(2, 0, 1), maps, size)


def _check_size(size: int) -> None:
    if size % 32 or not 32 <= size <= FRAME:
        raise ValueError(
            f"A window's size is a multiple of 32 up to {FRAME}; {size} was given."
        )


def _nearest(
    start: int, stop: int, resized: int, original: int
) -> npt.NDArray[np.int64]:
    """Find the original pixel under the centre of each resized pixel from `start` to `stop`.

    Integers make it exact. (torchvision resizes masks by the pixels' corners, which would shift
    labels against the image by half a pixel.)
    """
    return (2 * np.arange(start, stop) + 1) * original // (2 * resized)


def _labels_and_distances(
    image: LabelledImage, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """(L + 2, H, W): the layers of labels, boundary and centre distance, at rows and columns."""
    distances = (image.boundary_distance, image.centre_distance)
    maps = np.empty((len(image.labels) + 2, len(rows), len(columns)), np.int32)
    if maps.size:
        top, bottom = rows[0], rows[-1] + 1
        for part, plane in zip(maps, (*image.labels, *distances), strict=True):
            # Indexing one axis after the other is several times as fast as `numpy.ix_`.
            part[:] = plane[top:bottom].take(columns, axis=1).take(rows - top, axis=0)
    return maps


def _padded(
    image: LabelledImage,
    rgb: npt.NDArray[np.float32] | npt.NDArray[np.uint8],
    maps: npt.NDArray[np.int32],
    size: int,
) -> Window:
    """Make a window of (1 or 3, h, w) intensities and (L + 2, h, w) labels and distances."""
    height, width = rgb.shape[1:]
    shown = np.s_[..., :height, :width]
    window = Window(
        np.zeros((3, size, size), np.float32),
        np.zeros((len(maps) - 2, size, size), np.int32),
        np.zeros((size, size), np.float32),
        np.ones((size, size), np.float32),
        height,
        width,
        image.complete,
        image.dataset,
    )
    window.rgb[shown] = rgb
    window.labels[shown] = maps[:-2]
    np.divide(maps[-2], 255, out=window.boundary_distance[shown], casting="same_kind")
    np.divide(maps[-1], 255, out=window.centre_distance[shown], casting="same_kind")
    return window
