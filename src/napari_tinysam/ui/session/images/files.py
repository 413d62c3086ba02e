"""Files of a list of images: which there are, their pixels, and labels of any program beside them.

All of it reads from disks, which may be slow: for threads other than the window's.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from napari.layers._source import layer_source

from napari_tinysam.errors import FileError, TinySAMError, explained
from napari_tinysam.files.formats import open_stack
from napari_tinysam.files.formats.ome_zarr import LABELS, is_zarr
from napari_tinysam.files.label_store import LARGEST_IN_MEMORY, LabelStore
from napari_tinysam.files.mark import mark_of
from napari_tinysam.files.names import as_label, image_base
from napari_tinysam.ui.session.auto.opening import read_pyramid
from napari_tinysam.ui.session.images.class_files import read_classes
from napari_tinysam.ui.session.labels.outputs import committed_name
from napari_tinysam.ui.state.image_list import EntryState, ImageEntry, ImageList
from napari_tinysam.ui.state.planes import (
    certain_channel_axis,
    empty_labels,
    full_shape,
    transform_for_labels,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_tinysam.files.mark import FileMark


#: Suffixes of label files that are read.
_LABEL_SUFFIXES = (".tif", ".tiff", ".png", ".npy", ".bmp", ".gif")

#: Folders of labels beside a folder of images.
_LABEL_FOLDERS = ("labels", "masks", "label", "mask")


@dataclass(eq=False)
class OpenedEntry:
    """An image of the list as layers, which may be in the viewer or not.

    Parameters
    ----------
    entry : ImageEntry
    image : napari.layers.Image
    labels : napari.layers.Labels or None
        What its file held; None while there is no file.
    warning : str
        What is wrong with its label file; "" if nothing is.
    file : Path or None
        Where its labels are saved; None: nobody has said where.
    classes : dict of int to str
        Names of the classes of its objects, as its file says.
    mark : FileMark or None
        Tells that this file is still the one that was read.
    old_labels : Path or None
        A file in the place of its labels that is not theirs: kept aside before they are written.
    """

    entry: ImageEntry
    image: Image
    labels: Labels | None = None
    warning: str = ""
    file: Path | None = None
    classes: dict[int, str] = field(default_factory=dict)
    mark: FileMark | None = None
    old_labels: Path | None = None


def find_list(sources: Sequence[Path]) -> ImageList:
    """List the images of folders, files, OME-Zarr images and plates.

    Raises
    ------
    FileError
        If there are none.
    """
    from napari_tinysam.batch.jobs import find_images, jobs_for

    sources = tuple(path.absolute() for path in sources)
    found = find_images([str(path) for path in sources])
    paths = [path for path in found.images if isinstance(path, Path)]
    if not paths:
        raise FileError("There are no images there.")
    # As if all went into one folder, so that another folder can be chosen at any time.
    jobs = jobs_for(paths, paths[0].parent)
    entries = [
        ImageEntry(job.stem, path) for job, path in zip(jobs, paths, strict=True)
    ]
    images = ImageList(sources, entries)
    folders: dict[Path | None, list[ImageEntry]] = {}
    for entry in entries:
        folders.setdefault(images.labels_folder(entry), []).append(entry)
    for folder, inside in folders.items():
        of_folder = [entry.path for entry in inside if entry.path is not None]
        for entry, job in zip(
            inside, jobs_for(of_folder, folder or Path()), strict=True
        ):
            entry.stem = job.stem
    note_label_files(images)
    return images


def note_label_files(images: ImageList) -> None:
    """Find the label files of a list's images that have none yet, and mark these as started."""
    beside: dict[Path, list[Path]] = {}
    for entry in images.entries:
        if entry.labels is None and entry.path is not None:
            files = label_files(images, entry, beside)
            entry.labels = next((file for file in files if not is_pickled(file)), None)
            if entry.labels is not None and entry.state is EntryState.NEW:
                entry.state = EntryState.STARTED


