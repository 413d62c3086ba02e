"""One line of a journal: JSON with a check, that tells whole lines from damaged ones."""

from __future__ import annotations

import json
import math
import re
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import FileError
from napari_tinysam.journal.identity import ImageIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

#: Changes with what is written; a journal of another one is not read.
FORMAT = 1

#: The types that labels can have.
_DTYPE = re.compile(r"^[<|][iub][1248]$")

#: Windows up to this many pixels are compressed harder: they are most of a journal.
_SMALL = 2**18

_CHECK = re.compile(rb',"check":"([0-9a-f]{8})"}$')


class DamagedError(FileError):
    """A part of a journal is damaged, or is no part of a journal."""


@dataclass(frozen=True, eq=False)
class Window:
    """A box of the labels, as it is after an action.

    Parameters
    ----------
    start : tuple of int
        First index on each axis of the labels.
    labels : numpy.ndarray
        With the axes of the labels.
    """

    start: tuple[int, ...]
    labels: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the labels."""
        return self.labels.shape

    def packed(self, dtype: npt.DTypeLike) -> bytes:
        """Return the labels compressed."""
        return packed(self.labels, dtype)


@dataclass(frozen=True, eq=False)
class PackedWindow:
    """A `Window` whose labels stay compressed until they are asked for.

    Parameters
    ----------
    start, shape : tuple of int
    content : bytes
        As `packed` returns it; b"" of background.
    dtype : dtype
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]
    content: bytes
    dtype: npt.DTypeLike

    @classmethod
    def of(cls, start: tuple[int, ...], labels: npt.NDArray[Any]) -> PackedWindow:
        """Compress labels."""
        content = packed(labels, labels.dtype) if labels.any() else b""
        return cls(start, labels.shape, content, labels.dtype)

    @property
    def labels(self) -> npt.NDArray[Any]:
        """With the axes of the labels; raises `DamagedError` if they are not whole."""
        if not self.content:
            return np.zeros(self.shape, self.dtype)
        return unpacked(self.content, self.shape, self.dtype)

    def packed(self, dtype: npt.DTypeLike) -> bytes:
        """Return the labels compressed."""
        if np.dtype(dtype) == np.dtype(self.dtype):
            return self.content
        return packed(self.labels, dtype)


AnyWindow = Window | PackedWindow


def size_of(window: AnyWindow) -> int:
    """Return the bytes that a window takes in memory."""
    if isinstance(window, PackedWindow):
        return len(window.content)
    return window.labels.nbytes


@dataclass(frozen=True, eq=False)
class Action:
    """Something that was done.

    Parameters
    ----------
    number : int
        Counts the actions of a journal, from 1.
    time : float
        Seconds since the epoch.
    name : str
        "commit", "undo" …
    arguments : dict
        What JSON can hold; places in pixels of the image.
    ids : tuple of int
        Of the objects it concerns.
    model : str
        Name and hash; "" if no model took part.
    windows : tuple of AnyWindow
        What it changed in the labels, in order.
    before : tuple of AnyWindow
        What was there, for each window: found when a journal is read, and kept in snapshots.
    cut : bool
        Whether windows were left out since: it is too long ago to be undone.
    step : int
        The step of undo that it belongs to, counted from 1 for each image; 0 for none. A long step
        writes windows in several actions; "undo" and "redo" name the step that they turn.
    """

    number: int
    time: float
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ids: tuple[int, ...] = ()
    model: str = ""
    windows: tuple[AnyWindow, ...] = ()
    step: int = 0
    before: tuple[AnyWindow, ...] = ()
    cut: bool = False


@dataclass(frozen=True)
class About:
    """What a journal is about: the first line of its file.

    Parameters
    ----------
    image : ImageIdentity
    layer : str
        Name of the labels layer.
    shape : tuple of int
        Of the labels.
    dtype : str
        Of the labels, as numpy writes it.
    begun : float
        Seconds since the epoch.
    version : str
        Of the program.
    """

    image: ImageIdentity
    layer: str
    shape: tuple[int, ...]
    dtype: str
    begun: float
    version: str


def checked(content: Mapping[str, Any]) -> bytes:
    """Make a line of JSON with its check and its end."""
    body = json.dumps(content, separators=(",", ":"), default=_plain).encode()
    return body[:-1] + b',"check":"%08x"}\n' % zlib.crc32(body)


def unchecked(line: bytes) -> dict[str, Any]:
    """Read a line that `checked` made, without its end.

    Raises
    ------
    DamagedError
        If it is not as it was written.
    """
    found = _CHECK.search(line)
    if found is None:
        raise DamagedError("A line is not whole.")
    body = line[: found.start()] + b"}"
    if int(found[1], 16) != zlib.crc32(body):
        raise DamagedError("A line is damaged.")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DamagedError("A line is no JSON.") from error
    if not isinstance(content, dict):
        raise DamagedError("A line says nothing.")
    return content


