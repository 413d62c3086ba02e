"""A finished file of a batch: read in the background, shown as an image and its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from napari.layers._source import layer_source

from napari_tinysam.errors import FileError, explained
from napari_tinysam.files.formats import open_stack
from napari_tinysam.files.formats.ome_zarr import is_zarr, read_group

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel


@dataclass(frozen=True)
class FileResult:
    """What became of a file.

    Attributes
    ----------
    image, labels : Path
    state : str
        As of `napari_tinysam.batch.settings.FileOutcome`.
    objects : int
    reason : str
        Why it failed.
    """

    image: Path
    labels: Path
    state: str
    objects: int = 0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class ReadResult:
    """What was read of a file and its labels.

    Attributes
    ----------
    result : FileResult
    pixels, labels : array, or list of array
        A list is a pyramid; its levels are read when they are shown.
    rgb : bool
        Whether the last axis of the pixels holds colours.
    """

    result: FileResult
    pixels: Any
    labels: Any
    rgb: bool


def read_result(result: FileResult) -> ReadResult:
    """Read a file and its labels. For any thread; raises `TinySAMError`."""
    image, labels = result.image, result.labels
    with explained(f"{image.name} cannot be opened"):
        if is_zarr(image):
            pixels, rgb = read_pyramid(image), False
        else:
            stack = open_stack(image)
            pixels = stack.read((None,) * len(stack.shape))
            rgb = stack.axes.endswith("S") and pixels.shape[-1] in (3, 4)
    with explained(f"{labels.name} cannot be opened"):
        return ReadResult(result, pixels, _labels_in(labels), rgb)


def show_result(viewer: ViewerModel, read: ReadResult) -> None:
    """Add an image and its labels to the viewer, or select the image if both are there.

    Other images and labels are hidden: they would show around a smaller one, and through it.
    """
    image, labels = read.result.image, read.result.labels
    theirs = [each for each in viewer.layers if isinstance(each, (Image, Labels))]
    opened = {layer.source.path or "": layer for layer in theirs}
    both = str(image), str(labels)
    for layer in theirs:
        layer.visible = layer.source.path in both
    if all(path in opened for path in both):
        viewer.layers.selection.active = opened[str(image)]
        return
    with layer_source(path=str(image)):
        shown = Image(
            read.pixels,
            name=image.name.partition(".")[0],
            rgb=read.rgb,
            multiscale=isinstance(read.pixels, list),
        )
    viewer.add_layer(shown)
    with layer_source(path=str(labels)):
        objects = Labels(
            read.labels,
            name=f"{shown.name}_labels",
            opacity=0.6,
            multiscale=isinstance(read.labels, list),
        )
    viewer.add_layer(objects)
    viewer.layers.selection.active = shown
    viewer.fit_to_view()


def _labels_in(path: Path) -> Any:
    """Read labels; all of them if they are a TIFF file."""
    if is_zarr(path):
        return read_pyramid(path)
    import tifffile

    return np.asarray(tifffile.imread(path))


def read_pyramid(path: Path) -> Any:
    """Open the levels of an OME-Zarr image, the finest first; the array if it has one level."""
    import zarr

    group = read_group(path)
    if group is None or group.scales is None:
        raise FileError(f"{path.name} is no OME-Zarr image.")
    opened = zarr.open_group(str(path), mode="r")
    levels = [opened[each["path"]] for each in group.scales["datasets"]]
    return levels if len(levels) > 1 else levels[0]
