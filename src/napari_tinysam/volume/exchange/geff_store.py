"""Tracks as GEFF, the graph exchange format that napari's tracking plugins share.

A node for each object of each frame, a link to where it is next. Through the package geff, which is
optional (https://liveimagetrackingtools.org/geff).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError, FileError, TinySAMError, sentence
from napari_tinysam.files.atomic import unfinished
from napari_tinysam.volume.exchange.points import TrackPoints, points_of_graph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Names of nodes' properties: time, and places by axis, the most usual first.
_TIMES = ("t", "time", "frame", "POSITION_T", "FRAME")
_PLACES = {
    "z": ("z", "POSITION_Z"),
    "y": ("y", "POSITION_Y"),
    "x": ("x", "POSITION_X"),
}


def write_geff(
    path: Path, points: TrackPoints, scale: Sequence[float] | None = None
) -> None:
    """Write a GEFF folder.

    Parameters
    ----------
    path : Path
        New, or a GEFF, which is replaced as a whole.
    points : TrackPoints
        Nodes have t, [z,] y, x in pixels, track, and area and intensity if known.
    scale : sequence of float, optional
        Side of a pixel along z, y and x, or y and x; written as the scale of the axes.

    Raises
    ------
    TinySAMError
        If the package geff is missing.
    FileError
        If the folder cannot be written, or is not a GEFF.
    """
    geff, core = _library()
    axes = ["t", *points.axes]
    sides: list[float | None] = [None] * len(axes)
    if scale is not None:
        sides[1:] = scale
    # By the specification a tracklet ends where an object divides, and nowhere else: a part of a
    # track that goes on as its only child is none.
    children = Counter(points.parents.values())
    whole = len(points) > 0 and min(children.values(), default=2) > 1
    metadata = geff.GeffMetadata(
        directed=True,
        axes=[
            {
                "name": name,
                "type": "time" if name == "t" else "space",
                "unit": "frame" if name == "t" else "pixel",
                "scale": side,
            }
            for name, side in zip(axes, sides, strict=True)
        ],
        node_props_metadata={},
        edge_props_metadata={},
        track_node_props={"tracklet": "track"} if whole else None,
    )
    columns: dict[str, Any] = {
        "t": points.frame,
        "track": points.track,
        **dict(zip(points.axes, points.centre.T, strict=True)),
    }
    for name in ("area", "intensity"):
        if getattr(points, name) is not None:
            columns[name] = getattr(points, name)
    properties = {
        name: {"values": np.ascontiguousarray(values), "missing": None}
        for name, values in columns.items()
    }
    nodes = np.arange(len(points), dtype=np.uint64)
    edges = points.edges().astype(np.uint64)
    check_geff(path)
    try:
        with unfinished(path, is_whole=lambda _: False) as made:
            core.write_arrays(made, nodes, properties, edges, {}, metadata)
    except (OSError, ValueError) as error:
        raise FileError(sentence(error, f"{path} cannot be written")) from error


def check_geff(path: Path) -> None:
    """Check that a GEFF can be written there.

    Raises
    ------
    TinySAMError
        If the package geff is missing.
    FileError
        If something else is there.
    """
    _library()
    if path.exists() and not _is_geff(path):
        raise FileError(f"{path} is there, and is no GEFF; it is left alone.")


def read_geff(path: Path) -> TrackPoints:
    """Read a GEFF folder.

    Parameters
    ----------
    path : Path
        Its nodes have a time that counts frames, and y and x in pixels.

    Returns
    -------
    TrackPoints
        Tracks are numbered anew: an object goes on as the same track until it divides.

    Raises
    ------
    TinySAMError
        If the package geff is missing.
    FileError
        If it is no GEFF, has no places, or objects in it merge.
    """
    _, core = _library()
    if not _is_geff(path):
        raise FileError(f"{path} is no GEFF folder.")
    try:
        graph = core.read_to_memory(path)
    except Exception as error:  # a damaged store fails in any way at all
        raise FileError(sentence(error, f"{path} cannot be read")) from error
    known = graph["node_props"]
    metadata = graph["metadata"]
    times = [a.name for a in metadata.axes or () if a.type == "time"]
    frames = _property(path, known, [*times, *_TIMES], "time")
    places = [
        _property(path, known, names, axis)
        for axis, names in _places(known, metadata.axes or ()).items()
    ]
    if not np.array_equal(frames, np.rint(frames)):
        raise FileError(f"{path}: times are no numbers of frames.")
    # Links name nodes by their ids, in any order.
    ids = np.asarray(graph["node_ids"], np.int64)
    links = np.asarray(graph["edge_ids"], np.int64).reshape(-1, 2)
    order = np.argsort(ids)
    rows = order[np.searchsorted(ids, links, sorter=order)] if len(links) else links
    if not metadata.directed and len(rows):
        back = frames[rows[:, 0]] > frames[rows[:, 1]]
        rows[back] = rows[back][:, ::-1]
    try:
        return points_of_graph(np.rint(frames), np.column_stack(places), rows)
    except DataError as error:
        raise FileError(f"{path}: {error}") from error


def _places(known: dict[str, Any], axes: Sequence[Any]) -> dict[str, Sequence[str]]:
    """Names of the properties of z, y and x: the usual ones, or those of the axes in order."""
    letters = [axis for axis in "zyx" if any(name in known for name in _PLACES[axis])]
    if "y" in letters and "x" in letters:
        return {axis: _PLACES[axis] for axis in letters}
    spaces = [axis.name for axis in axes if axis.type == "space"]
    if len(spaces) in (2, 3):
        named = zip("zyx"[-len(spaces) :], spaces, strict=True)
        return {axis: [name] for axis, name in named}
    return {axis: _PLACES[axis] for axis in "yx"}


def _property(
    path: Path, known: dict[str, Any], names: Sequence[str], what: str
) -> Any:
    for name in names:
        if name in known:
            missing = known[name]["missing"]
            if missing is not None and np.any(missing):
                raise FileError(f"{path}: some nodes have no {what}.")
            return np.asarray(known[name]["values"], np.float64)
    raise FileError(f"{path}: its nodes have no {what}.")


def _is_geff(path: Path) -> bool:
    for name in ("zarr.json", ".zattrs"):
        try:
            said = json.loads((path / name).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(said, dict) and "geff" in said.get("attributes", said):
            return True
    return False


def _library() -> tuple[Any, Any]:
    try:
        import geff
        from geff import core_io
    except ImportError as error:
        raise TinySAMError(
            "GEFF needs the package geff: pip install 'napari-tinysam[tracks]'."
        ) from error
    return geff, core_io
