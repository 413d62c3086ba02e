"""Fields of nuclei of any side, and the files that a batch reads."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from benchmarks.auto_in_tiles import FIELD, NUCLEI, nuclei
from napari_tinysam.everything import Proposal
from napari_tinysam.labels import object_masks


class Field:
    """A square field of nuclei of any side, of which parts are made when they are asked for."""

    def __init__(self, side: int) -> None:
        height, self._width = FIELD
        image, labels = nuclei(max(FIELD))
        self._image, self._labels = image[:height], labels[:height]
        self.shape = side, side

    def part(self, rows: slice, columns: slice) -> tuple[Any, Any]:
        """Return pixels and labels."""
        down = np.arange(rows.start, rows.stop)
        right = np.arange(columns.start, columns.stop)
        height, width = self._labels.shape[0], self._width
        place = np.ix_(down % height, right % width)
        along = 1 + self.shape[1] // width
        cells = down[:, None] // height * along + right // width
        labels = self._labels[place]
        return self._image[place], np.where(labels > 0, labels + cells * NUCLEI, 0)

    def nuclei(self, look: Any) -> list[Proposal]:
        """Return the nuclei that a tile shows as a perfect model would."""
        _, labels = self.part(look.rows, look.columns)
        _, own = np.unique(labels, return_inverse=True)
        found = []
        for _, mask in object_masks(own.reshape(labels.shape)):
            placed = mask.moved(look.y0, look.x0, self.shape)
            x0, y0, x1, y1 = placed.box
            middle = (x0 + x1) / 2, (y0 + y1) / 2
            found.append(Proposal(placed, 0.9, middle, "prompt"))
        return found


def write_slide(path: Path, field: Field) -> Path:
    """Write a field of nuclei as OME-Zarr 0.5, without a pyramid."""
    how = [{"type": "scale", "scale": [1.0, 1.0]}]
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    scales = {
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": how}],
    }
    described = {"ome": {"version": "0.5", "multiscales": [scales]}}
    group = zarr.open_group(str(path), mode="w")
    group.attrs.update(described)
    array: Any = group.create_array(
        "0", shape=field.shape, chunks=(1024, 1024), dtype="uint8"
    )
    side = field.shape[0]
    for y, x in product(range(0, side, 1024), repeat=2):
        place = slice(y, min(y + 1024, side)), slice(x, min(x + 1024, side))
        array[place] = field.part(*place)[0]
    return path


def write_images(folder: Path, field: Field, side: int, count: int) -> Path:
    """Write parts of a field of nuclei as TIFF files."""
    folder.mkdir()
    along = field.shape[0] // side
    for number in range(count):
        y, x = number // along % along * side, number % along * side
        pixels, _ = field.part(slice(y, y + side), slice(x, x + side))
        tifffile.imwrite(folder / f"{number:04}.tif", pixels)
    return folder
