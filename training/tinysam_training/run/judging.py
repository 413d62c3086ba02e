"""Validation during a run: a few prompts on a few held-out frames, the same every time.

Cheaper than `evaluate`: masks are compared at the resolution of the logits, and only a tight box
and one click in the middle are tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage as ndi

from napari_tinysam.frame import FRAME, LOGIT
from napari_tinysam.inference.resize import resized_size
from napari_tinysam.masks import Upscaler
from napari_tinysam.metrics import mean_segmentation_accuracy
from napari_tinysam.model import ImageFeatures
from napari_tinysam.objects.finding import segment_objects
from tinysam_training.data.batches import Batch, make_batch
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.data.windows import whole_frame
from tinysam_training.learning.decoding import decode
from tinysam_training.learning.drawn_prompts import DrawnPrompts, regions_of
from tinysam_training.learning.losses import actual_iou
from tinysam_training.learning.prompt_batch import PromptBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_tinysam.model import SegmentAnything
    from tinysam_training.data import ImageStore
    from tinysam_training.labelled_image import LabelledImage

#: Objects decoded at once; this number is fast on a CPU.
_BATCH = 8


@dataclass(frozen=True, eq=False)
class _Frame:
    """One image with its prompts."""

    batch: Batch
    clicks: Tensor  # (N, 1, 2)
    dataset: str


class Judge:
    """Mean IoU of masks for a box and for a click, and mSA of the object head.

    Parameters
    ----------
    images : ImageStore or sequence of LabelledImage
        Held out.
    device : torch.device
    limit, objects : int
        The most images, evenly spaced, and the most objects per image.
    features : callable, optional
        Returns the `ImageFeatures` of the image with a number, where the encoder is frozen and need
        not run again.
    """

    def __init__(
        self,
        images: ImageStore | Sequence[LabelledImage],
        device: torch.device,
        *,
        limit: int = 16,
        objects: int = 8,
        features: Callable[[int], ImageFeatures] | None = None,
    ) -> None:
        if not len(images):
            raise ValueError("There are no images to validate on.")
        self._images = images
        self._device = device
        self._objects = objects
        self._features = features
        self.numbers = evenly_spaced(range(len(images)), limit)

    def __call__(self, model: SegmentAnything) -> dict[str, float]:
        """Judge a model.

        Parameters
        ----------
        model : SegmentAnything
            In eval mode.

        Returns
        -------
        dict
            ``box_iou``, ``click_iou`` (the mask with the best predicted score), ``click_best`` (the
            best of the three); with an object head also ``msa``, the mean segmentation accuracy of
            its objects at the size of the image. All are means over the sets' means, so that small
            sets count as much as large ones. ``score`` is the mean of box, click and mSA.
        """
        rows: dict[str, list[dict[str, float]]] = {}
        with torch.inference_mode():
            for number in self.numbers:
                frame = self._frame(number, model.map_stride)
                if self._features is not None:
                    features = self._on_device(self._features(number))
                else:
                    features = model.features(frame.batch.image)
                figures = _figures(model, frame, features) if self._objects else {}
                if model.object_head is not None:
                    figures["msa"] = _accuracy(model, self._images[number], features)
                rows.setdefault(frame.dataset, []).append(figures)
        found: dict[str, float] = {}
        for name in ("box_iou", "click_iou", "click_best", "msa"):
            means = [
                np.mean(values)
                for some in rows.values()
                if (values := [row[name] for row in some if name in row])
            ]
            if means:
                found[name] = float(np.mean(means))
        judged = [found[n] for n in ("box_iou", "click_iou", "msa") if n in found]
        return {"score": float(np.mean(judged)) if judged else 0.0, **found}

    def _on_device(self, features: ImageFeatures) -> ImageFeatures:
        details = tuple(each.to(self._device).float() for each in features.details)
        return ImageFeatures(features.embedding.to(self._device).float(), details)

    def _frame(self, number: int, map_stride: int) -> _Frame:
        window = whole_frame(self._images[number])
        # Seeded by the image's place, so that every model sees the same objects.
        rng = np.random.default_rng([11, number])
        offsets = np.zeros((1, 2), np.int64)
        batch = make_batch(
            [window], self._objects, rng, offsets=offsets, map_stride=map_stride
        )
        clicks = [middle(mask.numpy() > 0.5) for mask in batch.targets]
        points = torch.tensor(np.array(clicks, np.float32)).reshape(-1, 1, 2)
        return _Frame(batch.to(self._device), points.to(self._device), window.dataset)


def middle(
    mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> tuple[float, float]:
    """Find the logit deepest inside a mask: x, y in pixels of the window.

    Parameters
    ----------
    mask : ndarray of bool, (h, w)
    """
    depth = ndi.distance_transform_cdt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x * LOGIT + (LOGIT - 1) / 2), float(y * LOGIT + (LOGIT - 1) / 2)


def _accuracy(
    model: SegmentAnything, image: LabelledImage, features: ImageFeatures
) -> float:
    """Measure the mean segmentation accuracy of the object head, with default thresholds."""
    maps = model.object_maps(features)[0].float().sigmoid().cpu().numpy()
    height, width = image.rgb.shape[:2]
    inner = resized_size((height, width), FRAME)
    found = segment_objects(maps, Upscaler(inner, (height, width), FRAME))
    true = image.labels[0]
    return mean_segmentation_accuracy(true, found, None if image.complete else true > 0)


def _figures(
    model: SegmentAnything, frame: _Frame, features: ImageFeatures
) -> dict[str, float]:
    batch, count = frame.batch, len(frame.batch.window)
    embedding = features.embedding
    found: dict[str, float] = {}
    if not count:
        return found
    drawn = None
    if model.dense_prompts:
        regions = regions_of(model, features, batch.valid)
        drawn = DrawnPrompts(regions, batch.window)
    nowhere = torch.full((count, 4), float("nan"), device=embedding.device)
    none = torch.full((count, 1), -1, device=embedding.device)
    for name, points, labels, boxes in (
        ("box", frame.clicks, none, batch.boxes),
        ("click", frame.clicks, none + 2, nowhere),
    ):
        chosen, best = [], []
        for start in range(0, count, _BATCH):
            rows = slice(start, start + _BATCH)
            prompts = PromptBatch(points[rows], labels[rows], boxes[rows])
            which = torch.arange(count, device=embedding.device)[rows]
            masks = None
            if drawn is not None:
                masks = drawn(prompts, None, which)
            decoded = decode(
                model,
                features,
                batch.offset,
                batch.window[rows],
                prompts.points,
                prompts.labels,
                prompts.boxes,
                masks,
            )
            if drawn is not None and masks is not None:
                decoded = drawn.added(decoded, masks, which)
            valid = batch.valid[batch.window[rows], 0]
            iou = actual_iou(decoded.logits, batch.targets[rows], valid)
            chosen.append(iou.gather(1, decoded.scores.argmax(1, keepdim=True))[:, 0])
            best.append(iou.amax(1))
        found[f"{name}_iou"] = float(torch.cat(chosen).mean())
        found[f"{name}_best"] = float(torch.cat(best).mean())
    return found
