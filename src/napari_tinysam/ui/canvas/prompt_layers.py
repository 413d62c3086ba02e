"""Prompts as napari layers: `point_prompts` (Points) and `prompts` (Shapes), read and written.

The drafts are the truth. What the user adds, moves or deletes in the layers is read back into them;
what happens in the drafts (clicks, undo, commit, another plane) is written into the layers. Layers
of these names that the user brought are another matter: see `_user_prompts`.
The names are micro-sam's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points, Shapes

from napari_tinysam.prompts import NEGATIVE, POSITIVE
from napari_tinysam.ui.state.drafts import PointPrompt
from napari_tinysam.ui.state.images import put_above
from napari_tinysam.ui.state.planes import transform_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_tinysam.ui.state.drafts import PlaneDrafts
    from napari_tinysam.ui.state.planes import Plane

POINT_PROMPTS = "point_prompts"
BOX_PROMPTS = "prompts"

_NAMES = {POSITIVE: "positive", NEGATIVE: "negative"}

# Told apart by shape, and by Okabe and Ito's bluish green and vermilion, made lighter: colour-blind
# eyes see the one as pale, the other as yellow. The dark border is for bright images.
_COLORS = {POSITIVE: "#2ef2b5", NEGATIVE: "#ff8f47"}
_SYMBOLS = {POSITIVE: "cross", NEGATIVE: "hbar"}
_BORDER = "#101010"
_BOX_COLOR = "#00b884"  # neither bright nor dark: it has no border

#: On the screen, in its pixels, at every zoom: how large points are, how wide lines of boxes.
_POINT_SIZE = 16
_BOX_WIDTH = 2

_SETTLED = ("added", "removed", "changed")

#: A box needs at least this many pixels a side; less is a slip of the mouse.
SMALLEST_BOX = 2.0

#: Positions closer than this are the same prompt (layers may store float32).
_SAME = 1e-3

Box = tuple[float, float, float, float]


class PromptLayers:
    """Keeps the two prompt layers of one viewer in step with the drafts.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layers go.
    on_points, on_boxes : callable
        Called with what the user made of the points, the boxes.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        on_points: Callable[[list[PointPrompt]], None],
        on_boxes: Callable[[list[Box]], None],
    ) -> None:
        self._viewer = viewer
        self._on_points = on_points
        self._on_boxes = on_boxes
        self._image: Image | None = None
        self._plane: Plane | None = None
        self._drafts: PlaneDrafts | None = None
        self._writing = False
        self._sign = POSITIVE
        #: Whether a layer is being added that is ours.
        self.making = False
        self.points: Points | None = None
        self.boxes: Shapes | None = None
        viewer.scene.camera.events.zoom.connect(self._zoomed)

    def show(self, image: Image, plane: Plane, drafts: PlaneDrafts) -> None:
        """Write the prompts of a plane into the layers, which are made when first needed."""
        if image is not self._image:
            self._drop_misfits(image)
        self._image, self._plane, self._drafts = image, plane, drafts
        points = [point for draft in drafts.objects for point in draft.points]
        boxes = [draft.box for draft in drafts.objects if draft.box is not None]
        if points and self.points is None:
            self.make_points(image)
        if boxes and self.boxes is None:
            self.make_boxes(image)
        self._writing = True
        try:
            self._write_points(points)
            self._write_boxes(boxes)
        finally:
            self._writing = False

    def set_sign(self, label: int) -> None:
        """Give points that are added from now on a sign."""
        self._sign = label
        layer = self.points
        if layer is not None:
            self._writing = True
            try:
                self._choose_sign(layer)
            finally:
                self._writing = False

    def _choose_sign(self, layer: Points) -> None:
        """Let a point that the user adds have the sign that is chosen."""
        layer.selected_data = set()  # what is selected would be changed too
        layer.feature_defaults = {"label": _NAMES[self._sign]}
        layer.current_face_color = _COLORS[self._sign]
        layer.current_border_color = _BORDER
        layer.current_symbol = _SYMBOLS[self._sign]

    def make_points(self, image: Image) -> Points:
        """Add the Points layer, empty."""
        layer = Points(
            np.empty((0, image.ndim)),
            name=POINT_PROMPTS,
            features={"label": np.array([], dtype=object)},
            feature_defaults={"label": _NAMES[POSITIVE]},
            border_color=_BORDER,
            face_color=_COLORS[POSITIVE],
            border_width=0.12,
            symbol=_SYMBOLS[POSITIVE],
            size=self._on_screen(_POINT_SIZE, image),
            **transform_of(image),
        )
        self._insert(layer)
        self._follow_points(layer)
        self.set_sign(self._sign)
        return layer

    def make_boxes(self, image: Image) -> Shapes:
        """Add the Shapes layer, empty."""
        layer = Shapes(
            ndim=image.ndim,
            name=BOX_PROMPTS,
            edge_color=_BOX_COLOR,
            face_color="transparent",
            edge_width=self._on_screen(_BOX_WIDTH, image),
            **transform_of(image),
        )
        self._insert(layer)
        self._follow_boxes(layer)
        return layer

    def layer_removed(self, layer: Layer) -> None:
        """Let go of a layer that left the viewer; its prompts stay in the drafts."""
        if layer is self.points:
            self._unfollow_points()
        elif layer is self.boxes:
            self._unfollow_boxes()

    def remove(self) -> None:
        """Take both layers out of the viewer."""
        for layer in (self.points, self.boxes):
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._unfollow_points()
        self._unfollow_boxes()

    def _on_screen(self, pixels: float, layer: Layer) -> float:
        """Size in a layer's data that is so many pixels on the screen."""
        zoom = self._viewer.scene.camera.zoom * abs(float(layer.scale[-1]))
        return float(pixels / max(zoom, 1e-9))

    def _zoomed(self, event: Any = None) -> None:
        """Keep points and lines as large on the screen as before: so is where they are caught."""
        points, boxes = self.points, self.boxes
        if points is not None:
            size = self._on_screen(_POINT_SIZE, points)
            points.current_size = size
            with (
                points.events.extent.blocker()
            ):  # or the viewer measures all layers anew
                points.size = size
        if boxes is not None:
            width = self._on_screen(_BOX_WIDTH, boxes)
            boxes.current_edge_width = width
            if len(boxes.data):
                boxes.edge_width = width

    def _insert(self, layer: Layer) -> None:
        """Add a layer without taking the user's selection away."""
        selection = self._viewer.layers.selection
        chosen, active = set(selection), selection.active
        self.making = True
        try:
            self._viewer.layers.append(layer)
        finally:
            self.making = False
        self._viewer.layers.selection = chosen
        self._viewer.layers.selection.active = active

    def _drop_misfits(self, image: Image) -> None:
        """Take our layers away where the axes or the place of another image differ."""
        for layer in (self.points, self.boxes):
            if layer is None or layer not in self._viewer.layers:
                continue
            if layer.ndim != image.ndim:
                self._viewer.layers.remove(layer)
                self.layer_removed(layer)
                continue
            for name, value in transform_of(image).items():
                setattr(layer, name, value)
            put_above(self._viewer, layer, image)

    def _follow_points(self, layer: Points) -> None:
        self.points = layer
        layer.events.data.connect(self._points_changed)
        layer.events.features.connect(self._points_changed)

    def _unfollow_points(self) -> None:
        if self.points is not None:
            self.points.events.data.disconnect(self._points_changed)
            self.points.events.features.disconnect(self._points_changed)
        self.points = None

    def _follow_boxes(self, layer: Shapes) -> None:
        self.boxes = layer
        layer.events.data.connect(self._boxes_changed)

    def _unfollow_boxes(self) -> None:
        if self.boxes is not None:
            self.boxes.events.data.disconnect(self._boxes_changed)
        self.boxes = None

    def _points_changed(self, event: Any) -> None:
        action = getattr(event, "action", "changed")
        if self._writing or self._drafts is None or str(action) not in _SETTLED:
            return
        known = [point for draft in self._drafts.objects for point in draft.points]
        read = self._read_points()
        settled = [_known_point(point, known) for point in read]
        if sorted(settled, key=_order) != sorted(known, key=_order):
            self._on_points(settled)

    def _boxes_changed(self, event: Any) -> None:
        action = getattr(event, "action", "changed")
        if self._writing or self._drafts is None or str(action) not in _SETTLED:
            return
        known = [d.box for d in self._drafts.objects if d.box is not None]
        settled = [_known_box(box, known) for box in self._read_boxes()]
        if sorted(settled) != sorted(known):
            self._on_boxes(settled)

    def _read_points(self) -> list[PointPrompt]:
        layer, plane = self.points, self._plane
        if layer is None or plane is None:
            return []
        return [
            PointPrompt(
                *plane.xy_plane(position),
                NEGATIVE if name == _NAMES[NEGATIVE] else POSITIVE,
            )
            for position, name in zip(layer.data, _names_of(layer), strict=True)
            if _on_plane(position, plane)
        ]

    def _read_boxes(self) -> list[Box]:
        layer, plane = self.boxes, self._plane
        if layer is None or plane is None:
            return []
        boxes = []
        for corners in layer.data:
            if not _on_plane(corners[0], plane):
                continue
            xy = np.array([plane.xy_plane(corner) for corner in corners])
            (x0, y0), (x1, y1) = xy.min(axis=0), xy.max(axis=0)
            if min(x1 - x0, y1 - y0) >= SMALLEST_BOX:
                boxes.append((float(x0), float(y0), float(x1), float(y1)))
        return boxes

    def _write_points(self, points: Sequence[PointPrompt]) -> None:
        layer, plane = self.points, self._plane
        if layer is None or plane is None:
            return
        if sorted(self._read_points(), key=_order) == sorted(
            points, key=_order
        ) and len(layer.data) == len(points):
            self._mark_signs(layer)  # the user may have changed one in the features
            return
        layer.selected_data = set()
        # At every change of data the viewer measures all layers anew, which takes longest of all;
        # prompts lie within the image.
        with layer.events.data.blocker():
            layer.data = np.array(
                [plane.data_position((p.x, p.y)) for p in points]
            ).reshape(-1, layer.ndim)
        if points:
            layer.features = {
                "label": np.array([_NAMES[p.label] for p in points], dtype=object)
            }
            layer.size = self._on_screen(_POINT_SIZE, layer)
            self._mark_signs(layer)
            self._choose_sign(layer)  # or it were the last point's

    def _mark_signs(self, layer: Points) -> None:
        """Give every point the shape and the colour of its sign."""
        signs = [
            NEGATIVE if name == _NAMES[NEGATIVE] else POSITIVE
            for name in _names_of(layer)
        ]
        symbols = [_SYMBOLS[sign] for sign in signs]
        if signs and symbols != [str(symbol) for symbol in layer.symbol]:
            layer.symbol = symbols
            layer.face_color = [_COLORS[sign] for sign in signs]
            layer.border_color = _BORDER

    def _write_boxes(self, boxes: Sequence[Box]) -> None:
        layer, plane = self.boxes, self._plane
        if layer is None or plane is None:
            return
        if sorted(self._read_boxes()) == sorted(boxes) and len(layer.data) == len(
            boxes
        ):
            return
        layer.selected_data = set()
        layer.data = []
        corners = [
            [plane.data_position(xy) for xy in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
            for x0, y0, x1, y1 in boxes
        ]
        if corners:
            layer.add_rectangles(
                [np.array(c) for c in corners],
                edge_width=self._on_screen(_BOX_WIDTH, layer),
                edge_color=_BOX_COLOR,
                face_color="transparent",
            )


def _names_of(layer: Points) -> Sequence[str]:
    """Signs of a layer's points, in words; points without one are positive."""
    names: Sequence[str] = layer.features.get(
        "label", [_NAMES[POSITIVE]] * len(layer.data)
    )
    return names


def _on_plane(position: Any, plane: Plane) -> bool:
    return all(
        at is None or round(float(position[axis])) == at
        for axis, at in enumerate(plane.index)
    )


def _order(point: PointPrompt) -> tuple[float, float, int]:
    return point.x, point.y, point.label


def _known_point(point: PointPrompt, known: Sequence[PointPrompt]) -> PointPrompt:
    """Return the known prompt at this place, else the point itself."""
    for other in known:
        near = max(abs(point.x - other.x), abs(point.y - other.y)) < _SAME
        if near and point.label == other.label:
            return other
    return point


def _known_box(box: Box, known: Sequence[Box]) -> Box:
    """Return the known box at this place, else the box itself."""
    for other in known:
        if max(abs(a - b) for a, b in zip(box, other, strict=True)) < _SAME:
            return other
    return box
