"""Converted graphs on disk: in the user's cache folder, one folder a model and version.

A conversion is written beside its place and renamed once it is whole, so nobody ever sees half of
one; two processes that start at once both convert, and the second finds the place taken. What was
damaged afterwards is noticed by the sizes of the files, or when a graph does not load, and made
anew. Importing this loads neither torch nor OpenVINO.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari_tinysam.errors import ConversionError, sentence
from napari_tinysam.files.atomic import remove_abandoned, unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tinysam.model import SegmentAnything

#: Folder of the cache, instead of the user's own.
ENVIRONMENT_VARIABLE = "NAPARI_TINYSAM_CACHE"

#: Changes with the graphs that `openvino_conversion` writes.
_FORMAT = 9

_WHOLE = "whole.json"
_FAILED = ".failed"
_CHOICE = ".choice"

#: Unfinished conversions older than this were left behind by a process that ended.
_ABANDONED_SECONDS = 24 * 3600

#: Conversions that nothing opened for so long are removed when another is made: sixty megabytes
#: each and more, of models that were replaced and versions that were left.
_UNUSED_SECONDS = 60 * 24 * 3600

#: So long a conversion that failed is not tried again by itself.
_FAILURE_SECONDS = 7 * 24 * 3600


def is_installed() -> bool:
    """Whether OpenVINO is there at all."""
    try:
        importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def cache_folder() -> Path:
    """Return the folder of all converted models; it need not exist yet."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("napari-tinysam", appauthor=False) / "openvino"


def folder_of(fingerprint: str, *, integers: bool = False) -> Path:
    """Return the place of a model's graphs.

    Parameters
    ----------
    fingerprint : str
        Of the file of weights (`napari_tinysam.checkpoints.LoadedCheckpoint`).
    integers : bool
        Of the graphs that compute with integers, which quantized models have beside the others.

    Raises
    ------
    ConversionError
        If OpenVINO is not installed.
    """
    try:
        version = importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConversionError("OpenVINO is not installed.") from error
    kind = "-int8" if integers else ""
    return cache_folder() / f"{fingerprint}{kind}-{version}-{_FORMAT}"


def is_whole(folder: Path) -> bool:
    """Whether all files of a conversion are there, as large as they were written."""
    try:
        sizes = json.loads((folder / _WHOLE).read_text("utf-8"))
        return bool(sizes) and all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def ensure(
    fingerprint: str, model: Callable[[], SegmentAnything], *, integers: bool = False
) -> Path:
    """Give the folder of a model's graphs; convert it if they are not there.

    Parameters
    ----------
    fingerprint, integers
        As for `folder_of`.
    model : callable
        Loads the model, if it is needed.

    Raises
    ------
    ConversionError
        If it cannot be converted or written; the message says why. Nothing is left behind.
    Exception
        What `model` raises.
    """
    place = folder_of(fingerprint, integers=integers)
    if is_whole(place):
        return place
    converted = model()
    try:
        from napari_tinysam.inference.runtime.openvino.conversion import convert

        remove_abandoned(place.parent, _ABANDONED_SECONDS)
        with unfinished(place, is_whole) as folder:
            folder.mkdir(parents=True)
            convert(converted, folder, integers=integers)
            sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
            (folder / _WHOLE).write_text(json.dumps(sizes), "utf-8")
        _forget_unused(place)
    except Exception as error:  # another OpenVINO may raise whatever it ran into
        what = "The model cannot be converted for OpenVINO"
        raise ConversionError(sentence(error, what)) from error
    return place


def note_use(folder: Path) -> None:
    """Remember that a conversion is opened now."""
    with contextlib.suppress(OSError):  # of a cache that others only let us read
        os.utime(folder / _WHOLE)


def discard(folder: Path) -> None:
    """Remove a conversion that is not whole or does not load."""
    shutil.rmtree(folder, ignore_errors=True)


def note_choice(fingerprint: str, cpu: str, *, integers: bool) -> None:
    """Remember whether a quantized model is faster with integers on this CPU.

    Parameters
    ----------
    fingerprint : str
        As for `folder_of`.
    cpu : str
        Its name: several computers may share a cache.
    integers : bool
    """
    with contextlib.suppress(OSError, ConversionError):
        note = _choice_of(fingerprint)
        chosen = {**_choices(note), cpu: integers}
        note.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(note) as temporary:
            temporary.write_text(json.dumps(chosen), "utf-8")


def noted_choice(fingerprint: str, cpu: str) -> bool | None:
    """Return what `note_choice` was told; None if nothing was."""
    try:
        return _choices(_choice_of(fingerprint)).get(cpu)
    except ConversionError:
        return None


def _choice_of(fingerprint: str) -> Path:
    place = folder_of(fingerprint)
    return place.with_name(place.name + _CHOICE)


def _choices(note: Path) -> dict[str, bool]:
    try:
        found = json.loads(note.read_text("utf-8"))
        return {str(cpu): bool(integers) for cpu, integers in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def note_failure(fingerprint: str, reason: str) -> None:
    """Remember that a model could not be converted, so that it is not tried at every start.

    Parameters
    ----------
    fingerprint : str
        As for `folder_of`.
    reason : str
        For those who look into the folder.
    """
    with contextlib.suppress(OSError, ConversionError):
        note = _failure_of(fingerprint)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(reason + "\n", "utf-8")


def failed_lately(fingerprint: str) -> bool:
    """Whether a model could not be converted, with this version of OpenVINO, within a week."""
    try:
        age = time.time() - _failure_of(fingerprint).stat().st_mtime
    except OSError:
        return False
    return age < _FAILURE_SECONDS


def _failure_of(fingerprint: str) -> Path:
    place = folder_of(fingerprint)
    return place.with_name(place.name + _FAILED)


def _forget_unused(place: Path) -> None:
    """Remove what nothing has opened for long, but for `place`."""
    for note in place.parent.glob(f"*/{_WHOLE}"):
        try:
            unused = time.time() - note.stat().st_mtime
        except OSError:  # another process has just removed it
            continue
        if unused > _UNUSED_SECONDS and note.parent != place:
            discard(note.parent)
