"""The images to quantize a model with: a few of a folder, with labels or without."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_tinysam.batch.jobs import find_images
from napari_tinysam.errors import DataError, FileError, SelectionError
from napari_tinysam.files.planes import read_plane
from tinysam_training.data import find_pairs
from tinysam_training.data.fingerprints import file_fingerprint
from tinysam_training.data.spacing import evenly_spaced
from tinysam_training.labelled_image import ImageEntry, LabelledImage

if TYPE_CHECKING:
    from collections.abc import Sequence


def calibration_images(
    folders: Sequence[Path], count: int, split: str = "train"
) -> list[ImageEntry]:
    """Choose images, equally many from each set.

    Parameters
    ----------
    folders : sequence of Path
        Laid out as for training; or of images without labels.
    count : int
        The most images.
    split : str
        For folders that are split.

    Raises
    ------
    DataError
        If there is no such folder, or nothing in it.
    """
    sets: dict[tuple[Path, str], list[ImageEntry]] = defaultdict(list)
    for folder in folders:
        for entry in _listed(folder, split):
            sets[folder, entry.dataset].append(entry)
    if not sets:
        raise DataError("There is no image to calibrate with.")
    chosen: list[ImageEntry] = []
    of_each = -(-count // len(sets))
    turns = [evenly_spaced(entries, of_each) for entries in sets.values()]
    for number in range(of_each):
        chosen += [turn[number] for turn in turns if number < len(turn)]
    return chosen[:count]


def _listed(folder: Path, split: str) -> list[ImageEntry]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder.")
    for wanted in (split, None):
        try:
            found = find_pairs(folder, wanted)
        except DataError:  # not split, or without labels
            continue
        if found:
            return list(found)
    try:
        files = find_images([str(folder)]).images
    except FileError as error:
        raise DataError(str(error)) from error
    return [
        ImageEntry(
            file.name, folder.name, False, partial(_read, file), file_fingerprint(file)
        )
        for file in files
        if isinstance(file, Path)  # and not on a server
    ]


def _read(file: Path) -> LabelledImage:
    """Read an image without labels."""
    try:
        plane = read_plane(file)
    except (FileError, SelectionError) as error:
        raise DataError(str(error)) from error
    nothing = np.zeros(plane.pixels.shape[:2], np.int32)
    return LabelledImage.from_arrays(
        file.name,
        file.parent.name,
        plane.pixels,
        nothing,
        complete=False,
        **plane.options,
    )
