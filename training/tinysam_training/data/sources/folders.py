"""Folders of image files and label files, matched by `layout` and `pairing`.

PNG, TIFF, OME-TIFF, NPY and NPZ; JPEG for images. An NPZ file may hold both, as arrays called
``image`` (``img``, ``raw``, ``x``) and ``labels`` (``masks``, ``y``; ``labels2`` for a further
labelling).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from napari_tinysam.errors import DataError, FileError, SelectionError, sentence
from napari_tinysam.files.formats import open_stack
from napari_tinysam.files.formats.stack import UNKNOWN_AXES, Stack
from napari_tinysam.files.planes import read_plane
from napari_tinysam.frame import MAX_CHANNELS
from tinysam_training.data.findings import Finding, FoundEntries
from tinysam_training.data.fingerprints import combined, file_fingerprint
from tinysam_training.data.sources.arrays import (
    PLANE,
    image_axes,
    plane_name,
    planes_left,
    read_arrays,
)
from tinysam_training.data.sources.label_files import (
    open_labels,
    plane_counts,
    read_label_plane,
)
from tinysam_training.data.sources.layout import (
    Annotation,
    Part,
    data_files,
    parts_of,
    read_annotation,
    split_name,
)
from tinysam_training.data.sources.npz_files import npz_keys, npz_shape, read_npz
from tinysam_training.data.sources.pairing import pair_files, stem_of
from tinysam_training.labelled_image import ImageEntry, LabelledImage

# Depth of the search for sets, in folders.
_DEPTH = 3

# File types that may hold more than one plane.
_STACK_SUFFIXES = (".tif", ".tiff", ".npy", ".npz")


class ArrayFile(NamedTuple):
    """An image file, or one array (`key`) of an NPZ file."""

    path: Path
    key: str | None = None


class _Matched(NamedTuple):
    """One image and its labels, with the folder's settings."""

    name: str
    dataset: str
    image: ArrayFile
    labels: tuple[ArrayFile, ...]
    annotation: Annotation


def find_pairs(
    folder: str | Path,
    split: str | None = None,
    complete: bool = True,
    dataset: str | None = None,
) -> FoundEntries:
    """List the labelled images of a folder; of stacks, every plane that has labels.

    Files are hashed, and stacks searched for labels; other pixels are read later.

    Parameters
    ----------
    folder : path
        `tinysam_training.data.sources.layout` describes the layouts.
    split : str, optional
        "train", "val" or "test", for folders that are split; all images without.
    complete : bool
        Whether a pixel without label is background, where no ``annotation.yaml`` sets this.
    dataset : str, optional
        The set that all images belong to. Without it, the name of the folder of each set.

    Returns
    -------
    FoundEntries
        Sorted by folder and name, with findings about files that did not become entries.

    Raises
    ------
    DataError
        If the folder does not exist or holds no data (of that split), or an ``annotation.yaml``
        is wrong.
    """
    root = Path(folder).absolute()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder.")
    wanted = None if split is None else split_name(split) or split
    found = FoundEntries()
    _add_sets(found, root, wanted, dataset, Annotation(complete), 0)
    if not found and not found.findings:
        what = f"a folder {split!r} with images" if split else "images with labels"
        raise DataError(f"{root} does not hold {what}.")
    return found


def read_pair(
    image: ArrayFile,
    labels: tuple[ArrayFile, ...],
    *,
    name: str,
    dataset: str,
    annotation: Annotation,
    image_plane: tuple[int, ...] | None = None,
    label_plane: tuple[int, ...] = (),
) -> LabelledImage:
    """Read one plane of an image file and its label files.

    Parameters
    ----------
    image : ArrayFile
    labels : tuple of ArrayFile
        A layer each.
    name, dataset : str
        As of `LabelledImage`.
    annotation : Annotation
        Completeness of the labels, the channels, and whether colours are objects.
    image_plane, label_plane : tuple of int, optional
        As of `napari_tinysam.files.planes.read_plane` and `read_label_plane`.

    Raises
    ------
    DataError
        If they cannot be read or do not match.
    """
    layers = [
        read_label_plane(one.path, one.key, label_plane, colours=annotation.colours)
        for one in labels
    ]
    if len({layer.shape for layer in layers}) > 1:
        raise DataError(f"{name}: its labellings have different sizes.")
    ids = layers[0] if len(layers) == 1 else np.stack(layers)
    complete, channel = annotation.complete, annotation.channel
    if image.key is not None:
        pixels = read_npz(image.path, image.key, image_plane or ())
        return read_arrays(
            pixels,
            ids,
            name=name,
            dataset=dataset,
            axes=_axes(name, pixels.shape, layers[0].shape),
            complete=complete,
            channel=channel,
        )
    try:
        plane = read_plane(image.path, channel=channel, plane=image_plane)
    except (FileError, SelectionError) as error:
        raise DataError(str(error)) from error
    return LabelledImage.from_arrays(
        name, dataset, plane.pixels, ids, complete=complete, **plane.options
    )


