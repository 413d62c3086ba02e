"""What a session remembers of each image, and the labels layer its objects go to."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_tinysam.ui import _labels
from napari_tinysam.ui._drafts import PlaneDrafts
from napari_tinysam.ui._history import History
from napari_tinysam.ui._labels import LabelIds
from napari_tinysam.ui._planes import (
    Contrast,
    Plane,
    full_shape,
    plane_reader,
    transform_of,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_tinysam.predictor import Embedding, Predictor
    from napari_tinysam.ui._proposed import Proposed

_numbers = count()


@dataclass(eq=False)
class ImageState:
    """Drafts and history of one image layer.

    Parameters
    ----------
    channel : int or None
        Position on the first axis where that is channels; None where it is a stack.
    """

    channel: int | None = None
    history: History = field(default_factory=History)
    _drafts: dict[Plane, PlaneDrafts] = field(default_factory=dict)
    _proposed: dict[Plane, Proposed] = field(default_factory=dict)
    #: Tells this image, and this version of its data, from all others.
    version: int = field(default_factory=lambda: next(_numbers))

    def touch(self) -> None:
        """Note that the image's data changed: embeddings of it are void."""
        self.version = next(_numbers)

    def _key(self, plane: Plane) -> Plane:
        """Objects belong to all channels."""
        if self.channel is None:
            return plane
        return replace(plane, index=(0, *plane.index[1:]))

    def drafts(self, plane: Plane) -> PlaneDrafts:
        """Return the drafts of a plane."""
        return self._drafts.get(self._key(plane), PlaneDrafts())

    def set_drafts(self, plane: Plane, drafts: PlaneDrafts) -> None:
        """Replace the drafts of a plane."""
        if drafts.is_empty:
            self._drafts.pop(self._key(plane), None)
        else:
            self._drafts[self._key(plane)] = drafts

    def proposed(self, plane: Plane) -> Proposed | None:
        """Return what is proposed on a plane."""
        return self._proposed.get(self._key(plane))

    def set_proposed(self, plane: Plane, proposed: Proposed | None) -> None:
        """Replace what is proposed on a plane."""
        if proposed is None:
            self._proposed.pop(self._key(plane), None)
        else:
            self._proposed[self._key(plane)] = proposed


def embedding_job(
    image: Image, state: ImageState, plane: Plane, contrast: Contrast
) -> tuple[Hashable, Callable[[Predictor], Embedding]]:
    """Describe the embedding of a plane.

    Returns
    -------
    key : hashable
        Image, version, plane and contrast.
    embed : callable
        Reads and embeds the plane, for the inference thread. Prompts and masks of the result are in
        full-resolution pixels, also where a coarser level of a pyramid was embedded.
    """
    limits: tuple[float, float] | None = None
    if contrast is Contrast.DISPLAYED and not image.rgb:
        low, high = image.contrast_limits
        limits = (float(low), float(high))
    read = plane_reader(image, plane)
    channel_axis = -1 if image.rgb else None

    def embed(predictor: Predictor) -> Embedding:
        embedding = predictor.encode(
            read(), contrast_limits=limits, channel_axis=channel_axis
        )
        return replace(embedding, original_size=plane.shape)

    return (state.version, plane, contrast, limits), embed


class OutputLayer:
    """The labels layer that objects are committed to: the user's choice, or one made when needed.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layer is.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._ids: LabelIds | None = None
        self.layer: Labels | None = None

    @property
    def ids(self) -> LabelIds:
        """Hands out ids for the layer."""
        if self._ids is None:
            raise RuntimeError("There is no labels layer yet.")
        return self._ids

    def choose(self, layer: Labels | None) -> None:
        """Use a layer from now on; None: make one at the next commit."""
        if layer is self.layer:
            return
        if self._ids is not None:
            self._ids.close()
        self.layer = layer
        self._ids = None if layer is None else LabelIds(layer)

    def plane(self, plane: Plane) -> tuple[Labels, Plane] | None:
        """Return the layer and its plane that belongs to the image's; None without a layer.

        Raises
        ------
        LabelsError
            If the layer does not fit the image.
        """
        if self.layer is None:
            return None
        return self.layer, _labels.plane_in(self.layer, plane)

    def make(self, image: Image, channel: int | None) -> Labels:
        """Add `committed_objects` for an image, where the image is, and use it.

        A channel axis is left out: objects belong to all channels.
        """
        layer = Labels(
            np.zeros(full_shape(image)[0 if channel is None else 1 :], np.uint32),
            name=_labels.COMMITTED,
            opacity=0.6,
            **transform_without_channels(image, channel),
        )
        selection = self._viewer.layers.selection
        chosen, active = set(selection), selection.active
        at = self._viewer.layers.index(image) + 1
        self._viewer.layers.insert(at, layer)
        self._viewer.layers.selection = chosen
        self._viewer.layers.selection.active = active
        self.choose(layer)
        return layer


def transform_without_channels(image: Image, channel: int | None) -> dict[str, Any]:
    """Transform arguments for a layer that lacks the image's channel axis, where it has one.

    The first axis must not be mixed with the others by a rotation; channels never are.
    """
    if channel is None:
        return transform_of(image)
    affine = np.asarray(image.affine.affine_matrix)
    return {
        "scale": image.scale[1:],
        "translate": image.translate[1:],
        "rotate": image.rotate[1:, 1:],
        "affine": affine[1:, 1:],
        "units": image.units[1:],
        "axis_labels": image.axis_labels[1:],
    }
