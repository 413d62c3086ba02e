"""Sets of labelled images in one small file each, to be carried to another machine.

A zip file with ``index.json``, the images as inference sees them (8 bits), and their labels
(uint16, LZMA). Little is needed to read it: Pillow and the standard library.
"""

from __future__ import annotations

import io
import json
import lzma
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from napari_tinysam.errors import DataError, sentence
from napari_tinysam.files.quiet import read_quietly
from tinysam_training.data.findings import FoundEntries
from tinysam_training.data.fingerprints import combined
from tinysam_training.labelled_image import ImageEntry, LabelledImage

#: Without loss as WebP; or nearly, at `QUALITY`: gray images as WebP, which has 0.6 to 0.9 of the
#: size of JPEG at the same error, and coloured ones as JPEG with colours at full resolution.
Encoding = Literal["lossless", "near"]

QUALITY = 92

_INDEX = "index.json"


@dataclass(frozen=True, eq=False)
class PackedImage:
    """One image with its labels, encoded.

    Attributes
    ----------
    name, dataset, complete
        As of `LabelledImage`.
    gray : bool
        Whether the channels are equal.
    shape : tuple of int
        Of the labels, (L, H, W).
    image, labels : bytes
    """

    name: str
    dataset: str
    complete: bool
    gray: bool
    shape: tuple[int, ...]
    image: bytes
    labels: bytes

    @classmethod
    def of(cls, image: LabelledImage, encoding: Encoding) -> PackedImage:
        """Encode an image.

        Raises
        ------
        DataError
            If it has more objects in a layer than 16 bits count.
        """
        if image.labels.max(initial=0) > np.iinfo(np.uint16).max:
            raise DataError(f"{image.name}: a layer has too many objects to be packed.")
        picture = Image.fromarray(image.rgb)
        gray = bool((image.rgb == image.rgb[..., :1]).all())
        buffer = io.BytesIO()
        if encoding == "lossless":
            picture.save(buffer, "WEBP", lossless=True, quality=90, method=4)
        elif gray:
            picture.save(buffer, "WEBP", quality=QUALITY, method=6)
        else:
            picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
        labels = lzma.compress(image.labels.astype("<u2").tobytes())
        return cls(
            image.name,
            image.dataset,
            image.complete,
            gray,
            image.labels.shape,
            buffer.getvalue(),
            labels,
        )

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.image) + len(self.labels)


def write_packed(path: Path, images: Sequence[PackedImage]) -> None:
    """Write images into one file."""
    index = []
    with zipfile.ZipFile(path, "w") as file:  # stored: nothing here gets smaller
        for number, each in enumerate(images):
            file.writestr(f"{number}.image", each.image)
            file.writestr(f"{number}.labels", each.labels)
            index.append(
                {
                    "name": each.name,
                    "dataset": each.dataset,
                    "complete": each.complete,
                    "gray": each.gray,
                    "shape": list(each.shape),
                    "fingerprint": combined(each.image, each.labels, each.complete),
                }
            )
        file.writestr(_INDEX, json.dumps(index))


def find_packed(path: Path, complete: bool | None = None) -> FoundEntries:
    """List the images of a packed set.

    Parameters
    ----------
    path : Path
    complete : bool, optional
        Instead of what the file says.

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
            found: list[dict[str, Any]] = json.loads(file.read(_INDEX))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a packed set of images.") from error
    return found
