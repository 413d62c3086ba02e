"""Windows of the model's frame: the network's input in training, with labels to match.

Most are cut around a random object at a random scale (`sample_window`); `whole_frame` and
`frame_window` are exactly what inference would compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as tv

from napari_tinysam.predictor import resize_longest_side
from tinysam_training.data.augmentation import (
    Augmentation,
    augment_planes,
    is_gray,
    log_uniform,
    turn_and_mirror,
)
from tinysam_training.frame import CELL, FRAME

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from tinysam_training.data.labelled_image import LabelledImage

#: How often a window is placed so that it holds all of its object, where that is possible.
WHOLE = 0.85

#: Share of the window that an object fills at most after it was made to fit.
_FILLED = 0.9

#: Objects smaller than this in the image itself are chosen only where there are no others.
_LEAST_EXTENT = 3


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
        0–1, of the objects of layer 0 as they are in the image, also where the window cuts them
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


# ---------------------------------------------------------------------- random windows


def sample_window(
    image: LabelledImage,
    size: int,
    rng: np.random.Generator,
    augmentation: Augmentation | None = None,
) -> Window:
    """Cut a random window around a random object.

    The object is chosen with `size_balanced`, so that a rare size is not drowned by a frequent one.
    Mostly it is seen whole (`WHOLE`), at a place that is evenly distributed over all that show it;
    else only its middle is sure to be in the window. An image without objects gives a window
    anywhere. A window that is larger than the image at the scale drawn is padded.

    Parameters
    ----------
    image : LabelledImage
    size : int
        S, a multiple of 32 up to 1024.
    rng : numpy Generator
        The only source of randomness.
    augmentation : Augmentation, optional
        Without it the scale is that of inference and only the place is random.

    Raises
    ------
    ValueError
        If the size is not possible.
    """
    _check_size(size)
    settings = Augmentation.none() if augmentation is None else augmentation
    height, width = image.rgb.shape[:2]
    box = _choose_box(image.boxes, rng)
    scale = _choose_scale(height, width, box, size, settings, rng)

    shown = [min(size, max(1, int(side * scale + 0.5))) for side in (height, width)]
    if rng.random() < settings.padding_probability:
        axis = int(rng.integers(2))
        shown[axis] = min(shown[axis], int(rng.integers(size // 3, size)))
    shown_height, shown_width = shown
    # Whole pixels are cut out. What that changes in the scale, at most half a pixel on the whole
    # length, is done to the labels as well.
    cut_height = min(height, max(1, round(shown_height / scale)))
    cut_width = min(width, max(1, round(shown_width / scale)))
    x0, y0, x1, y1 = (0, 0, width, height) if box is None else box
    whole = rng.random() < WHOLE
    top = _choose_start(y0, y1, cut_height, height, whole, rng)
    left = _choose_start(x0, x1, cut_width, width, whole, rng)

    rgb = image.rgb[top : top + cut_height, left : left + cut_width]
    resized = _resize_and_augment(rgb, shown_height, shown_width, settings, rng)
    rows = top + _nearest(0, shown_height, shown_height, cut_height)
    columns = left + _nearest(0, shown_width, shown_width, cut_width)
    turned_rgb, turned_maps = turn_and_mirror(
        resized,
        torch.from_numpy(_labels_and_distances(image, rows, columns)),
        int(rng.integers(1, 4)) if rng.random() < settings.turn_probability else 0,
        bool(rng.random() < settings.mirror_probability),
    )
    return _padded(image, turned_rgb.numpy(), turned_maps.numpy(), size)


def size_balanced(
    extents: npt.NDArray[np.number], layers: npt.NDArray[np.integer] | None = None
) -> npt.NDArray[np.float64]:
    """Probabilities with which to choose among objects of different sizes.

    Objects whose sizes lie between the same powers of two, and in the same layer, form a group. A
    group of n objects is chosen in proportion to √n: one object of 300 pixels among a thousand of
    20 is chosen every thirtieth time, not every thousandth, and not every second time either.

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