def packed(labels: npt.NDArray[Any], dtype: npt.DTypeLike) -> bytes:
    """Compress labels."""
    plain = np.ascontiguousarray(labels, np.dtype(dtype).newbyteorder("<"))
    return zlib.compress(plain.tobytes(), 6 if plain.size <= _SMALL else 1)


def unpacked(
    content: bytes, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Reverse `packed`; the array is writeable.

    Raises
    ------
    DamagedError
        If there are not as many labels as the shape says.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    opened = zlib.decompressobj()
    try:
        plain = bytearray(opened.decompress(content, size + 1))
    except zlib.error as error:
        raise DamagedError("Some labels are damaged.") from error
    if len(plain) != size:
        raise DamagedError("Some labels are not whole.")
    return np.frombuffer(plain, np.dtype(dtype)).reshape(shape)


def about_line(about: About, *, snapshot: bool, number: int, clean: bool) -> bytes:
    """Make the first line of a file.

    Parameters
    ----------
    about : About
    snapshot : bool
        Whether labels, or actions before these lines, are in a snapshot.
    number : int
        Of the last action before these lines.
    clean : bool
        Whether the labels before these lines are saved in a file.
    """
    return checked(
        {
            "format": FORMAT,
            "version": about.version,
            "image": about.image.to_json(),
            "layer": about.layer,
            "shape": list(about.shape),
            "dtype": about.dtype,
            "begun": about.begun,
            "snapshot": snapshot,
            "after": number,
            "clean": clean,
        }
    )


@dataclass(frozen=True)
class FirstLine:
    """What `about_line` wrote; the parameters are those of it."""

    about: About
    snapshot: bool
    number: int
    clean: bool


def read_about(line: bytes) -> FirstLine:
    """Read the first line of a file.

    Raises
    ------
    DamagedError
        If it is none, or of another format.
    """
    content = unchecked(line)
    if content.get("format") != FORMAT:
        raise DamagedError(
            f"It was written by version {content.get('version', '?')} of napari-tinysam, "
            "which keeps its journal in another form."
        )
    try:
        about = About(
            image=ImageIdentity.from_json(content["image"]),
            layer=str(content["layer"]),
            shape=tuple(int(length) for length in content["shape"]),
            dtype=str(content["dtype"]),
            begun=float(content["begun"]),
            version=str(content["version"]),
        )
        first = FirstLine(
            about,
            bool(content["snapshot"]),
            int(content["after"]),
            bool(content["clean"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError("It does not say what it is about.") from error
    if not _DTYPE.match(about.dtype) or min(about.shape, default=1) < 0:
        raise DamagedError("It is about labels that cannot be.")
    return first


def action_line(action: Action, dtype: npt.DTypeLike) -> bytes:
    """Make the line of an action."""
    content: dict[str, Any] = {
        "n": action.number,
        "t": round(action.time, 3),
        "do": action.name,
    }
    if action.arguments:
        content["with"] = dict(action.arguments)
    if action.ids:
        content["ids"] = list(action.ids)
    if action.model:
        content["model"] = action.model
    if action.step:
        content["step"] = action.step
    if action.windows:
        content["labels"] = _windows_to_json(action.windows, dtype)
    if action.before:
        content["was"] = _windows_to_json(action.before, dtype)
    if action.cut:
        content["cut"] = True
    return checked(content)


def _windows_to_json(
    windows: Sequence[AnyWindow], dtype: npt.DTypeLike
) -> list[list[Any]]:
    return [
        [
            list(window.start),
            list(window.shape),
            b64encode(window.packed(dtype)).decode(),
        ]
        for window in windows
    ]


def read_action(line: bytes, about: About) -> Action:
    """Read the line of an action.

    Raises
    ------
    DamagedError
        If it is none, or does not fit the labels.
    """
    content = unchecked(line)
    try:
        windows, before = (
            tuple(
                _window(start, shape, text, about)
                for start, shape, text in content.get(name, ())
            )
            for name in ("labels", "was")
        )
        if before and [(w.start, w.shape) for w in before] != [
            (w.start, w.shape) for w in windows
        ]:
            raise DamagedError("What was there before is elsewhere.")
        return Action(
            number=int(content["n"]),
            time=float(content["t"]),
            name=str(content["do"]),
            arguments=dict(content.get("with", {})),
            ids=tuple(int(each) for each in content.get("ids", ())),
            model=str(content.get("model", "")),
            windows=windows,
            step=int(content.get("step", 0)),
            before=before,
            cut=bool(content.get("cut", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError("A line is no action.") from error


def _window(start: Any, shape: Any, text: str, about: About) -> PackedWindow:
    first = tuple(int(at) for at in start)
    size = tuple(int(length) for length in shape)
    inside = len(first) == len(size) == len(about.shape) and all(
        at >= 0 and length >= 0 and at + length <= limit
        for at, length, limit in zip(first, size, about.shape, strict=True)
    )
    if not inside:
        raise DamagedError("A change lies outside the labels.")
    return PackedWindow(first, size, b64decode(text, validate=True), about.dtype)


def _plain(value: Any) -> Any:
    """Make JSON of numpy's numbers and of whatever else was given."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
