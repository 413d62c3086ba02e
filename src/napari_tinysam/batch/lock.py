"""One run at a time writes into a folder."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from napari_tinysam.errors import FileError, sentence
from napari_tinysam.files.lock import lock_owner, take_lock

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
        file = take_lock(path)
    except OSError as error:
        raise FileError(sentence(error, f"{folder} cannot be written to")) from error
    if file is None:
        owner = lock_owner(path) or "which has just begun"
        raise FileError(
            f"Another run ({owner}) writes into {folder}; wait for it, or choose another folder."
        )
    try:
        yield
    finally:
        # Removed while it is held; Windows does not allow that, there it stays.
        with suppress(OSError):
            path.unlink()
        os.close(file)
