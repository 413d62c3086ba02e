"""Masks: from logits to full size, stability, boxes and overlaps. numpy and scipy only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_tinysam.frame import FRAME, LOGITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from scipy.sparse import csr_array

#: A mask is where its logits exceed this (Segment Anything, ``mask_threshold``).
MASK_THRESHOLD = 0.0

#: Distance from MASK_THRESHOLD to the two thresholds that the stability score compares.
STABILITY_OFFSET = 1.0


#: Logit of pixels inside (and, negative, outside) a mask that is turned into a mask prompt.
MASK_PROMPT_LOGIT = 8.0


@dataclass(frozen=True, eq=False)
class BoxedMask:
    """A mask, cropped to a rectangle that holds it.

    Parameters
    ----------
    mask : numpy.ndarray
        (h, w) bool.
    y0, x0 : int
        The rectangle's first pixel in the image.
    shape : (int, int)
        Height and width of the image.
    """

    mask: npt.NDArray[np.bool_]
    y0: int
    x0: int
    shape: tuple[int, int]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> BoxedMask:
        """Return the mask without pixels of an image."""
        return cls(np.zeros((0, 0), bool), 0, 0, shape)

    @classmethod
    def from_full(cls, mask: npt.NDArray[np.bool_]) -> BoxedMask:
        """Crop a mask of the whole image, (H, W) bool, to its bounding box."""
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        shape = (int(mask.shape[0]), int(mask.shape[1]))
        if not ys.size:
            return cls.empty(shape)
        y0, x0 = int(ys[0]), int(xs[0])
        return cls(mask[y0 : ys[-1] + 1, x0 : xs[-1] + 1].copy(), y0, x0, shape)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rectangle in the image: ``image[boxed.slices]`` has the shape of `mask`."""
        height, width = self.mask.shape
        return slice(self.y0, self.y0 + height), slice(self.x0, self.x0 + width)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1), the first and last pixels of the rectangle."""
        height, width = self.mask.shape
        return self.x0, self.y0, self.x0 + width - 1, self.y0 + height - 1

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    @property
    def depth(self) -> npt.NDArray[np.float64]:
        """(h, w) distance of each pixel of the mask to the nearest pixel outside it."""
        from scipy.ndimage import distance_transform_edt

        # The border of the rectangle is outside the mask too.
        return np.asarray(distance_transform_edt(np.pad(self.mask, 1))[1:-1, 1:-1])

    @property
    def deepest(self) -> tuple[float, float]:
        """(x, y) of the pixel deepest inside the mask."""
        depth = self.depth
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return float(x + self.x0), float(y + self.y0)

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the centre of mass; the first pixel of the rectangle for an empty mask."""
        height, width = self.mask.shape
        count = max(1, self.area)
        rows = np.count_nonzero(self.mask, axis=1) @ np.arange(height) / count
        columns = np.count_nonzero(self.mask, axis=0) @ np.arange(width) / count
        return float(self.x0 + columns), float(self.y0 + rows)

    def moved(self, y: int, x: int, shape: tuple[int, int]) -> BoxedMask:
        """Return the mask in an image of another shape, `y` rows down and `x` columns right."""
        return BoxedMask(self.mask, self.y0 + y, self.x0 + x, shape)

    def trimmed(self) -> BoxedMask:
        """Return the same mask in the smallest rectangle that holds it."""
        return BoxedMask.from_full(self.mask).moved(self.y0, self.x0, self.shape)

    def clipped(self) -> BoxedMask:
        """Return the part of the mask that lies in the image, trimmed."""
        top, left = max(0, -self.y0), max(0, -self.x0)
        bottom, right = self.shape[0] - self.y0, self.shape[1] - self.x0
        part = self.mask[top : max(top, bottom), left : max(left, right)]
        return BoxedMask(part, self.y0 + top, self.x0 + left, self.shape).trimmed()

    def without_specks(self, share: float = 0.1) -> BoxedMask:
        """Return the mask without small separate pieces.

        Predicted masks often have a few stray pixels that nobody would draw. An object in several
        parts of similar size stays whole.

        Parameters
        ----------
        share : float
            Pieces with fewer pixels than this share of the largest piece are dropped.
        """
        from scipy.ndimage import label

        pieces, count = label(self.mask, np.ones((3, 3)))
        if count < 2:
            return self
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        large = sizes >= share * sizes.max()
        return BoxedMask(large[pieces], self.y0, self.x0, self.shape).trimmed()

    def holds(self, x: float, y: float) -> bool:
        """Whether the pixel at (x, y) of the image is on the mask."""
        row, column = round(y) - self.y0, round(x) - self.x0
        height, width = self.mask.shape
        inside = 0 <= row < height and 0 <= column < width
        return inside and bool(self.mask[row, column])

    def within(self, slices: tuple[slice, slice]) -> npt.NDArray[np.bool_]:
        """Return the part of the mask in a rectangle of the image, (h, w) bool."""
        rows, columns = slices
        part = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
        (ys, xs), (height, width) = self.slices, part.shape
        y0, y1 = max(ys.start - rows.start, 0), min(ys.stop - rows.start, height)
        x0, x1 = max(xs.start - columns.start, 0), min(xs.stop - columns.start, width)
        if y0 < y1 and x0 < x1:
            top, left = rows.start - ys.start, columns.start - xs.start
            part[y0:y1, x0:x1] = self.mask[y0 + top : y1 + top, x0 + left : x1 + left]
        return part

    def lies_in(self, region: npt.NDArray[np.bool_]) -> bool:
        """Whether more than half of the mask lies in a region of the image, (H, W)."""
        inside = int(np.count_nonzero(self.mask & region[self.slices]))
        return 2 * inside > self.area

    def shared_area(self, other: BoxedMask) -> int:
        """Pixels that this mask and another of the same image have in common."""
        (ya, xa), (yb, xb) = self.slices, other.slices
        y0, y1 = max(ya.start, yb.start), min(ya.stop, yb.stop)
        x0, x1 = max(xa.start, xb.start), min(xa.stop, xb.stop)
        if y0 >= y1 or x0 >= x1:
            return 0
        a = self.mask[y0 - ya.start : y1 - ya.start, x0 - xa.start : x1 - xa.start]
        b = other.mask[y0 - yb.start : y1 - yb.start, x0 - xb.start : x1 - xb.start]
        return int(np.count_nonzero(a & b))

    def iou(self, other: BoxedMask) -> float:
        """Intersection over union with another mask of the same image; 1 if both are empty.

        Raises
        ------
        ValueError
            If the images have different sizes.
        """
        if self.shape != other.shape:
            raise ValueError(
                f"Masks of one image are needed; got {self.shape} and {other.shape}."
            )
        shared = self.shared_area(other)
        union = self.area + other.area - shared
        return shared / union if union else 1.0

    def to_full(self) -> npt.NDArray[np.bool_]:
        """Return the mask at the size of the image, (H, W) bool."""
        full = np.zeros(self.shape, bool)
        full[self.slices] = self.mask
        return full


