"""Sets of labelled images in one small file each, for another machine.

A zip file with ``index.json``, the images as inference sees them (8 bits), and their labels
(uint16, LZMA). Reading it needs only Pillow and the standard library.
"""

from __future__ import annotations

import io
import json
import lzma
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from napari_tinysam.errors import DataError, sentence
from napari_tinysam.files.quiet import read_quietly
from tinysam_training.data.findings import FoundEntries
from tinysam_training.labelled_image import ImageEntry, LabelledImage

#: The file's list of images.
INDEX = "index.json"


def find_packed(path: Path, complete: bool | None = None) -> FoundEntries:
    """List the images of a packed set.

    Parameters
    ----------
    path : Path
    complete : bool, optional
        Overrides the file's own value.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    return FoundEntries(
        ImageEntry(
            each["name"],
            each["dataset"],
            each["complete"] if complete is None else complete,
            partial(read_packed, path, number, complete),
            each["fingerprint"],
        )
        for number, each in enumerate(_index(path))
    )


def read_packed(path: Path, number: int, complete: bool | None = None) -> LabelledImage:
    """Read an image of a packed set by its number. Raises `DataError`."""
    each = _index(path)[number]
    try:
        with read_quietly(), zipfile.ZipFile(path) as file:
            with Image.open(io.BytesIO(file.read(f"{number}.image"))) as picture:
                shown = picture.convert("L") if each["gray"] else picture
                rgb = np.array(shown.convert("RGB"))
            plain = lzma.decompress(file.read(f"{number}.labels"))
        labels = np.frombuffer(plain, "<u2").reshape(each["shape"]).astype(np.int32)
    except (
        OSError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
        lzma.LZMAError,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(sentence(error, f"{path} is damaged")) from error
    known = each["complete"] if complete is None else complete
    return LabelledImage(each["name"], each["dataset"], rgb, labels, known)


def _index(path: Path) -> list[dict[str, Any]]:
    try:
        with zipfile.ZipFile(path) as file:
            found: list[dict[str, Any]] = json.loads(file.read(INDEX))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a packed set of images.") from error
    return found