def _choose_box(
    boxes: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of a random object, if there is any; the end exclusive."""
    extents = np.maximum(boxes[:, 3] - boxes[:, 1], boxes[:, 4] - boxes[:, 2])
    if (large := extents >= _LEAST_EXTENT).any():
        boxes, extents = boxes[large], extents[large]
    if not len(boxes):
        return None
    number = rng.choice(len(boxes), p=size_balanced(extents, boxes[:, 0]))
    x0, y0, x1, y1 = (int(v) for v in boxes[number, 1:])
    return x0, y0, x1, y1


def _choose_scale(
    height: int,
    width: int,
    box: tuple[int, int, int, int] | None,
    size: int,
    settings: Augmentation,
    rng: np.random.Generator,
) -> float:
    """Pixels of the frame for a pixel of the image."""
    inference = FRAME / max(height, width)
    if settings.zoom == (1.0, 1.0) and settings.extent is None:
        return inference
    # Inference in tiles shows a large image at its own resolution.
    low, high = inference * settings.zoom[0], max(inference, 1.0) * settings.zoom[1]
    scale = log_uniform(rng, (low, high))
    if box is None:
        return scale
    extent = max(box[2] - box[0], box[3] - box[1])
    if settings.extent is not None:
        least, largest = settings.extent
        scale = min(max(scale, least / extent), largest / extent)
    fits = _FILLED * size / extent
    if scale > fits and rng.random() < settings.fit_probability:
        scale = max(fits, min(low, scale))
    return scale


def _choose_start(
    start: int,
    stop: int,
    extent: int,
    limit: int,
    whole: bool,
    rng: np.random.Generator,
) -> int:
    """First pixel of an interval in [0, limit) that holds an object, or at least its middle."""
    if not whole:
        start = stop = (start + stop) // 2
    # An object that is too long gives an interval within it by the same two numbers.
    first, last = sorted((start, stop - extent))
    return int(rng.integers(max(first, 0), min(last, limit - extent), endpoint=True))


def _resize_and_augment(
    rgb: npt.NDArray[np.uint8],
    height: int,
    width: int,
    settings: Augmentation,
    rng: np.random.Generator,
) -> Tensor:
    """(h, w, 3) uint8 → (3, height, width), or (1, height, width) if it is gray, 0–255.

    Intensities are changed where there are fewer pixels: a small image is enlarged afterwards, and
    its noise and blur with it, as they would be at inference. It also takes less time.
    """
    # Pillow's arrays are read-only, for which torch has a warning.
    writable = rgb if rgb.flags.writeable else rgb.copy()
    planes = torch.from_numpy(writable).permute(2, 0, 1)
    if is_gray(planes):
        planes = planes[:1].contiguous()
    enlarged = height * width > rgb.shape[0] * rgb.shape[1]
    if settings.changes_intensities and enlarged:
        changed = augment_planes(planes.float(), settings, rng)
        planes = changed.round().to(torch.uint8)  # inference resizes 8 bits, too
    # As inference does, antialiased; at most 1 away from Pillow's result.
    planes = tv.resize(tv_tensors.Image(planes), [height, width], antialias=True)
    planes = planes.as_subclass(torch.Tensor)
    if settings.changes_intensities and not enlarged:
        planes = augment_planes(planes.float(), settings, rng)
    return planes


# ---------------------------------------------------------------- windows as at inference


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
    """Cut a window out of `whole_frame`, where embeddings of the whole can be cut as well.

    Parameters
    ----------
    image : LabelledImage
    size : int
        S, a multiple of 32 up to 1024.
    top_cell, left_cell : int
        Where the window begins, in cells of 16 pixels.
    frame : Window, optional
        `whole_frame(image)`, if it is at hand: cutting takes next to no time then.

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


# ------------------------------------------------------------------------- both


def _check_size(size: int) -> None:
    if size % 32 or not 32 <= size <= FRAME:
        raise ValueError(
            f"A window's size is a multiple of 32 up to {FRAME}; {size} was given."
        )


def _nearest(
    start: int, stop: int, resized: int, original: int
) -> npt.NDArray[np.int64]:
    """Original pixel under the centre of each resized pixel from `start` to `stop`.

    Integers, hence exact. (torchvision resizes masks by the pixels' corners, which would move
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
            # Twice along one axis is several times as fast as `numpy.ix_`.
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
