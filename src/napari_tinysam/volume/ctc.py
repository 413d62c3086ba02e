"""Folders of the Cell Tracking Challenge: labelled frames, and a text that says who is who.

Each line of the text is one track: label, first frame, last frame, parent (0 for none). A track has
no gaps there: an object that is away for some frames goes on as another track, whose parent is the
part before (celltrackingchallenge.net, "Annotation and Result Format").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError, FileError, sentence
from napari_tinysam.files.atomic import filling, write_text
from napari_tinysam.volume.lineage import Track, check_lineage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

#: Names of the text: of results, and of annotations.
_TEXTS = ("res_track.txt", "man_track.txt")

#: Names of frames: of results, and of annotations.
_FRAME = re.compile(r"(?:mask|man_track)(\d+)\.tif", re.IGNORECASE)

#: The files have 16 bits.
_MOST = 65_535


@dataclass(frozen=True, eq=False)
class TrackedFrames:
    """A movie of labels with its tracks.

    Attributes
    ----------
    paths : tuple of Path
        One file a frame.
    tracks : tuple of Track
    notes : tuple of str
        What was not as it should be, a sentence each.
    """

    paths: tuple[Path, ...]
    tracks: tuple[Track, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.paths)

    def frame(self, number: int) -> npt.NDArray[np.integer[Any]]:
        """Read a frame, (H, W) or (Z, H, W); raises `FileError`."""
        return _read(self.paths[number])


def write_ctc(
    folder: Path,
    frames: Iterable[npt.NDArray[np.integer[Any]]],
    tracks: Sequence[Track],
    *,
    progress: Callable[[int], None] | None = None,
) -> dict[int, list[int]]:
    """Write a result folder: ``mask000.tif`` … and ``res_track.txt``.

    Parameters
    ----------
    folder : Path
        Is made. Files of these names in it are replaced, all at once when all are written.
    frames : iterable of ndarray of int, (H, W) or (Z, H, W)
        Read one after the other. Labels that are in no track are left out.
    tracks : sequence of Track
    progress : callable, optional
        Called with the frames written.

    Returns
    -------
    dict of int to list of int
        The labels in the files of each object, one for each part without gaps.

    Raises
    ------
    DataError
        If the lineage contradicts itself, or there are more than 65,535 parts.
    FileError
        If the folder cannot be written.
    """
    import tifffile

    check_lineage(tracks)
    rows, names = _rows(tracks)
    if len(rows) > _MOST:
        raise DataError(
            f"The format holds {_MOST:,} tracks at most; these are {len(rows):,}."
        )
    # By frame, which label each object has.
    at: dict[int, list[tuple[int, int]]] = {}
    for track in tracks:
        runs = track.runs()
        for (first, last), label in zip(runs, names[track.label], strict=True):
            for frame in range(first, last + 1):
                at.setdefault(frame, []).append((track.label, label))
    with filling(folder) as made:
        written = 0
        for number, labels in enumerate(frames):
            renamed = _renamed(labels, at.get(number, []))
            tifffile.imwrite(
                made / f"mask{number:03d}.tif",
                renamed,
                compression="zlib",
                photometric="minisblack",  # three planes are no colours
            )
            written = number + 1
            if progress is not None:
                progress(written)
        text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        write_text(made / _TEXTS[0], text)
        latest = max((track.last for track in tracks), default=-1)
        if latest >= written:
            raise DataError(
                f"A track goes on to frame {latest}, and there are {written} frames."
            )
    return names


def read_ctc(folder: Path) -> TrackedFrames:
    """Read a folder of results or annotations.

    Parameters
    ----------
    folder : Path
        With ``maskNNN.tif`` and ``res_track.txt``, or ``man_trackNNN.tif`` and ``man_track.txt``.

    Returns
    -------
    TrackedFrames
        Tracks as the frames show them. Objects that the text does not know have no parent; tracks
        that no frame shows are left out; both are said in the notes.

    Raises
    ------
    FileError
        If there are no such files, a frame is missing or cannot be read, frames differ in size, or
        the text cannot be understood.
    """
    paths = _frames(folder)
    said = _text(folder)
    shown: dict[int, list[int]] = {}
    shape = None
    for number, path in enumerate(paths):
        labels = _read(path)
        if shape is not None and labels.shape != shape:
            raise FileError(
                f"{path.name} has another size than the frames before: "
                f"{_size(labels.shape)}, not {_size(shape)}."
            )
        shape = labels.shape
        for label in np.unique(labels).tolist():
            if label:
                shown.setdefault(label, []).append(number)
    tracks, notes = [], []
    for label, frames in sorted(shown.items()):
        parent = said.get(label, (0, 0, 0))[2]
        known = parent in shown and shown[parent][-1] < frames[0]
        tracks.append(Track(label, tuple(frames), parent if known else 0))
        if parent and not known:
            notes.append(
                f"Object {label} cannot descend from {parent}; it has no parent here."
            )
    unknown = sorted(shown.keys() - said.keys())
    if unknown:
        notes.append(f"The text does not know {_some(unknown)}.")
    absent = sorted(said.keys() - shown.keys())
    if absent:
        notes.append(f"No frame shows {_some(absent)}.")
    return TrackedFrames(tuple(paths), tuple(tracks), tuple(notes))


def frames_of(folder: Path) -> list[Path]:
    """List the frames of a folder of the challenge, without reading them; none of another one.

    Raises
    ------
    FileError
        If a frame is missing.
    """
    if not any((folder / name).is_file() for name in _TEXTS):
        return []
    return _frames(folder)


def _rows(
    tracks: Sequence[Track],
) -> tuple[list[tuple[int, int, int, int]], dict[int, list[int]]]:
    """Make the lines of the text, and the labels of each object's parts."""
    taken = {track.label for track in tracks}
    fits = all(0 < label <= _MOST for label in taken)
    names: dict[int, list[int]] = {}
    free = 0
    for track in tracks:
        own = []
        for number in range(len(track.runs())):
            if number == 0 and fits:
                own.append(track.label)
                continue
            free += 1
            while fits and free in taken:
                free += 1
            own.append(free)
        names[track.label] = own
    rows = []
    for track in tracks:
        parent = names[track.parent][-1] if track.parent else 0
        for (first, last), label in zip(track.runs(), names[track.label], strict=True):
            rows.append((label, first, last, parent))
            parent = label
    return sorted(rows), names


