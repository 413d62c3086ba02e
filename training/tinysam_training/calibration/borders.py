"""Where a model draws borders: measured on labelled images, and moved into its weights.

A mask ends where its logits are 0. A decoder that knows its training images by heart hedges on
others, where it is less sure of a border, and draws it too far inside. One constant, added to all
logits, moves borders out or in by as much as they are uncertain. The last convolution of the mask
refiner has a bias, so the constant costs nothing and needs no code elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_tinysam import checkpoints
from napari_tinysam.errors import DataError
from napari_tinysam.masks import BoxedMask
from napari_tinysam.model.mask_decoder import DetailedMaskDecoder
from napari_tinysam.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.inference.predictor import Predictor
    from tinysam_training.labelled_image import ImageEntry, LabelledImage

#: Offsets that are tried, in logits.
OFFSETS = np.linspace(-1, 1, 9)

#: Gain in IoU below which masks stay as they are.
_WORTH = 0.001

#: Objects of an image that are prompted, and the least area of one in pixels.
_OBJECTS, _LEAST_AREA = 8, 40


def border_offset(
    predictor: Predictor,
    entries: Sequence[ImageEntry],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Find the offset of all logits at which masks fit best.

    Parameters
    ----------
    predictor : Predictor
    entries : sequence of ImageEntry
        Labelled images; not those that the model is judged by.
    progress : callable, optional
        Called with the images done and their number.

    Returns
    -------
    float
        Of `OFFSETS`, by the mean over the data sets of the IoU of the first choice, for a click and
        a box each; 0 if no other is better by 0.001.

    Raises
    ------
    DataError
        If there is no image with objects.
    """
    by_set: dict[str, list[npt.NDArray[np.float64]]] = {}
    for number, entry in enumerate(entries, start=1):
        image = entry.read()
        by_set.setdefault(image.dataset, []).extend(_ious(predictor, image))
        if progress is not None:
            progress(number, len(entries))
    means = [np.mean(each, axis=0) for each in by_set.values() if each]
    if not means:
        raise DataError("There is no image with objects to measure borders with.")
    mean = np.mean(means, axis=0)
    best = int(mean.argmax())
    gain = mean[best] - mean[np.flatnonzero(OFFSETS == 0)[0]]
    return float(OFFSETS[best]) if gain > _WORTH else 0.0


def move_borders(model: str | Path, path: Path, offset: float) -> None:
    """Write a model again with an offset added to all logits.

    Parameters
    ----------
    model : str or Path
        As `napari_tinysam.load_model` takes it.
    path : Path
        A .safetensors file; may be the model's own.
    offset : float
        In logits.

    Raises
    ------
    DataError
        If the model does not refine masks, so that it has no such constant.
    """
    source = checkpoints.load(str(model))
    decoder = source.model.mask_decoder
    if not isinstance(decoder, DetailedMaskDecoder) or decoder.refiner.is_blank:
        raise DataError(f"{model} does not refine masks; its borders cannot be moved.")
    bias = decoder.refiner.last.bias
    assert bias is not None, "made with a bias"
    with torch.no_grad():
        bias += offset
    notes: dict[str, Any] = {**source.notes, "border_offset": f"{offset:g}"}
    notes.pop("format", None)
    checkpoints.save(source.model, path, notes, half=checkpoints.is_half(source.path))


def _ious(predictor: Predictor, image: LabelledImage) -> list[npt.NDArray[np.float64]]:
    """Return the IoU at each offset, for a click and a box on some objects."""
    labels = image.labels[0]
    areas = np.bincount(labels.ravel())[1:]
    objects = np.flatnonzero(areas >= _LEAST_AREA) + 1
    rng = np.random.default_rng(0)
    objects = rng.permutation(objects)[:_OBJECTS]
    if not objects.size:
        return []
    truth = [BoxedMask.from_full(labels == number) for number in objects]
    points = np.array([mask.deepest for mask in truth], np.float32)[:, None]
    clicks = Prompts(points=points, labels=np.ones((len(truth), 1), np.int32))
    embedding = predictor.encode(image.rgb)
    found = []
    boxes = Prompts(boxes=np.array([mask.box for mask in truth], np.float32))
    for prompts in (clicks, boxes):
        masks = predictor.predict(embedding, prompts)
        for row, true in enumerate(truth):
            logits = masks.logits[row, masks.best[row]]
            moved = (masks.upscaler.boxed(logits + np.float32(o)) for o in OFFSETS)
            found.append(np.array([each.without_specks().iou(true) for each in moved]))
    return found