def label_files(
    images: ImageList, entry: ImageEntry, beside: dict[Path, list[Path]] | None = None
) -> list[Path]:
    """Return the files that may hold the labels of an image: ours, then other programs'.

    Parameters
    ----------
    images : ImageList
    entry : ImageEntry
    beside : dict, optional
        Keeps the files of folders that were looked into.
    """
    beside = {} if beside is None else beside
    own, path = images.labels_file(entry), entry.path
    found = [own] if own is not None and own.is_file() else []
    if path is None:
        return found
    stem = _stem(path)
    bases = {stem, image_base(stem)}
    named = []
    for file in _files(path.parent, beside):
        label = as_label(file.stem)
        if label is not None and label.base in bases and file != path:
            named.append((label.family, label.number, file))
    found += [file for *_, file in sorted(named) if file not in found]
    for folder in _LABEL_FOLDERS:  # images/a.tif and labels/a.tif
        for file in _files(path.parent.parent / folder, beside):
            label = as_label(file.stem)
            if file.stem in bases or (label is not None and label.base in bases):
                found.append(file)
    inside = path / LABELS
    if is_zarr(path) and inside.is_dir():
        found += sorted(each for each in inside.iterdir() if is_zarr(each))
    return found


def _stem(path: Path) -> str:
    return path.stem.removesuffix(".ome").removesuffix(".OME")


def _files(folder: Path, beside: dict[Path, list[Path]]) -> list[Path]:
    """Files of a folder that may be labels; none if it cannot be read."""
    if folder not in beside:
        try:
            beside[folder] = sorted(
                path
                for path in folder.iterdir()
                if path.suffix.lower() in _LABEL_SUFFIXES
                and not path.name.startswith(".")
            )
        except OSError:
            beside[folder] = []
    return beside[folder]


# --- pixels ------------------------------------------------------------------------------


def open_entry(images: ImageList, entry: ImageEntry) -> OpenedEntry:
    """Read an image and its labels, as layers that are in no viewer yet.

    Raises
    ------
    TinySAMError
        If the image cannot be read. Labels that cannot be read are a warning.
    """
    path = entry.path
    if path is None:
        raise FileError(f"{entry.name} is in no file.")
    if not path.exists():
        raise FileError(f"{path.name} is not there any more.")
    with explained(f"{path.name} cannot be opened"):
        image = _image_layer(path, entry.name)
    opened = OpenedEntry(entry, image)
    own = images.labels_file(entry)
    for file in _candidates(images, entry):
        opened.mark = mark_of(file) if file == own else None
        try:
            with explained(f"{file.name} cannot be opened"):
                opened.labels = _labels_layer(image, file)
        except TinySAMError as error:
            opened.warning = opened.warning or str(error)
            if file == own:
                opened.old_labels = file
                opened.warning = (
                    f"{error} It is kept as {kept_aside(file).name} when you save."
                )
            continue
        entry.labels, opened.classes = file, read_classes(file)
        return opened
    entry.labels = None
    return opened


def _candidates(images: ImageList, entry: ImageEntry) -> list[Path]:
    found = label_files(images, entry)
    known = entry.labels
    if known is not None and known.exists() and known not in found:
        found.append(known)
    return found


def _image_layer(path: Path, name: str) -> Image:
    axes: str = ""
    if is_zarr(path):
        pixels, rgb = read_pyramid(path), False
    else:
        stack = open_stack(path)
        axes, pixels = stack.axes, stack.read((None,) * len(stack.shape))
        rgb = axes.endswith("S") and pixels.shape[-1] in (3, 4)
        if axes.endswith("S") and not rgb:  # napari shows the last two axes
            axes, pixels = f"C{axes[:-1]}", np.moveaxis(pixels, -1, 0)
            if pixels.shape[0] == 1:
                axes, pixels = axes[1:], pixels[0]
        axes = axes[:-1] if rgb else axes
    named = any(axis in "CZT" for axis in axes)
    with layer_source(path=str(path)):
        return Image(
            pixels,
            name=name,
            rgb=rgb,
            multiscale=isinstance(pixels, list),
            axis_labels=tuple(axes.lower()) if named else None,
        )


