"""Where batches come from: augmented windows, or windows of frames whose embedding is known.

Both are made from a `Request` and the seed alone, in whatever process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from napari_tinysam.model import ImageFeatures
from tinysam_training.data.batches import make_batch
from tinysam_training.data.labelled_image import LabelledImage
from tinysam_training.data.windows import frame_window, sample_window
from tinysam_training.frame import CELL, FRAME
from tinysam_training.objective import TrainingBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from tinysam_training.data import ImageStore
    from tinysam_training.loop import Request
    from tinysam_training.recipes import Recipe, Stage

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
    """

    images: ImageStore | Sequence[LabelledImage]
    weights: npt.NDArray[np.float64]

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
        return cls(images, weights / weights.sum())

    def draw(self, rng: np.random.Generator) -> int:
        """Return the number of a random image."""
        return int(rng.choice(len(self.weights), p=self.weights))


class WindowBatches(Dataset[TrainingBatch]):
    """Batches of augmented windows.

    Parameters
    ----------
    sources : Sources
    recipe : Recipe
    """

    def __init__(self, sources: Sources, recipe: Recipe) -> None:
        self.sources = sources
        self.recipe = recipe

    def __getitem__(self, request: Request) -> TrainingBatch:
        """Make the batch that is asked for."""
        recipe, sources = self.recipe, self.sources
        stage = recipe.stages[request.stage]
        rng = np.random.default_rng([recipe.seed, request.number])
        side, count = drawn_window(stage, rng)
        changes = recipe.augmentation
        if stage.zoom is not None:
            changes = replace(changes, zoom=stage.zoom)
        windows = [
            sample_window(sources.images[sources.draw(rng)], side, rng, changes)
            for _ in range(count)
        ]
        batch = make_batch(windows, stage.objects, rng)
        return TrainingBatch(batch, request.number)


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
    """

    def __init__(
        self,
        sources: Sources,
        turns: Sequence[str],
        known: Callable[[EmbeddedFrame], torch.Tensor | ImageFeatures],
        recipe: Recipe,
        *,
        own: bool,
    ) -> None:
        self.sources = sources
        self.turns = tuple(turns)
        self.known = known
        self.recipe = recipe
        self.own = own

    def __getitem__(self, request: Request) -> TrainingBatch:
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
            windows, stage.objects, rng, offsets=np.array(offsets, np.int64)
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
        (1, 256, cells, cells), (1, …, 2 cells, 2 cells), (1, …, 4 cells, 4 cells).
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
