"""A cache folder of limited size, which several processes share.

Nothing in it is needed: every entry can be made again. So no error of the disk reaches the user; a
folder that cannot be read or written is an empty one. Entries that were not used for longest are
removed first.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from napari_tinysam.errors import FileError
from napari_tinysam.files.atomic import remove_abandoned, replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Unfinished entries older than this were left behind by a process that ended.
_ABANDONED_SECONDS = 3600.0

_log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    used: float  # seconds since the epoch
    size: int  # bytes
    path: Path


class LimitedFolder:
    """Files by name, up to a total size; safe from any thread and process.

    Parameters
    ----------
    folder : Path
        Made when it is first written to.
    suffix : str
        Of the entries' files, such as ".safetensors"; other files are left alone.
    limit : int
        Bytes that all entries together may take. 0: nothing is kept or found.
    """

    def __init__(self, folder: Path, suffix: str, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._suffix = suffix
        self._complained = False

    def read(self, name: str) -> bytes | None:
        """Return an entry, and count it as used now; None where there is none."""
        if self.limit <= 0:
            return None
        path = self._path(name)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.complain(error)
            return None
        with contextlib.suppress(OSError):  # of a folder that is only readable
            os.utime(path)
        return content

    def write(self, name: str, content: bytes) -> bool:
        """Keep an entry; make room for it first.

        Returns
        -------
        bool
            Whether it was kept. It is not if it alone exceeds the limit, or cannot be written.
        """
        if len(content) > self.limit:
            return False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.folder, _ABANDONED_SECONDS)
            self._shrink(self.limit - len(content), but=self._path(name))
            with replacing(self._path(name)) as file:
                file.write(content)
        except (FileError, OSError) as error:
            self.complain(error)
            return False
        self._shrink(self.limit)  # another process may have written meanwhile
        return True

    def remove(self, name: str) -> None:
        """Remove an entry, if it is there."""
        self._unlink(self._path(name))

    def clear(self) -> None:
        """Remove all entries."""
        for entry in self._entries():
            self._unlink(entry.path)
        with contextlib.suppress(OSError):  # other processes may be writing
            remove_abandoned(self.folder, _ABANDONED_SECONDS)

    @property
    def size(self) -> int:
        """Bytes that the entries take."""
        return sum(entry.size for entry in self._entries())

    def __len__(self) -> int:
        """Return the number of entries."""
        return sum(1 for _ in self._entries())

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{self._suffix}"

    def _entries(self) -> Iterator[_Entry]:
        try:
            with os.scandir(self.folder) as found:
                names = [each.name for each in found]
        except OSError:  # not made yet, or not readable
            return
        for name in names:
            if name.endswith(self._suffix):
                path = self.folder / name
                with contextlib.suppress(OSError):  # another process has removed it
                    about = path.stat()
                    yield _Entry(about.st_mtime, about.st_size, path)

    def _shrink(self, limit: int, but: Path | None = None) -> None:
        """Remove what was not used for longest until the rest fits.

        Processes that do this at the same time choose the same entries, so none is lost in vain.
        """
        entries = sorted(each for each in self._entries() if each.path != but)
        excess = sum(entry.size for entry in entries) - limit
        for entry in entries:
            if excess <= 0:
                return
            self._unlink(entry.path)
            excess -= entry.size

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # read-only, or open in another process
            self.complain(error)

    def complain(self, error: Exception) -> None:
        """Log the first failure, and no other: a full disk fails at each plane."""
        if not self._complained:
            self._complained = True
            _log.debug("%s keeps nothing: %s", self.folder, error)
