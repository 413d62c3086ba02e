"""The file of lines that is written: whole at each moment, open while there is more to come."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from napari_tinysam.journal.reading import lines_file


class LinesFile:
    """One generation of lines after the other.

    Parameters
    ----------
    folder : Path
        Of the journal.

    Attributes
    ----------
    generation : int
        Of the file; 0 before there is one.
    size : int
        Bytes of it up to its last whole line.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self.generation = 0
        self.size = 0

    def start(self, generation: int, line: bytes) -> None:
        """Begin a file with its first line; the one before is left once this one is on the disk.

        Raises
        ------
        OSError
            If that fails; nothing has changed then.
        """
        path = lines_file(self._folder, generation)
        # Unbuffered: what is written is with the operating system, and survives this process.
        file = open(path, "wb", buffering=0)  # noqa: SIM115 - it stays open
        try:
            _write_all(file, line)
            os.fsync(file.fileno())
        except OSError:
            file.close()
            with suppress(OSError):
                path.unlink()
            raise
        self.close()
        self._file, self.size, self.generation = file, len(line), generation

    def append(self, line: bytes) -> None:
        """Write a line, or nothing of it.

        Raises
        ------
        OSError
            If that fails.
        """
        try:
            _write_all(self._opened(), line)
        except OSError:
            with suppress(OSError):  # half a line would spoil the next one
                self._opened().truncate(self.size)
                self._opened().seek(self.size)
            raise
        self.size += len(line)

    def sync(self) -> None:
        """Flush the file to the disk."""
        os.fsync(self._opened().fileno())

    def close(self) -> None:
        """Close the file; it is opened again when there is more to write."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _opened(self) -> BinaryIO:
        if self._file is None:
            path = lines_file(self._folder, self.generation)
            self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 - until it is closed
            self._file.seek(self.size)
        return self._file


def _write_all(file: Any, content: bytes) -> None:
    """Write all of it: without a buffer a call may write a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
