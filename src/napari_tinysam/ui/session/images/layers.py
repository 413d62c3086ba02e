"""The layers of one image of a list go out of the viewer, those of another come in."""

from __future__ import annotations

import gc
import itertools
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari.layers import Image

from napari_tinysam.ui.session.images.files import OpenedEntry
from napari_tinysam.ui.state.planes import full_shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_tinysam.ui.session.labels.labelling import Labeller
    from napari_tinysam.ui.state.image_list import ImageEntry
    from napari_tinysam.ui.state.images import Memory

#: Removed layers are given back to the system after so many images.
_COLLECTED_EVERY = 6


def labels_of(
    opened: OpenedEntry, memory: Memory, viewer: ViewerModel
) -> Labels | None:
    """Return the labels layer of an image, if it is in the viewer."""
    layer = memory.state_of(opened.image).target
    return layer if layer is not None and layer in viewer.layers else None


def find_open(
    entry: ImageEntry, memory: Memory, viewer: ViewerModel
) -> OpenedEntry | None:
    """Return an image that is in the viewer already, if its labels are there or it has none."""
    for layer in viewer.layers:
        if isinstance(layer, Image) and layer.source.path == str(entry.path):
            opened = OpenedEntry(entry, layer)
            if labels_of(opened, memory, viewer) is not None or entry.labels is None:
                return opened
    return None


def exchange(
    viewer: ViewerModel,
    memory: Memory,
    labelling: Labeller,
    before: OpenedEntry | None,
    new: OpenedEntry,
) -> None:
    """Put an image and its labels into the viewer, in place of others.

    The new ones come first: without any image the view and the session would begin anew. Layers
    that were open before they were listed are hidden instead of removed.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    memory : Memory
    labelling : Labeller
        Is told which labels belong to the image.
    before : OpenedEntry or None
        What leaves.
    new : OpenedEntry
    """
    layers = viewer.layers
    old: list[Image | Labels] = []
    if before is not None and before.image in layers:
        before.labels = labels_of(before, memory, viewer)
        old = [before.image, *([] if before.labels is None else [before.labels])]
        _take_look(new, before)
    new.image.visible = True
    if new.image not in layers:
        layers.append(new.image)
    if new.labels is not None and new.labels not in layers:
        layers.insert(layers.index(new.image) + 1, new.labels)
        labelling.outputs.choose(new.image, new.labels)
        if new.mark is not None:
            memory.marks[new.labels], new.mark = new.mark, None
    target = labels_of(new, memory, viewer)
    if target is not None:
        target.visible = True
    layers.selection.active = new.image
    if before is not None and before.entry.layer is not None:
        for layer in old:
            layer.visible = False
    else:
        with _without_collecting():
            for layer in old:
                layers.remove(layer)
    if before is None or full_shape(before.image) != full_shape(new.image):
        # Not to all layers: an image that was open before may be much larger.
        viewer.fit_to_view(layers=[new.image])


#: Exchanges since garbage was collected.
_exchanges = itertools.count(1)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Save napari the searches for garbage at each removed layer: one now and then does.

    Each takes 0.2 s and more, while the user waits. On Windows it is left alone: napari does it
    there because drivers crash otherwise.
    """
    if sys.platform == "win32":
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
    if next(_exchanges) % _COLLECTED_EVERY == 0:
        gc.collect()


def _take_look(new: OpenedEntry, before: OpenedEntry) -> None:
    """Show an image and its labels in the way in which the ones before were shown."""
    image, labels = before.image, before.labels
    if new.image.rgb == image.rgb:
        new.image.gamma, new.image.opacity = image.gamma, image.opacity
        new.image.blending = image.blending
        if not image.rgb:
            new.image.colormap = image.colormap
    if new.labels is not None and labels is not None:
        new.labels.opacity, new.labels.contour = labels.opacity, labels.contour
