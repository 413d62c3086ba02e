"""The interface of every runtime: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    get_args,
    runtime_checkable,
)

import numpy as np

from napari_tinysam.dense_prompts import draw_boxes
from napari_tinysam.frame import CELL

if TYPE_CHECKING:
    import numpy.typing as npt

#: Which runtime; see `napari_tinysam.load_model`.
RuntimeName = Literal["auto", "torch", "openvino"]

#: The numbers it computes with; see there.
Precision = Literal["auto", "f32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class DecodedPrompts(NamedTuple):
    """Masks of N objects from the decoder."""

    #: (N, 3, 256, 256) float32 mask logits, or of windows (N, 3, h, h).
    logits: npt.NDArray[np.float32]
    #: (N, 3) float32 predicted IoU.
    scores: npt.NDArray[np.float32]


class Runtime(Protocol):
    """Runs one model. Implementations keep no state between calls and are thread-safe."""

    #: For messages: "torch on cpu".
    name: str
    #: Side of the model's square frame in pixels.
    image_size: int
    #: Whether the model predicts object maps.
    has_object_head: bool
    #: Whether the model needs prompts drawn into the mask prompt (`napari_tinysam.dense_prompts`).
    dense_prompts: bool

    def encode(self, rgb: npt.NDArray[np.uint8]) -> Any:
        """Embed an image that is already resized.

        Parameters
        ----------
        rgb : numpy.ndarray
            (h, w, 3) uint8, the longer side `image_size`.

        Returns
        -------
        object
            Features, in the form that `decode` of the same runtime reads.
        """
        ...

    def maps_of_half(
        self, rgb: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32] | None:
        """Predict where objects are in an image of half the frame's size.

        Parameters
        ----------
        rgb : numpy.ndarray
            (h, w, 3) uint8, the longer side half of `image_size`.

        Returns
        -------
        numpy.ndarray or None
            (3, s / 4, s / 4), covering the same part of the image as `object_maps`; s is
            `image_size`. None if the model has no object head, or one with coarser maps.
        """
        ...

    def decode(
        self,
        features: Any,
        *,
        points: npt.NDArray[np.float32] | None,
        labels: npt.NDArray[np.int32] | None,
        boxes: npt.NDArray[np.float32] | None,
        masks: npt.NDArray[np.float32] | None,
        least_scores: npt.NDArray[np.float32] | None = None,
        exact: bool = True,
        corners: npt.NDArray[np.intp] | None = None,
    ) -> DecodedPrompts:
        """Decode N objects with the same kinds and numbers of prompts.

        Parameters
        ----------
        features : object
            From `encode`.
        points : numpy.ndarray or None
            (N, P, 2), (x, y) in pixels of the model's frame.
        labels : numpy.ndarray or None
            (N, P), 1 or 0.
        boxes : numpy.ndarray or None
            (N, 4), (x0, y0, x1, y1) in pixels of the model's frame.
        masks : numpy.ndarray or None
            (N, 256, 256) logits, 4 pixels of the frame each; with `dense_prompts` the drawn
            prompts, which a model with details also reads to refine its masks. (N, h, h) of
            windows.
        least_scores : numpy.ndarray, optional
            (N,). Objects with no score above this need not be upscaled, a third of the work; their
            logits are minus infinity then.
        exact : bool
            Whether the decoder's attention is computed in float32 whatever the precision is. In
            half precision a few prompts select a neighbour: acceptable in a search that keeps the
            best masks of a thousand prompts, not for a click.
        corners : numpy.ndarray, optional
            (N, 2), first row and column of a window of the frame for each object, in cells of the
            embedding: only that part of the image is read. All windows are squares of the same
            size, that of the masks, which must be given. Points and boxes stay in pixels of the
            frame.
        """
        ...

    def object_maps(self, features: Any) -> npt.NDArray[np.float32] | None:
        """Predict where objects are, without any prompt.

        Parameters
        ----------
        features : object
            From `encode`.

        Returns
        -------
        numpy.ndarray or None
            (3, m, m) float32 in 0–1 over the frame, m being 256 or 512, after the sigmoid:
            foreground, centre distance and boundary distance (`napari_tinysam.model.object_head`).
            None if the model has no object head.
        """
        ...


@runtime_checkable
class KeepsFeatures(Protocol):
    """A `Runtime` whose features can be kept as arrays, and made of them again."""

    def arrays_of(self, features: Any) -> dict[str, npt.NDArray[Any]]:
        """Return what `decode` reads of the features: arrays by name, without the object maps.

        They are float16 where rounding changes no mask (IoU at least 0.999).

        Parameters
        ----------
        features : object
            From `Runtime.encode`.
        """
        ...

    def features_of(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
        """Make features of their arrays; they have no object maps.

        Parameters
        ----------
        arrays : mapping of str to numpy.ndarray
            From `arrays_of` of a runtime with the same model and precision.

        Raises
        ------
        ValueError
            If they are not the arrays of such features.
        """
        ...


@runtime_checkable
class ShowsFeatures(Protocol):
    """A `Runtime` whose features can be compared, place by place."""

    def feature_maps(self, features: Any) -> list[npt.NDArray[np.floating]]:
        """Return what describes each place of the frame.

        Parameters
        ----------
        features : object
            From `Runtime.encode`.

        Returns
        -------
        list of numpy.ndarray
            (C, m, m) each, over the frame: the embedding, then finer details, if the decoder reads
            some to refine its masks.
        """
        ...


def in_float16(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Round to float16, unless there are values too large for that, or NaN."""
    largest = float(np.finfo(np.float16).max)
    if array.size and -largest <= array.min() and array.max() <= largest:
        return array.astype(np.float16)
    return array


def rows_to_draw(
    scores: npt.NDArray[np.float32],
    least: npt.NDArray[np.float32] | None,
    part: slice,
) -> npt.NDArray[np.intp]:
    """Return which objects of a part of a batch to upscale.

    Parameters
    ----------
    scores : numpy.ndarray
        (n, 3), those of the part.
    least : numpy.ndarray or None
        (N,) `least_scores` of the whole batch.
    part : slice
        Which n of the N objects.

    Returns
    -------
    numpy.ndarray
        Their indices within the part.
    """
    if least is None:
        return np.arange(len(scores))
    return np.flatnonzero(scores.max(axis=1) > least[part])


def drawn_planes(
    masks: npt.NDArray[np.float32],
    boxes: npt.NDArray[np.float32] | None,
    rows: npt.NDArray[np.intp],
    corners: npt.NDArray[np.intp] | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return what a refiner reads about some prompts: the drawn prompts, and the boxes alone.

    Parameters
    ----------
    masks : numpy.ndarray
        (N, h, w), of all.
    boxes : numpy.ndarray or None
        (N, 4), of all.
    rows : numpy.ndarray
        (n,), which of the N objects.
    corners : numpy.ndarray, optional
        (N, 2), of the windows of all, if the masks are of windows.

    Returns
    -------
    tuple of numpy.ndarray
        (n, h, w) float32 each.
    """
    drawn = np.ascontiguousarray(masks[rows], np.float32)
    if boxes is None:
        return drawn, np.zeros_like(drawn)
    shape = (drawn.shape[1], drawn.shape[2])
    boxes = boxes[rows]
    if corners is not None:
        first = CELL * corners[rows][:, ::-1]  # x and y, in pixels
        boxes = np.asarray(boxes - np.tile(first, 2), np.float32)
    return drawn, draw_boxes(np, shape, boxes)
