"""The preview: one small layer that shows masks before they are committed.

It is a Surface layer: only its triangles can have widths in screen pixels, soft edges and any
transform, and change in two milliseconds. A Labels layer has pixels only; Vectors and Shapes take
ten times as long and have no rim.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Surface
from napari.utils import Colormap

from napari_tinysam.masks import BoxedMask
from napari_tinysam.ui.canvas.outline import (
    LineStyle,
    Mesh,
    Paint,
    Traced,
    fill,
    strokes,
    trace,
)
from napari_tinysam.ui.state.planes import transform_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_tinysam.ui.state.planes import Plane

#: Name of the layer (the one micro-sam uses).
CURRENT = "current_object"


@dataclass(frozen=True)
class Look:
    """How masks of one kind are drawn.

    Parameters
    ----------
    color : (float, float, float)
        Of the line and the fill.
    opacity : float
        Of the fill.
    line : LineStyle
    """

    color: tuple[float, float, float]
    opacity: float
    line: LineStyle


# Masks differ in more than hue: the hovered one is dashed, kept ones are thin. The hues are Okabe
# and Ito's sky blue and yellow, lighter, so that all lines are brighter than their rims.
HOVER = Look((1.0, 0.9, 0.25), 0.12, LineStyle(width=1.8, rim=1.2, dash=6.0))
KEPT = Look((0.8, 0.95, 1.0), 0.18, LineStyle(width=1.2, rim=1.0))
OBJECT = Look((0.3, 0.85, 1.0), 0.28, LineStyle(width=2.4, rim=1.3))

#: An object whose mask is still computed: of the colour that it will have, and dashed as the hover.
WAITING = Look((0.3, 0.85, 1.0), 0.12, LineStyle(width=2.4, rim=1.3, dash=6.0))

_LOOKS = (KEPT, OBJECT, WAITING, HOVER)
_RIM = (0.0, 0.0, 0.0, 0.75)

#: Radius of the mark of a click, in screen pixels, and at most in pixels of the image.
_MARK, _LARGEST_MARK = 7.0, 2000

#: Masks are traced on blocks of pixels where those are smaller than this many screen pixels.
_FINEST = 0.5


def _colors() -> tuple[list[tuple[float, ...]], dict[Look, Paint]]:
    """Colours in a row, and which of them each kind of mask has."""
    colors: list[tuple[float, ...]] = [_RIM, (*_RIM[:3], 0.0)]
    paints = {}
    for look in _LOOKS:
        first = float(len(colors))
        paints[look] = Paint(first, first + 1, 0.0, 1.0, first + 2)
        colors += [(*look.color, alpha) for alpha in (1.0, 0.0, look.opacity)]
    return colors, paints


_COLORS, _PAINTS = _colors()


@dataclass(frozen=True)
class Shown:
    """What a preview shows.

    Parameters
    ----------
    objects : tuple of BoxedMask
        Masks of the drafts.
    hover : tuple of BoxedMask
        The mask under the cursor, or the box that is being dragged.
    current : BoxedMask, optional
        Of the objects, the one that the next prompt belongs to.
    waiting : tuple of BoxedMask
        What stands for drafts whose masks are still computed.
    """

    objects: tuple[BoxedMask, ...] = ()
    hover: tuple[BoxedMask, ...] = ()
    current: BoxedMask | None = None
    waiting: tuple[BoxedMask, ...] = ()

    @property
    def looks(self) -> list[tuple[BoxedMask, Look]]:
        """All masks, in the order they are drawn in."""
        objects = [(m, OBJECT if m is self.current else KEPT) for m in self.objects]
        waiting = [(mask, WAITING) for mask in self.waiting]
        return [*objects, *waiting, *((mask, HOVER) for mask in self.hover)]


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
        self._spills = False  # a line at the image's edge is half outside
        self._place: tuple[Image, Plane] | None = None
        self._traced: weakref.WeakKeyDictionary[BoxedMask, tuple[int, Traced]] = (
            weakref.WeakKeyDictionary()
        )
        self.layer: Surface | None = None
        self.shown: Shown | None = None

    def set_opacity(self, opacity: float) -> None:
        """Draw the masks more faintly: 0–1."""
        self._opacity = opacity
        if self.layer is not None:
            self.layer.opacity = opacity

    def attach(self, image: Image, plane: Plane) -> Surface:
        """Return the layer for an image's axes; make it if necessary."""
        layer = self.layer
        if (
            layer is not None
            and layer in self._viewer.layers
            and (layer.ndim, layer.units) == (image.ndim, image.units)
        ):
            return layer
        self.remove()
        layer = Surface(
            _data(_NOTHING, plane),
            name=CURRENT,
            colormap=Colormap(_COLORS, name="tinysam preview"),
            contrast_limits=(0, len(_COLORS) - 1),
            shading="none",
            # Triangles of one plane lie at one depth: the later ones cover the earlier.
            blending="translucent_no_depth",
            opacity=self._opacity,
            **transform_of(image),
        )
        layer.editable = False
        selection = set(self._viewer.layers.selection)
        active = self._viewer.layers.selection.active
        self._viewer.layers.append(layer)
        self._viewer.layers.selection = selection
        self._viewer.layers.selection.active = active
        self._viewer.scene.camera.events.zoom.connect(self._zoomed)
        self.layer, self.shown = layer, None
        return layer

    def show(
        self,
        image: Image,
        plane: Plane,
        objects: Sequence[BoxedMask],
        *,
        hover: Sequence[BoxedMask] = (),
        waiting: Sequence[BoxedMask] = (),
        current: bool = True,
    ) -> None:
        """Show masks on a plane of the image; none clears the preview.

        Parameters
        ----------
        image : napari.layers.Image
        plane : Plane
            Of the image.
        objects, hover, waiting : sequence of BoxedMask
            As of `Shown`.
        current : bool
            Whether the last of the objects is the current one; else all are kept for later.
        """
        last = objects[-1] if objects and current else None
        shown = Shown(
            tuple(mask for mask in objects if mask.area),
            tuple(mask for mask in hover if mask.area),
            last,
            tuple(mask for mask in waiting if mask.area),
        )
        if not shown.looks:
            self.clear()
            return
        layer = self.attach(image, plane)
        self.shown, self._place = shown, (image, plane)
        transform = transform_of(image)
        # The new data redraw the layer at its new place: the transform alone need not.
        with layer.events.blocker_all():
            for name in ("scale", "rotate", "shear", "affine", "translate"):
                if not np.array_equal(getattr(layer, name), transform[name]):
                    setattr(layer, name, transform[name])
        self._draw(layer, self._mesh(shown, image, plane), plane)

    def show_box(
        self, image: Image, plane: Plane, box: tuple[float, float, float, float]
    ) -> None:
        """Show the box that is being dragged, (x0, y0, x1, y1) in pixels of the plane."""
        before = self.shown or Shown()
        self.show(
            image,
            plane,
            before.objects,
            hover=(self.rectangle(plane, box),),
            waiting=before.waiting,
            current=before.current is not None,
        )

    def rectangle(
        self, plane: Plane, box: tuple[float, float, float, float]
    ) -> BoxedMask:
        """Return the pixels in a box, (x0, y0, x1, y1), as far as they lie on the plane."""
        height, width = plane.shape
        x0, x1 = (int(np.clip(np.round(v), 0, width - 1)) for v in (box[0], box[2]))
        y0, y1 = (int(np.clip(np.round(v), 0, height - 1)) for v in (box[1], box[3]))
        inside = np.ones((y1 - y0 + 1, x1 - x0 + 1), bool)
        return BoxedMask(inside, y0, x0, plane.shape)

    def mark(self, image: Image, plane: Plane, xy: tuple[float, float]) -> BoxedMask:
        """Return a disc around a click, of the same size on the screen at any zoom."""
        to_screen = _to_screen(image, plane, self._viewer.scene.camera.zoom)
        size = float(np.sqrt(abs(np.linalg.det(to_screen))))
        radius = min(max(_MARK / max(size, 1e-6), 1.0), _LARGEST_MARK)
        x, y = xy
        square = self.rectangle(plane, (x - radius, y - radius, x + radius, y + radius))
        rows, columns = (np.arange(each.start, each.stop) for each in square.slices)
        away = np.hypot(rows[:, np.newaxis] - y, columns - x)
        return BoxedMask(away <= radius, square.y0, square.x0, plane.shape)

    def clear(self) -> None:
        """Hide all masks."""
        layer, place = self.layer, self._place
        was_empty, self.shown = self.shown is None, None
        if was_empty or layer is None or place is None:
            return
        if layer in self._viewer.layers:
            self._draw(layer, _NOTHING, place[1])

    def remove(self) -> None:
        """Remove the layer from the viewer."""
        layer, self.layer, self.shown = self.layer, None, None
        self._place = None
        if layer is not None:
            self._viewer.scene.camera.events.zoom.disconnect(self._zoomed)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _draw(self, layer: Surface, mesh: Mesh, plane: Plane) -> None:
        data = _data(mesh, plane)
        if self._spills and mesh is _NOTHING:
            # The viewer may have measured its layers meanwhile: its sliders would reach too far.
            self._spills = False
            layer.data = data
            return
        self._spills |= bool(mesh.vertices.min() < 0) or bool(
            (mesh.vertices.max(axis=0) > np.subtract(plane.shape, 1)).any()
        )
        # The viewer measures all layers after each change of data, which takes longest of all and
        # is not needed: masks lie within the image.
        with layer.events.data.blocker(), layer.events.extent.blocker():
            layer.data = data

    def _zoomed(self, event: Any = None) -> None:
        """Draw lines as wide as before on the screen."""
        layer, shown, place = self.layer, self.shown, self._place
        if layer is None or shown is None or place is None:
            return
        if layer in self._viewer.layers and self._viewer.dims.ndisplay == 2:
            self._draw(layer, self._mesh(shown, *place), place[1])

    def _mesh(self, shown: Shown, image: Image, plane: Plane) -> Mesh:
        """Triangles of all masks: fills below rims below lines."""
        to_screen = _to_screen(image, plane, self._viewer.scene.camera.zoom)
        size = np.sqrt(abs(np.linalg.det(to_screen)))  # of a pixel, on the screen
        step = max(1, int(_FINEST / size))
        fills, rims, lines = [], [], []
        for mask, look in shown.looks:
            traced = self._trace(mask, step)
            paint = _PAINTS[look]
            fills.append(fill(traced, paint))
            rim, line = strokes(traced, to_screen, look.line, paint)
            rims.append(rim)
            lines.append(line)
        return Mesh.join([*fills, *rims, *lines])

    def _trace(self, mask: BoxedMask, step: int) -> Traced:
        known = self._traced.get(mask)
        if known is None or known[0] != step:
            known = step, trace(mask.mask, mask.y0, mask.x0, step)
            self._traced[mask] = known
        return known[1]


#: One invisible triangle without an area: a Surface layer cannot be empty.
_NOTHING = Mesh(np.zeros((3, 2)), np.array([[0, 1, 2]]), np.ones(3))


def _data(mesh: Mesh, plane: Plane) -> tuple[npt.NDArray[Any], ...]:
    """Give a mesh on a plane the axes of the plane's layer."""
    vertices = np.tile(plane.data_position((0, 0)), (len(mesh.vertices), 1))
    vertices[:, plane.axes] = mesh.vertices
    return vertices, mesh.faces, mesh.values


def _to_screen(image: Image, plane: Plane, zoom: float) -> npt.NDArray[np.float64]:
    """(2, 2), turns (y, x) on a plane into screen pixels, apart from the origin."""
    origin, down, right = (
        np.asarray(image.data_to_world(plane.data_position(xy)), float)
        for xy in ((0, 0), (0, 1), (1, 0))
    )
    axes = list(plane.axes)
    return zoom * np.stack([(down - origin)[axes], (right - origin)[axes]], axis=1)
