"""Read single planes of image files.

The axes that a file names distinguish channels and colours from depth and time. Only the requested
plane is read, not its stack.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError, SelectionError
from napari_tinysam.files.formats import open_stack
from napari_tinysam.files.formats.stack import (
    UNKNOWN_AXES,
    explained_reading,
    too_large,
)
from napari_tinysam.files.lazy_pixels import LazyPixels, plane_last
from napari_tinysam.files.quiet import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_tinysam.files.formats.stack import Stack
    from napari_tinysam.files.remote import ImagePath


@dataclass(frozen=True, eq=False)
class FilePlane:
    """One plane of an image file, as `Predictor.encode` takes it.

    Parameters
    ----------
    pixels : numpy.ndarray, or LazyPixels of a plane that was opened
        (Y, X) or (Y, X, C), of the file's dtype.
    channel : int, list of int or None
        For `to_rgb`: None shows three or four channels as colours.
    notes : tuple of str
        Sentences for the user about choices among several planes or channels.
    coarse : LazyPixels, optional
        The same plane with fewer pixels, if the file has a pyramid and the pixels are lazy.
    """

    pixels: Any
    channel: int | list[int] | None
    notes: tuple[str, ...] = ()
    coarse: LazyPixels | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `to_rgb` for these pixels."""
        if self.pixels.ndim == 2:
            return {}
        return {"channel": self.channel, "channel_axis": 2}


def read_plane(
    path: Path,
    *,
    channel: Sequence[int] | None = None,
    plane: Sequence[int] | None = None,
    series: int | None = None,
) -> FilePlane:
    """Read one plane of a TIFF, OME-TIFF, OME-Zarr, NPY, PNG, JPEG or another picture file.

    Parameters
    ----------
    path : Path
        The file.
    channel : sequence of int, optional
        One channel, or two or three for red, green and blue. If left out, colours are read as
        colours, and of other files the first channel.
    plane : sequence of int, optional
        One index for each axis of a stack (time, depth, …), in the file's order. The first plane
        if left out. Counting starts at 0.
    series : int, optional
        Which image of a file that holds several; the first if left out.

    Raises
    ------
    FileError
        If the file is missing, broken, too large or not an image.
    SelectionError
        If it has no such channel or plane.
    """
    stack = open_stack(path, series or 0)
    found = _select(stack, channel, plane)
    notes = _series_note(stack) if series is None else ()
    return replace(found, notes=(*notes, *found.notes))


