"""Batches of augmented windows, cut out of a pool of images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from napari_tinysam.frame import CELL, FRAME, LOGIT
from napari_tinysam.model.encoders.kind import PIXEL_MEAN, PIXEL_STD
from tinysam_training.data.batches import Batch, TrainingBatch
from tinysam_training.data.choosing import chosen_objects
from tinysam_training.data.intensities import change_intensities
from tinysam_training.data.pool import ImagePool, Place
from tinysam_training.data.sampling import balanced_weights, drawn_window
from tinysam_training.data.targets import KNOWN_AROUND
from tinysam_training.data.windows import size_balanced
from tinysam_training.labelled_image import ImageStore, LabelledImage

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from tinysam_training.data.sampling import BatchRequest, Sources
    from tinysam_training.recipe import Augmentation, Recipe

#: Probability that a window lies around an object rather than anywhere.
AROUND_OBJECT = 0.7

#: Smaller objects, in pixels of the image, get no windows if there are larger ones: such specks are
#: mostly annotation errors.
LEAST_EXTENT = 3

#: Side of the grid between whose points a bend is smooth.
_BENDS = 4


class WindowBatches(Dataset[TrainingBatch]):
    """Batches of augmented windows, cut out of a pool of images on the training device.

    Parameters
    ----------
    sources : Sources
        All images are read at once.
    recipe : Recipe
    device : torch.device or str
        Holds the pool; batches are made there.
    map_stride : int
        Side of one value of the object maps in pixels of the frame.
    """

    def __init__(
        self,
        sources: Sources,
        recipe: Recipe,
        *,
        device: torch.device | str = "cpu",
        map_stride: int = LOGIT,
    ) -> None:
        images: Iterable[LabelledImage] = sources.images
        if isinstance(images, ImageStore):
            images = images.read_once(torch.device(device))
        self.pool = ImagePool(images, device)
        self.weights = sources.weights
        if sources.balanced:
            self.weights = balanced_weights(self.weights, self.pool.images)
        self.recipe = recipe
        self.map_stride = map_stride
        self._chances = [_chances(image.boxes) for image in self.pool.images]

    def __getitem__(self, request: BatchRequest) -> TrainingBatch:
        """Make the requested batch, on the pool's device."""
        recipe = self.recipe
        stage = recipe.stages[request.stage]
        rng = np.random.default_rng([recipe.seed, request.number])
        side, count = drawn_window(stage, rng)
        changes = recipe.augmentation
        if stage.zoom is not None:
            changes = replace(changes, zoom=stage.zoom)
        place = self._placed(side, count, rng, changes)
        found = self.pool.windows(place, side)
        shown = [self.pool.images[i] for i in place.image]
        values = found.rgb / 255
        if changes.changes_intensities:
            values = change_intensities(
                values,
                changes,
                rng,
                gray=np.array([image.gray for image in shown]),
                mean=np.array([image.mean for image in shown]),
                scale=place.scale,
            )
        inside = found.inside[:, None].float()  # (B, 1, S, S)
        labelled = found.labels > 0
        partly = np.flatnonzero([not image.complete for image in shown])

        def known(layers: torch.Tensor) -> torch.Tensor:
            """Pixels with a known annotation."""
            if not partly.size:
                return inside
            rows = torch.from_numpy(partly).to(inside.device)
            near = layers[rows].any(1, keepdim=True).float()
            around = F.max_pool2d(near, 2 * KNOWN_AROUND + 1, 1, KNOWN_AROUND)
            return inside.index_copy(0, rows, around * inside[rows])

        maps = torch.stack(
            [labelled[:, 0].float(), found.centre_distance, found.boundary_distance], 1
        )
        moved = _moved_borders(place, rng, changes) if stage.objects else None
        objects = chosen_objects(found.labels, stage.objects, rng, moved)
        last = (FRAME - side) // CELL
        offset = rng.integers(0, last, (count, 2), endpoint=True)
        device = self.pool.device
        batch = Batch(
            image=_normalised(values) * inside,
            maps=F.avg_pool2d(maps, self.map_stride),
            maps_weight=F.avg_pool2d(known(labelled[:, :1]), self.map_stride),
            valid=F.avg_pool2d(inside, LOGIT),
            known=F.avg_pool2d(known(labelled), LOGIT),
            offset=torch.from_numpy(offset).to(device),
            window=objects.window,
            targets=objects.targets,
            boxes=objects.boxes,
        )
        return TrainingBatch(batch, request.number, prompted=stage.objects > 0)

    def _placed(
        self, side: int, count: int, rng: np.random.Generator, changes: Augmentation
    ) -> Place:
        """Draw places of windows: mostly around an object, inside the image where possible."""
        numbers = rng.choice(len(self.pool), count, p=self.weights)
        centre, scale = np.empty((count, 2)), np.empty(count)
        angle = rng.integers(4, size=count).astype(np.float64) * (np.pi / 2)
        angle *= rng.random(count) < changes.turn_probability
        free = rng.uniform(-np.pi, np.pi, count)
        freely = rng.random(count) < changes.free_turn_probability
        angle[freely] = free[freely]
        mirrored = rng.random(count) < changes.mirror_probability
        for row, number in enumerate(numbers):
            image = self.pool.images[number]
            size = np.array(image.size, np.float64)
            chances = self._chances[number]
            box = None
            if len(chances) and rng.random() < AROUND_OBJECT:
                box = image.boxes[rng.choice(len(chances), p=chances), 1:]
            scale[row] = drawn_scale(image.size, box, side, changes, rng)
            half = side / 2 / scale[row]
            if box is None:
                middle = rng.uniform(0, 1, 2) * size
            else:
                extent = np.array([box[3] - box[1], box[2] - box[0]], np.float64)
                room = np.maximum(half - extent / 2, 0)  # at which all of it is visible
                middle = np.array([box[1], box[0]]) + extent / 2
                middle = middle + rng.uniform(-1, 1, 2) * room
            low, high = np.minimum(half, size / 2), np.maximum(size - half, size / 2)
            centre[row] = np.clip(middle, low, high)
        return Place(
            numbers, centre, scale, angle, mirrored, _bends(side, count, rng, changes)
        )


