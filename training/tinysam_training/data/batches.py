"""Windows, and some objects of each, as tensors of one training step."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_tinysam.frame import CELL, FRAME, LOGIT
from napari_tinysam.model import ImageFeatures
from napari_tinysam.model.encoders.kind import PIXEL_MEAN, PIXEL_STD
from tinysam_training.data.targets import (
    known_share,
    object_boxes,
    object_maps_targets,
    object_targets,
    valid_share,
    visible_objects,
)
from tinysam_training.data.windows import size_balanced

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from tinysam_training.data.windows import Window


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows of S × S pixels with N objects in total.

    Parameters
    ----------
    image : Tensor of float32, (B, 3, S, S)
        Normalised with the model's mean and standard deviation; exactly 0 in the padding.
    maps : Tensor of float32, (B, 3, S/s, S/s)
        Targets of the object head, whose maps have stride s: foreground, centre distance, boundary
        distance.
    maps_weight : Tensor of float32, (B, 1, S/s, S/s)
        Share of each value of `maps` that is annotated.
    valid : Tensor of float32, (B, 1, S/4, S/4)
        Share of each logit that is not padding.
    known : Tensor of float32, (B, 1, S/4, S/4)
        Share of each logit that is annotated.
    offset : Tensor of int64, (B, 2)
        Place (y, x) of the windows in the frame, in cells.
    window : Tensor of int64, (N,)
        The window of each object, ascending.
    targets : Tensor of float32, (N, S/4, S/4)
        Share of each logit that the object covers.
    boxes : Tensor of float32, (N, 4)
        Tight x0, y0, x1, y1 in pixels of the window, the last pixel inclusive.
    """

    image: Tensor
    maps: Tensor
    maps_weight: Tensor
    valid: Tensor
    known: Tensor
    offset: Tensor
    window: Tensor
    targets: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        """Return the number of windows, B."""
        return len(self.image)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """A batch, and embeddings of its windows if known.

    Attributes
    ----------
    windows : Batch
        Pixels, labels and objects.
    number : int
        Of the batch in the run; seeds its prompts.
    features : ImageFeatures, optional
        The student's own, where its encoder is frozen and has already run.
    teacher : Tensor, optional
        (B, 256, g, g), the teacher's embedding.
    prompted : bool
        Whether its stage prompts objects; if not, only encoder and object head learn.
    """

    windows: Batch
    number: int
    features: ImageFeatures | None = None
    teacher: Tensor | None = None
    prompted: bool = True

    def to(self, device: torch.device) -> TrainingBatch:
        """Move the tensors."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, torch.float32)

        features, teacher = self.features, self.teacher
        if features is not None:
            details = tuple(map(moved, features.details))
            features = ImageFeatures(moved(features.embedding), details)
        return TrainingBatch(
            self.windows.to(device),
            self.number,
            features,
            None if teacher is None else moved(teacher),
            self.prompted,
        )


def make_batch(
    windows: Sequence[Window],
    objects: int,
    rng: np.random.Generator,
    offsets: npt.ArrayLike | None = None,
    map_stride: int = LOGIT,
) -> Batch:
    """Combine windows into a batch.

    Parameters
    ----------
    windows : sequence of Window
        All of one size; at least one.
    objects : int
        The most objects per window, drawn at random with
        `tinysam_training.data.windows.size_balanced`.
    rng : numpy Generator
        The only source of randomness.
    offsets : array-like of int, (B, 2), optional
        Place (y, x) of each window in the frame, in cells. By default random, so that the
        positional encoding of prompts varies; (0, 0) for whole frames.
    map_stride : int
        Side of one value of the object maps in pixels.

    Raises
    ------
    ValueError
        If there are no windows, the sizes differ or an offset is outside the frame.
    """
    sizes = {window.size for window in windows}
    if len(sizes) != 1:
        raise ValueError(f"Windows of one size are needed, not of {sorted(sizes)}.")
    labels = [window.labels for window in windows]
    chosen = [choose_objects(layers, objects, rng) for layers in labels]
    maps = [object_maps_targets(window, map_stride) for window in windows]
    boxes = list(map(object_boxes, labels, chosen))
    owners = np.repeat(np.arange(len(windows)), [len(some) for some in chosen])
    return Batch(
        image=_normalised(windows),
        maps=_stacked([values for values, _ in maps]),
        maps_weight=_stacked([weight for _, weight in maps]),
        valid=_stacked([valid_share(window)[None] for window in windows]),
        known=_stacked([known_share(window)[None] for window in windows]),
        offset=_offsets(offsets, len(windows), sizes.pop(), rng),
        window=torch.from_numpy(owners),
        targets=torch.from_numpy(
            np.concatenate(list(map(object_targets, labels, chosen, boxes)))
        ),
        boxes=torch.from_numpy(np.concatenate(boxes)),
    )


def choose_objects(
    layers: npt.NDArray[np.int32], number: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw some of the objects that a window shows.

    Parameters
    ----------
    layers : ndarray of int32, (L, S, S)
    number : int
        The most objects, drawn with `size_balanced`.
    rng : numpy Generator

    Returns
    -------
    ndarray of int64, (n, 2)
        Layer and label.
    """
    objects, areas = visible_objects(layers)
    if len(objects) <= number:
        return objects
    probabilities = size_balanced(np.sqrt(areas), objects[:, 0])
    rows = rng.choice(len(objects), number, replace=False, p=probabilities)
    return objects[rows]


def _stacked(planes: list[npt.NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(planes))


def _normalised(windows: Sequence[Window]) -> Tensor:
    """Normalise (B, 3, S, S) as the model does, with zeros in the padding."""
    image = torch.from_numpy(np.stack([window.rgb for window in windows]))
    image.sub_(torch.tensor(PIXEL_MEAN)[:, None, None])
    image.div_(torch.tensor(PIXEL_STD)[:, None, None])
    for planes, window in zip(image, windows, strict=True):
        planes[:, window.height :] = 0
        planes[:, :, window.width :] = 0
    return image


def _offsets(
    offsets: npt.ArrayLike | None, windows: int, size: int, rng: np.random.Generator
) -> Tensor:
    last = (FRAME - size) // CELL
    if offsets is None:
        return torch.from_numpy(rng.integers(0, last, (windows, 2), endpoint=True))
    given = np.asarray(offsets, np.int64)
    if given.shape != (windows, 2) or (given < 0).any() or (given > last).any():
        raise ValueError(
            f"Offsets of {windows} windows are two cells each, from 0 to {last}; "
            f"{given.tolist()} was given."
        )
    return torch.from_numpy(given.copy())
