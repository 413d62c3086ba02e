"""Chooses the images and windows for the batches of a run.

A batch follows from its `BatchRequest` and the recipe's seed alone, in any process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from tinysam_training.data.pool import PooledImage
    from tinysam_training.labelled_image import ImageStore, LabelledImage
    from tinysam_training.recipe import Stage


@dataclass(frozen=True)
class BatchRequest:
    """A requested batch.

    Attributes
    ----------
    number : int
        Of the batch in the whole run, over all processes.
    stage : int
        Of the recipe.
    """

    number: int
    stage: int


@dataclass(frozen=True)
class Sources:
    """Images to draw from, and their frequencies.

    Attributes
    ----------
    images : ImageStore or sequence of LabelledImage
    weights : ndarray of float, (len(images),)
        Sum 1.
    balanced : bool
        Whether similar images of one set form groups, and a group of n images is drawn in
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
        """Draw each image by its own share, whatever their sum."""
        weights = np.asarray(shares, np.float64)
        return cls(images, weights / weights.sum(), balanced=True)

    def draw(self, rng: np.random.Generator) -> int:
        """Return the number of a random image."""
        return int(rng.choice(len(self.weights), p=self.weights))


def balanced_weights(
    weights: npt.NDArray[np.float64], images: Sequence[PooledImage]
) -> npt.NDArray[np.float64]:
    """Draw rare kinds of images of a set more often.

    Parameters
    ----------
    weights : ndarray of float, (N,)
        Frequency of each image.
    images : sequence of PooledImage, of N

    Returns
    -------
    ndarray of float, (N,)
        With the same sum for each set. In a set, each group of n similar images (gray or coloured,
        dark or bright) has a share in proportion to √n.
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


def drawn_window(stage: Stage, rng: np.random.Generator) -> tuple[int, int]:
    """Draw side and number of a batch's windows."""
    weights = np.array([weight for *_, weight in stage.windows])
    side, count, _ = stage.windows[rng.choice(len(weights), p=weights / weights.sum())]
    return side, count
