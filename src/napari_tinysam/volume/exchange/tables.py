"""Tracks as CSV: a row for each object of each frame.

Written are ``track, parent, t, z, y, x, area, intensity``. Read are these, and what scripts write
of a napari tracks layer: its data as they are (track, t, [z,] y, x without a header), or with a
header of the usual names; and tables of single objects (id, parent_id) as napari's tracking plugins
write them.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.errors import DataError, FileError, sentence
from napari_tinysam.files.atomic import write_text
from napari_tinysam.volume.exchange.points import TrackPoints, points_of_graph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: The columns that are written.
COLUMNS = ("track", "parent", "t", "z", "y", "x", "area", "intensity")

#: Other names of columns, in small letters.
_NAMES = {
    "track": ("track", "track_id", "trackid", "id", "label", "tracklet", "axis-0"),
    "parent": ("parent", "parent_track_id", "parent_id", "parent_track"),
    "t": ("t", "frame", "time", "axis-1"),
    "z": ("z", "axis-z"),
    "y": ("y", "axis-y"),
    "x": ("x", "axis-x"),
}


def write_csv(path: Path, points: TrackPoints) -> None:
    """Write a table of tracks; cells are empty for what is not known (z of planar movies).

    Raises
    ------
    FileError
        If it cannot be written.
    """
    write_text(path, csv_text(points))


def csv_text(points: TrackPoints) -> str:
    """Return the table as text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    blank = [""] * len(points)
    places = {
        axis: [f"{value:.6g}" for value in points.centre[:, number]]
        for number, axis in enumerate(points.axes)
    }
    area = blank if points.area is None else [f"{a:.0f}" for a in points.area]
    intensity = (
        blank
        if points.intensity is None
        else ["" if np.isnan(i) else f"{i:.6g}" for i in points.intensity]
    )
    writer.writerows(
        zip(
            points.track.tolist(),
            [points.parents.get(track, 0) for track in points.track.tolist()],
            points.frame.tolist(),
            places.get("z", blank),
            places["y"],
            places["x"],
            area,
            intensity,
            strict=True,
        )
    )
    return text.getvalue()


def read_csv(path: Path) -> TrackPoints:
    """Read a table of tracks.

    Parameters
    ----------
    path : Path
        Columns of track, t, y and x, and of z and parent if there are; or, without a header, the
        four or five columns of a napari tracks layer. Commas, semicolons and tabs separate.

    Raises
    ------
    FileError
        If it cannot be read, or a row is not what it should be; names the line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(sentence(error, f"{path} cannot be read")) from error
    lines = text.splitlines()
    first = lines[0] if lines else ""
    separator = next((mark for mark in (",", ";", "\t") if mark in first), None)
    # numpy's savetxt puts blanks between the columns.
    rows = (
        [line.split() for line in lines]
        if separator is None
        else list(csv.reader(lines, delimiter=separator))
    )
    if not rows:
        raise FileError(f"{path} is empty.")
    columns, skipped = _columns(path, rows[0])
    try:
        return _points(path, rows, columns, skipped)
    except DataError as error:
        raise FileError(f"{path}: {error}") from error


def _columns(path: Path, header: Sequence[str]) -> tuple[dict[str, int], int]:
    """Where each column is, and how many lines of header there are."""
    if _is_number(header[0]):
        if len(header) not in (4, 5):
            raise FileError(
                f"{path} has {len(header)} columns and no header; a tracks layer has four or five."
            )
        names = ["track", "t", *"zyx"[5 - len(header) :]]
        return {name: number for number, name in enumerate(names)}, 0
    given = [cell.strip().strip("#").strip().lower() for cell in header]
    if {"id", "parent_id"} <= set(given):  # single objects, linked to the one before
        given = ["node" if cell == "track_id" else cell for cell in given]
        given[given.index("id")] = "track"
        given[given.index("parent_id")] = "before"
    found = {"before": given.index("before")} if "before" in given else {}
    for name, others in _NAMES.items():
        at = next((given.index(other) for other in others if other in given), None)
        if at is not None:
            found[name] = at
    missing = [name for name in ("track", "t", "y", "x") if name not in found]
    if missing:
        raise FileError(
            f"{path} has no column {' and no column '.join(missing)}; its columns are "
            f"{', '.join(given[:8])}."
        )
    return found, 1


def _points(
    path: Path, rows: Sequence[Sequence[str]], columns: dict[str, int], skipped: int
) -> TrackPoints:
    own, frames, centres, parents = [], [], [], []
    flat = "z" not in columns or not any(
        len(row) > columns["z"] and row[columns["z"]].strip() for row in rows[skipped:]
    )
    axes = "yx" if flat else "zyx"
    back = columns.get("before", columns.get("parent"))
    for line, row in enumerate(rows[skipped:], start=1 + skipped):
        if not any(cell.strip() for cell in row):
            continue
        try:
            own.append(_whole(row[columns["track"]]))
            frames.append(_whole(row[columns["t"]]))
            centres.append([float(row[columns[axis]]) for axis in axes])
            parent = "" if back is None else row[back].strip()
            parents.append(_whole(parent) if parent else -1)
        except (ValueError, IndexError):
            raise FileError(
                f"{path}, line {line}, is not a row of a track: {','.join(row)[:60]!r}."
            ) from None
    places = np.array(centres).reshape(-1, len(axes))
    if "before" not in columns:
        known = {t: p for t, p in zip(own, parents, strict=True) if p > 0}
        return TrackPoints.sorted(own, frames, places, known)
    at = {name: row for row, name in enumerate(own)}
    if len(at) < len(own):
        raise DataError("two objects have the same id.")
    links = [(at.get(p, -1), n) for n, p in enumerate(parents) if p in at or p > 0]
    if any(one < 0 for one, _ in links):
        raise DataError("an object descends from one that is not in the table.")
    return points_of_graph(frames, places, links)


def _whole(text: str) -> int:
    value = float(text)  # numpy's savetxt writes 1.000e+00
    if value != int(value):
        raise ValueError(f"{text} is no whole number.")
    return int(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
