"""All journals of the user: where they are, whose process has ended, which are too old."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.files.lock import is_locked, lock_owner, take_lock
from napari_tinysam.journal.identity import ImageIdentity, Match
from napari_tinysam.journal.reading import Recovered, read_first, read_journal
from napari_tinysam.journal.writing import Journal

if TYPE_CHECKING:
    from napari_tinysam.journal.lines import About, Window

#: Names another folder for the journals.
ENVIRONMENT_VARIABLE = "NAPARI_TINYSAM_JOURNALS"

#: How long journals of processes that have ended are kept, and how many bytes of them.
DEFAULT_DAYS = 14.0
DEFAULT_LIMIT = 2_000_000_000

_LOCK = "lock"
_NAME = re.compile(r"^\d+-[0-9a-f]{16}$")

#: A folder without a lock is being made, or was left by a crash at that moment.
_BEGINNING_SECONDS = 60.0


def default_folder() -> Path:
    """Return the folder of the journals; it need not exist yet."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_state_path

    return user_state_path("napari-tinysam", appauthor=False) / "journals"


class InUseError(FileError):
    """Another process writes a journal."""


@dataclass(frozen=True)
class Left:
    """A journal whose process has ended.

    Parameters
    ----------
    folder : Path
    about : About
    match : Match
        What the open image is to the one that it was written for.
    """

    folder: Path
    about: About
    match: Match

    def read(self) -> Recovered:
        """Read it; raises `FileError` if nothing of it can be read."""
        return read_journal(self.folder)


class HeldJournal(Journal):
    """A journal and the lock that tells others that its process lives."""

    def __init__(self, lock: int, *arguments: Any, **options: Any) -> None:
        self._free = weakref.finalize(self, os.close, lock)
        super().__init__(*arguments, **options)

    def close(self, timeout: float | None = 5.0) -> None:
        """Write what waits, end, and free the lock; the files stay. Idempotent."""
        super().close(timeout)
        self._free()

    def pause(self) -> None:
        """Write what waits; the labels are still open, so the lock stays, and more may come."""
        self.flush()

    def discard(self) -> None:
        """End, and remove the files: the labels are saved, or the user does not want them."""
        super().close()
        _remove(self.folder)
        self.close()
        _remove(self.folder)  # Windows keeps a file that is open


class Journals:
    """The folder with the journals of all images and processes.

    Parameters
    ----------
    folder : Path, optional
        `default_folder` if not given. Made when it is first written to.
    days : float
        Journals of processes that ended longer ago are removed.
    limit : int
        Bytes that they may take; the oldest go first.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        days: float = DEFAULT_DAYS,
        limit: int = DEFAULT_LIMIT,
    ) -> None:
        self.folder = default_folder() if folder is None else folder
        self.days = days
        self.limit = limit

    def begin(
        self,
        about: About | Callable[[], About],
        labels: Any = None,
        *,
        before: Sequence[Window] = (),
        unsaved: Collection[int] | None = None,
        on_problem: Callable[[str], None] = lambda text: None,
    ) -> HeldJournal:
        """Begin the journal of a labels layer; the parameters are those of `Journal`.

        Raises
        ------
        FileError
            If nothing can be written there.
        """
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        place = self.folder / name
        try:
            place.mkdir(parents=True)
            lock = take_lock(place / _LOCK)
        except OSError as error:
            text = sentence(error, f"Nothing can be kept in {self.folder}")
            raise FileError(text) from error
        assert lock is not None  # nobody else knows the name
        return HeldJournal(
            lock,
            place,
            about,
            labels,
            before=before,
            unsaved=unsaved,
            on_problem=on_problem,
        )

    def go_on(
        self,
        folder: Path,
        about: About | Callable[[], About],
        found: Recovered,
        *,
        on_problem: Callable[[str], None] = lambda text: None,
    ) -> HeldJournal:
        """Go on with a journal whose process has ended.

        Parameters
        ----------
        folder : Path
        about : About or callable
            Of the same labels; the image may have another name.
        found : Recovered
            What `read_journal` made of it.
        on_problem : callable
            As `Journal` takes it.

        Raises
        ------
        FileError
            If nothing can be written there, or another process has begun to.
        """
        try:
            lock = None if is_held(folder) else take_lock(folder / _LOCK)
        except OSError as error:
            text = sentence(error, f"Nothing can be kept in {folder}")
            raise FileError(text) from error
        if lock is None:
            raise InUseError("Another window goes on with these labels already.")
        return HeldJournal(lock, folder, about, goes_on=found, on_problem=on_problem)

    def left_for(self, image: ImageIdentity) -> list[Left]:
        """Find the journals of an image whose process has ended, the newest first.

        Journals that cannot be read are passed over; `broken` lists them.
        """
        found = []
        for place in self.ended():
            try:
                _, first = read_first(place)
            except FileError:
                continue
            match = first.about.image.match(image)
            if match is not Match.OTHER:
                found.append(Left(place, first.about, match))
        return sorted(found, key=lambda left: -left.about.begun)

    def broken(self) -> list[str]:
        """Say which journals of ended processes cannot be read, each in a sentence."""
        told = []
        for place in self.ended():
            try:
                read_first(place)
            except FileError as error:
                told.append(str(error))
        return told

    def discard(self, folder: Path) -> None:
        """Remove a journal whose process has ended: it was restored, or is not wanted."""
        if folder.parent == self.folder and not is_held(folder):
            _remove(folder)

    def sweep(self) -> list[Path]:
        """Remove journals of ended processes that are too old, too large, or were not begun.

        Returns
        -------
        list of Path
            The removed ones.
        """
        removed, kept = [], []
        oldest = time.time() - self.days * 86_400
        for place in self.ended():
            used, size = _used_and_size(place)
            if used < oldest or not _has_begun(place):
                removed.append(place)
            else:
                kept.append((used, size, place))
        excess = sum(size for _, size, _ in kept) - self.limit
        for _, size, place in sorted(kept):
            if excess <= 0:
                break
            removed.append(place)
            excess -= size
        for place in removed:
            _remove(place)
        return removed

    def ended(self) -> list[Path]:
        """List the journals that no process writes any more."""
        try:
            places = [each for each in self.folder.iterdir() if _NAME.match(each.name)]
        except OSError:  # not made yet, or not readable
            return []
        return [each for each in sorted(places) if each.is_dir() and not is_held(each)]


def _has_begun(place: Path) -> bool:
    """Whether a journal has a first line: else its process ended before anything was in it."""
    with suppress(OSError):
        return any(b"\n" in path.read_bytes() for path in place.glob("lines-*"))
    return True


def is_held(place: Path) -> bool:
    """Whether the process that writes a journal still lives."""
    if not lock_owner(place / _LOCK):
        # Made this moment, and not locked yet? Else its process ended right then.
        used, _ = _used_and_size(place)
        return time.time() - used < _BEGINNING_SECONDS
    return is_locked(place / _LOCK)


def _used_and_size(place: Path) -> tuple[float, int]:
    """Return when something was last written there, and the bytes of all files."""
    used, size = 0.0, 0
    with suppress(OSError):  # another process removes it
        used = place.stat().st_mtime
        for path in place.iterdir():
            about = path.stat()
            used, size = max(used, about.st_mtime), size + about.st_size
    return used, size


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
