"""Prompts in layers that the user brought: read, never written, emptied or removed.

Points layers named `point_prompts` and Shapes layers named `prompts`, such as saved ones, hold
prompts. They are read when a plane is shown and whenever the user changes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points, Shapes

from napari_tinysam.prompts import NEGATIVE, POSITIVE
from napari_tinysam.ui.canvas.prompt_layers import (
    BOX_PROMPTS,
    POINT_PROMPTS,
    SMALLEST_BOX,
)
from napari_tinysam.ui.state.drafts import (
    Box,
    ObjectDraft,
    PlaneDrafts,
    PointPrompt,
    in_box,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Image, Layer

    from napari_tinysam.ui.state.planes import Plane

_SETTLED = ("added", "removed", "changed")
_COUNTED = re.compile(r" \[\d+\]$")

_Read = tuple[frozenset[PointPrompt], frozenset[Box]]
_NOTHING: _Read = (frozenset(), frozenset())


def holds_prompts(layer: Layer) -> bool:
    """Whether a layer is named like a prompt layer and can hold prompts."""
    name = _COUNTED.sub("", layer.name)
    return (isinstance(layer, Points) and name == POINT_PROMPTS) or (
        isinstance(layer, Shapes) and name == BOX_PROMPTS
    )


class UserPrompts:
    """Reads the prompts in the user's own layers.

    Parameters
    ----------
    on_changed : callable
        Called when the user changed one of the layers.
    """

    def __init__(self, on_changed: Callable[[], None]) -> None:
        self._on_changed = on_changed
        self._layers: list[Layer] = []
        self._read: dict[tuple[int, Plane], _Read] = {}

    def follow(self, layer: Layer) -> None:
        """Read a layer from now on."""
        if layer in self._layers:
            return
        self._layers.append(layer)
        layer.events.data.connect(self._changed)
        if isinstance(layer, Points):
            layer.events.features.connect(self._changed)

    def unfollow(self, layer: Layer) -> None:
        """Stop reading a layer; its prompts stay."""
        if layer not in self._layers:
            return
        self._layers.remove(layer)
        layer.events.data.disconnect(self._changed)
        if isinstance(layer, Points):
            layer.events.features.disconnect(self._changed)

    def close(self) -> None:
        """Stop reading all layers."""
        for layer in list(self._layers):
            self.unfollow(layer)

    def merged(self, image: Image, plane: Plane, drafts: PlaneDrafts) -> PlaneDrafts:
        """Return a plane's drafts with the layers' new prompts, without those removed there."""
        plane = plane.without_channel()
        key = (id(image), plane)
        points_before, boxes_before = self._read.get(key, _NOTHING)
        points = frozenset(self._points(image, plane))
        boxes = frozenset(self._boxes(image, plane))
        self._read[key] = (points, boxes)
        if boxes != boxes_before:
            kept = [each.box for each in drafts.filled if each.box is not None]
            kept = [each for each in kept if each not in boxes_before - boxes]
            new = sorted(boxes - boxes_before - set(kept))
            filled = drafts.with_boxes(kept).filled
            drafts = PlaneDrafts(
                (*filled, *(ObjectDraft(box=box) for box in new)) or (ObjectDraft(),)
            )
        if points != points_before:
            known = [point for each in drafts.objects for point in each.points]
            left = [point for point in known if point not in points_before - points]
            added = [
                point
                for point in self._points(image, plane)
                if point in points - points_before and point not in left
            ]
            if drafts.current.box is not None and any(
                not in_box(drafts.current.box, (point.x, point.y)) for point in added
            ):
                drafts = drafts.with_next()  # points outside all boxes are an object
            drafts = drafts.with_points([*left, *added])
        return drafts

    def _changed(self, event: Any) -> None:
        if str(getattr(event, "action", "changed")) in _SETTLED:
            self._on_changed()

    def _points(self, image: Image, plane: Plane) -> list[PointPrompt]:
        found = []
        for layer in self._layers:
            if not isinstance(layer, Points):
                continue
            signs = layer.features.get("label", ["positive"] * len(layer.data))
            for position, sign in zip(layer.data, signs, strict=True):
                xy = _on_plane(layer, position, image, plane)
                if xy is not None and plane.contains(xy):
                    label = NEGATIVE if sign == "negative" else POSITIVE
                    found.append(PointPrompt(*xy, label))
        return found

    def _boxes(self, image: Image, plane: Plane) -> list[Box]:
        found = []
        height, width = plane.shape
        for layer in self._layers:
            if not isinstance(layer, Shapes):
                continue
            for corners in layer.data:
                places = [_on_plane(layer, each, image, plane) for each in corners]
                inside = [xy for xy in places if xy is not None]
                if len(inside) < len(places) or not inside:
                    continue
                xy = np.clip(inside, 0, (width - 1, height - 1))
                (x0, y0), (x1, y1) = xy.min(axis=0), xy.max(axis=0)
                if min(x1 - x0, y1 - y0) >= SMALLEST_BOX:
                    found.append((float(x0), float(y0), float(x1), float(y1)))
        return found


def _on_plane(
    layer: Layer, position: npt.ArrayLike, image: Image, plane: Plane
) -> tuple[float, float] | None:
    """(x, y) of a position in a layer on a plane of an image; None on another plane.

    A layer with fewer axes than the image is on all positions of those that it lacks, as napari
    shows it.
    """
    world: Sequence[float] = layer.data_to_world(np.asarray(position, float))
    lacking = image.ndim - len(world)
    if lacking < 0:
        return None
    here = image.data_to_world(plane.data_position((0, 0)))
    data = image.world_to_data((*here[:lacking], *world))
    for axis, at in enumerate(plane.index):
        if at is None or axis == plane.channel_axis or axis < lacking:
            continue
        if round(float(data[axis])) != at:
            return None
    return plane.xy_plane(data)
