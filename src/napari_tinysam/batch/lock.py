"""One run at a time writes into a folder."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from napari_tinysam.errors import FileError, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = ".tinysam-lock"


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Hold a folder for this run.

    The operating system holds the lock, and frees it when the process ends in whatever way: a lock
    file that a killed run left behind is taken over.

    Parameters
    ----------
    folder : Path
        It exists.

    Raises
    ------
    FileError
        If another run has it, or nothing can be written there.
    """
    path = folder / _NAME
    try:
        file = _locked(path)
    except OSError as error:
        raise FileError(sentence(error, f"{folder} cannot be written to")) from error
    if file is None:
        raise FileError(
            f"Another run ({_owner(path)}) writes into {folder}; wait for it, or choose another "
            "folder."
        )
    try:
        os.ftruncate(file, 0)
        os.write(file, _whoami())
        yield
    finally:
        # Removed while it is held; Windows does not allow that, there it stays.
        with suppress(OSError):
            path.unlink()
        os.close(file)


def _locked(path: Path) -> int | None:
    """Open and lock a file; None if another process holds it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _try_lock(file):
            os.close(file)
            return None
        try:
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except FileNotFoundError:
            pass  # its owner removed it after it was opened here
        os.close(file)


def _try_lock(file: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 1 << 20, os.SEEK_SET)  # beyond the text, which others read
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _whoami() -> bytes:
    return f"process {os.getpid()} on {socket.gethostname()}".encode()


def _owner(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace") or "which has just begun"
    except OSError:
        return "which has just ended"
