"""Where batches come from: augmented windows, or windows of frames whose embedding is known.

Both are made from a `BatchRequest` and the seed alone, in whatever process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from napari_tinysam.frame import CELL, FRAME, LOGIT
from napari_tinysam.model import ImageFeatures
from napari_tinysam.model.encoders.kind import PIXEL_MEAN, PIXEL_STD
from tinysam_training.data.batches import Batch, choose_objects, make_batch
from tinysam_training.data.intensities import change_intensities
from tinysam_training.data.labelled_image import ImageStore, LabelledImage
from tinysam_training.data.pool import ImagePool, Place, PooledImage
from tinysam_training.data.targets import KNOWN_AROUND, object_boxes, object_targets
from tinysam_training.data.windows import frame_window, size_balanced
from tinysam_training.learning.objective import TrainingBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from tinysam_training.data.augmentation import Augmentation
    from tinysam_training.recipe import Recipe, Stage
    from tinysam_training.run.loop import BatchRequest

#: How often a window lies around an object rather than anywhere.
AROUND_OBJECT = 0.7

#: No window lies around a smaller object, in pixels of the image, where there is a larger one: such
#: specks are mostly slips of the annotation.
LEAST_EXTENT = 3

#: The eight ways to turn and mirror a plane, by name; the first four keep height and width.
TURNS: dict[str, Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]] = {
    "identity": lambda plane: plane,
    "mirrored": lambda plane: plane[:, ::-1],
    "upside_down": lambda plane: plane[::-1],
    "half_turn": lambda plane: plane[::-1, ::-1],
    "transposed": lambda plane: plane.swapaxes(0, 1),
    "quarter_turn": lambda plane: plane.swapaxes(0, 1)[::-1],
    "three_quarter_turn": lambda plane: plane.swapaxes(0, 1)[:, ::-1],
    "antitransposed": lambda plane: plane.swapaxes(0, 1)[::-1, ::-1],
}


def turned(image: LabelledImage, turn: str) -> LabelledImage:
    """Turn or mirror an image with its labels.

    Parameters
    ----------
    image : LabelledImage
    turn : str
        A key of `TURNS`.
    """
    if turn == "identity":
        return image
    change = TURNS[turn]
    labels = np.stack([change(layer) for layer in image.labels])
    result = LabelledImage(
        f"{image.name} ({turn})",
        image.dataset,
        np.ascontiguousarray(change(image.rgb)).astype(np.uint8, copy=False),
        np.ascontiguousarray(labels).astype(np.int32, copy=False),
        image.complete,
    )
    # Turning the distance maps is much cheaper than computing them again.
    for name in ("boundary_distance", "centre_distance"):
        result.__dict__[name] = np.ascontiguousarray(change(getattr(image, name)))
    return result


@dataclass(frozen=True)
class Sources:
    """Images to draw from, and how often.

    Attributes
    ----------
    images : ImageStore or sequence of LabelledImage
    weights : ndarray of float, (len(images),)
        Sum 1.
    balanced : bool
        Whether images of one set that look alike form groups, of which one of n images is drawn in
        proportion to √n (`balanced_weights`).
    """

    images: ImageStore | Sequence[LabelledImage]
    weights: npt.NDArray[np.float64]
    balanced: bool = False

    @classmethod
    def even(cls, images: ImageStore | Sequence[LabelledImage]) -> Sources:
        """Draw all images equally often."""
        return cls(images, np.full(len(images), 1 / len(images)))

    @classmethod
    def by_share(
        cls, images: ImageStore | Sequence[LabelledImage], shares: Sequence[float]
    ) -> Sources:
        """Draw each image by a share of its own, whatever their sum."""
        weights = np.asarray(shares, np.float64)
        return cls(images, weights / weights.sum(), balanced=True)

    def draw(self, rng: np.random.Generator) -> int:
        """Return the number of a random image."""
        return int(rng.choice(len(self.weights), p=self.weights))


class WindowBatches(Dataset[TrainingBatch]):
    """Batches of augmented windows, cut out of a pool of images on the training device.

    Parameters
    ----------
    sources : Sources
        All of them are read at once.
    recipe : Recipe
    device : torch.device or str
        Where the pool is, and the batches are made.
    map_stride : int
        Pixels of the frame along a side of one value of the object maps.
    """

    def __init__(
        self,
        sources: Sources,
        recipe: Recipe,
        *,
        device: torch.device | str = "cpu",
        map_stride: int = LOGIT,
    ) -> None:
        images = sources.images
        once = images.read_once() if isinstance(images, ImageStore) else images
        self.pool = ImagePool(once, device)
        self.weights = sources.weights
        if sources.balanced:
            self.weights = balanced_weights(self.weights, self.pool.images)
        self.recipe = recipe
        self.map_stride = map_stride
        self._chances = [_chances(image.boxes) for image in self.pool.images]

    def __getitem__(self, request: BatchRequest) -> TrainingBatch:
        """Make the batch that is asked for, on the pool's device."""
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
        complete = torch.tensor(
            [image.complete for image in shown], device=self.pool.device
        ).view(-1, 1, 1, 1)

        def known(layers: torch.Tensor) -> torch.Tensor:
            """Where the annotation says something, in pixels."""
            near = layers.any(1, keepdim=True).float()
            around = F.max_pool2d(near, 2 * KNOWN_AROUND + 1, 1, KNOWN_AROUND)
            return torch.where(complete, inside, around * inside)

        maps = torch.stack(
            [labelled[:, 0].float(), found.centre_distance, found.boundary_distance], 1
        )
        objects = _Objects.of(found.labels.cpu().numpy(), stage.objects, rng)
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
            window=torch.from_numpy(objects.window).to(device),
            targets=torch.from_numpy(objects.targets).to(device),
            boxes=torch.from_numpy(objects.boxes).to(device),
        )
        return TrainingBatch(batch, request.number, prompted=stage.objects > 0)

    def _placed(
        self, side: int, count: int, rng: np.random.Generator, changes: Augmentation
    ) -> Place:
        """Draw where windows lie: mostly around an object, as far as possible in the image."""
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
                room = np.maximum(half - extent / 2, 0)  # for which all of it is seen
                middle = np.array([box[1], box[0]]) + extent / 2
                middle = middle + rng.uniform(-1, 1, 2) * room
            low, high = np.minimum(half, size / 2), np.maximum(size - half, size / 2)
            centre[row] = np.clip(middle, low, high)
        return Place(numbers, centre, scale, angle, mirrored)


