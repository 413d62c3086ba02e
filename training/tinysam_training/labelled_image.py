"""Images with labelled objects: in memory, as entries to read, and in a bounded store."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage as ndi

from napari_tinysam.errors import DataError
from napari_tinysam.image import to_rgb
from napari_tinysam.objects import maps as object_maps
from tinysam_training.processes import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    import torch

# Ids up to here are counted in a table, unless it is far longer than the labels; others are sorted.
_TABLE_IDS = 2**24
_SHORT_TABLE = 2**16


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image with its objects, and maps that are computed from them once.

    Parameters
    ----------
    name : str
        Unique among the images of a training, for messages.
    dataset : str
        The set it belongs to; sampling is balanced by sets.
    rgb : ndarray of uint8, (H, W, 3)
        As inference sees it (`napari_tinysam.image.to_rgb`).
    labels : ndarray of int32, (L, H, W)
        One or more layers of objects, each 1…N without gaps, 0 where there is none. The object head
        learns from layer 0. Further layers hold objects that overlap those.
    complete : bool
        False for a partly annotated image: a pixel without label is unknown, not background.

    Raises
    ------
    DataError
        If shapes or dtypes differ from these.
    """

    name: str
    dataset: str
    rgb: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    complete: bool = True

    def __post_init__(self) -> None:
        """Check shapes and dtypes, which all other code relies on."""
        rgb, labels = self.rgb, self.labels
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise DataError(
                f"{self.name}: uint8 (H, W, 3) is needed, not {rgb.dtype} {rgb.shape}."
            )
        if labels.ndim != 3 or not len(labels) or labels.dtype != np.int32:
            raise DataError(
                f"{self.name}: int32 labels (L, H, W) are needed, not "
                f"{labels.dtype} {labels.shape}."
            )
        if labels.shape[1:] != rgb.shape[:2]:
            raise _size_error(self.name, rgb.shape[:2], labels.shape[1:])

    @classmethod
    def from_arrays(
        cls,
        name: str,
        dataset: str,
        image: Any,
        labels: Any,
        *,
        complete: bool = True,
        **to_rgb_options: Any,
    ) -> LabelledImage:
        """Convert an image and labels of any type.

        Parameters
        ----------
        name, dataset : str
            As above.
        image : array-like
            Anything that `napari_tinysam.image.to_rgb` takes.
        labels : array-like
            (H, W) or (L, H, W) of whole numbers ≥ 0, or bool; any ids.
        complete : bool
            Whether a pixel without label is background.
        **to_rgb_options
            Passed to `to_rgb`: ``channel``, ``channel_axis``, ``contrast_limits``, ``percentiles``.

        Raises
        ------
        DataError
            If the image cannot be converted, the labels are not whole numbers ≥ 0, or their sizes
            differ.
        """
        try:
            rgb = to_rgb(image, **to_rgb_options)
        except (TypeError, ValueError) as error:
            raise DataError(f"{name}: {error}") from error
        ids = np.asarray(labels)
        if ids.ndim not in (2, 3) or ids.size == 0:
            raise DataError(
                f"{name}: labels (H, W) or (layers, H, W) are needed, not {ids.shape}."
            )
        if ids.shape[-2:] != rgb.shape[:2]:
            raise _size_error(name, rgb.shape[:2], ids.shape[-2:])
        try:
            layers = [relabelled(layer) for layer in ids.reshape(-1, *ids.shape[-2:])]
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        return cls(name, dataset, rgb, np.stack(layers), complete)

    @cached_property
    def boundary_distance(self) -> npt.NDArray[np.uint8]:
        """`object_maps.boundary_distance` of layer 0, uint8 (H, W)."""
        return object_maps.boundary_distance(self.labels[0])

    @cached_property
    def centre_distance(self) -> npt.NDArray[np.uint8]:
        """`object_maps.centre_distance` of layer 0, uint8 (H, W)."""
        return object_maps.centre_distance(self.labels[0])

    @cached_property
    def boxes(self) -> npt.NDArray[np.int64]:
        """Layer, x0, y0, x1, y1 of every object, the end exclusive: int64 (N, 5).

        In order of layers and, within each, of labels.
        """
        rows = [
            (number, box[1].start, box[0].start, box[1].stop, box[0].stop)
            for number, layer in enumerate(self.labels)
            for box in ndi.find_objects(layer)
            if box is not None
        ]
        return np.array(rows, np.int64).reshape(-1, 5)

    @property
    def nbytes(self) -> int:
        """Memory of the image in bytes, with both distance maps, computed or not."""
        return int(self.rgb.nbytes + self.labels.nbytes + 2 * self.labels[0].size)


