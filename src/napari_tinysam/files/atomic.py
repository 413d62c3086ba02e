"""Files and folders are written under a temporary name, then renamed.

A half-written file is never seen, and the old file stays until the new one is whole.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from napari_tinysam.errors import FileError, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PREFIX, _SUFFIX = ".tinysam-", ".unfinished"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` when the block has ended well.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    try:
        with unfinished(path) as temporary, open(temporary, "xb") as file:
            yield file
    except OSError as error:
        raise FileError(sentence(error, f"{path} cannot be written")) from error


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, and end its last line; raises `FileError` if that fails."""
    with replacing(path) as file:
        file.write(text.encode() if text.endswith("\n") else f"{text}\n".encode())


@contextmanager
def unfinished(
    path: Path, is_whole: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """Name a temporary file or folder that takes the place of `path` when the block has ended well.

    Parameters
    ----------
    path : Path
        A file is replaced; a folder has to be new, or empty. Links stay links.
    is_whole : callable, optional
        For folders that other processes write as well: if one of them was quicker, its folder
        stays if it is whole, and is replaced otherwise.

    Yields
    ------
    Path
        Beside `path`. The block makes the file or the folder.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    target = path.resolve()
    temporary = _beside(target)
    try:
        yield temporary
        _rename(temporary, target, is_whole)
    finally:
        _remove(temporary)


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Make a temporary folder whose files move to `folder` when the block has ended well.

    Parameters
    ----------
    folder : Path
        New, as its parents may be, or empty. An empty one stays the same folder: a shell may be in
        it, or a disk mounted there.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = _beside(folder / "files")
        temporary.mkdir()
        try:
            yield temporary
            for path in temporary.iterdir():
                path.rename(folder / path.name)
        finally:
            _remove(temporary)
    finally:
        for place in new:
            with suppress(OSError):  # not empty, as should be
                place.rmdir()


def remove_abandoned(folder: Path, seconds: float) -> None:
    """Delete unfinished files and folders that nothing has written to for this many seconds."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # another process was quicker, or still has it open
            if time.time() - path.stat().st_mtime > seconds:
                _remove(path)


def _beside(path: Path) -> Path:
    return path.with_name(f"{_PREFIX}{secrets.token_hex(6)}{_SUFFIX}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _rename(
    temporary: Path, target: Path, is_whole: Callable[[Path], bool] | None
) -> None:
    for _ in range(3):
        try:
            os.replace(temporary, target)
            return
        except OSError:
            if is_whole is None or not target.exists():
                raise
        if is_whole(target):
            return
        damaged = _beside(target)
        with suppress(OSError):  # another process moves it away
            os.rename(target, damaged)
        _remove(damaged)
    raise OSError(f"{target} is in the way")