def _add_sets(
    found: FoundEntries,
    folder: Path,
    split: str | None,
    dataset: str | None,
    annotation: Annotation,
    depth: int,
) -> None:
    """Add the images of a folder as a set, and those of the sets in it."""
    try:
        annotation = read_annotation(folder, annotation)
        parts, others = parts_of(folder)
        for part in parts:
            if split in (None, part.split):
                _add_part(found, folder, part, dataset, annotation)
    except OSError as error:
        found.findings.append(_unusable(sentence(error, f"{folder} cannot be read")))
        return
    if depth < _DEPTH:
        for other in others:
            _add_sets(found, other, split, dataset, annotation, depth + 1)


def _add_part(
    found: FoundEntries,
    folder: Path,
    part: Part,
    dataset: str | None,
    annotation: Annotation,
) -> None:
    """Add the images of one part of a set."""
    if dataset is None:
        is_split = split_name(folder.name) is not None
        dataset = folder.parent.name if is_split and folder.parent.name else folder.name
    inside = part.images.relative_to(folder).parts
    for count in range(1, len(inside) + 1):
        annotation = read_annotation(folder.joinpath(*inside[:count]), annotation)
    names = {entry.name.split(PLANE)[0] for entry in found}
    for stem, image, labels in _matched(part, found.findings):
        name = _new_name("/".join([dataset, *part.place, stem]), names)
        match = _Matched(name, dataset, image, labels, annotation)
        try:
            found += _entries(match)
        except DataError as error:
            found.findings.append(_unusable(str(error)))


def _matched(
    part: Part, findings: list[Finding]
) -> list[tuple[str, ArrayFile, tuple[ArrayFile, ...]]]:
    """Match images and labels; sorted by stem."""
    images, label_files = data_files(part.images), []
    if part.labels is not None:
        label_files = data_files(part.labels)
    matched = []
    for path in [p for p in images if p.suffix.lower() == ".npz"]:
        try:
            keys = npz_keys(path)
        except DataError as error:
            findings.append(_unusable(str(error)))
            images.remove(path)
            continue
        if not keys.labels:
            continue
        images.remove(path)
        if keys.image is None:
            label_files.append(path)
        else:
            labels = tuple(ArrayFile(path, key) for key in keys.labels)
            matched.append((str(stem_of(path)), ArrayFile(path, keys.image), labels))
    separate = part.labels is not None
    pairs, unpaired = pair_files(images, label_files, separate=separate)
    findings += unpaired
    for pair in pairs:
        try:
            image = _image_file(pair.image)
            labels = tuple(file for path in pair.labels for file in _label_files(path))
            matched.append((pair.stem, image, labels))
        except DataError as error:
            findings.append(_unusable(str(error)))
    return sorted(matched)


def _image_file(path: Path) -> ArrayFile:
    if path.suffix.lower() != ".npz":
        return ArrayFile(path)
    keys = npz_keys(path)
    key = keys.image or keys.only
    if key is None:
        raise DataError(f"{path} holds no array called 'image'.")
    return ArrayFile(path, key)


def _label_files(path: Path) -> list[ArrayFile]:
    if path.suffix.lower() != ".npz":
        return [ArrayFile(path)]
    keys = npz_keys(path)
    found = keys.labels or ((keys.only,) if keys.only is not None else ())
    if not found:
        raise DataError(f"{path} holds no array called 'labels'.")
    return [ArrayFile(path, key) for key in found]


