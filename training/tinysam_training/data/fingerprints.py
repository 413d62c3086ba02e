"""Hashes of file contents, independent of the files' places."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError, sentence

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

#: Files up to this size are hashed whole, larger ones at both ends.
WHOLE_BYTES = 64 * 2**20

_END_BYTES = 2**20


def file_fingerprint(path: Path) -> str:
    """Hash a file's content: all of it up to 64 MiB, else its size and its first and last MiB.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= WHOLE_BYTES:
                digest.update(file.read())
            else:
                digest.update(f"{size}:".encode() + file.read(_END_BYTES))
                file.seek(-_END_BYTES, 2)
                digest.update(file.read())
    except (OSError, ValueError) as error:
        raise DataError(sentence(error, f"{path} cannot be read")) from error
    return digest.hexdigest()


def array_fingerprint(array: npt.NDArray[Any]) -> str:
    """Hash values, shape and dtype of an array."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def combined(*parts: object) -> str:
    """Hash the text of several values, in this order."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()
