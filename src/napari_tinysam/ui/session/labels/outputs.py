"""The labels layer that the objects of an image go to: found, chosen by the user, or made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_tinysam.files.label_store import LARGEST_IN_MEMORY, LabelStore
from napari_tinysam.files.names import as_label, image_base
from napari_tinysam.ui.session.labels import writing
from napari_tinysam.ui.session.labels.writing import COMMITTED, LabelIds, LabelsError
from napari_tinysam.ui.state.images import put_above
from napari_tinysam.ui.state.planes import (
    empty_labels,
    full_shape,
    transform_for_labels,
    transform_of,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_tinysam.ui.state.images import ImageState
    from napari_tinysam.ui.state.planes import Plane

#: What napari appends to a name that is taken.
_COUNTED = re.compile(r" \[\d+\]$")

#: Layers whose names end in these words are ground truth: used only if the user chooses them.
_TRUTH = re.compile(r"(^|[_\-. ])(gt|truth|true[_\-. ]labels)$")


def committed_name(image: Image) -> str:
    """Name of the layer that is made for an image."""
    return f"{image.name} {COMMITTED}"


def new_layout(image: Image, channel_axis: int | None) -> tuple[tuple[int, ...], str]:
    """Return shape and dtype of the layer that is made for an image, as a journal names them."""
    shape = full_shape(image)
    return shape[1:] if channel_axis == 0 else shape, "<u4"


class Outputs:
    """Which labels layer the objects of each image go to.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layers are.
    state_of : callable
        Returns the `ImageState` of an image, which holds its labels layer.
    on_painted : callable
        Called with one of the layers and napari's record of what was painted on it.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        state_of: Callable[[Image], ImageState],
        on_painted: Callable[[Labels, Any], None],
    ) -> None:
        self._viewer = viewer
        self._state_of = state_of
        self._on_painted = on_painted
        self._ids: dict[Labels, LabelIds] = {}
        #: Called with a layer that is used from now on, is new, or is used no more.
        self.on_used: Callable[[Labels], None] = lambda layer: None
        self.on_new: Callable[[Labels], None] = lambda layer: None
        self.on_unused: Callable[[Labels], None] = lambda layer: None

    def of(self, image: Image) -> Labels | None:
        """Return the layer of an image; None where one is made with the first object."""
        layer = self._state_of(image).target
        return layer if layer is not None and layer in self._viewer.layers else None

    def ids(self, layer: Labels) -> LabelIds:
        """Return the object that hands out ids of a layer."""
        if layer not in self._ids:
            self._ids[layer] = LabelIds(layer)
            layer.events.paint.connect(self._painted)
            self.on_used(layer)
        return self._ids[layer]

    def _use(self, image: Image, layer: Labels) -> None:
        """Use a layer for an image, placed where it can be seen, and listen to it."""
        self._state_of(image).target = layer
        self.ids(layer)
        put_above(self._viewer, layer, image)

    def _painted(self, event: Any) -> None:
        self._on_painted(event.source, event.value)

    def choose(self, image: Image, layer: Labels | None) -> None:
        """Commit the objects of an image to a layer from now on; None: to a new one."""
        state = self._state_of(image)
        state.target, state.chosen = layer, True
        if layer is not None:
            self._use(image, layer)

    def find(
        self, image: Image, layers: Iterable[Labels], images: Sequence[Image]
    ) -> None:
        """Look for a layer that holds an image's objects already, unless there is a choice.

        Parameters
        ----------
        image : napari.layers.Image
        layers : iterable of napari.layers.Labels
            The layers to look through.
        images : sequence of napari.layers.Image
            All open images: a layer that belongs to another one is not taken.
        """
        state = self._state_of(image)
        known = self.of(image)
        if known is not None:
            self._use(image, known)
        if known is not None or state.chosen:
            return
        others = [each for each in images if each is not image]
        taken = {
            other.target for each in others if (other := self._state_of(each)).target
        }
        layers = [each for each in layers if each not in taken and _has_room(each)]
        axis = state.channel_axis
        found = _by_name(image, axis, layers)
        if found is None:
            free = [
                each
                for each in layers
                if each.visible  # else objects would go where nobody sees them
                and lies_on(each, image, axis)
                and not _is_truth(each)
                and not any(_is_named_after(each, other) for other in others)
            ]
            found = free[0] if len(free) == 1 else None
        if found is not None:
            self._use(image, found)

    def make(self, image: Image) -> Labels:
        """Add a layer for an image, right above it, and use it."""
        state = self._state_of(image)
        shape, dtype = new_layout(image, state.channel_axis)
        large = shape[-1] * shape[-2] > LARGEST_IN_MEMORY
        data: Any = (
            LabelStore(shape).levels
            if large
            else empty_labels(image, state.channel_axis, np.dtype(dtype))
        )
        layer = Labels(
            data,
            multiscale=large,
            name=committed_name(image),
            opacity=0.6,
            **transform_for_labels(image, state.channel_axis),
        )
        state.target = layer
        self.ids(layer).none_used()
        self.on_new(layer)
        layers = self._viewer.layers
        chosen, active = set(layers.selection), layers.selection.active
        layers.insert(layers.index(image) + 1, layer)
        layers.selection = chosen
        layers.selection.active = active
        return layer

    def plane(self, image: Image, plane: Plane) -> tuple[Labels, Plane] | None:
        """Return an image's layer and its plane that belongs to a plane; None without a layer.

        Raises
        ------
        LabelsError
            If the layer does not fit the image.
        """
        layer = self.of(image)
        return None if layer is None else (layer, writing.plane_in(layer, plane))

    def removed(self, layer: Labels) -> None:
        """Forget a layer that left the viewer."""
        ids = self._ids.pop(layer, None)
        if ids is not None:
            ids.close()
            self.on_unused(layer)
            layer.events.paint.disconnect(self._painted)

    def close(self) -> None:
        """Disconnect; each image remembers its layer."""
        for layer in list(self._ids):
            self.removed(layer)


