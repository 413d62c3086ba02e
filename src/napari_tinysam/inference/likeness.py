"""How alike objects of a plane are, by what the model's encoder sees in them. numpy only.

An object is described by the mean of the features within its mask. Features of one plane are all
alike, with cosines close to 1, so what objects of the plane have in common is taken away. The
likeness of two objects is the cosine of what is left, less a little for the difference of their
areas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.masks import BoxedMask

#: What likeness falls by where the logarithms of areas differ by 1. Among objects of the same area
#: it costs 0.003 of precision, among those of two sizes it adds 0.06.
AREA = 0.2


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

    Only the embedding is read. With the finer maps, precision falls from 0.95 to 0.82 (figures:
    ``python -m benchmarks.similar --ways``).

    Parameters
    ----------
    masks : sequence of BoxedMask
        N of them, at the size of the plane.
    """

    def __init__(self, masks: Sequence[BoxedMask]) -> None:
        self._areas = np.array([mask.area for mask in masks], np.float64)
        self._means: npt.NDArray[np.float32] | None = None
        self._known = np.zeros(len(masks), bool)

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
        (found,) = mean_features(maps[:1], embedding, masks)
        if self._means is None:
            self._means = np.zeros((len(self._known), found.shape[1]), np.float32)
        self._means[list(numbers)] = found
        self._known[list(numbers)] = [mask.area > 0 for mask in masks]

    def compared(self) -> ComparedObjects:
        """Compare the objects with what all of them have in common.

        Their mean, not that of the image: the difference of objects from the ground says nothing.
        """
        vectors = np.zeros((len(self._known), 1), np.float32)
        if self._means is not None and self._known.any():
            vectors = np.zeros(self._means.shape, np.float32)
            inside = self._means[self._known].astype(np.float64)
            vectors[self._known] = _unit(inside - inside.mean(axis=0))
        return ComparedObjects(vectors, self._areas)


@dataclass(frozen=True, eq=False)
class ComparedObjects:
    """Objects of a plane, and how each differs from the others.

    Parameters
    ----------
    vectors : ndarray of float32, (N, C)
        Of length 1; 0 of objects that no look shows.
    areas : ndarray of float, (N,)
        In pixels.
    """

    vectors: npt.NDArray[np.float32]
    areas: npt.NDArray[np.float64]

    def likeness(self, examples: Sequence[int]) -> npt.NDArray[np.float64]:
        """Tell how alike objects are to examples: (N,), 0–1.

        It is the cosine to the examples' mean, less what the areas differ, from 0 to 1: ½ means
        no more than any other object of the plane.

        Parameters
        ----------
        examples : sequence of int
            Which objects are examples, at least one.
        """
        return np.clip((1 + self._cosines(examples)) / 2, 0, 1)

    def most_alike(self, examples: Sequence[Sequence[int]]) -> npt.NDArray[np.intp]:
        """Tell which class each object is most alike to, (N,).

        Parameters
        ----------
        examples : sequence of sequence of int
            Of each class, which objects are examples.
        """
        each = [self._cosines(some) for some in examples]
        return np.asarray(np.argmax(np.stack(each), axis=0), np.intp)

    def _cosines(self, examples: Sequence[int]) -> npt.NDArray[np.float64]:
        given = list(examples)
        mean = _unit(self.vectors[given].mean(axis=0, keepdims=True))[0]
        logs = np.log(np.maximum(self.areas, 1))
        apart = np.abs(logs - logs[given].mean())
        return np.asarray(self.vectors @ mean - AREA * apart, np.float64)


def _unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Give vectors, (N, C), length 1; those of length 0 stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)
