"""Converted graphs on disk: in the user's cache folder, one folder for each model and version.

A conversion is written beside its place and renamed when it is whole, so a partial one is never
seen. If two processes convert at the same time, the first one's folder stays. Later damage is
noticed by the sizes of files, or when a graph does not load; then the model is converted again.
Importing this loads neither torch nor OpenVINO.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import ConversionError, sentence
from napari_tinysam.files.atomic import remove_abandoned, unfinished
from napari_tinysam.inference.runtime.openvino.template import fitting_template

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tinysam.model import SegmentAnything

#: Names another folder for the cache.
ENVIRONMENT_VARIABLE = "NAPARI_TINYSAM_CACHE"

#: Changes with the graphs that `conversion` writes. `papers.graph_template` is due then.
FORMAT = 10

_WHOLE = "whole.json"
_FAILED = ".failed"
_CHOICE = ".choice"

#: Unfinished conversions older than this were left behind by a process that ended.
_ABANDONED_SECONDS = 24 * 3600

#: Conversions that were not opened for this long are removed when another is made. They are of old
#: models and versions, 60 MB each or more.
_UNUSED_SECONDS = 60 * 24 * 3600

#: A failed conversion is retried on its own only after this time.
_FAILURE_SECONDS = 7 * 24 * 3600


def is_installed() -> bool:
    """Whether OpenVINO is installed."""
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
    """Return the folder of a model's graphs; it need not exist.

    Parameters
    ----------
    fingerprint : str
        Of the file of weights (`napari_tinysam.checkpoints.LoadedCheckpoint`).
    integers : bool
        Whether the graphs compute with integers. Quantized models have both kinds.

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
    return cache_folder() / f"{fingerprint}{kind}-{version}-{FORMAT}"


def is_whole(folder: Path) -> bool:
    """Whether all files of a conversion exist, with the sizes that were written."""
    try:
        sizes = json.loads((folder / _WHOLE).read_text("utf-8"))
        return bool(sizes) and all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def ensure(
    fingerprint: str,
    model: Callable[[], SegmentAnything],
    *,
    integers: bool = False,
    weights: Path | None = None,
) -> Path:
    """Return the folder of a model's graphs; convert the model if they are missing.

    Parameters
    ----------
    fingerprint, integers
        As for `folder_of`.
    model : callable
        Loads the model; called only if it is needed.
    weights : Path, optional
        The model's file. If a template fits it, torch is not needed.

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
    template = None
    if weights is not None and not integers:
        template = fitting_template(weights, version=FORMAT)
    # Outside the block: what is wrong with a file is not a failed conversion.
    converted: Any = model() if template is None else None
    try:
        remove_abandoned(place.parent, _ABANDONED_SECONDS)
        with unfinished(place, is_whole) as folder:
            folder.mkdir(parents=True)
            if template is not None:
                template.write(folder)
            else:
                from napari_tinysam.inference.runtime.openvino.conversion import convert

                convert(converted, folder, integers=integers)
            sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
            (folder / _WHOLE).write_text(json.dumps(sizes), "utf-8")
        _forget_unused(place)
    except Exception as error:  # other versions of OpenVINO may raise anything
        what = "The model cannot be converted for OpenVINO"
        raise ConversionError(sentence(error, what)) from error
    return place


def has_template(weights: Path) -> bool:
    """Whether a model's graphs are made in a moment, without torch."""
    return fitting_template(weights, version=FORMAT) is not None


def note_use(folder: Path) -> None:
    """Note that a conversion is opened now."""
    with contextlib.suppress(OSError):  # the cache may be read-only
        os.utime(folder / _WHOLE)


def discard(folder: Path) -> None:
    """Remove a conversion that is not whole or does not load."""
    shutil.rmtree(folder, ignore_errors=True)


def note_choice(fingerprint: str, cpu: str, *, integers: bool) -> None:
    """Note whether a quantized model is faster with integers on this CPU.

    Parameters
    ----------
    fingerprint : str
        As for `folder_of`.
    cpu : str
        Name of the CPU: several computers may share a cache.
    integers : bool
    """
    with contextlib.suppress(OSError, ConversionError):
        note = _choice_of(fingerprint)
        chosen = {**_choices(note), cpu: integers}
        note.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(note) as temporary:
            temporary.write_text(json.dumps(chosen), "utf-8")


def noted_choice(fingerprint: str, cpu: str) -> bool | None:
    """Return what `note_choice` noted, or None."""
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
    """Note that a model could not be converted, so that it is not tried at every start.

    Parameters
    ----------
    fingerprint : str
        As for `folder_of`.
    reason : str
        Written to the file.
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
    """Remove conversions, except `place`, that were not opened for long."""
    for note in place.parent.glob(f"*/{_WHOLE}"):
        try:
            unused = time.time() - note.stat().st_mtime
        except OSError:  # another process has just removed it
            continue
        if unused > _UNUSED_SECONDS and note.parent != place:
            discard(note.parent)
