"""What a `Predictor` returns: an encoded image, and the candidates for prompts on it.

numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.frame import LOGIT
from napari_tinysam.inference.windows import boxes_of_regions
from napari_tinysam.masks import BoxedMask, Upscaler, stability_scores

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Embedding:
    """One encoded image.

    Parameters
    ----------
    features : object
        What the predictor's runtime computed; opaque.
    original_size : (int, int)
        Height and width of the image.
    input_size : (int, int)
        Height and width it was resized to inside the model's frame.
    frame_size : int
        Side of the model's frame in pixels.
    model_id : str
        Identifies the predictor that made it, the only one that can read it.
    maps : numpy.ndarray, optional
        (3, m, m) float32, from the object head if there is one; m is 256 or 512.
    regions : numpy.ndarray, optional
        (256, 256) int32, the objects in these maps, for models with dense prompts: a click on an
        object is drawn as that object.
    """

    features: Any
    original_size: tuple[int, int]
    input_size: tuple[int, int]
    frame_size: int
    model_id: str
    maps: npt.NDArray[np.float32] | None = None
    regions: npt.NDArray[np.int32] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in memory, of the features (as far as they tell), maps and regions."""
        own = sum(each.nbytes for each in (self.maps, self.regions) if each is not None)
        return int(getattr(self.features, "nbytes", 0)) + own

    @cached_property
    def upscaler(self) -> Upscaler:
        """Maps low-resolution logits to this image."""
        return Upscaler(self.input_size, self.original_size, self.frame_size)

    @cached_property
    def usual_side(self) -> float:
        """Side of the usual object in pixels of the frame; 0 if none is known."""
        from napari_tinysam.objects.finding import usual_side

        return 0.0 if self.regions is None else LOGIT * usual_side(self.regions)

    @cached_property
    def region_boxes(self) -> npt.NDArray[np.float32] | None:
        """Boxes of `regions`, of `napari_tinysam.inference.windows.boxes_of_regions`."""
        return None if self.regions is None else boxes_of_regions(self.regions)

    def instance_at(self, xy: tuple[float, float]) -> BoxedMask | None:
        """Return the object of `regions` at a place, without asking the decoder.

        Parameters
        ----------
        xy : (float, float)
            In pixels of the image.

        Returns
        -------
        BoxedMask or None
            At the size of the image; coarser than a mask of the decoder. None where there is none.
        """
        if self.regions is None:
            return None
        frame = self.to_frame(np.array(xy, np.float32))
        last = len(self.regions) - 1
        column, row = np.clip(np.floor((frame + 0.5) / LOGIT), 0, last).astype(np.intp)
        number = self.regions[row, column]
        if not number:
            return None
        inside = np.where(self.regions == number, np.float32(1), np.float32(-1))
        return self.upscaler.boxed(inside)

    def confirmation(self, logits: npt.NDArray[np.float32]) -> float | None:
        """Tell how well the object maps agree with a mask.

        Parameters
        ----------
        logits : numpy.ndarray
            (256, 256) float32, of a candidate.

        Returns
        -------
        float or None
            0–1, of `napari_tinysam.objects.confirmation.mask_confirmation`; None without maps.
        """
        from napari_tinysam.objects.confirmation import mask_confirmation

        return None if self.maps is None else mask_confirmation(logits > 0, self.maps)

    def to_frame(self, xy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map (..., 2) (x, y) from pixels of the image to pixels of the model's frame."""
        scale = np.array(self.input_size[::-1]) / np.array(self.original_size[::-1])
        return np.asarray(xy.astype(np.float64) * scale, np.float32)


@dataclass(frozen=True, eq=False)
class Masks:
    """Three candidates for each of N objects, in the model's own order.

    Parameters
    ----------
    logits : numpy.ndarray
        (N, 3, 256, 256) float32, over the model's frame; fit for `Prompts.masks`.
    scores : numpy.ndarray
        (N, 3) float32, predicted IoU.
    upscaler : Upscaler
        From the embedding.
    """

    logits: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    upscaler: Upscaler

    def __len__(self) -> int:
        """Return the number of objects, N."""
        return len(self.logits)

    @cached_property
    def stability(self) -> npt.NDArray[np.float32]:
        """(N, 3) float32 in 0–1: how little each mask depends on the threshold.

        Computed on the low-resolution logits over the image, which differs from Segment Anything's
        full-size score by a few thousandths.
        """
        height, width = self.upscaler.valid_size
        return stability_scores(self.logits[..., :height, :width])

    @property
    def best(self) -> npt.NDArray[np.intp]:
        """(N,) which candidate has the highest predicted IoU."""
        return np.asarray(self.scores.argmax(axis=1), np.intp)

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """(N, 3, H, W) bool, all candidates at the size of the image, computed at each access."""
        height, width = self.upscaler.original_size
        full = np.empty((*self.scores.shape, height, width), bool)
        for index in np.ndindex(*self.scores.shape):  # one at a time: memory
            full[index] = self.upscaler.full(self.logits[index]) > 0
        return full

    def full_logits(self, index: int, candidate: int) -> npt.NDArray[np.float32]:
        """Return the (H, W) float32 logits of one candidate at the size of the image."""
        return self.upscaler.full(self.logits[index, candidate])

    def boxed(self, index: int = 0, candidate: int | None = None) -> BoxedMask:
        """Return one mask at the size of the image, computed only within its box.

        Parameters
        ----------
        index : int
            Which object.
        candidate : int, optional
            Which of its three masks; by default the one with the highest score.
        """
        if candidate is None:
            candidate = int(self.best[index])
        return self.upscaler.boxed(self.logits[index, candidate])
