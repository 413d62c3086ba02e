"""The files that a batch segments, and the names of their results."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from napari_tinysam.errors import FileError
from napari_tinysam.files.formats import IMAGE_SUFFIXES
from napari_tinysam.files.formats.ome_zarr import (
    LABELS,
    field_name,
    fields_of_plate,
    is_zarr,
    stem_of_zarr,
)
from napari_tinysam.files.names import is_result
from napari_tinysam.files.remote import ImagePath, RemotePath, is_address

LabelsForm = Literal["tiff", "ome-zarr", "inside"]

#: Name of the labels in an OME-Zarr image.
INSIDE = "tinysam"


class FoundImages(NamedTuple):
    """Files to be segmented.

    Attributes
    ----------
    images : list of Path or RemotePath
    passed_over : list of Path
        Files that are named like labels or another result of one of them.
    """

    images: list[ImagePath]
    passed_over: list[ImagePath]


@dataclass(frozen=True)
class Job:
    """An image file to segment, and where its results go.

    Attributes
    ----------
    image : Path or RemotePath
    folder : Path
    stem : str
        First part of the results' names.
    labels_form : {"tiff", "ome-zarr", "inside"}
        A TIFF file, an OME-Zarr folder, or a part of the OME-Zarr image itself.
    """

    image: ImagePath
    folder: Path
    stem: str
    labels_form: LabelsForm = "tiff"

    def result(self, ending: str) -> Path:
        """Where the result goes whose name ends like this."""
        return self.folder / f"{self.stem}{ending}"

    @property
    def holder(self) -> Path | None:
        """The OME-Zarr image that holds the labels, if they are written inside."""
        if self.labels_form == "inside" and isinstance(self.image, Path):
            return self.image
        return None

    @property
    def name(self) -> str:
        """Name of the image."""
        return field_name(self.image) or self.image.name

    @property
    def labels(self) -> Path:
        """Where the labels go."""
        if self.holder is not None:
            return self.holder / LABELS / INSIDE
        zarr = self.labels_form == "ome-zarr"
        return self.result("_labels.ome.zarr" if zarr else "_labels.tif")

    def table(self, form: str = "csv") -> Path:
        """Where the table of objects goes, in one of `tables.TABLE_FORMS`."""
        return self.result(f"_objects.{form}")

    @property
    def overlay(self) -> Path:
        """Where the picture goes."""
        return self.result("_overlay.png")


def find_images(names: Sequence[str]) -> FoundImages:
    """List the images that file names, folders and patterns stand for.

    Parameters
    ----------
    names : sequence of str
        A folder stands for the images directly in it; an OME-Zarr folder is an image, or a plate
        that stands for its fields. Patterns such as ``*.tif`` are expanded
        here, because not every shell does it, unless a file has that very name. Files that are
        named like labels or an overlay of another file are passed over; a file given by its own
        name is passed over only if that other file is given too. Addresses such as
        ``https://…/image.ome.zarr`` are those of OME-Zarr images and plates.

    Returns
    -------
    FoundImages
        Each once, in the order of `names`; sorted within a folder or pattern.

    Raises
    ------
    FileError
        If a name stands for nothing.
    """
    found: dict[ImagePath, None] = {}
    passed: dict[ImagePath, None] = {}
    named: list[Path] = []
    inside: Sequence[ImagePath]
    for name in names:
        if is_address(name):
            address = RemotePath.of(name)
            found |= dict.fromkeys(fields_of_plate(address) or [address])
            continue
        path = Path(name).expanduser()
        if is_zarr(path):
            inside = fields_of_plate(path) or [path]
        elif path.is_dir():
            inside = _images_of(sorted(path.iterdir()), passed)
            if not inside:
                raise FileError(f"There are no images in the folder {path}.")
        elif path.exists() or not glob.has_magic(name):
            inside = [path]  # reading it will show whether it is an image
            named.append(path)
        else:
            matches = sorted(glob.glob(str(path), recursive=True))
            inside = _images_of([Path(match) for match in matches], passed)
            if not inside:
                raise FileError(f"No image is called {name}.")
        found |= dict.fromkeys(inside)
    for path in named:
        beside = frozenset(_stem(p) for p in named if p.parent == path.parent)
        if is_result(_stem(path), beside - {_stem(path)}) and len(named) > 1:
            passed[path] = None
    return FoundImages([p for p in found if p not in passed], list(passed))


def _images_of(files: Sequence[Path], passed: dict[ImagePath, None]) -> list[ImagePath]:
    """Return the files that may be images; those named like results of one go to `passed`."""
    found = [path for path in files if _may_be_image(path)]
    candidates: list[ImagePath] = [
        each for path in found for each in fields_of_plate(path) or [path]
    ]
    beside: dict[ImagePath, set[str]] = {}
    for path in candidates:
        beside.setdefault(path.parent, set()).add(_stem(path))
    images = []
    for path in candidates:
        others = frozenset(beside[path.parent] - {_stem(path)})
        if is_result(_stem(path), others):
            passed[path] = None
        else:
            images.append(path)
    return images


def _may_be_image(path: Path) -> bool:
    if is_zarr(path):  # but not what is in one, which a pattern may match
        return not any(is_zarr(parent) for parent in path.parents)
    return (
        path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def _stem(path: ImagePath) -> str:
    """File name without its suffix and without ``.ome``; ``PLATE_A01_0`` for a field."""
    if isinstance(path, RemotePath) or is_zarr(path):
        return field_name(path) or stem_of_zarr(path)
    return path.stem.removesuffix(".ome").removesuffix(".OME")


def taken_stems(jobs: Sequence[Job]) -> frozenset[str]:
    """Return the stems of jobs, case-folded, that look like a number of another job's.

    Results that get a number (see `find_place`) use none of them. The others cannot be meant, so
    that this stays short also for a million files.
    """
    stems = {job.stem.casefold() for job in jobs}
    return frozenset(stem for stem in stems if stem.rpartition("_")[0] in stems)


def jobs_for(images: Sequence[ImagePath], folder: Path) -> list[Job]:
    """Name the results of images.

    Images that share a stem keep their suffixes: ``a.tif`` and ``a.png`` become ``a_tif`` and
    ``a_png``. Images of the same name from different folders are numbered.

    Parameters
    ----------
    images : sequence of Path
        The field of a plate is called after plate and well, such as ``PLATE_A01_0``.
    folder : Path
    """
    stems = Counter(_stem(image).casefold() for image in images)
    names = [
        _stem(image)
        if stems[_stem(image).casefold()] == 1 or field_name(image)
        else image.name.replace(".", "_")
        for image in images
    ]
    again: Counter[str] = Counter()
    doubled = Counter(name.casefold() for name in names)
    jobs = []
    for image, name in zip(images, names, strict=True):
        if doubled[name.casefold()] > 1:
            again[name.casefold()] += 1
            name = f"{name}_{again[name.casefold()]}"
        jobs.append(Job(image, folder, name))
    return jobs
