"""Annotated planes on disk, as an adaptation finds them: a file for each plane or tile.

A file's name tells the image, the plane and the tile, so that neighbours are known as such.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError
from napari_tinysam.files.atomic import replacing
from napari_tinysam.frame import FRAME

if TYPE_CHECKING:
    import numpy.typing as npt

    from tinysam_training.labelled_image import ImageEntry

#: Folders of planes whose objects are all labelled, and of others.
DONE, PARTLY = "done", "partly"

#: Planes up to this many times the frame are learnt from as they are; larger ones in tiles, as
#: clicks see them.
_AS_IT_IS = 1.5

#: Image, plane, tile, and a name for people.
_NAME = re.compile(r"(\d+)-(\d+)-\d+-.*")


@dataclass(frozen=True, eq=False)
class Sample:
    """An annotated plane.

    Parameters
    ----------
    name : str
    rgb : ndarray of uint8, (H, W, 3)
        As the model sees it.
    labels : ndarray of integers, (H, W)
    complete : bool
        Whether every object in it is labelled.
    image : str
        Planes with the same one belong to one image; without it, the plane is an image.
    """

    name: str
    rgb: npt.NDArray[np.uint8]
    labels: npt.NDArray[Any]
    complete: bool = True
    image: str = ""

    @property
    def objects(self) -> int:
        """Number of its objects."""
        return len(np.unique(self.labels[self.labels > 0]))


def write_sample(data: Path, image: int, plane: int, sample: Sample) -> None:
    """Write a sample as one file, or as one for each tile with objects.

    Of a complete plane without any, all tiles are written: they show what is no object.

    Parameters
    ----------
    data : Path
        With the folders `DONE` and `PARTLY`.
    image, plane : int
        Number of the image, and of the plane in it.
    sample : Sample

    Raises
    ------
    DataError
        If image and labels differ in size.
    FileError
        If a file cannot be written.
    """
    stem = re.sub(r"[^\w.-]+", "_", sample.name)[:60] or "image"
    if sample.rgb.shape[:2] != sample.labels.shape:
        raise DataError(
            f"{sample.name}: the image has {sample.rgb.shape[1]} × {sample.rgb.shape[0]} pixels, "
            f"its labels have {sample.labels.shape[1]} × {sample.labels.shape[0]}."
        )
    place = data / (DONE if sample.complete else PARTLY)
    for tile, (rows, columns) in enumerate(_tiles(*sample.labels.shape)):
        labels = sample.labels[rows, columns]
        if labels.any() or (sample.complete and not sample.objects):
            name = f"{image:05d}-{plane:05d}-{tile:05d}-{stem}.npz"
            with replacing(place / name) as file:
                np.savez_compressed(
                    file,
                    image=sample.rgb[rows, columns],
                    labels=labels.astype(np.uint32),
                )


def placed(entry: ImageEntry) -> ImageEntry:
    """Return an entry of such a file that knows its image and plane."""
    found = _NAME.fullmatch(entry.name.rpartition("/")[2])
    if found is None:
        return entry
    image, plane = found.groups()
    return replace(entry, part_of=(f"image {image}", f"plane {plane}"))


def _tiles(height: int, width: int) -> list[tuple[slice, slice]]:
    """Cut a plane that is much larger than the frame into tiles of about the frame's size."""
    if max(height, width) <= _AS_IT_IS * FRAME:
        return [(slice(0, height), slice(0, width))]
    rows = np.linspace(0, height, max(1, round(height / FRAME)) + 1).astype(int)
    columns = np.linspace(0, width, max(1, round(width / FRAME)) + 1).astype(int)
    return [
        (slice(top, bottom), slice(left, right))
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]