def stability_scores(
    logits: npt.NDArray[np.float32], offset: float = STABILITY_OFFSET
) -> npt.NDArray[np.float32]:
    """How little each mask depends on the threshold.

    IoU of the masks at ``MASK_THRESHOLD + offset`` and ``MASK_THRESHOLD - offset`` (Segment
    Anything, ``calculate_stability_score``), at the resolution of the given logits.

    Parameters
    ----------
    logits : numpy.ndarray
        (..., h, w).
    offset : float
        In logits.

    Returns
    -------
    numpy.ndarray
        (...,) float32 in 0–1; 0 if the mask is empty at the lower threshold.
    """
    high = np.count_nonzero(logits > MASK_THRESHOLD + offset, axis=(-2, -1))
    low = np.count_nonzero(logits > MASK_THRESHOLD - offset, axis=(-2, -1))
    ratio = np.divide(high, low, out=np.zeros(np.shape(high)), where=low > 0)
    return np.asarray(ratio, np.float32)


def upscale_weights(
    input_size: int, original_size: int, frame_size: int, source: int = LOGITS
) -> npt.NDArray[np.float32]:
    """One axis of SAM's mask post-processing as a matrix.

    The official code interpolates bilinearly twice: from 256 low-resolution logits to the model's
    frame, and from the part that the image covers to the size of the image. Both steps are linear
    and separable, so along one axis they are one matrix with at most four non-zero entries per row.

    Parameters
    ----------
    input_size : int
        Pixels of the frame that the resized image covers along this axis.
    original_size : int
        Pixels of the image along this axis.
    frame_size : int
        Side of the model's frame, in pixels (1024).
    source : int
        Number of values along a side of the frame.

    Returns
    -------
    numpy.ndarray
        (original_size, source) float32; every row sums to 1.
    """
    to_frame = _bilinear_matrix(source, frame_size)[:input_size]
    first, second, fraction = _bilinear_taps(input_size, original_size)
    low, high = 1 - fraction[:, np.newaxis], fraction[:, np.newaxis]
    return (low * to_frame[first] + high * to_frame[second]).astype(np.float32)


