"""Write a set of labelled images as one small file, which `tinysam_training.data.packed` reads."""

from __future__ import annotations

import io
import json
import lzma
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from napari_tinysam.errors import DataError
from tinysam_training.data.fingerprints import combined
from tinysam_training.data.packed import INDEX

if TYPE_CHECKING:
    from tinysam_training.labelled_image import LabelledImage

#: Without loss as WebP; or nearly, at `QUALITY`: gray images as WebP, which has 0.6 to 0.9 of the
#: size of JPEG at the same error, and coloured ones as JPEG with colours at full resolution.
Encoding = Literal["lossless", "near"]

QUALITY = 92

#: Bytes of an image's entries in the zip file and in the list of images, at most.
_ENTRIES = 600


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
        """Bytes in the file, with the entries of its two indices."""
        return len(self.image) + len(self.labels) + 2 * len(self.name) + _ENTRIES


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
        file.writestr(INDEX, json.dumps(index))
