"""Labels as OME-Zarr: a pyramid in chunks, of which viewers read what they show.

Version 0.5 (Zarr 3) keeps many chunks in one file, a shard. Version 0.4 is written into images of
that version only, since a group cannot hold both.
"""

from __future__ import annotations

import json
import os
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.files.atomic import unfinished, write_text
from napari_tinysam.files.formats.ome_zarr import LABELS, read_group

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

_CHUNK, _SHARD = 1024, 4096

#: The attribute that says where labels come from.
_NOTE = "napari-tinysam"

#: Chunks that are newer than the folder's description by more seconds were written later.
_TOLERANCE = 2.0


def can_be_ome_zarr(axes: str) -> bool:
    """Whether these axes before Y and X can be written: time and depth, each once, in order."""
    return _names(axes) is not None


def write_label_pyramid(
    path: Path,
    planes: Sequence[npt.NDArray[np.integer[Any]]],
    counts: tuple[int, ...],
    axes: str,
    description: str,
    *,
    image: Path | None = None,
) -> None:
    """Write labels as an OME-Zarr folder.

    Parameters
    ----------
    path : Path
        A folder of this name is replaced.
    planes : sequence of ndarray of int, each (H, W)
    counts : tuple of int
        Lengths of the axes before Y and X.
    axes : str
        Their letters, see `can_be_ome_zarr`.
    description : str
        Kept with the labels.
    image : Path, optional
        The OME-Zarr image that `path` lies in: its version and its pixel size are taken over, and
        it lists the labels.

    Raises
    ------
    FileError
        If the axes do not fit, or writing fails.
    """
    names = _names(axes)
    if names is None:
        raise FileError(
            f"Labels with the axes {axes} cannot be written as OME-Zarr; use --labels tiff."
        )
    group = None if image is None else read_group(image)
    version = "0.5" if group is None else group.version
    scale = [1.0] * (len(counts) + 2)
    if group is not None and group.scales is not None:
        scale = _scale_of(group.scales, [*names, "y", "x"])
    try:
        # A folder that is there was judged before: labels of this command, of other settings.
        with unfinished(path, is_whole=lambda _: False) as temporary:
            levels = _write_levels(
                temporary, planes, counts, [*names, "y", "x"], version == "0.4"
            )
            described = _described(
                path.name, names, scale, levels, version, image is not None
            )
            _write_group(temporary, described, version, {_NOTE: description})
    except OSError as error:
        raise FileError(sentence(error, f"{path} cannot be written")) from error
    if image is not None:
        list_label(image, path.name)


def is_listed(image: Path, name: str) -> bool:
    """Whether an image names labels in its list."""
    known = read_group(image / LABELS)
    return known is not None and name in known.described.get("labels", [])


def list_label(image: Path, name: str) -> None:
    """Name labels in the list of an image, unless they are there; raises `FileError`."""
    if is_listed(image, name):
        return
    group = read_group(image)
    version = "0.5" if group is None else group.version
    folder = image / LABELS
    known = read_group(folder)
    described = {} if known is None else dict(known.described)
    described["labels"] = [*described.get("labels", []), name]
    others = {} if known is None else known.attributes
    _write_group(folder, described, version, others)


def read_label_pyramid(path: Path) -> npt.NDArray[np.integer[Any]]:
    """Read all labels of a folder that `write_label_pyramid` wrote."""
    import zarr

    return np.asarray(zarr.open_array(str(path / "0"), mode="r")[...])


def read_note(path: Path) -> str:
    """Read the description of labels; "" if there is none, or a chunk was changed later."""
    group = read_group(path)
    note = "" if group is None else str(group.attributes.get(_NOTE, ""))
    if not note:
        return ""
    files = [os.path.join(at, name) for at, _, names in os.walk(path) for name in names]
    root = [file for file in files if os.path.dirname(file) == str(path)]
    times = {file: os.stat(file).st_mtime for file in files}
    written = max(times[file] for file in root)
    return "" if max(times.values()) > written + _TOLERANCE else note


