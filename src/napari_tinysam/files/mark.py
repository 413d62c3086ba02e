"""What tells that a file is still the one that was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class FileMark(NamedTuple):
    """Size, time of the last change in nanoseconds, and number of a file."""

    size: int
    changed: int
    number: int


def mark_of(path: Path) -> FileMark | None:
    """Return the mark of a file; None if there is none, or it cannot be seen."""
    try:
        about = path.stat()
    except OSError:
        return None
    return FileMark(about.st_size, about.st_mtime_ns, about.st_ino)
