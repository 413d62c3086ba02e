"""Batches of windows, cut out of whole frames with known embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from napari_tinysam.frame import CELL, FRAME, LOGIT
from napari_tinysam.model import ImageFeatures
from tinysam_training.data.batches import TrainingBatch, make_batch
from tinysam_training.data.sampling import drawn_window
from tinysam_training.data.turns import turned
from tinysam_training.data.windows import frame_window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tinysam_training.data.sampling import BatchRequest, Sources
    from tinysam_training.labelled_image import LabelledImage
    from tinysam_training.recipe import Recipe


@dataclass(frozen=True)
class EmbeddedFrame:
    """An image with a known embedding, perhaps turned.

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
    """Batches of windows, cut out of whole frames along the embedding's cells.

    Parameters
    ----------
    sources : Sources
        Weights of the images; their turns are drawn evenly.
    turns : sequence of str
        Keys of `TURNS` for which embeddings are known.
    known : callable
        Returns the features of an `EmbeddedFrame`: a teacher's (256, 64, 64) embedding, or the
        student's own `ImageFeatures`, a batch of one.
    recipe : Recipe
    own : bool
        Whether they come from the student's own frozen encoder and replace the pixels.
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
        """Make the requested batch."""
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
    """Cut a square of cells out of a frame's embedding, and the matching part of its details.

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
    scale = FRAME / max(height, width) / CELL  # cells per pixel of the image
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
