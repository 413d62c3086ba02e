"""OME-Zarr folders, versions 0.4 and 0.5: images, and the fields of plates; also on servers.

https://ngff.openmicroscopy.org/0.4 and /0.5. Level 0 of the pyramid is read.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats.stack import (
    UNKNOWN_AXES,
    Index,
    Stack,
    check_series,
    slices,
)
from napari_tinysam.files.remote import ImagePath, RemotePath, store_of
from napari_tinysam.frame import FRAME

if TYPE_CHECKING:
    import numpy.typing as npt


#: The folder of an image that holds its labels.
LABELS = "labels"

_VERSION_3, _VERSION_2 = "zarr.json", ".zgroup"

#: What describes an array, in versions 3 and 2 of Zarr.
_ARRAYS = (_VERSION_3, ".zarray")


class OmeGroup(NamedTuple):
    """What a folder says of itself.

    Attributes
    ----------
    version : str
        Of OME-Zarr; 0.5 and later use version 3 of Zarr.
    described : dict
        OME-Zarr's own attributes: ``multiscales``, ``plate`` and so on.
    attributes : dict
        All attributes.
    """

    version: str
    described: dict[str, Any]
    attributes: dict[str, Any]

    @property
    def scales(self) -> dict[str, Any] | None:
        """The first pyramid, if this is an image."""
        found = self.described.get("multiscales")
        return found[0] if isinstance(found, list) and found else None


def is_zarr(path: ImagePath) -> bool:
    """Whether a folder is a group of Zarr."""
    if isinstance(path, RemotePath):
        return any((path / name).is_file() for name in (_VERSION_3, _VERSION_2))
    # Unlike Path.is_file, never an error, also for names that are too long.
    return any(os.path.isfile(path / name) for name in (_VERSION_3, _VERSION_2))


def read_group(path: ImagePath) -> OmeGroup | None:
    """Read what a folder says of itself; None if it is no group, or damaged."""
    with suppress(OSError, ValueError, AttributeError):
        if (path / _VERSION_3).is_file():
            attributes = _read_json(path / _VERSION_3).get("attributes", {})
            described = attributes.get("ome", {})
            version = str(described.get("version", "0.5"))
            return OmeGroup(version, described, attributes)
        if (path / _VERSION_2).is_file():
            attributes = {}
            if (path / ".zattrs").is_file():
                attributes = _read_json(path / ".zattrs")
            return OmeGroup("0.4", attributes, attributes)
    return None


def open_ome_zarr(path: ImagePath, series: int) -> Stack:
    """Open an image without reading it.

    Parameters
    ----------
    path : Path or RemotePath
        A folder that is a group of Zarr.
    series : int
        Which image, where the folder holds several (as bioformats2raw writes them).

    Raises
    ------
    FileError
        If it is no image.
    """
    group = read_group(path)
    image, count = path, 1
    if group is not None and "bioformats2raw.layout" in group.described:
        images = _numbered(path)
        count = len(images)
        check_series(path, series, count)
        image = images[series]
        group = read_group(image)
    else:
        check_series(path, series, 1)
    if group is None or group.scales is None:
        raise FileError(
            f"{path} is a Zarr folder that does not describe an image as OME-Zarr does."
        )
    levels = [str(level["path"]) for level in group.scales["datasets"]]
    stack = _level(path, image / levels[0], group.scales, count)
    # Opening a level costs a request, so the coarser ones are opened in need only.
    longest = max(
        n for n, axis in zip(stack.shape, stack.axes, strict=True) if axis in "YX"
    )
    steps = int(np.log2(max(longest / FRAME, 1)))
    if steps and len(levels) > 1:
        coarse = image / levels[min(steps, len(levels) - 1)]
        stack = replace(stack, coarse=_level(path, coarse, group.scales, count))
    return stack


def _level(
    path: ImagePath, level: ImagePath, scales: dict[str, Any], count: int
) -> Stack:
    """Open one level of a pyramid."""
    import zarr

    if not any((level / name).is_file() for name in _ARRAYS):
        raise FileError(f"{path} is incomplete: its level {level.name} is missing.")
    array: Any = zarr.open_array(store_of(level), mode="r")
    shape = tuple(int(n) for n in array.shape)

    def read(index: Index) -> npt.NDArray[Any]:
        pixels = np.asarray(array[slices(index)])
        # Zarr takes a chunk that is not there for an empty one, so all is empty once the array is
        # gone.
        if not any((level / name).is_file() for name in _ARRAYS):
            raise FileError(f"{path} vanished while it was read.")
        return pixels

    def absent() -> tuple[int, int]:
        return int(array.nchunks - array.nchunks_initialized), int(array.nchunks)

    return Stack(
        _axes(scales, len(shape)),
        shape,
        read,
        path,
        count,
        tuple(int(n) for n in array.chunks),
        absent=None if isinstance(path, RemotePath) else absent,  # which list no files
    )


def fields_of_plate(path: ImagePath) -> list[ImagePath]:
    """Return the folders of all fields of a plate, by rows, columns and fields.

    It is empty if the folder is not a plate. Fields that are listed but not there are left out.
    """
    group = read_group(path)
    if group is None or "plate" not in group.described:
        return []
    fields: list[ImagePath] = []
    for well in group.described["plate"].get("wells", []):
        folder = path / str(well["path"])
        described = read_group(folder)
        if described is not None:
            listed = described.described.get("well", {}).get("images", [])
            fields += [folder / str(image["path"]) for image in listed]
    return [field for field in fields if is_zarr(field)]


def field_name(path: ImagePath) -> str | None:
    """Return a name such as ``PLATE_A01_0`` for the field of a plate; None for other folders."""
    if not is_zarr(path) or len(path.parents) < 3:
        return None
    column, row, plate = path.parents[0], path.parents[1], path.parents[2]
    group = read_group(plate)
    if group is None or "plate" not in group.described:
        return None
    place = column.name.zfill(2) if column.name.isdigit() else column.name
    return f"{stem_of_zarr(plate)}_{row.name}{place}_{path.name}"


def stem_of_zarr(path: ImagePath) -> str:
    """Return the name of a folder without ``.zarr`` and ``.ome``."""
    stem = path.name
    for suffix in (".zarr", ".ome"):
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
    return stem


def _axes(scales: dict[str, Any], count: int) -> str:
    """Return a letter for each axis; before 0.3 they are always the last of tczyx."""
    named = scales.get("axes")
    if not named:
        return "TCZYX"[-count:]
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in named]
    letters = [str(name).upper() if len(str(name)) == 1 else "Q" for name in names]
    return "".join(one if one in "TCZYX" else UNKNOWN_AXES[0] for one in letters)


def _numbered(path: ImagePath) -> list[ImagePath]:
    if isinstance(path, RemotePath):  # servers do not list their folders
        images: list[ImagePath] = []
        while is_zarr(path / str(len(images))):
            images.append(path / str(len(images)))
        return images
    folders = [folder for folder in path.iterdir() if folder.name.isdigit()]
    return sorted(folders, key=lambda folder: int(folder.name))


def _read_json(path: ImagePath) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found
