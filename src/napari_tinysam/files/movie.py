"""Movies: files with an axis of time, or folders with a file for each frame.

Labels of a movie are opened as the movie is. Which axis is time or depth is what the file says;
where it says nothing, or has one axis only, the caller's word counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats.stack import UNKNOWN_AXES
from napari_tinysam.files.planes import PlaneSeries, open_planes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_tinysam.files.remote import ImagePath

_NUMBERS = re.compile(r"(\d+)")

_WORDS = {"z": "depth", "t": "time"}


def find_axis(
    name: str, axes: str, letter: Literal["z", "t"]
) -> tuple[int, tuple[str, ...]]:
    """Find the axis of depth or time among those that planes are counted along.

    Parameters
    ----------
    name : str
        Of the file, for the sentences.
    axes : str
        As of `PlaneSeries`.
    letter : "z" or "t"

    Returns
    -------
    axis : int
    notes : tuple of str
        What was taken for it, if the file calls it otherwise.

    Raises
    ------
    FileError
        If there is none.
    """
    wanted = letter.upper()
    if wanted in axes:
        return axes.index(wanted), ()
    unknown = [i for i, axis in enumerate(axes) if axis in UNKNOWN_AXES]
    if unknown and (len(unknown) > 1 or len(axes) == 1 or "TZ".strip(wanted) in axes):
        return unknown[0 if letter == "t" else -1], ()
    if len(axes) == 1:
        note = f"{name} calls its axis {axes}; it is taken as {_WORDS[letter]}."
        return 0, (note,)
    said = f"its axes are {axes}YX" if axes else "it is a single plane"
    raise FileError(f"{name} has no axis of {_WORDS[letter]}: {said}.")


@dataclass(frozen=True, eq=False)
class Movie:
    """Frames that are read when they are asked for.

    Attributes
    ----------
    path : Path or RemotePath
    parts : list of list of (PlaneSeries, index)
        The planes of each frame: one, or those of a volume.
    deep : bool
        Whether frames are volumes.
    size : (int, int)
        Height and width.
    notes : tuple of str
    """

    path: ImagePath
    parts: list[list[tuple[PlaneSeries, tuple[int, ...]]]]
    deep: bool
    size: tuple[int, int]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W), or (T, Z, H, W)."""
        depth = (len(self.parts[0]),) if self.deep else ()
        return len(self), *depth, *self.size

    def frame(self, number: int) -> npt.NDArray[Any]:
        """Read a frame, (H, W) or (Z, H, W), and (…, C) with several channels."""
        planes = [series.read(index).pixels for series, index in self.parts[number]]
        return np.stack(planes) if self.deep else np.asarray(planes[0])

    def labels(self, number: int) -> npt.NDArray[np.int64]:
        """Read a frame of labels, (H, W) or (Z, H, W).

        Raises
        ------
        FileError
            If they are no whole numbers from 0.
        """
        found = self.frame(number)
        where = f"{self.path}, frame {number},"
        if found.shape != self.shape[1:]:
            raise FileError(f"{where} holds no labels: it has channels.")
        whole = found.dtype.kind in "iub" or (
            found.dtype.kind == "f"  # as ImageJ writes them
            and bool(np.isfinite(found).all() and (found == np.rint(found)).all())
        )
        if not whole or (found.size and found.min() < 0):
            raise FileError(f"{where} holds no labels: they are whole numbers from 0.")
        return found.astype(np.int64)

    def some(self, first: int, last: int) -> Movie:
        """Return the frames from the first to the last, both inclusive.

        Raises
        ------
        FileError
            If there are none.
        """
        if not 0 <= first <= last < len(self):
            raise FileError(
                f"{self.path} has the frames 0 to {len(self) - 1}; {first} to {last} is no range "
                "of them."
            )
        parts = self.parts[first : last + 1]
        return Movie(self.path, parts, self.deep, self.size, self.notes)


def open_movie(
    path: ImagePath,
    frames: Sequence[ImagePath] = (),
    channel: Sequence[int] | None = None,
    series: int | None = None,
) -> Movie:
    """Open a movie.

    Parameters
    ----------
    path : Path or RemotePath
        A file, or a folder, for the sentences.
    frames : sequence of Path, optional
        The files of the frames, in their order, if there are several.
    channel, series
        As of `open_planes`.

    Raises
    ------
    FileError
        If there are fewer than two frames, or they differ in size.
    """
    if len(frames) > 1:
        return _of_files(path, frames, channel, series)
    planes = open_planes(frames[0] if frames else path, channel, series)
    if not planes.axes:
        raise FileError(f"{path} is a single plane; a movie has several frames.")
    time, notes = find_axis(planes.stack.path.name, planes.axes, "t")
    rest = [axis for axis in range(len(planes.axes)) if axis != time]
    if len(rest) > 1:
        raise FileError(
            f"{path} has the axes {planes.axes}YX; a movie has time, depth, Y and X at most."
        )
    if planes.counts[time] < 2:
        raise FileError(f"{path} has one frame; a movie has several.")
    depths = planes.counts[rest[0]] if rest else 1
    parts = []
    for number in range(planes.counts[time]):
        frame = []
        for depth in range(depths):
            index = [depth] * len(planes.axes)
            index[time] = number
            frame.append((planes, tuple(index)))
        parts.append(frame)
    return Movie(path, parts, bool(rest), planes.size, (*planes.notes, *notes))


def _of_files(
    path: ImagePath,
    frames: Sequence[ImagePath],
    channel: Sequence[int] | None,
    series: int | None,
) -> Movie:
    _check_numbers(path, [file.name for file in frames])
    parts: list[list[tuple[PlaneSeries, tuple[int, ...]]]] = []
    first: PlaneSeries | None = None
    for file in frames:
        planes = open_planes(file, channel, series)
        if len(planes.axes) > 1:
            raise FileError(
                f"{file} has the axes {planes.axes}YX; the frame of a movie has depth, Y and X at "
                "most."
            )
        first = first or planes
        one, other = ((*p.counts, *p.size) for p in (planes, first))
        if one != other:
            sizes = [" × ".join(map(str, size)) for size in (one, other)]
            raise FileError(
                f"Frames of one size are needed: {file} is {sizes[0]}, "
                f"{first.stack.path.name} {sizes[1]}."
            )
        parts.append([(planes, index) for index in planes.indices])
    assert first is not None
    return Movie(path, parts, bool(first.axes), first.size, first.notes)


def _check_numbers(path: ImagePath, names: Sequence[str]) -> None:
    """Refuse a folder in which a frame is missing; every second or tenth one is a movie, too."""
    parts = [_NUMBERS.split(name) for name in names]  # text, number, text, …
    if len({tuple(each[::2]) for each in parts}) != 1:
        return
    columns = list(zip(*(each[1::2] for each in parts), strict=True))
    vary = [column for column in columns if len(set(column)) > 1]
    if len(vary) != 1:
        return
    numbers = np.array([int(number) for number in vary[0]])
    steps = np.diff(numbers)
    if (steps < 1).any():
        raise FileError(
            f"{path}: its names, sorted, do not count up: {names[int((steps < 1).argmax())]} comes "
            "before a smaller number. Give all numbers as many digits."
        )
    if (steps != steps.min()).any():
        at = int((steps != steps.min()).argmax())
        raise FileError(
            f"{path}: a frame is missing between {names[at]} and {names[at + 1]}."
        )
