"""Where label files come from: their image and settings, and whether they still match.

A label file notes this in its own description. A second run finds finished work, whatever the files
are called, and never replaces labels that somebody changed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from napari_tinysam.files.formats.ome_zarr import LABELS, read_group
from napari_tinysam.files.ome_zarr import read_note
from napari_tinysam.files.remote import RemotePath

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.batch.jobs import Job, LabelsForm
    from napari_tinysam.files.remote import ImagePath

#: Start of the description in label files of this command.
_SIGNATURE = "napari-tinysam auto "


class Provenance(NamedTuple):
    """The settings and the image that labels are made from.

    Attributes
    ----------
    settings : dict
        All that the labels of an image depend on.
    content : str
        Hash of the image file.
    image : str
        Path of the image, relative to the folder of the labels.
    """

    settings: dict[str, Any]
    content: str
    image: str = ""

    def description(self, job: Job) -> str:
        """Return the text that the label file of a job keeps."""
        known = {"settings": self.settings, "content": self.content}
        return _SIGNATURE + json.dumps(
            {**known, "image": _address(job)}, sort_keys=True
        )

    @classmethod
    def of(cls, path: Path) -> Provenance | None:
        """Read it from a label file; None if another program wrote the file."""
        text = _description(path)
        if not text.startswith(_SIGNATURE):
            return None
        try:
            found = json.loads(text[len(_SIGNATURE) :])
            return cls(found["settings"], str(found["content"]), str(found["image"]))
        except (ValueError, KeyError, TypeError):
            return cls({}, "")  # from a version that did not note it


def find_place(
    job: Job,
    wanted: Provenance,
    others: frozenset[str],
    forms: Sequence[LabelsForm] = ("tiff",),
) -> tuple[Job, Literal["new", "there", "foreign"], tuple[str, ...]]:
    """Find the names of a job's results, and whether the results exist.

    Labels of another image of the same name, made by this command, are kept: the new ones get a
    number.

    Parameters
    ----------
    job : Job
    wanted : Provenance
        Of the labels to be made.
    others : frozenset of str
        Stems of the other jobs, case-folded; none of them is used.
    forms : sequence of str
        Of labels, in which they may be there. The first is that of new labels.

    Returns
    -------
    job : Job
        With the stem and the form of labels to use.
    state : {"new", "there", "foreign"}
        "new" also where labels of this image were made with other settings.
    notes : tuple of str
        Why the results got a number.
    """
    notes: tuple[str, ...] = ()
    for number in itertools.count(1):
        here = replace(job, labels_form=forms[0])
        if number > 1:
            here = replace(here, stem=f"{job.stem}_{number}")
        if number > 1 and here.stem.casefold() in others:
            continue
        there = [replace(here, labels_form=form) for form in forms]
        here = next((each for each in there if each.labels.exists()), here)
        if not here.labels.exists():
            return here, "new", notes
        made = Provenance.of(here.labels)
        if made is None:
            if number == 1 or here.labels_form == "inside":
                return here, "foreign", ()
            continue
        if made.content == wanted.content:
            same = made.settings == wanted.settings
            return here, "there" if same else "new", notes
        if here.labels_form == "inside":  # labels of the image that holds them
            return here, "new", notes
        # The image was exported again, or the labels are from before images were noted.
        if made.image in ("", _address(here)):
            return here, "new", notes
        if not notes:
            notes = (
                f"{here.labels} holds the objects of another image, {made.image}; the results of "
                f"{job.image} get a number.",
            )
    raise AssertionError("there is always one more number")


def _address(job: Job) -> str:
    """Path of the image, relative to the folder of the labels; of a remote one its address."""
    if isinstance(job.image, RemotePath):
        return str(job.image)
    image, folder = job.image.resolve(), job.folder.resolve()
    try:
        return Path(os.path.relpath(image, folder)).as_posix()
    except ValueError:  # on another drive
        return image.as_posix()


def content_hash(path: ImagePath) -> str:
    """Hash a file; "" if it cannot be read, which is reported when it is opened.

    Of an OME-Zarr folder the names, sizes and times of its files count: reading all chunks would
    take longer than the work. Its labels do not count. Of a remote one its address and what it says
    of itself count: servers do not list their files.
    """
    if isinstance(path, RemotePath):
        group = read_group(path)
        known = f"{path} {'' if group is None else json.dumps(group.described, sort_keys=True)}"
        return hashlib.sha256(known.encode()).hexdigest()[:32]
    try:
        if path.is_dir():
            return _folder_hash(path)
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except (OSError, ValueError):
        return ""


def _folder_hash(path: Path) -> str:
    files = []
    for folder, below, names in os.walk(path):
        if folder == str(path) and LABELS in below:
            below.remove(LABELS)
        for name in names:
            file = os.path.join(folder, name)
            known = os.stat(file)
            place = Path(file).relative_to(path).as_posix()
            files.append(f"{place} {known.st_size} {known.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(files)).encode()).hexdigest()[:32]


def _description(path: Path) -> str:
    """Read the description of labels as TIFF or OME-Zarr; "" for anything else."""
    if path.is_dir():
        return read_note(path)
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            return str(tiff.pages.first.description)
    except Exception:  # noqa: BLE001  # however a file is broken, it is not ours
        return ""