@lru_cache(maxsize=32)
def _sparse_weights(
    input_size: int, original_size: int, frame_size: int, source: int
) -> csr_array:
    """`upscale_weights` without the zeros.

    Whole planes are upscaled with few operations, and by one thread: the threads of BLAS wait
    actively after each product, which takes the cores from the next look.
    """
    from scipy.sparse import csr_array

    return csr_array(upscale_weights(input_size, original_size, frame_size, source))


def _bilinear_taps(
    source: int, target: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Two source indices and the second's weight for each target (``align_corners=False``).

    Positions are computed in float32, as in torch: its rounding moves the logits at a steep edge by
    a few 1e-4, which exact positions would not reproduce.
    """
    scale = np.float32(source) / np.float32(target)
    position = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale
    position = np.maximum(position - np.float32(0.5), np.float32(0))
    first = np.minimum(position.astype(np.intp), source - 1)
    second = np.minimum(first + 1, source - 1)
    return first, second, position.astype(np.float64) - first


def _bilinear_matrix(source: int, target: int) -> npt.NDArray[np.float64]:
    """(target, source) weights of a bilinear interpolation along one axis."""
    first, second, fraction = _bilinear_taps(source, target)
    matrix = np.zeros((target, source))
    rows = np.arange(target)
    np.add.at(matrix, (rows, first), 1 - fraction)
    np.add.at(matrix, (rows, second), fraction)
    return matrix


@dataclass(frozen=True, eq=False)
class Upscaler:
    """Upscales the low-resolution logits of one image, as a whole or only where the mask can be.

    Parameters
    ----------
    input_size : (int, int)
        Height and width of the resized image inside the model's frame.
    original_size : (int, int)
        Height and width of the image.
    frame_size : int
        Side of the model's frame in pixels.
    """

    input_size: tuple[int, int]
    original_size: tuple[int, int]
    frame_size: int = FRAME

    def __post_init__(self) -> None:
        weights = [
            upscale_weights(inner, outer, self.frame_size)
            for inner, outer in zip(self.input_size, self.original_size, strict=True)
        ]
        object.__setattr__(self, "_weights", tuple(weights))
        # Computed once: for a large image this takes far longer than a mask.
        object.__setattr__(self, "_reach", tuple(_Reach.of(each) for each in weights))

    @property
    def weights(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Matrices for y and x, (H, 256) and (W, 256)."""
        found: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] = self._weights  # type: ignore[attr-defined]
        return found

    @property
    def valid_size(self) -> tuple[int, int]:
        """Rows and columns of the low-resolution logits that lie on the image."""
        scale = LOGITS / self.frame_size
        height, width = self.input_size
        return max(1, int(np.ceil(height * scale))), max(1, int(np.ceil(width * scale)))

    def full(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Upscale logits, (..., 256, 256), to the image: (..., H, W) float32.

        Maps with another number of values along the frame's side, such as finer object maps, work
        too.
        """
        wy, wx = (
            _sparse_weights(inner, outer, self.frame_size, logits.shape[-1])
            for inner, outer in zip(self.input_size, self.original_size, strict=True)
        )
        planes = logits.reshape(-1, *logits.shape[-2:])
        full = np.empty((len(planes), *self.original_size), np.float32)
        for number, plane in enumerate(planes):
            full[number] = (wx @ (wy @ plane).T).T
        return full.reshape(*logits.shape[:-2], *self.original_size)

    def mask_prompt(self, mask: BoxedMask) -> npt.NDArray[np.float32]:
        """Make a mask prompt of a mask: the inverse of `boxed`, about.

        Parameters
        ----------
        mask : BoxedMask
            In the image.

        Returns
        -------
        numpy.ndarray
            (256, 256) float32, from -LOGIT where the mask is not to LOGIT where it is all, LOGIT
            being `MASK_PROMPT_LOGIT`.
        """
        wy, wx = self.weights  # (H, 256), (W, 256)
        ys, xs = mask.slices
        inside = wy[ys].T @ mask.mask.astype(np.float32) @ wx[xs]
        covered = np.outer(wy.sum(axis=0), wx.sum(axis=0))
        share = np.divide(inside, covered, out=np.zeros_like(inside), where=covered > 0)
        return np.asarray(MASK_PROMPT_LOGIT * (2 * share - 1), np.float32)

    def boxed(self, logits: npt.NDArray[np.float32]) -> BoxedMask:
        """Upscale one mask, only where it can be.

        Parameters
        ----------
        logits : numpy.ndarray
            (256, 256).

        Returns
        -------
        BoxedMask
            In the smallest rectangle that holds it. A bilinear interpolation never exceeds its
            taps, so rows and columns without a positive tap are skipped.
        """
        positive = logits > MASK_THRESHOLD
        wy, wx = self.weights
        reach: tuple[_Reach, _Reach] = self._reach  # type: ignore[attr-defined]
        ys = reach[0].readers(np.asarray(positive.any(axis=1)))
        xs = reach[1].readers(np.asarray(positive.any(axis=0)))
        if ys is None or xs is None:
            return BoxedMask.empty(self.original_size)
        low_y, low_x = reach[0].read_by(ys), reach[1].read_by(xs)
        cut = wy[ys, low_y] @ logits[low_y, low_x] @ wx[xs, low_x].T
        box = BoxedMask(cut > MASK_THRESHOLD, ys.start, xs.start, self.original_size)
        return box.trimmed()


class _Reach(NamedTuple):
    """Which logits each pixel along a side reads, and the reverse, by the first and the last.

    Attributes
    ----------
    pixels : numpy.ndarray
        (2, 256), the first and last pixel that reads each logit. If none does, the first is the
        number of pixels and the last −1.
    taps : numpy.ndarray
        (2, pixels), the first and last logit that each pixel reads.
    """

    pixels: npt.NDArray[np.intp]
    taps: npt.NDArray[np.intp]

    @classmethod
    def of(cls, weights: npt.NDArray[np.float32]) -> _Reach:
        """Read it off a matrix of weights, (pixels, 256)."""
        read = weights != 0
        return cls(_first_and_last(read.T), _first_and_last(read))

    def readers(self, taps: npt.NDArray[np.bool_]) -> slice | None:
        """Pixels that read any of these logits, as one slice; None for none."""
        first, last = self.pixels[:, taps]
        if not first.size or last.max() < 0:
            return None
        return slice(int(first.min()), int(last.max()) + 1)

    def read_by(self, pixels: slice) -> slice:
        """Logits that these pixels read, as one slice."""
        first, last = self.taps[:, pixels]
        return slice(int(first.min()), int(last.max()) + 1)


def _first_and_last(there: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """(2, R) the first and last true column of each row; (columns, −1) for none."""
    columns = there.shape[1]
    first = np.where(there.any(axis=1), there.argmax(axis=1), columns)
    last = columns - 1 - there[:, ::-1].argmax(axis=1)
    return np.stack([first, np.where(first < columns, last, -1)])


def bounding_slices(masks: Sequence[BoxedMask]) -> tuple[slice, slice]:
    """Return the rectangle that holds all masks; an empty one if all of them are empty."""
    filled = [mask.slices for mask in masks if mask.mask.size]
    if not filled:
        return slice(0, 0), slice(0, 0)
    return (
        slice(min(y.start for y, _ in filled), max(y.stop for y, _ in filled)),
        slice(min(x.start for _, x in filled), max(x.stop for _, x in filled)),
    )