def _names(axes: str) -> list[str] | None:
    """Return OME-Zarr's names; an axis without a name is depth."""
    names = ["z" if axis in "QI" else axis.lower() for axis in axes]
    return names if names in ([], ["z"], ["t"], ["t", "z"]) else None


def _write_levels(
    folder: Path,
    planes: Sequence[npt.NDArray[np.integer[Any]]],
    counts: tuple[int, ...],
    names: list[str],
    old: bool,
) -> int:
    """Write the pyramid, each level a half of the one before; returns how many there are.

    One plane is asked for at a time, and no part of a shard is written twice.
    """
    import zarr

    shape = planes[0].shape
    arrays: list[Any] = []
    while not arrays or max(shape) >> (len(arrays) - 1) > _CHUNK:
        level, step = len(arrays), 2 ** len(arrays)
        size = tuple(-(-length // step) for length in shape)
        lead = (1,) * len(counts)
        sharded = not old and max(size) > _CHUNK
        array: Any = zarr.create_array(
            str(folder / str(level)),
            shape=(*counts, *size),
            dtype="uint32",
            chunks=(*lead, _CHUNK, _CHUNK),
            shards=(*lead, _SHARD, _SHARD) if sharded else None,
            zarr_format=2 if old else 3,
            fill_value=0,
            chunk_key_encoding={"name": "v2", "separator": "/"} if old else None,
            dimension_names=None if old else names,
        )
        arrays.append(array)
    for index, plane in zip(np.ndindex(*counts), planes, strict=True):
        for level, array in enumerate(arrays):
            # Every second pixel, not a mean: labels are names.
            seen = plane[:: 2**level, :: 2**level]
            for y, x in product(*(range(0, length, _SHARD) for length in seen.shape)):
                part = slice(y, y + _SHARD), slice(x, x + _SHARD)
                array[(*index, *part)] = seen[part].astype(np.uint32)
    return len(arrays)


def _described(
    name: str,
    names: list[str],
    scale: list[float],
    levels: int,
    version: str,
    inside: bool,
) -> dict[str, Any]:
    axes = [
        {"name": axis, "type": "time" if axis == "t" else "space"}
        for axis in [*names, "y", "x"]
    ]
    datasets = []
    for level in range(levels):
        # The first pixels of all levels have the same centre, so nothing is shifted.
        steps = [*scale[:-2], *(value * 2**level for value in scale[-2:])]
        how = [{"type": "scale", "scale": steps}]
        datasets.append({"path": str(level), "coordinateTransformations": how})
    pyramid = {"name": name, "axes": axes, "datasets": datasets, "type": "nearest"}
    label: dict[str, Any] = {"source": {"image": "../../"}} if inside else {}
    if version == "0.4":
        pyramid["version"] = label["version"] = version
    return {"multiscales": [pyramid], "image-label": label}


def _scale_of(scales: dict[str, Any], names: list[str]) -> list[float]:
    """Return the size of a pixel along these axes of an image."""
    known = [
        axis["name"] if isinstance(axis, dict) else axis
        for axis in scales.get("axes", ())
    ]
    how = scales["datasets"][0].get("coordinateTransformations", [])
    steps: list[float] = next(
        (one["scale"] for one in how if one.get("type") == "scale"), []
    )
    found = dict(zip(known, steps, strict=False))
    return [float(found.get(name, 1.0)) for name in names]


def _write_group(
    folder: Path, described: dict[str, Any], version: str, others: dict[str, Any]
) -> None:
    """Write the description of a group; a reader sees the old one or the new one."""
    folder.mkdir(exist_ok=True)
    if version == "0.4":
        write_text(folder / ".zattrs", json.dumps({**others, **described}, indent=2))
        if not (folder / ".zgroup").exists():
            write_text(folder / ".zgroup", json.dumps({"zarr_format": 2}))
        return
    attributes = {**others, "ome": {"version": version, **described}}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_text(folder / "zarr.json", json.dumps(group, indent=2))
