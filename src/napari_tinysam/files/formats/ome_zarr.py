"""OME-Zarr folders, versions 0.4 and 0.5: images, and the fields of plates.

https://ngff.openmicroscopy.org/0.4 and /0.5. Level 0 of the pyramid is read.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
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

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

#: The folder of an image that holds its labels.
LABELS = "labels"

_VERSION_3, _VERSION_2 = "zarr.json", ".zgroup"


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


def is_zarr(path: Path) -> bool:
    """Whether a folder is a group of Zarr."""
    # Unlike Path.is_file, never an error, also for names that are too long.
    return any(os.path.isfile(path / name) for name in (_VERSION_3, _VERSION_2))


def read_group(path: Path) -> OmeGroup | None:
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


def open_ome_zarr(path: Path, series: int) -> Stack:
    """Open an image without reading it.

    Parameters
    ----------
    path : Path
        A folder that is a group of Zarr.
    series : int
        Which image, where the folder holds several (as bioformats2raw writes them).

    Raises
    ------
    FileError
        If it is no image.
    """
    import zarr

    group = read_group(path)
    images = [path]
    if group is not None and "bioformats2raw.layout" in group.described:
        images = _numbered(path)
        check_series(path, series, len(images))
        group = read_group(images[series])
    else:
        check_series(path, series, 1)
    if group is None or group.scales is None:
        raise FileError(
            f"{path} is a Zarr folder that does not describe an image as OME-Zarr does."
        )
    level = images[series] / str(group.scales["datasets"][0]["path"])
    if not level.is_dir():
        raise FileError(f"{path} is incomplete: its level {level.name} is missing.")
    array = zarr.open_array(str(level), mode="r")
    shape = tuple(int(n) for n in array.shape)
    axes = _axes(group.scales, len(shape))

    def read(index: Index) -> npt.NDArray[Any]:
        return np.asarray(array[slices(index)])

    return Stack(axes, shape, read, path, len(images))


def fields_of_plate(path: Path) -> list[Path]:
    """Return the folders of all fields of a plate, by rows, columns and fields.

    It is empty if the folder is not a plate. Fields that are listed but not there are left out.
    """
    group = read_group(path)
    if group is None or "plate" not in group.described:
        return []
    fields = []
    for well in group.described["plate"].get("wells", []):
        folder = path / str(well["path"])
        described = read_group(folder)
        if described is not None:
            listed = described.described.get("well", {}).get("images", [])
            fields += [folder / str(image["path"]) for image in listed]
    return [field for field in fields if is_zarr(field)]


def field_name(path: Path) -> str | None:
    """Return a name such as ``PLATE_A01_0`` for the field of a plate; None for other folders."""
    if not is_zarr(path) or len(path.parents) < 3:
        return None
    column, row, plate = path.parents[:3]
    group = read_group(plate)
    if group is None or "plate" not in group.described:
        return None
    place = column.name.zfill(2) if column.name.isdigit() else column.name
    return f"{stem_of_zarr(plate)}_{row.name}{place}_{path.name}"


def stem_of_zarr(path: Path) -> str:
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


def _numbered(path: Path) -> list[Path]:
    images = [folder for folder in path.iterdir() if folder.name.isdigit()]
    return sorted(images, key=lambda folder: int(folder.name))


def _read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found