def _bends(
    side: int, count: int, rng: np.random.Generator, changes: Augmentation
) -> npt.NDArray[np.float64] | None:
    """Draw smooth fields of displacements, (B, 2, 4, 4); None if none is wanted."""
    if not changes.bend_probability:
        return None
    low, high = np.log(changes.bend)
    largest = side * np.exp(rng.uniform(low, high, count))
    largest *= rng.random(count) < changes.bend_probability
    fields = rng.uniform(-1, 1, (count, 2, _BENDS, _BENDS))
    return np.asarray(fields * largest[:, None, None, None], np.float64)


def _moved_borders(
    place: Place, rng: np.random.Generator, changes: Augmentation
) -> npt.NDArray[np.int64] | None:
    """Draw by how many pixels of each window borders move out, or in; None for none."""
    if not changes.outline_probability:
        return None
    count = len(place.scale)
    moved = rng.uniform(-1, 1, count) * changes.outline * place.scale
    moved *= rng.random(count) < changes.outline_probability
    return np.rint(moved).astype(np.int64)


def _chances(boxes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Probability of a window around each object; (0,) without objects."""
    extents = (boxes[:, 3:] - boxes[:, 1:3]).max(axis=1, initial=0)
    chosen = np.flatnonzero(extents >= LEAST_EXTENT)
    if not len(chosen):
        chosen = np.arange(len(boxes))
    chances = np.zeros(len(boxes))
    if len(boxes):
        chances[chosen] = size_balanced(extents[chosen], boxes[chosen, 0])
    return chances


def _normalised(values: torch.Tensor) -> torch.Tensor:
    """Normalise (B, 3, S, S) values in 0–1 as the model does."""
    mean = values.new_tensor(PIXEL_MEAN)[:, None, None]
    deviation = values.new_tensor(PIXEL_STD)[:, None, None]
    return (values * 255 - mean) / deviation


def drawn_scale(
    size: tuple[int, int],
    box: npt.NDArray[np.int64] | None,
    side: int,
    settings: Augmentation,
    rng: np.random.Generator,
) -> float:
    """Draw the number of pixels of a window per pixel of the image.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image.
    box : ndarray of int, (4,), optional
        x0, y0, x1, y1 of the object around which the window lies.
    side : int
        Of the window, in pixels.
    settings : Augmentation
        `zoom` is relative to inference. Small images, which inference enlarges more than twice,
        start from `zoom[0]` times twice their size; large ones go up to `zoom[1]` times their own.
    rng : numpy Generator
    """
    inference = FRAME / max(size)
    if settings.zoom == (1.0, 1.0) and settings.extent is None:
        return inference
    low = min(inference, 2.0) * settings.zoom[0]
    high = max(inference, 1.0) * settings.zoom[1]
    scale = float(np.exp(rng.uniform(np.log(low), np.log(max(low, high)))))
    fitted = rng.random() < settings.fit_probability
    if box is None:
        return scale
    extent = float(max(box[2] - box[0], box[3] - box[1]))
    if settings.extent is not None:
        least, largest = settings.extent
        scale = min(max(scale, least / extent), largest / extent)
    fits = 0.9 * side / extent
    if scale > fits and fitted:
        scale = max(fits, min(low, scale))
    return scale