def _entries(match: _Matched) -> FoundEntries:
    """One entry, or one for each plane with labels."""
    files = dict.fromkeys([match.image.path, *(one.path for one in match.labels)])
    fingerprint = combined(
        [file_fingerprint(path) for path in files],
        [match.image.key, *(one.key for one in match.labels)],
        match.annotation,
    )
    counts = _label_counts(match)
    lengths, channel = _image_planes(match, counts)
    read = partial(
        read_pair,
        match.image,
        match.labels,
        dataset=match.dataset,
        annotation=replace(match.annotation, channel=channel),
    )
    found = FoundEntries()
    for plane in itertools.product(*map(range, counts)):
        name = plane_name(match.name, plane)
        if plane and not _is_labelled(match, plane):
            continue
        left = list(plane)
        image_plane = tuple(left.pop(0) if n > 1 else 0 for n in lengths)
        found.append(
            ImageEntry(
                name,
                match.dataset,
                match.annotation.complete,
                partial(
                    read, name=name, image_plane=image_plane or None, label_plane=plane
                ),
                combined(fingerprint, plane),
                (match.name,) if plane else (),
            )
        )
    if counts:
        found.findings += planes_left(match.name, len(found), math.prod(counts))
    return found


def _label_counts(match: _Matched) -> list[int]:
    """Planes of the labels; none for a single one."""
    counts = [
        plane_counts(open_labels(one.path, one.key)) if _may_be_stack(one.path) else []
        for one in match.labels
    ]
    if any(other != counts[0] for other in counts):
        raise DataError(
            f"{match.name}: its labellings have different numbers of planes."
        )
    return counts[0]


def _image_planes(
    match: _Matched, counts: list[int]
) -> tuple[list[int], tuple[int, ...] | None]:
    """Lengths of the image's axes that are planes, and the channels to read."""
    image, channel = match.image, match.annotation.channel
    if image.key is not None:
        shape = npz_shape(image.path, image.key)
        first = match.labels[0]
        labels = open_labels(first.path, first.key)
        size = tuple(labels.shape[labels.axes.index(axis)] for axis in "YX")
        _axes(match.name, shape, (*counts, *size))
        return counts, channel
    axes, shape = "YX", ()
    if _may_be_stack(image.path):
        stack = _opened(image.path)
        axes, shape = stack.axes, stack.shape
    planes = [(a, n) for a, n in zip(axes, shape, strict=False) if a not in "YXSC"]
    lengths = [n for _, n in planes]
    if [n for n in lengths if n > 1] == counts:
        return lengths, channel
    unnamed = planes and planes[-1][0] in UNKNOWN_AXES and not set(axes) & {"S", "C"}
    if unnamed and lengths[-1] <= MAX_CHANNELS:
        lengths = lengths[:-1]
        if [n for n in lengths if n > 1] == counts:
            return lengths, channel or (0,)
    text = " × ".join(str(n) for n in lengths if n > 1) or "1"
    raise DataError(
        f"{match.name}: the image has {text} planes and its labels have "
        f"{' × '.join(map(str, counts)) or '1'}."
    )


def _is_labelled(match: _Matched, plane: tuple[int, ...]) -> bool:
    colours = match.annotation.colours
    return any(
        read_label_plane(one.path, one.key, plane, colours=colours).any()
        for one in match.labels
    )


def _axes(name: str, image: tuple[int, ...], labels: tuple[int, ...]) -> str:
    try:
        return image_axes(image, labels)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _opened(path: Path) -> Stack:
    try:
        return open_stack(path)
    except FileError as error:
        raise DataError(str(error)) from error


def _may_be_stack(path: Path) -> bool:
    return path.suffix.lower() in _STACK_SUFFIXES


def _new_name(name: str, names: set[str]) -> str:
    """Add a number to a name that already exists."""
    new, number = name, 1
    while new in names:
        number += 1
        new = f"{name} ({number})"
    names.add(new)
    return new


def _unusable(text: str) -> Finding:
    return Finding("error", "cannot be used", text)


def pair_entries(
    image: Path, labels: Path, *, name: str, dataset: str, complete: bool = True
) -> FoundEntries:
    """List the labelled planes of one image file, whatever the two files are called.

    Parameters
    ----------
    image, labels : Path
    name, dataset : str
        As of `LabelledImage`.
    complete : bool
        Whether a pixel without label is background.

    Raises
    ------
    DataError
        If they cannot be read or do not match.
    """
    files = tuple(_label_files(labels))
    match = _Matched(name, dataset, _image_file(image), files, Annotation(complete))
    return _entries(match)
