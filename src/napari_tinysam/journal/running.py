"""Notes of long work that goes on, so that a later process can tell that it was cut."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_tinysam.errors import FileError
from napari_tinysam.files.atomic import write_text
from napari_tinysam.files.lock import is_locked, take_lock
from napari_tinysam.journal.folder import default_folder

#: Kinds of work: files that are segmented, a training on the command line.
FILES, TRAINING = "files", "training"

#: Notes of work that was cut so many seconds ago are removed.
_OLDEST = 14 * 86_400


@dataclass(frozen=True)
class CutWork:
    """Work whose process has ended before it.

    Parameters
    ----------
    path : Path
        Of the note.
    kind : str
        `FILES` or `TRAINING`.
    time : float
        When it began, in seconds since the epoch.
    told : mapping
        What is needed to go on.
    """

    path: Path
    kind: str
    time: float
    told: Mapping[str, Any]


class Running:
    """A note of work that goes on; the operating system knows whether its process lives."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock: int | None = lock

    def done(self) -> None:
        """Remove the note: the work has ended, or the user has stopped it."""
        _remove(self._path)
        self.leave()
        _remove(self._path)  # Windows keeps a file that is open

    def leave(self) -> None:
        """Leave the note: the work was cut. Idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class RunningNotes:
    """The folder with notes of all work that goes on.

    Parameters
    ----------
    folder : Path, optional
        Beside the journals if not given; made when it is first written to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the notes are."""
        return default_folder() / "running" if self._folder is None else self._folder

    def begin(self, kind: str, told: Mapping[str, Any]) -> Running | None:
        """Note that work begins; None where nothing can be written: it goes on without a note.

        Parameters
        ----------
        kind : str
        told : mapping
            What is needed to go on, as JSON can hold it.
        """
        path = self.folder / f"{os.getpid()}-{secrets.token_hex(8)}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = take_lock(path.with_suffix(".lock"))
            write_text(
                path, json.dumps({"kind": kind, "at": time.time(), "told": told})
            )
        except (FileError, OSError):
            return None
        return None if lock is None else Running(path, lock)

    def cut(self) -> list[CutWork]:
        """List the work that was cut, the newest first; what is too old is forgotten."""
        found = []
        try:
            paths = list(self.folder.glob("*.json"))
        except OSError:
            return []
        for path in paths:
            if is_locked(path.with_suffix(".lock")):
                continue
            try:
                content = json.loads(path.read_text("utf-8"))
                work = CutWork(
                    path,
                    str(content["kind"]),
                    float(content["at"]),
                    dict(content["told"]),
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if time.time() - work.time > _OLDEST:
                _remove(path)
            else:
                found.append(work)
        return sorted(found, key=lambda work: -work.time)

    def forget(self, work: CutWork) -> None:
        """Remove a note: the user goes on with it, or does not want to."""
        _remove(work.path)


def _remove(path: Path) -> None:
    for each in (path, path.with_suffix(".lock")):
        with suppress(OSError):
            each.unlink()