def lies_on(layer: Labels, image: Image, channel_axis: int | None) -> bool:
    """Whether a labels layer and an image have the same pixels, one to one."""
    if layer.multiscale:
        return False
    shape = full_shape(image)
    for axis in {None, channel_axis}:
        if full_shape(layer) != (shape[1:] if axis == 0 else shape):
            continue
        wanted = Labels(
            np.zeros((1,) * layer.ndim, np.uint8),
            **transform_for_labels(image, axis),
        )
        corners = np.vstack([np.zeros(layer.ndim), np.diag(full_shape(layer))])
        if np.allclose(
            [layer.data_to_world(corner) for corner in corners],
            [wanted.data_to_world(corner) for corner in corners],
            rtol=1e-5,
            atol=1e-3 * float(np.min(np.abs(image.scale))),
        ):
            return True
    return False


def _by_name(image: Image, axis: int | None, layers: Sequence[Labels]) -> Labels | None:
    """Find the layer named after an image; None if there is none, or more than one."""
    named = [each for each in layers if _is_named_after(each, image)]
    for each in named:
        if not lies_on(each, image, axis) and _is_in_pixels(each):
            _put_on(each, image)
    named = [
        each for each in named if lies_on(each, image, axis) and not _is_truth(each)
    ]
    ours = [each for each in named if _plain(each.name) == committed_name(image)]
    if ours:
        return ours[-1]
    return named[0] if len(named) == 1 else None


def _is_named_after(layer: Labels, image: Image) -> bool:
    name, wanted = _plain(layer.name), _plain(image.name)
    label = as_label(name)
    bases = {wanted, image_base(wanted)}
    return name == f"{wanted} {COMMITTED}" or (
        label is not None and label.base in bases
    )


def _is_truth(layer: Labels) -> bool:
    return _TRUTH.search(_plain(layer.name).lower()) is not None


def _plain(name: str) -> str:
    return _COUNTED.sub("", name)


def _has_room(layer: Labels) -> bool:
    try:
        writing.check_writeable(layer)
    except LabelsError:
        return False
    return True


def _is_in_pixels(layer: Labels) -> bool:
    """Whether a layer has no transform, as from a file that stores none."""
    return bool(
        np.allclose(layer.scale, 1)
        and np.allclose(layer.translate, 0)
        and np.allclose(layer.rotate, np.eye(layer.ndim))
        and np.allclose(layer.affine.affine_matrix, np.eye(layer.ndim + 1))
    )


def _put_on(layer: Labels, image: Image) -> None:
    """Give a layer of an image's shape the image's place."""
    if full_shape(layer) == full_shape(image):
        for name, value in transform_of(image).items():
            setattr(layer, name, value)