def balanced_weights(
    weights: npt.NDArray[np.float64], images: Sequence[PooledImage]
) -> npt.NDArray[np.float64]:
    """Draw rare kinds of images of a set more often.

    Parameters
    ----------
    weights : ndarray of float, (N,)
        How often each image is to be drawn.
    images : sequence of PooledImage, of N

    Returns
    -------
    ndarray of float, (N,)
        With the same sum for each set, in which every group of n images with one look (gray or
        coloured, dark or bright) has a part in proportion to √n.
    """
    datasets = np.unique([image.dataset for image in images], return_inverse=True)[1]
    groups = np.array(
        [(d, *image.look) for d, image in zip(datasets, images, strict=True)]
    )
    _, group, counts = np.unique(
        groups, axis=0, return_inverse=True, return_counts=True
    )
    found = weights / np.sqrt(counts[group.ravel()])
    before = np.bincount(datasets, weights)
    after = np.bincount(datasets, found)
    return np.asarray(found * (before / after)[datasets], np.float64)


def _chances(boxes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Probabilities with which a window lies around each object; (0,) without objects."""
    extents = (boxes[:, 3:] - boxes[:, 1:3]).max(axis=1, initial=0)
    chosen = np.flatnonzero(extents >= LEAST_EXTENT)
    if not len(chosen):
        chosen = np.arange(len(boxes))
    chances = np.zeros(len(boxes))
    if len(boxes):
        chances[chosen] = size_balanced(extents[chosen], boxes[chosen, 0])
    return chances


class _Objects(NamedTuple):
    """Prompted objects of a batch; as of `Batch`."""

    window: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]

    @classmethod
    def of(
        cls, labels: npt.NDArray[np.int32], most: int, rng: np.random.Generator
    ) -> _Objects:
        """Choose at most so many objects of each window, (B, L, S, S)."""
        side = labels.shape[-1] // LOGIT
        chosen = [choose_objects(layers, most, rng) for layers in labels if most]
        boxes = [object_boxes(*each) for each in zip(labels, chosen, strict=False)]
        targets = [
            object_targets(layers, objects, box)
            for layers, objects, box in zip(labels, chosen, boxes, strict=False)
        ]
        return cls(
            np.repeat(np.arange(len(chosen)), [len(some) for some in chosen]),
            np.concatenate([*targets, np.zeros((0, side, side), np.float32)]),
            np.concatenate([*boxes, np.zeros((0, 4), np.float32)]),
        )


def _normalised(values: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S) of 0–1 as the model normalises."""
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
    """Draw how many pixels of a window there are for a pixel of the image.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image.
    box : ndarray of int, (4,), optional
        x0, y0, x1, y1 of the object around which the window lies.
    side : int
        Of the window, in pixels.
    settings : Augmentation
        `zoom` is meant relative to inference; a small image, which inference enlarges more than
        twice, is shown from `zoom[0]` times twice its size, a large one up to `zoom[1]` times its
        own.
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


@dataclass(frozen=True)
class EmbeddedFrame:
    """An image whose embedding is known, as it is or turned.

    Attributes
    ----------
    image : int
        Number among the images.
    turn : str
        A key of `TURNS`.
    """

    image: int
    turn: str


class FrameBatches(Dataset[TrainingBatch]):
    """Batches of windows that are cut out of whole frames along the embedding's cells.

    Parameters
    ----------
    sources : Sources
        Weights of the images; their turns are drawn evenly.
    turns : sequence of str
        Keys of `TURNS` for which embeddings are known.
    known : callable
        Gives what is known of an `EmbeddedFrame`: a (256, 64, 64) embedding if it is a teacher's,
        or else the student's own `ImageFeatures`, a batch of one.
    recipe : Recipe
    own : bool
        Whether they are the student's own, whose encoder is frozen, and replace the pixels.
    map_stride : int
        As for `WindowBatches`.
    """

    def __init__(
        self,
        sources: Sources,
        turns: Sequence[str],
        known: Callable[[EmbeddedFrame], torch.Tensor | ImageFeatures],
        recipe: Recipe,
        *,
        own: bool,
        map_stride: int = LOGIT,
    ) -> None:
        self.sources = sources
        self.turns = tuple(turns)
        self.known = known
        self.recipe = recipe
        self.own = own
        self.map_stride = map_stride

    def __getitem__(self, request: BatchRequest) -> TrainingBatch:
        """Make the batch that is asked for."""
        recipe = self.recipe
        stage = recipe.stages[request.stage]
        rng = np.random.default_rng([recipe.seed, request.number])
        side, count = drawn_window(stage, rng)
        cells = side // CELL
        windows, offsets = [], []
        cuts: list[tuple[torch.Tensor, ...]] = []
        for _ in range(count):
            number = self.sources.draw(rng)
            turn = self.turns[rng.integers(len(self.turns))]
            image = turned(self.sources.images[number], turn)
            top, left = placed(image, cells, rng)
            windows.append(frame_window(image, side, top, left))
            offsets.append((top, left))
            known = self.known(EmbeddedFrame(number, turn))
            if isinstance(known, torch.Tensor):
                known = ImageFeatures(known[None])
            cuts.append(cut(known, top, left, cells))
        batch = make_batch(
            windows,
            stage.objects,
            rng,
            offsets=np.array(offsets, np.int64),
            map_stride=self.map_stride,
        )
        embedding, *details = (
            torch.cat(parts).float() for parts in zip(*cuts, strict=True)
        )
        if self.own:
            features = ImageFeatures(embedding, tuple(details))
            return TrainingBatch(batch, request.number, features=features)
        return TrainingBatch(batch, request.number, teacher=embedding)


def cut(
    features: ImageFeatures, top: int, left: int, cells: int
) -> tuple[torch.Tensor, ...]:
    """Cut a square of cells out of a frame's embedding, and what belongs to it out of its details.

    Parameters
    ----------
    features : ImageFeatures
        A batch of one.
    top, left, cells : int
        In cells of the embedding.

    Returns
    -------
    tuple of Tensor
        (1, 256, cells, cells), (1, …, 2 cells, 2 cells), (1, …, 4 cells, 4 cells), and so on.
    """
    parts = []
    for power, tensor in enumerate((features.embedding, *features.details)):
        y, x, side = (number << power for number in (top, left, cells))
        parts.append(tensor[..., y : y + side, x : x + side])
    return tuple(parts)


def drawn_window(stage: Stage, rng: np.random.Generator) -> tuple[int, int]:
    """Draw side and number of a batch's windows."""
    weights = np.array([weight for *_, weight in stage.windows])
    side, count, _ = stage.windows[rng.choice(len(weights), p=weights / weights.sum())]
    return side, count


def placed(
    image: LabelledImage, cells: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Place a window of a frame around a random object, most of it inside the image.

    Parameters
    ----------
    image : LabelledImage
    cells : int
        Side of the window in cells.
    rng : numpy Generator

    Returns
    -------
    (int, int)
        Top and left in cells of the frame.
    """
    height, width = image.rgb.shape[:2]
    scale = FRAME / max(height, width) / CELL  # cells a pixel of the image
    boxes = image.boxes
    if len(boxes):
        _, x0, y0, x1, y1 = boxes[rng.integers(len(boxes))]
    else:
        x0, y0, x1, y1 = 0, 0, width, height
    place = []
    for low, high, extent in ((y0, y1, height), (x0, x1, width)):
        centre = (low + high) / 2 * scale
        last = max(0.0, min(FRAME // CELL, np.ceil(extent * scale)) - cells)
        wanted = centre - cells * rng.uniform(0.25, 0.75)
        place.append(int(np.clip(round(wanted), 0, last)))
    return place[0], place[1]