@dataclass(frozen=True)
class ImageEntry:
    """One labelled image that is read when needed.

    Parameters
    ----------
    name, dataset, complete
        As in `LabelledImage`.
    read : callable
        Reads the image. Raises `DataError`. Can be pickled, for other processes.
    fingerprint : str
        Hexadecimal; depends on the content, not on the path.
    part_of : tuple of str
        What it is a plane or tile of, the largest first: (image,) or (image, plane). Neighbours in
        one image are nearly equal, so they are never counted or held out as different images.
    pixels : str
        Hexadecimal; depends on the image alone, not on its labels. `DataReport.keyed` fills it
        in.
    """

    name: str
    dataset: str
    complete: bool
    read: Callable[[], LabelledImage]
    fingerprint: str
    part_of: tuple[str, ...] = ()
    pixels: str = ""

    @property
    def image(self) -> str:
        """Name of the whole image."""
        return self.part_of[0] if self.part_of else self.name


class ImageStore:
    """Images by number; the last used ones are kept in memory.

    Copies for other processes start empty.

    Parameters
    ----------
    entries : sequence of ImageEntry
        Which images.
    memory_bytes : int
        Limit for the kept images. An image that needs more is read every time.
    """

    def __init__(
        self, entries: Sequence[ImageEntry], memory_bytes: int = 2 << 30
    ) -> None:
        self.entries = tuple(entries)
        self.memory_bytes = memory_bytes
        self._kept: OrderedDict[int, LabelledImage] = OrderedDict()
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> LabelledImage:
        """Return an image, from memory or read now.

        Raises
        ------
        IndexError
            If there is no such image.
        DataError
            If it cannot be read.
        """
        number = range(len(self.entries))[index]
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        image = self.entries[number].read()
        if image.nbytes <= self.memory_bytes:
            self._keep(number, image)
        return image

    def __iter__(self) -> Iterator[LabelledImage]:
        return (self[number] for number in range(len(self)))

    def read_once(self, device: torch.device | None = None) -> Iterator[LabelledImage]:
        """Yield each image without keeping it, for callers that need it once.

        Parameters
        ----------
        device : torch.device, optional
            Of a training that needs all of them, with their maps; a GPU does not wait for them one
            after the other.
        """
        if device is not None and device.type == "cuda":
            yield from side_by_side(_read_with_maps, self.entries, device)
            return
        for number, entry in enumerate(self.entries):
            yield self._kept[number] if number in self._kept else entry.read()

    def _keep(self, number: int, image: LabelledImage) -> None:
        self._kept[number] = image
        self._kept_bytes += image.nbytes
        while self._kept_bytes > self.memory_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.nbytes

    def __getstate__(self) -> dict[str, Any]:
        return {"entries": self.entries, "memory_bytes": self.memory_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _read_with_maps(entry: ImageEntry) -> LabelledImage:
    image = entry.read()
    for computed in ("boundary_distance", "centre_distance", "boxes"):
        getattr(image, computed)  # kept in the image
    return image


def relabelled(labels: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Return the labels with objects numbered 1…N without gaps, in the order of their ids.

    Parameters
    ----------
    labels : ndarray
        Whole numbers ≥ 0 of any dtype, or bool; any shape.

    Returns
    -------
    ndarray of int32
        The same shape.

    Raises
    ------
    DataError
        If there are values that are not whole numbers ≥ 0.
    """
    if labels.size == 0:
        return np.zeros(labels.shape, np.int32)
    ids = _whole_numbers(labels)
    if ids.dtype.kind == "i" and ids.min() < 0:
        raise DataError(f"some labels are negative ({ids.min()} is one).")
    largest = int(ids.max())
    if largest > min(_TABLE_IDS, max(_SHORT_TABLE, 4 * ids.size)):
        values, numbers = np.unique(ids, return_inverse=True)
        first = 0 if values[0] == 0 else 1
        return np.asarray(numbers.reshape(ids.shape) + first, np.int32)
    # bincount does not take uint64, which holds small numbers here.
    small = ids.astype(np.int64) if ids.dtype == np.uint64 else ids
    present = np.bincount(small.ravel()) > 0
    if present[1:].all():
        return small.astype(np.int32)
    present[0] = False
    return np.asarray(np.cumsum(present, dtype=np.int32)[small])


def _whole_numbers(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert labels to integers of this machine's byte order."""
    if labels.dtype.kind == "b":
        return labels.astype(np.uint8)
    if labels.dtype.kind in "iu":
        return labels.astype(labels.dtype.newbyteorder("="), copy=False)
    if labels.dtype.kind != "f":
        raise DataError(
            f"labels must be whole numbers, not values of type {labels.dtype}."
        )
    # Beyond 2^53 float64 skips whole numbers.
    if not np.isfinite(labels).all() or np.abs(labels.astype(float)).max() > 2**53:
        raise DataError("some labels are not finite, or too large.")
    whole = labels.astype(np.int64)
    if (whole != labels).any():
        first = float(labels[whole != labels].flat[0])
        raise DataError(f"the labels are not whole numbers ({first:g} is one).")
    return whole


def _size_error(
    name: str, image: tuple[int, ...], labels: tuple[int, ...]
) -> DataError:
    return DataError(
        f"{name}: the image has {image[1]} × {image[0]} pixels, its labels have "
        f"{labels[1]} × {labels[0]}."
    )
