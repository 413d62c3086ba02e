"""Labels as OME-Zarr: a pyramid in chunks, of which viewers read what they show.

Version 0.5 (Zarr 3) keeps many chunks in one file, a shard. Version 0.4 is written into images of
that version only, since a group cannot hold both.
"""

from __future__ import annotations

import json
import os
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

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
    axes_names, shape = [*names, "y", "x"], (*counts, *planes[0].shape)
    levels = _halves(shape)
    if image is not None and group is not None and group.scales is not None:
        levels = _levels_of(image, group.scales, axes_names, shape)
    try:
        # A folder that is there was judged before: labels of this command, of other settings.
        with unfinished(path, is_whole=lambda _: False) as temporary:
            _write_levels(
                temporary, planes, counts, axes_names, levels, version == "0.4"
            )
            described = _described(
                path.name, axes_names, levels, version, image is not None
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


class _Level(NamedTuple):
    """One level of a pyramid of labels.

    Attributes
    ----------
    shape : tuple of int
        Lengths of all axes.
    steps : tuple of int
        Of so many pixels of the finest level along each axis, the first is taken.
    transforms : list of dict
        OME-Zarr's ``coordinateTransformations``.
    """

    shape: tuple[int, ...]
    steps: tuple[int, ...]
    transforms: list[dict[str, Any]]


def _halves(shape: tuple[int, ...]) -> list[_Level]:
    """Return levels of half the size, up to a chunk, for labels that lie beside their image."""
    levels: list[_Level] = []
    lead, plane = shape[:-2], shape[-2:]
    while not levels or max(plane) >> (len(levels) - 1) > _CHUNK:
        step = 2 ** len(levels)
        steps = (*(1 for _ in lead), step, step)
        size = tuple(-(-length // step) for length in plane)
        # The first pixels of all levels have the same centre, so nothing is shifted.
        scale = {"type": "scale", "scale": [float(one) for one in steps]}
        levels.append(_Level((*lead, *size), steps, [scale]))
    return levels


def _levels_of(
    image: Path, scales: dict[str, Any], names: list[str], shape: tuple[int, ...]
) -> list[_Level]:
    """Return levels like those of an image: labels inside have to have as many.

    https://ngff.openmicroscopy.org/0.5, "image-label".
    """
    import zarr

    axes = [
        axis["name"] if isinstance(axis, dict) else axis
        for axis in scales.get("axes", ())
    ]
    places = [axes.index(name) for name in names if name in axes]
    if len(places) != len(names):  # of an image without names for its axes
        return _halves(shape)
    levels = []
    for dataset in scales["datasets"]:
        array: Any = zarr.open_array(str(image / str(dataset["path"])), mode="r")
        own = tuple(int(array.shape[place]) for place in places)
        steps = tuple(
            max(1, round(length / less))
            for length, less in zip(shape, own, strict=True)
        )
        transforms = [
            {**each, each["type"]: [each[each["type"]][place] for place in places]}
            for each in dataset.get("coordinateTransformations", [])
            if isinstance(each.get(each.get("type")), list)
        ]
        levels.append(_Level(own, steps, transforms))
    return levels


def _write_levels(
    folder: Path,
    planes: Sequence[npt.NDArray[np.integer[Any]]],
    counts: tuple[int, ...],
    names: list[str],
    levels: Sequence[_Level],
    old: bool,
) -> None:
    """Write a pyramid, a plane at a time, and no part of a shard twice."""
    import zarr

    arrays: list[Any] = []
    for number, level in enumerate(levels):
        lead = (1,) * len(counts)
        sharded = not old and max(level.shape[-2:]) > _CHUNK
        array: Any = zarr.create_array(
            str(folder / str(number)),
            shape=level.shape,
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
        for level, array in zip(levels, arrays, strict=True):
            *skips, down, right = level.steps
            place = [n // step for n, step in zip(index, skips, strict=True)]
            if any(n % step for n, step in zip(index, skips, strict=True)) or any(
                n >= length for n, length in zip(place, level.shape, strict=False)
            ):
                continue
            # Every second pixel, not a mean: labels are names.
            seen = plane[::down, ::right][: level.shape[-2], : level.shape[-1]]
            for y, x in product(*(range(0, length, _SHARD) for length in seen.shape)):
                part = slice(y, y + _SHARD), slice(x, x + _SHARD)
                block = seen[part].astype(np.uint32)
                height, width = block.shape
                array[(*place, slice(y, y + height), slice(x, x + width))] = block


def _described(
    name: str,
    names: list[str],
    levels: Sequence[_Level],
    version: str,
    inside: bool,
) -> dict[str, Any]:
    axes = [
        {"name": axis, "type": "time" if axis == "t" else "space"} for axis in names
    ]
    datasets = [
        {"path": str(number), "coordinateTransformations": level.transforms}
        for number, level in enumerate(levels)
    ]
    pyramid = {"name": name, "axes": axes, "datasets": datasets, "type": "nearest"}
    label: dict[str, Any] = {"source": {"image": "../../"}} if inside else {}
    if version == "0.4":
        pyramid["version"] = label["version"] = version
    return {"multiscales": [pyramid], "image-label": label}


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