@dataclass(frozen=True, eq=False)
class PlaneSeries:
    """All planes of an image file, read one at a time.

    Parameters
    ----------
    stack : Stack
    channel : sequence of int or None
        As in `read_plane`.
    axes : str
        Letters of the axes that planes are counted along; empty for a single plane.
    counts : tuple of int
        Lengths of these axes.
    notes : tuple of str
        As of `FilePlane`, about the file as a whole.
    """

    stack: Stack
    channel: Sequence[int] | None
    axes: str
    counts: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def indices(self) -> list[tuple[int, ...]]:
        """The index of each plane, in the file's order."""
        return [tuple(int(n) for n in index) for index in np.ndindex(*self.counts)]

    def read(self, index: Sequence[int]) -> FilePlane:
        """Read one plane; raises the errors of `read_plane`."""
        return _select(self.stack, self.channel, index if self.counts else None)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the planes; (0, 0) if there is no Y or X."""
        height, width = (
            self.stack.shape[self.stack.axes.index(axis)]
            if axis in self.stack.axes
            else 0
            for axis in "YX"
        )
        return height, width

    @property
    def absent_note(self) -> tuple[str, ...]:
        """A sentence about chunks that are not stored: they may be empty, or lost."""
        if self.stack.absent is None:
            return ()
        with explained_reading(self.stack.path):
            absent, count = self.stack.absent()
        if not absent:
            return ()
        lacking = "is not stored and is" if absent == 1 else "are not stored and are"
        return (
            f"{absent} of {count} chunks of {self.stack.path.name} {lacking} taken as empty.",
        )

    def open(self, index: Sequence[int]) -> FilePlane:
        """Open one plane, of which parts are read when they are asked for.

        It is read at once if the file cannot be read in parts. Raises the errors of `read_plane`,
        the pixels those of `Stack.read`.
        """
        chosen = index if self.counts else None
        if self.stack.chunks is None:
            return _select(self.stack, self.channel, chosen)
        plane = _select(self.stack, self.channel, chosen, lazy=True)
        if self.stack.coarse is None:
            return plane
        coarse = _select(self.stack.coarse, self.channel, chosen, lazy=True).pixels
        return replace(plane, coarse=coarse)


def open_planes(
    path: ImagePath, channel: Sequence[int] | None = None, series: int | None = None
) -> PlaneSeries:
    """Open an image file, plane by plane.

    Parameters
    ----------
    path : Path or RemotePath
    channel : sequence of int, optional
        As in `read_plane`.
    series : int, optional
        As in `read_plane`.

    Raises
    ------
    FileError
        If the file is missing, broken or not an image.
    """
    stack = open_stack(path, series or 0)
    channels = _channel_axis(stack.axes, channel, None)
    own = [
        i for i, axis in enumerate(stack.axes) if axis not in "YXS" and i != channels
    ]
    axes = "".join(stack.axes[i] for i in own)
    counts = tuple(stack.shape[i] for i in own)
    notes = _series_note(stack) if series is None else ()
    return PlaneSeries(stack, channel, axes, counts, notes)


def _series_note(stack: Stack) -> tuple[str, ...]:
    if stack.images < 2:
        return ()
    return (
        f"{stack.path.name} holds {stack.images} images; the first is used, --series chooses "
        "another.",
    )


def _select(
    stack: Stack,
    channel: Sequence[int] | None,
    plane: Sequence[int] | None,
    *,
    lazy: bool = False,
) -> FilePlane:
    """Read the requested plane, or the first; the notes say which."""
    axes, shape, name = stack.axes, stack.shape, stack.path.name
    if "Y" not in axes or "X" not in axes or 0 in shape:
        raise FileError(
            f"{stack.path} is not an image: the shape of its data is {shape}."
        )
    if not lazy and shape[axes.index("Y")] * shape[axes.index("X")] > MAX_PIXELS:
        raise too_large(stack.path)
    channel_axis = _channel_axis(axes, channel, plane)
    plane_axes = [i for i, a in enumerate(axes) if a not in "YXS" and i != channel_axis]
    notes: list[str] = []
    index: list[int | slice | None] = [None] * len(axes)
    counts = [shape[i] for i in plane_axes]
    for i, value in zip(plane_axes, _plane_index(name, counts, plane), strict=True):
        index[i] = value
    if plane is None and max(counts, default=1) > 1:
        notes.append(_plane_note(name, [axes[i] for i in plane_axes], counts))
    if channel_axis is None:
        samples = shape[axes.index("S")] if "S" in axes else 0
        pixels = LazyPixels(stack, index) if lazy else _plane_last(stack, index)
        if pixels.ndim == 3 and samples not in (3, 4) and channel is None:
            notes.extend(_channel_note(name, samples))
        return FilePlane(pixels, _sample(name, samples, channel), tuple(notes))
    if channel is None:
        notes.extend(_channel_note(name, shape[channel_axis]))
    return _read_channels(stack, index, channel_axis, channel, notes, lazy=lazy)


def _read_channels(
    stack: Stack,
    index: list[int | slice | None],
    axis: int,
    channel: Sequence[int] | None,
    notes: list[str],
    *,
    lazy: bool,
) -> FilePlane:
    """Read channels from their own axis."""
    chosen, name = list(channel or [0]), stack.path.name
    _check_channels(name, chosen, stack.shape[axis])
    shown = None if len(chosen) == 1 else list(range(len(chosen)))
    if lazy:
        if shown and "S" in stack.axes:
            raise SelectionError(f"The channels of {name} have colours; choose one.")
        return FilePlane(LazyPixels(stack, index, axis, chosen), shown, tuple(notes))
    planes = []
    for number in chosen:
        index[axis] = number
        planes.append(_plane_last(stack, index))
    if len(planes) == 1:
        return FilePlane(planes[0], shown, tuple(notes))
    if planes[0].ndim == 3:
        raise SelectionError(f"The channels of {name} have colours; choose one.")
    return FilePlane(np.stack(planes, axis=-1), shown, tuple(notes))


def _plane_last(stack: Stack, index: list[int | slice | None]) -> npt.NDArray[Any]:
    """Read (Y, X) or (Y, X, S) from any order of axes."""
    return plane_last(stack, stack.read(tuple(index)))


def _channel_axis(
    axes: str, channel: Sequence[int] | None, plane: Sequence[int] | None
) -> int | None:
    """Return the axis that `channel` indexes; None for the samples of each pixel."""
    if "C" in axes:
        return axes.index("C")
    unknown = [i for i, axis in enumerate(axes) if axis in UNKNOWN_AXES]
    if channel is None or not unknown or (plane is not None and len(unknown) == 1):
        return None
    return None if "S" in axes else unknown[-1]


def _plane_index(
    name: str, counts: list[int], plane: Sequence[int] | None
) -> list[int]:
    if plane is None:
        return [0] * len(counts)
    if not counts:
        raise SelectionError(f"{name} has a single plane; leave the plane out.")
    if len(plane) != len(counts):
        raise SelectionError(
            f"The stack {name} has {_sizes(counts)} planes: the plane needs "
            f"{len(counts)} {'number' if len(counts) == 1 else 'numbers'}, not "
            f"{len(plane)}."
        )
    for value, count in zip(plane, counts, strict=True):
        if not 0 <= value < count:
            raise SelectionError(
                f"Plane {','.join(map(str, plane))} is not in {name}, which has "
                f"{_sizes(counts)} planes; counting starts at 0."
            )
    return list(plane)


def _sizes(counts: list[int]) -> str:
    return " × ".join(map(str, counts))


def _plane_note(name: str, letters: list[str], counts: list[int]) -> str:
    zeros = ",".join("0" for _ in counts)
    axes = "".join(letters)
    named = "" if set(axes) <= set(UNKNOWN_AXES) else f" (axes {axes})"
    return (
        f"{name} is a stack of {_sizes(counts)} planes{named}; plane {zeros} is used, "
        "--plane chooses another."
    )


def _channel_note(name: str, count: int) -> list[str]:
    if count < 2:
        return []
    return [
        f"{name} has {count} channels; channel 0 is used, --channel chooses another."
    ]


def _sample(
    name: str, count: int, channel: Sequence[int] | None
) -> int | list[int] | None:
    """Choose among the samples of each pixel."""
    if channel is None:
        return None
    if count == 0 and list(channel) == [0]:
        return None
    _check_channels(name, channel, count)
    return channel[0] if len(channel) == 1 else list(channel)


def _check_channels(name: str, channel: Sequence[int], count: int) -> None:
    if count == 0:
        raise SelectionError(f"{name} has no channels; leave the channel out.")
    for number in channel:
        if not 0 <= number < count:
            raise SelectionError(
                f"Channel {number} is not in {name}, which has {count} "
                f"{'channel' if count == 1 else 'channels'}; counting starts at 0."
            )
