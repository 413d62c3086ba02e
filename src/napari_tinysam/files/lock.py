"""Locks on files that the operating system holds: they are free when their process ends."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path


def take_lock(path: Path) -> int | None:
    """Make, open and lock a file, and write into it who holds it.

    The operating system holds the lock, and frees it when the process ends in whatever way.

    Returns
    -------
    int or None
        The open file, to be closed to free the lock; None if somebody else holds it, also in this
        process.

    Raises
    ------
    OSError
        If the file cannot be written, or the file system knows no locks.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            locked = _try_lock(file)
            current = locked and os.path.samestat(os.fstat(file), os.stat(path))
        except FileNotFoundError:  # its owner removed it after it was opened here
            os.close(file)
            continue
        except OSError:
            os.close(file)
            raise
        if current:
            os.ftruncate(file, 0)
            os.write(file, _whoami())
            return file
        os.close(file)
        if not locked:
            return None


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of a file; False where there is no such file."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:  # it cannot be known: rather so
        return True
    try:
        return not _try_lock(file, shared=True)
    except OSError:
        return True
    finally:
        os.close(file)


def lock_owner(path: Path) -> str:
    """Name the process that holds a lock: "process 123 on desk"; "" if that is not known."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _try_lock(file: int, *, shared: bool = False) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 1 << 20, os.SEEK_SET)  # beyond the text, which others read
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, 0, os.SEEK_SET)
        else:
            import fcntl

            # Shared, so that two who ask at the same time do not take each other for the owner.
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _whoami() -> bytes:
    return f"process {os.getpid()} on {socket.gethostname()}".encode()
