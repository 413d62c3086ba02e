"""Images and labels in arrays, such as the layers of a viewer."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import DataError, sentence
from napari_tinysam.frame import MAX_CHANNELS
from tinysam_training.data.findings import Finding, FoundEntries
from tinysam_training.data.fingerprints import array_fingerprint, combined
from tinysam_training.labelled_image import ImageEntry, LabelledImage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tinysam.image import Channels


#: Between the name of a stack and the numbers of one of its planes.
PLANE = "/plane "


def from_arrays(
    images: Sequence[Any],
    labels: Sequence[Any],
    names: Sequence[str] | None = None,
    *,
    dataset: str = "arrays",
    complete: bool = True,
    channel: Channels | None = None,
) -> FoundEntries:
    """List images in arrays: every plane that has labels.

    Parameters
    ----------
    images : sequence of array-like
        Each (…, Y, X), (…, Y, X, C) or (…, C, Y, X): numpy, dask, zarr. Not copied.
    labels : sequence of array-like
        Each (…, Y, X) of whole numbers, with the planes of its image. Copied at once.
    names : sequence of str, optional
        A name for each image; by default "image 1" and so on.
    dataset : str
        The set that they belong to.
    complete : bool
        Whether a pixel without label is background.
    channel : int or sequence of int, optional
        Which channels the model sees; see `napari_tinysam.image.to_rgb`.

    Returns
    -------
    FoundEntries
        With findings about images that cannot be used.

    Raises
    ------
    DataError
        If the numbers of images, labels and names differ.
    """
    if names is None:
        names = [f"image {number}" for number in range(1, len(images) + 1)]
    if not len(images) == len(labels) == len(names):
        raise DataError(
            f"There are {len(images)} images, {len(labels)} labels and {len(names)} names."
        )
    found = FoundEntries()
    for image, ids, name in zip(images, labels, names, strict=True):
        full_name = f"{dataset}/{name}"
        options = {"complete": complete, "channel": channel}
        try:
            found += _entries(image, ids, full_name, dataset, options)
        except DataError as error:
            found.findings.append(Finding("error", "cannot be used", f"{error}"))
    return found


def image_axes(image: tuple[int, ...], labels: tuple[int, ...]) -> str:
    """Infer the axes of an image from the shape of its labels.

    Parameters
    ----------
    image : tuple of int
        Shape of the image.
    labels : tuple of int
        Shape of its labels, (…, Y, X).

    Returns
    -------
    str
        A letter for each axis of the image: Q for planes, Y, X, S for channels after these and C
        for channels before.

    Raises
    ------
    DataError
        If the image is of another size or has other planes.
    """
    planes, size = labels[:-2], labels[-2:]
    lead = "Q" * len(planes)
    after = image[len(planes) :]
    if image[: len(planes)] == planes:
        if after == size:
            return lead + "YX"
        if len(after) == 3 and after[:2] == size and after[2] <= MAX_CHANNELS:
            return lead + "YXS"
        if len(after) == 3 and after[1:] == size and after[0] <= MAX_CHANNELS:
            return lead + "CYX"
    raise DataError(
        f"the image of shape {image} and its labels of shape {labels} do not fit."
    )


def read_arrays(
    image: Any,
    labels: Any,
    *,
    name: str,
    dataset: str,
    axes: str,
    plane: tuple[int, ...] = (),
    complete: bool = True,
    channel: Channels | None = None,
) -> LabelledImage:
    """Read one plane of an image.

    Parameters
    ----------
    image : array-like
        The whole stack.
    labels : array-like
        (H, W) or (L, H, W), of the plane.
    name, dataset, complete
        As of `LabelledImage`.
    axes : str
        Of the image, see `image_axes`.
    plane : tuple of int
        An index for each Q in front.
    channel : int or sequence of int, optional
        See `napari_tinysam.image.to_rgb`.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        # A copy: the array's owner may change it later.
        pixels = np.array(image[plane] if plane else image)
    except Exception as error:  # lazy arrays read files, which can raise any error
        raise DataError(sentence(error, f"{name} cannot be read")) from error
    options: dict[str, Any] = {"channel": channel}
    if pixels.ndim == 3:
        options["channel_axis"] = 0 if "C" in axes else 2
    return LabelledImage.from_arrays(
        name, dataset, pixels, labels, complete=complete, **options
    )


def _entries(
    image: Any, labels: Any, name: str, dataset: str, options: dict[str, Any]
) -> FoundEntries:
    image = image if hasattr(image, "shape") else np.asarray(image)
    labels = labels if hasattr(labels, "shape") else np.asarray(labels)
    if len(labels.shape) < 2:
        raise DataError(
            f"{name}: the labels of shape {labels.shape} do not form an image."
        )
    try:
        axes = image_axes(tuple(image.shape), tuple(labels.shape))
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    found = FoundEntries()
    counts = labels.shape[:-2]
    for plane in itertools.product(*map(range, counts)):
        ids = np.array(labels[plane] if plane else labels)
        if plane and not ids.any():
            continue
        own_name = plane_name(name, plane)
        read = partial(
            read_arrays,
            image,
            ids,
            name=own_name,
            dataset=dataset,
            axes=axes,
            plane=plane,
            **options,
        )
        pixels = np.asarray(image[plane] if plane else image)
        fingerprint = combined(
            array_fingerprint(pixels), array_fingerprint(ids), sorted(options.items())
        )
        found.append(
            ImageEntry(
                own_name,
                dataset,
                options["complete"],
                read,
                fingerprint,
                (name,) if plane else (),
            )
        )
    if counts:
        found.findings += planes_left(name, len(found), int(np.prod(counts)))
    return found


def plane_name(name: str, plane: tuple[int, ...]) -> str:
    """Name one plane of a stack; a single image keeps its name."""
    return f"{name}{PLANE}{','.join(map(str, plane))}" if plane else name


def planes_left(name: str, labelled: int, count: int) -> list[Finding]:
    """Report the number of planes of a stack that are unused for lack of labels."""
    if labelled == count:
        return []
    if labelled == 0:
        return [Finding("error", "no objects", f"{name} has no labels in any plane.")]
    text = f"{name}: {count - labelled} of {count} planes have no labels."
    return [Finding("warning", "planes without labels", text)]
