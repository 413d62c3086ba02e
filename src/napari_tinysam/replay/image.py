"""Planes of an image file, read and seen as the session read and saw them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats import open_stack
from napari_tinysam.files.quiet import MAX_PIXELS
from napari_tinysam.frame import FRAME
from napari_tinysam.image import contrast_limits_of
from napari_tinysam.inference.cache import RecentEmbeddings
from napari_tinysam.inference.looks import Look, is_large
from napari_tinysam.inference.plane_looks import encode_part
from napari_tinysam.inference.sampling import sampled_parts
from napari_tinysam.journal.identity import identify

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.files.formats.stack import Stack
    from napari_tinysam.inference.predictions import Embedding
    from napari_tinysam.inference.predictor import Predictor
    from napari_tinysam.journal.identity import ImageIdentity

#: Longest side of what is read for one look, in pixels.
_MOST_READ = 4 * FRAME


@dataclass(frozen=True)
class View:
    """A plane of an image, and the values that are black and white in it.

    Parameters
    ----------
    index : tuple of int or None
        Position on each axis of the image; None on the two of the plane.
    transposed : bool
        Whether the first of these two runs across.
    limits : (float, float) or None
        None: percentiles of the plane.
    """

    index: tuple[int | None, ...]
    transposed: bool = False
    limits: tuple[float, float] | None = None


class StackArray:
    """An image file that is indexed like an array."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.shape = tuple(int(n) for n in stack.shape)
        self.ndim = len(self.shape)
        first: list[int | slice] = [0] * self.ndim
        for axis in range(max(self.ndim - 3, 0), self.ndim):
            first[axis] = slice(0, 1)
        self.dtype = np.asarray(stack.read(tuple(first))).dtype

    def __getitem__(self, key: tuple[int | slice, ...]) -> npt.NDArray[Any]:
        """Read a part, with a number or a slice for each axis; raises `FileError`."""
        whole = tuple(
            None if isinstance(each, slice) and each == slice(None) else each
            for each in key
        )
        return np.asarray(self._stack.read(whole))


class ReplayedImage:
    """The image of a provenance.

    Parameters
    ----------
    data : array-like
        Has shape and dtype, and is indexed with numbers and slices.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self._planes: dict[Hashable, npt.NDArray[Any]] = {}
        self._limits: dict[View, tuple[float, float] | None] = {}
        self._embeddings = RecentEmbeddings()

    @classmethod
    def open(cls, path: Path, wanted: ImageIdentity) -> ReplayedImage:
        """Open the file of an image, and check that it is the one that was labelled.

        Raises
        ------
        FileError
            If it cannot be read, or is another one.
        """
        data = StackArray(open_stack(path))
        found = identify(data)
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise FileError(
                f"{path} is not the image that was labelled ({wanted.name}): it has the shape "
                f"{found.shape} and {np.dtype(found.dtype)}, not {wanted.shape} and "
                f"{np.dtype(wanted.dtype)}."
            )
        if found.content != wanted.content:
            raise FileError(
                f"{path} is not the image that was labelled ({wanted.name}): its pixels differ."
            )
        return cls(data)

    def size(self, view: View) -> tuple[int, int]:
        """Height and width of a plane, as it was shown."""
        rows, columns = self._axes(view)
        return int(self.data.shape[rows]), int(self.data.shape[columns])

    def plane(self, view: View) -> npt.NDArray[Any]:
        """Read a plane, (H, W) or (H, W, 3 or 4), rows down the screen; raises `FileError`."""
        key = view.index, view.transposed
        if key not in self._planes:
            self._planes.clear()
            self._planes[key] = self._part(view, slice(None), slice(None))
        return self._planes[key]

    def embedding(self, predictor: Predictor, view: View, look: Look) -> Embedding:
        """Embed a look at a plane as a click does, or return what was embedded before."""
        key = view, look, predictor.model_id
        found = self._embeddings.get(key)
        if found is None:
            found = self._embed(predictor, view, look)
            self._embeddings.put(key, found)
        return found

    def _embed(self, predictor: Predictor, view: View, look: Look) -> Embedding:
        shape, colours = self.size(view), self.has_colours(view.index)
        if not is_large(shape):
            return encode_part(
                predictor,
                self.plane(view),
                size=shape,
                limits=view.limits,
                colours=colours,
            )
        step = max(1, max(look.size) // _MOST_READ)
        rows = slice(look.y0, look.y1, step)
        columns = slice(look.x0, look.x1, step)
        return encode_part(
            predictor,
            self._part(view, rows, columns),
            size=look.size,
            limits=view.limits or self._found_limits(view),
            colours=colours,
        )

    def _found_limits(self, view: View) -> tuple[float, float] | None:
        """Find the contrast of a large plane, in the pixels that an image in memory shows it by."""
        if view not in self._limits:
            height, width = self.size(view)
            if height * width > MAX_PIXELS:
                raise FileError(
                    "The contrast of a plane of this size has to be in the provenance file."
                )
            plane = self.plane(view)
            ((rows, columns),) = sampled_parts(plane, (0, 1))
            pixels = plane[rows, columns]
            self._limits[view] = contrast_limits_of(
                pixels.reshape(-1, 1, *pixels.shape[2:])
            )
        return self._limits[view]

    def has_colours(self, index: Sequence[int | None]) -> bool:
        """Whether the image has an axis of colours, which planes are not counted along."""
        return len(self.data.shape) == len(index) + 1

    def _axes(self, view: View) -> tuple[int, int]:
        rows, columns = (axis for axis, at in enumerate(view.index) if at is None)
        return (columns, rows) if view.transposed else (rows, columns)

    def _part(self, view: View, rows: slice, columns: slice) -> npt.NDArray[Any]:
        cut: list[int | slice] = [0 if at is None else at for at in view.index]
        at_rows, at_columns = self._axes(view)
        cut[at_rows], cut[at_columns] = rows, columns
        if self.has_colours(view.index):
            cut.append(slice(None))
        pixels = self.data[tuple(cut)]
        if not view.transposed:
            return np.asarray(pixels)
        return np.asarray(pixels.transpose((1, 0, 2)[: pixels.ndim]))


def view_of(arguments: Any, image: ReplayedImage) -> View:
    """Read the plane of an action.

    Raises
    ------
    FileError
        If the image has no such plane.
    """
    index = tuple(None if at is None else int(at) for at in arguments["plane"])
    shape = image.data.shape
    fits = (
        len(index) in (len(shape), len(shape) - 1)
        and sum(at is None for at in index) == 2
        and all(at is None or 0 <= at < n for at, n in zip(index, shape, strict=False))
    )
    if not fits:
        raise FileError("The provenance file tells of a plane that the image lacks.")
    contrast = arguments.get("contrast")
    limits = None
    if isinstance(contrast, list):
        low, high = contrast
        limits = float(low), float(high)
    return View(index, bool(arguments.get("transposed", False)), limits)
