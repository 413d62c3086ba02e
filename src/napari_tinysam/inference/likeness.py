"""How alike objects of a plane are, by what the model's encoder sees in them. numpy only.

An object is described by the mean of the features within its mask. Features of one plane are all
alike, with cosines close to 1, so they are contrasted first: what objects of the plane have in
common is taken away, and each channel is divided by how much it varies. The likeness of two objects
is the cosine of what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.masks import BoxedMask


def mean_features(
    maps: Sequence[npt.NDArray[np.floating]],
    embedding: Embedding,
    masks: Sequence[BoxedMask],
) -> list[npt.NDArray[np.float32]]:
    """Average features within masks; each cell counts by the pixels of the mask that lie in it.

    Parameters
    ----------
    maps : sequence of ndarray, (C, m, m)
        From `Predictor.feature_maps`; over the model's frame.
    embedding : Embedding
        Of the image: how it lies in the frame.
    masks : sequence of BoxedMask
        N of them, at the size of the image; those without a pixel have features of 0.

    Returns
    -------
    list of ndarray, (N, C)
        For each map.
    """
    scales = [
        inside / original / embedding.frame_size
        for inside, original in zip(
            embedding.input_size, embedding.original_size, strict=True
        )
    ]
    found = []
    for each in maps:
        means = np.zeros((len(masks), len(each)), np.float32)
        for number, mask in enumerate(masks):
            area = mask.area
            if not area:
                continue
            (rows, tops), (columns, lefts) = (
                _cells(first, length, scale * cells, cells)
                for first, length, scale, cells in zip(
                    (mask.y0, mask.x0),
                    mask.mask.shape,
                    scales,
                    each.shape[1:],
                    strict=True,
                )
            )
            pixels = np.add.reduceat(mask.mask, tops, axis=0, dtype=np.float32)
            pixels = np.add.reduceat(pixels, lefts, axis=1)
            here = each[:, rows[:, None], columns].astype(np.float32)
            means[number] = here.reshape(len(each), -1) @ (pixels / area).ravel()
        found.append(means)
    return found


def _cells(
    first: int, length: int, scale: float, cells: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the cells that pixels of an axis lie in, and which pixel is the first of each."""
    middles = (np.arange(first, first + length) + 0.5) * scale
    at = np.clip(np.floor(middles), 0, cells - 1).astype(np.intp)
    begins = np.flatnonzero(np.diff(at, prepend=-1))
    return at[begins], begins


class ObjectFeatures:
    """Features of objects of a plane, gathered look by look.

    Parameters
    ----------
    count : int
        N, of all objects.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._means: list[npt.NDArray[np.float32]] = []
        self._known = np.zeros(count, bool)

    def add(
        self,
        maps: Sequence[npt.NDArray[np.floating]],
        embedding: Embedding,
        masks: Sequence[BoxedMask],
        numbers: Sequence[int],
    ) -> None:
        """Take in what one look shows.

        Parameters
        ----------
        maps, embedding, masks
            As `mean_features` takes them; masks at the size of the look.
        numbers : sequence of int
            Of these objects.
        """
        found = mean_features(maps, embedding, masks)
        if not self._means:
            self._means = [
                np.zeros((self._count, means.shape[1]), np.float32) for means in found
            ]
        for kept, means in zip(self._means, found, strict=True):
            kept[list(numbers)] = means
        self._known[list(numbers)] = [mask.area > 0 for mask in masks]

    def vectors(self) -> npt.NDArray[np.float32]:
        """Return a vector of length 1 for each object, (N, C); 0 of those that no look shows.

        The cosine of two of them tells how alike the objects are, see `contrasted`.
        """
        vectors = [contrasted(means, self._known) for means in self._means]
        if not vectors:
            return np.zeros((self._count, 1), np.float32)
        return _unit(np.concatenate(vectors, axis=1))


def contrasted(
    means: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Take away what objects have in common, and give all maps the same weight.

    Parameters
    ----------
    means : ndarray, (N, C)
        Mean features of objects, of one map.
    known : ndarray of bool, (N,)
        Which of them count; others are 0.

    Returns
    -------
    ndarray of float32, (N, C)
        Of length 1 each, or 0.
    """
    out = np.zeros(means.shape, np.float32)
    if known.any():
        inside = means[known].astype(np.float64)
        out[known] = _unit(inside - inside.mean(axis=0))
    return out


def likeness(
    vectors: npt.NDArray[np.float32], examples: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Tell how alike objects are to examples: the cosine to their mean, (N,), 0–1.

    0 means: no more than to any other object of the plane.

    Parameters
    ----------
    vectors : ndarray, (N, C)
        From `ObjectFeatures.vectors`.
    examples : sequence of int
        Which objects are examples, at least one.
    """
    return np.clip(_cosines(vectors, examples), 0, 1)


def most_alike(
    vectors: npt.NDArray[np.float32], examples: Sequence[Sequence[int]]
) -> npt.NDArray[np.intp]:
    """Tell which class each object is most alike to: the nearest mean of examples, (N,).

    Parameters
    ----------
    vectors : ndarray, (N, C)
        From `ObjectFeatures.vectors`.
    examples : sequence of sequence of int
        Of each class, which objects are examples.
    """
    each = [_cosines(vectors, some) for some in examples]
    return np.asarray(np.argmax(np.stack(each), axis=0), np.intp)


def _cosines(
    vectors: npt.NDArray[np.float32], examples: Sequence[int]
) -> npt.NDArray[np.float32]:
    mean = _unit(vectors[list(examples)].mean(axis=0, keepdims=True))[0]
    return np.asarray(vectors @ mean, np.float32)


def _unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Give vectors, (N, C), length 1; those of length 0 stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)