def _labels_layer(image: Image, file: Path) -> Labels:
    """Make a layer of a label file; raises `TinySAMError` if it does not fit the image."""
    labels = read_labels(file)
    shape, axis = full_shape(image), certain_channel_axis(image)
    plain = shape if axis is None else shape[:axis] + shape[axis + 1 :]
    if _long(labels.shape) == _long(plain):
        labels = labels.reshape(plain)
    elif labels.shape == shape:
        axis = None
    else:
        raise FileError(
            f"{file.name} has {_size(labels.shape)} pixels and the image {_size(plain)}, so it is "
            "not shown."
        )
    data: Any = labels
    if axis not in (None, 0):  # the same labels in all channels
        data = empty_labels(image, axis, labels.dtype)
        data[...] = np.expand_dims(labels, axis)
    large = shape[-1] * shape[-2] > LARGEST_IN_MEMORY
    if large:
        store = LabelStore(labels.shape)
        for plane in np.ndindex(labels.shape[:-2]):
            places = np.nonzero(labels[plane])
            whole = [np.full(len(places[0]), at) for at in plane]
            store.write([*whole, *places], labels[plane][places])
        data = store.levels
    with layer_source(path=str(file)):
        return Labels(
            data,
            name=committed_name(image),
            opacity=0.6,
            multiscale=large,
            **transform_for_labels(image, axis),
        )


def read_labels(file: Path) -> npt.NDArray[np.uint32]:
    """Read all planes of a label file.

    Raises
    ------
    TinySAMError
        If it holds no labels.
    """
    if is_zarr(file):
        stack = open_stack(file)
        found = stack.read((None,) * len(stack.shape))
    else:
        from tinysam_training.data.sources.label_files import (
            open_labels,
            plane_counts,
            read_label_plane,
        )

        if is_pickled(file):
            raise FileError(
                f"{file.name} is not opened: it holds Python objects, which may run programs. "
                "Save the masks as PNG or TIFF in the program that made it."
            )
        counts = plane_counts(open_labels(file))
        if counts:
            places = itertools.product(*map(range, counts))
            planes = [read_label_plane(file, plane=place) for place in places]
            found = np.stack(planes).reshape(*counts, *planes[0].shape)
        else:
            found = read_label_plane(file)
    if found.dtype.kind not in "uib" and not np.array_equal(found, np.rint(found)):
        raise FileError(f"{file.name} holds fractions, not numbers of objects.")
    if found.size and (found.min() < 0 or found.max() > np.iinfo(np.uint32).max):
        raise FileError(f"{file.name} holds numbers that are no labels.")
    return found.astype(np.uint32)


def count_in_file(file: Path) -> int:
    """Count the objects of a label file; raises `TinySAMError` if it holds none that are read."""
    return count_objects(read_labels(file))


def is_pickled(file: Path) -> bool:
    """Whether a file holds Python objects, as Cellpose's NAME_seg.npy: to read them is unsafe."""
    if file.suffix.lower() != ".npy":
        return False
    try:
        with open(file, "rb") as opened:
            return b"O'" in opened.read(128)
    except OSError:
        return False


def kept_aside(file: Path) -> Path:
    """Return the name under which a file is kept that is in the place of new labels."""
    for number in itertools.count(1):
        ending = ".old" if number == 1 else f".old{number}"
        aside = file.with_name(f"{file.name}{ending}")
        if not aside.exists():
            return aside
    raise AssertionError


def count_objects(labels: npt.NDArray[Any]) -> int:
    """Count the different labels of an array, without 0."""
    if not labels.size:
        return 0
    highest = int(labels.max())
    if highest < 2**20 and labels.dtype.kind == "u":
        return int(np.count_nonzero(np.bincount(labels.ravel())[1:]))
    return int(np.count_nonzero(np.unique(labels)))


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Leave out axes of one place."""
    return tuple(length for length in shape if length > 1)


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(str(length) for length in shape)
