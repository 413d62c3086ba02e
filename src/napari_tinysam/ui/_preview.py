"""The preview: a small Labels layer that shows masks before they are committed.

It covers only the rectangle that the masks need and is moved there, because replacing the data of a
full-size layer at every mouse move would take longer than the model does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap

from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui._planes import patch_transform

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_tinysam.ui._planes import Plane

#: Name of the layer (the one micro-sam uses).
CURRENT = "current_object"

# Values of the preview's pixels.
HOVER_FILL, HOVER_EDGE, OBJECT_FILL, OBJECT_EDGE = 1, 2, 3, 4

# Hovering must not be mistaken for an object: thin and pale, against full and strong.
_COLORS: dict[int, tuple[float, float, float, float]] = {
    0: (0, 0, 0, 0),
    HOVER_FILL: (1.0, 0.85, 0.2, 0.16),
    HOVER_EDGE: (1.0, 0.85, 0.2, 1.0),
    OBJECT_FILL: (0.1, 0.75, 1.0, 0.4),
    OBJECT_EDGE: (0.1, 0.85, 1.0, 1.0),
}

#: Image pixels on the longer side for one pixel of outline.
_PIXELS_PER_EDGE = 700


@dataclass(frozen=True)
class Shown:
    """What a preview shows.

    Parameters
    ----------
    objects : tuple of BoxedMask
        Masks of objects in the making.
    hover : tuple of BoxedMask
        The mask under the cursor, or the box that is being dragged.
    """

    objects: tuple[BoxedMask, ...] = ()
    hover: tuple[BoxedMask, ...] = ()


class Preview:
    """Owns the preview layer of one viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layer goes.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._opacity = 1.0
        self.layer: Labels | None = None
        self.shown: Shown | None = None

    def set_opacity(self, opacity: float) -> None:
        """Draw the masks more faintly: 0–1."""
        self._opacity = opacity
        if self.layer is not None:
            self.layer.opacity = opacity

    def attach(self, image: Image, plane: Plane) -> Labels:
        """Make sure that the layer is there, for an image's axes, and return it."""
        layer = self.layer
        if layer is not None and layer in self._viewer.layers:
            if layer.ndim == image.ndim:
                return layer
            self.remove()
        layer = Labels(
            _canvas(np.zeros((1, 1), np.uint8), plane),
            name=CURRENT,
            # In order. A colormap by value would be compiled, where numba is installed: the first
            # movement of the mouse would freeze the window for two seconds.
            colormap=CyclicLabelColormap(colors=[*_COLORS.values()]),
            opacity=self._opacity,
            **patch_transform(image, plane, 0, 0),
        )
        layer.editable = False
        selection = set(self._viewer.layers.selection)
        active = self._viewer.layers.selection.active
        self._viewer.layers.append(layer)
        self._viewer.layers.selection = selection
        self._viewer.layers.selection.active = active
        self.layer, self.shown = layer, None
        return layer

    def show(
        self,
        image: Image,
        plane: Plane,
        objects: Sequence[BoxedMask],
        *,
        hover: Sequence[BoxedMask] = (),
    ) -> None:
        """Show masks on a plane of the image; none clears the preview."""
        shown = Shown(
            tuple(mask for mask in objects if mask.area),
            tuple(mask for mask in hover if mask.area),
        )
        if not (shown.objects or shown.hover):
            self.clear()
            return
        layer = self.attach(image, plane)
        self.shown = shown
        patch, y0, x0 = _draw(shown, plane.shape)
        transform = patch_transform(image, plane, y0, x0)
        # The new data draw the layer in its new place; until then nobody need know of that. And at
        # every change of place or data the viewer measures all layers anew, which takes longest of
        # all: the preview lies within the image.
        with layer.events.blocker_all():
            for name in ("scale", "rotate", "shear", "affine", "translate"):
                if not np.array_equal(getattr(layer, name), transform[name]):
                    setattr(layer, name, transform[name])
        with layer.events.data.blocker(), layer.events.extent.blocker():
            layer.data = _canvas(patch, plane)

    def show_box(
        self, image: Image, plane: Plane, box: tuple[float, float, float, float]
    ) -> None:
        """Show the box that is being dragged, (x0, y0, x1, y1) in pixels of the plane."""
        height, width = plane.shape
        x0, x1 = (int(np.clip(np.round(v), 0, width - 1)) for v in (box[0], box[2]))
        y0, y1 = (int(np.clip(np.round(v), 0, height - 1)) for v in (box[1], box[3]))
        rectangle = np.ones((y1 - y0 + 1, x1 - x0 + 1), bool)
        mask = BoxedMask(rectangle, y0, x0, plane.shape)
        self.show(image, plane, self._objects(), hover=(mask,))

    def _objects(self) -> tuple[BoxedMask, ...]:
        return () if self.shown is None else self.shown.objects

    def clear(self) -> None:
        """Show nothing."""
        layer, self.shown = self.layer, None
        if layer is not None and layer in self._viewer.layers and layer.data.any():
            layer.data[...] = 0
            layer.refresh(extent=False)

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layer, self.layer, self.shown = self.layer, None, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)


def _canvas(patch: npt.NDArray[np.uint8], plane: Plane) -> npt.NDArray[np.uint8]:
    """Give a (h, w) patch the axes of the plane's layer, length 1 where they are not shown."""
    if plane.transposed:
        patch = patch.T
    lengths = iter(patch.shape)
    shape = [next(lengths) if at is None else 1 for at in plane.index]
    return patch.reshape(shape)


def _draw(
    shown: Shown, shape: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], int, int]:
    """Paint fills and outlines of masks into the rectangle around them."""
    masks = (*shown.objects, *shown.hover)
    y0 = min(mask.y0 for mask in masks)
    x0 = min(mask.x0 for mask in masks)
    y1 = max(mask.slices[0].stop for mask in masks)
    x1 = max(mask.slices[1].stop for mask in masks)
    patch = np.zeros((y1 - y0, x1 - x0), np.uint8)
    width = max(1, round(max(shape) / _PIXELS_PER_EDGE))
    for number, mask in enumerate(masks):
        hovers = number >= len(shown.objects)
        fill, edge = (HOVER_FILL, HOVER_EDGE) if hovers else (OBJECT_FILL, OBJECT_EDGE)
        ys, xs = mask.slices
        view = patch[ys.start - y0 : ys.stop - y0, xs.start - x0 : xs.stop - x0]
        inner = _eroded(mask.mask, width)
        view[inner & (view == 0) if hovers else inner] = fill
        view[mask.mask & ~inner] = edge
    return patch, y0, x0


def _eroded(mask: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    """Pixels at least `width` pixels inside a mask, four neighbours a step."""
    inner = np.pad(mask, 1)
    for _ in range(width):
        step = inner.copy()
        step[1:] &= inner[:-1]
        step[:-1] &= inner[1:]
        step[:, 1:] &= inner[:, :-1]
        step[:, :-1] &= inner[:, 1:]
        inner = step
    return inner[1:-1, 1:-1]
