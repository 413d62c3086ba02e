"""Layouts of training folders: sets, splits, folders for images and for labels.

A folder may have any of these layouts, with file names as in `pairing`:

- a folder of files, ``NAME.tif`` and ``NAME_label.tif``;
- a folder with ``images/`` and ``labels/`` (or ``masks/``), of files with the same names;
- a set: a folder with ``train/`` and ``val/``, each one of the above, or the other way around;
- a folder of sets.

A folder may hold ``annotation.yaml``, which applies to it and the folders in it::

    complete: false   # pixels without label are unknown, not background
    channel: [1, 0]   # which channels the model sees, counted from 0
    colours: objects  # labels are pictures in which each object has a colour of its own
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_tinysam.errors import DataError
from tinysam_training.data.sources.pairing import stem_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ANNOTATION_FILE = "annotation.yaml"

# Common names of the folders of a split.
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "raw")
_LABEL_FOLDERS = ("labels", "label", "masks", "mask", "instances", "annotations", "gt")


@dataclass(frozen=True)
class Annotation:
    """A folder's settings for its images.

    Parameters
    ----------
    complete : bool
        Whether a pixel without label is background.
    channel : tuple of int or None
        Which channels the model sees.
    colours : bool
        Whether each colour of a coloured label file is an object.
    """

    complete: bool = True
    channel: tuple[int, ...] | None = None
    # Not part of fingerprints: without it such files cannot be used at all.
    colours: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class Part:
    """Folders whose files are matched with each other.

    Parameters
    ----------
    images : Path
        The folder of images, and of labels if these have no separate folder.
    labels : Path or None
        The folder of labels.
    split : str or None
        "train", "val" or "test", where the set is split.
    place : tuple of str
        Names of the folders between the set and the images, which distinguish images.
    """

    images: Path
    labels: Path | None
    split: str | None = None
    place: tuple[str, ...] = ()


def split_name(name: str) -> str | None:
    """Return "train", "val" or "test" for their common names, else None."""
    lower = name.lower()
    return next((split for split, names in _SPLITS.items() if lower in names), None)


def data_files(folder: Path) -> list[Path]:
    """List the data files by their names, without hidden files.

    Raises
    ------
    OSError
        If the folder may not be read.
    """
    return sorted(path for path in _visible(folder) if stem_of(path) is not None)


def parts_of(folder: Path) -> tuple[list[Part], list[Path]]:
    """Read a folder as a set.

    Returns
    -------
    list of Part
        Its images; none if it is not a set.
    list of Path
        Other folders in it, each perhaps a set.

    Raises
    ------
    OSError
        If a folder may not be read.
    """
    folders = _folders(folder)
    images = _first(folders, _IMAGE_FOLDERS)
    labels = _first(folders, _LABEL_FOLDERS)
    parts = [
        Part(
            _first(_folders(path), _IMAGE_FOLDERS) or path,
            _first(_folders(path), _LABEL_FOLDERS),
            split_name(path.name),
            (path.name,),
        )
        for path in folders
        if split_name(path.name)
    ]
    if images is not None:
        inside = [path for path in _folders(images) if split_name(path.name)]
        for path in inside:  # images/train and labels/train
            own = labels / path.name if labels is not None else None
            if own is not None and not own.is_dir():
                own = None
            parts.append(Part(path, own, split_name(path.name), (path.name,)))
        if not inside:
            parts.append(Part(images, labels))
    if data_files(folder):
        parts.append(Part(folder, labels if images is None else None))
    taken = (*_IMAGE_FOLDERS, *_LABEL_FOLDERS) if parts else ()
    others = [
        path
        for path in folders
        if path.name.lower() not in taken and split_name(path.name) is None
    ]
    return parts, others


def read_annotation(folder: Path, default: Annotation) -> Annotation:
    """Read the ``annotation.yaml`` of a folder.

    Parameters
    ----------
    folder : Path
    default : Annotation
        For missing keys.

    Raises
    ------
    DataError
        If it cannot be read, or has keys or values that `Annotation` does not allow.
    """
    path = folder / ANNOTATION_FILE
    if not path.is_file():
        return default
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read as YAML.") from error
    found = {} if found is None else found
    known = {"complete", "channel", "colours"}
    if not isinstance(found, dict) or not set(found) <= known:
        raise DataError(f"{path} may contain only 'complete', 'channel' and 'colours'.")
    complete = found.get("complete", default.complete)
    if not isinstance(complete, bool):
        raise DataError(f"{path}: 'complete' is true or false, not {complete!r}.")
    channel = found.get("channel", default.channel)
    if type(channel) is int:
        channel = [channel]
    if channel is not None and not (
        isinstance(channel, list | tuple)
        and 1 <= len(channel) <= 3
        and all(type(number) is int and number >= 0 for number in channel)
    ):
        raise DataError(f"{path}: 'channel' is one to three numbers, counted from 0.")
    if found.get("colours", "objects") != "objects":
        raise DataError(f"{path}: 'colours' may only be 'objects'.")
    return Annotation(
        complete,
        None if channel is None else tuple(channel),
        default.colours or "colours" in found,
    )


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _folders(folder: Path) -> list[Path]:
    """List sub-folders by name, without those named like a file."""
    return sorted(p for p in _visible(folder) if stem_of(p) is None and p.is_dir())


def _first(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """Find the folder whose name comes first among the names."""
    by_name = {path.name.lower(): path for path in reversed(folders)}
    return next((by_name[name] for name in names if name in by_name), None)