def _renamed(
    labels: npt.NDArray[np.integer[Any]], names: Sequence[tuple[int, int]]
) -> npt.NDArray[np.uint16]:
    ids, inverse = np.unique(labels, return_inverse=True)
    table = np.zeros(len(ids), np.uint16)
    for label, name in names:
        table[ids == label] = name
    return np.asarray(table[inverse].reshape(labels.shape))


def _frames(folder: Path) -> list[Path]:
    try:
        found = {
            int(match.group(1)): path
            for path in sorted(folder.iterdir())
            if (match := _FRAME.fullmatch(path.name))
        }
    except OSError as error:
        raise FileError(sentence(error, f"{folder} cannot be read")) from error
    if not found:
        raise FileError(
            f"{folder} holds no frames of the Cell Tracking Challenge: no mask000.tif or "
            "man_track000.tif."
        )
    missing = sorted(set(range(max(found) + 1)) - found.keys())
    if missing:
        raise FileError(f"{folder}: frame {missing[0]} is missing.")
    return [found[number] for number in sorted(found)]


def _text(folder: Path) -> dict[int, tuple[int, int, int]]:
    path = next((folder / n for n in _TEXTS if (folder / n).is_file()), None)
    if path is None:
        raise FileError(f"{folder} holds neither {_TEXTS[0]} nor {_TEXTS[1]}.")
    said = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(sentence(error, f"{path} cannot be read")) from error
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            label, first, last, parent = (int(word) for word in words)
        except ValueError:
            raise FileError(
                f"{path.name}, line {number}, is not four whole numbers: {line[:40]!r}."
            ) from None
        said[label] = first, last, parent
    return said


def _read(path: Path) -> npt.NDArray[np.integer[Any]]:
    import tifffile

    try:
        labels = tifffile.imread(path)
    except Exception as error:
        raise FileError(sentence(error, f"{path} cannot be read")) from error
    if labels.dtype.kind not in "iu" or labels.ndim not in (2, 3):
        raise FileError(f"{path} holds no labels: {labels.dtype}, {labels.ndim} axes.")
    return np.asarray(labels)


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _some(labels: Sequence[int]) -> str:
    named = ", ".join(map(str, labels[:5]))
    rest = len(labels) - 5
    return f"object {named}" if rest <= 0 else f"objects {named} and {rest} more"
