"""What a model can be adapted to: the images of the list that have objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tinysam.errors import TinySAMError
from napari_tinysam.ui.state.image_list import EntryState

if TYPE_CHECKING:
    from napari_tinysam.ui.session.images.image_list import ListedImages
    from napari_tinysam.ui.state.image_list import ImageEntry
    from tinysam_training.commands.samples import Sample
    from tinysam_training.labelled_image import ImageEntry as TrainingEntry

#: Fewer objects teach nothing; from so many objects and images on it is worth while.
LEAST_OBJECTS, ENOUGH_OBJECTS, ENOUGH_IMAGES = 10, 30, 3


@dataclass(frozen=True)
class Annotated:
    """Images with objects.

    Attributes
    ----------
    done, partly : tuple of ImageEntry
        Images whose objects are all labelled, and others with some.
    empty : tuple of ImageEntry
        Images that are done, and have no objects: they show what is no object.
    """

    done: tuple[ImageEntry, ...] = ()
    partly: tuple[ImageEntry, ...] = ()
    empty: tuple[ImageEntry, ...] = ()

    @property
    def entries(self) -> tuple[ImageEntry, ...]:
        """Those with objects."""
        return (*self.done, *self.partly)

    @property
    def objects(self) -> int:
        """Objects in all of them, as far as they are counted."""
        return sum(entry.count or 0 for entry in self.entries)

    @property
    def is_enough(self) -> bool:
        """Whether anything can be learnt at all."""
        return self.objects >= LEAST_OBJECTS

    @property
    def is_plenty(self) -> bool:
        """Whether adapting is worth while."""
        return self.objects >= ENOUGH_OBJECTS and len(self.entries) >= ENOUGH_IMAGES

    @property
    def text(self) -> str:
        """How many there are, and whether that is enough, in sentences."""
        if not self.entries:
            return (
                "Open a list of images (Images, above), annotate some of them, and mark those as "
                "done in which every object is labelled."
            )
        count = len(self.entries)
        images = "1 image" if count == 1 else f"{count} images"
        objects = "1 object" if self.objects == 1 else f"{self.objects:,} objects"
        known = f"{images} with {objects}"
        if self.partly:
            part = len(self.partly)
            known += (
                f" ({part} partly annotated)" if self.done else " (partly annotated)"
            )
        if self.empty:
            known += f", {len(self.empty)} without objects as background"
        if not self.is_enough:
            return f"{known}: too few. Label at least {LEAST_OBJECTS} objects."
        if self.objects < ENOUGH_OBJECTS:
            return f"{known}: a beginning. {ENOUGH_OBJECTS} objects teach more."
        if count < ENOUGH_IMAGES:
            return f"{known}: enough to try. More images, which differ, make it surer."
        return f"{known}: enough."


def annotated(listed: ListedImages, *, partly: bool) -> Annotated:
    """Find what there is to learn from.

    Parameters
    ----------
    listed : ListedImages
    partly : bool
        Whether images are used that are not done.
    """
    images = listed.images
    if images is None:
        return Annotated()
    usable = [
        entry
        for entry in images.entries
        if (entry.count or (entry.count is None and entry.state is EntryState.DONE))
        and not entry.problem
        and (entry.labels is not None or _is_drawn(entry, listed))
    ]
    done = [entry for entry in usable if entry.state is EntryState.DONE]
    others = (entry for entry in usable if entry.state is not EntryState.DONE)
    empty = (
        entry
        for entry in images.entries
        if entry.state is EntryState.DONE
        and not entry.problem
        and not entry.count
        and not (entry.count is None and entry in done)
    )
    return Annotated(tuple(done), tuple(others) if partly else (), tuple(empty))


def _is_drawn(entry: ImageEntry, listed: ListedImages) -> bool:
    """Whether labels of an open image are in a layer."""
    opened = listed.layers_of(entry)
    return opened is not None and opened[1] is not None


@dataclass(frozen=True, eq=False)
class Source:
    """One image to be read in the background.

    Attributes
    ----------
    name : str
    complete : bool
        Whether all of its objects are labelled.
    image, labels : Path or array
        Files, or pixels of layers that are in no file. No labels: there is no object.
    """

    name: str
    complete: bool
    image: Any
    labels: Any


def sources(found: Annotated, listed: ListedImages) -> list[Source]:
    """Take what has to be taken from layers now; files are read later.

    Labels of the open image that are not saved are taken as they are.
    """
    result = []
    for entry in (*found.entries, *found.empty):
        opened = listed.layers_of(entry)
        unsaved = opened is not None and not entry.saved
        image: Any = entry.path
        labels: Any = entry.labels
        if opened is not None and (unsaved or image is None or labels is None):
            layer, drawn = opened
            labels = np.array(drawn.data) if drawn is not None else labels
            if image is None:
                image = layer.data[0] if layer.multiscale else layer.data
        if image is None or (labels is None and entry not in found.empty):
            continue
        done = entry.state is EntryState.DONE
        result.append(Source(entry.name, done, image, labels))
    return result


def read_samples(
    found: Iterable[Source], left_out: Callable[[str], None] = lambda text: None
) -> Iterator[Sample]:
    """Read images and their labels, plane by plane; for any thread.

    Parameters
    ----------
    found : iterable of Source
    left_out : callable
        Called with a sentence about each image that cannot be used.
    """
    from tinysam_training.commands.samples import Sample

    for number, source in enumerate(found):
        try:
            for entry in _entries(source, left_out):
                image = entry.read()
                yield Sample(
                    entry.name, image.rgb, image.labels[0], source.complete, str(number)
                )
        except TinySAMError as error:
            left_out(str(error))


def _entries(
    source: Source, left_out: Callable[[str], None]
) -> Iterable[TrainingEntry]:
    """List the planes of an image that have labels; an image without labels is one."""
    from tinysam_training.data.sources.arrays import from_arrays
    from tinysam_training.data.sources.folders import pair_entries

    if isinstance(source.image, Path) and isinstance(source.labels, Path):
        entries = pair_entries(
            source.image,
            source.labels,
            name=source.name,
            dataset="adapted",
            complete=source.complete,
        )
    else:
        pixels = _pixels(source)
        labels = source.labels
        if labels is None:
            labels = np.zeros(_plane_shape(pixels), np.uint8)
        entries = from_arrays(
            [pixels],
            [np.asarray(_labels(replace(source, labels=labels)))],
            [source.name],
            complete=source.complete,
        )
    for finding in entries.findings:
        if finding.severity == "error":
            left_out(finding.text)
    return entries


def _plane_shape(pixels: Any) -> tuple[int, ...]:
    """Height and width of a plane, or of all planes as far as they are no colours."""
    shape: tuple[int, ...] = pixels.shape
    return shape[:-1] if len(shape) > 2 and shape[-1] in (3, 4) else shape


def _pixels(source: Source) -> Any:
    if not isinstance(source.image, Path):
        return np.asarray(source.image)
    from napari_tinysam.files.formats import open_stack

    stack = open_stack(source.image)
    return np.asarray(stack.read((None,) * len(stack.shape)))


def _labels(source: Source) -> Any:
    if not isinstance(source.labels, Path):
        return source.labels
    from napari_tinysam.ui.session.images.files import read_labels

    return read_labels(source.labels)
