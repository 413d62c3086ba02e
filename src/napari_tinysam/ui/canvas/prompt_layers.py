"""Prompts as napari layers: `point_prompts` (Points) and `prompts` (Shapes).

The layers are a view of the drafts. They are written from them after a click, undo, commit or a
change of plane. A row of a layer is a prompt of the drafts, known by its index: when the user adds,
moves or deletes rows, napari says which, and only those are read. Layers of these names that the
user brought are another matter: see `user_prompts`. The names are micro-sam's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from napari.layers import Points, Shapes

from napari_tinysam.prompts import NEGATIVE, POSITIVE
from napari_tinysam.ui.state.drafts import Box, PointPrompt
from napari_tinysam.ui.state.images import put_above
from napari_tinysam.ui.state.planes import transform_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_tinysam.ui.state.planes import Plane
    from napari_tinysam.ui.state.subject import Subject

POINT_PROMPTS = "point_prompts"
BOX_PROMPTS = "prompts"

_NAMES = {POSITIVE: "positive", NEGATIVE: "negative"}

# Signs differ in shape and in colour: Okabe and Ito's bluish green and vermilion, lighter, which
# colour-blind people see as pale and yellow. The dark border is for bright images.
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

_Row = TypeVar("_Row", PointPrompt, Box)


class PromptLayers:
    """Shows the drafts of the shown plane in two layers, and reads what the user changes there.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layers go.
    subject : Subject
        Has the image, the plane and the drafts.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        subject: Subject,
    ) -> None:
        self._viewer = viewer
        self._subject = subject
        self._image: Image | None = None  # of the layers
        # The prompt in each row of a layer, for the plane it was written for; None in a row that
        # holds no prompt.
        self._written_for: Plane | None = None
        self._point_rows: list[PointPrompt | None] = []
        self._box_rows: list[Box | None] = []
        self._writing = False
        self._sign = POSITIVE
        #: Whether we are adding a layer.
        self.making = False
        self.points: Points | None = None
        self.boxes: Shapes | None = None
        viewer.scene.camera.events.zoom.connect(self._zoomed)

    def show(self) -> None:
        """Write the prompts of the shown plane into the layers; make these when first needed."""
        here = self._subject.here
        if here is None:
            return
        image, plane = here
        if image is not self._image:
            self._drop_misfits(image)
            self._image = image
        if plane != self._written_for:
            self._written_for = plane  # the rows are of another plane
            self._point_rows = [None] * len(self._point_rows)
            self._box_rows = [None] * len(self._box_rows)
        drafts = self._subject.drafts
        points = [point for draft in drafts.objects for point in draft.points]
        boxes = [draft.box for draft in drafts.objects if draft.box is not None]
        if points and self.points is None:
            self.make_points(image)
        if boxes and self.boxes is None:
            self.make_boxes(image)
        self._writing = True
        try:
            if self.points is not None:
                self._write_points(self.points, plane, points)
            if self.boxes is not None:
                self._write_boxes(self.boxes, plane, boxes)
        finally:
            self._writing = False

    def set_sign(self, label: int) -> None:
        """Choose the sign of points that the user adds from now on."""
        self._sign = label
        layer = self.points
        if layer is not None:
            self._writing = True
            try:
                self._choose_sign(layer)
            finally:
                self._writing = False

    def _choose_sign(self, layer: Points) -> None:
        """Give points that the user adds the chosen sign."""
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
        """Forget a layer that left the viewer; its prompts stay in the drafts."""
        if layer is self.points:
            self._unfollow_points()
        elif layer is self.boxes:
            self._unfollow_boxes()

    def remove(self) -> None:
        """Remove both layers from the viewer."""
        for layer in (self.points, self.boxes):
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._unfollow_points()
        self._unfollow_boxes()

    def _on_screen(self, pixels: float, layer: Layer) -> float:
        """Size in a layer's data of this many pixels on the screen."""
        zoom = self._viewer.scene.camera.zoom * abs(float(layer.scale[-1]))
        return float(pixels / max(zoom, 1e-9))

    def _zoomed(self, event: Any = None) -> None:
        """Keep points and lines the same size on the screen, and as easy to grab."""
        points, boxes = self.points, self.boxes
        if points is not None:
            size = self._on_screen(_POINT_SIZE, points)
            points.current_size = size
            with points.events.extent.blocker():  # else the viewer measures all layers
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
        """Remove our layers if another image has other axes or another place."""
        for layer in (self.points, self.boxes):
            if layer is None or layer not in self._viewer.layers:
                continue
            if layer.ndim != image.ndim:
                self._viewer.layers.remove(layer)
                self.layer_removed(layer)
                continue
            for name, value in transform_of(image).items():
                # Setting costs time, also where nothing changes.
                if not _is_same(getattr(layer, name), value):
                    setattr(layer, name, value)
            put_above(self._viewer, layer, image)

    def _follow_points(self, layer: Points) -> None:
        self.points, self._point_rows = layer, []
        layer.events.data.connect(self._points_changed)
        layer.events.features.connect(self._points_changed)

    def _unfollow_points(self) -> None:
        if self.points is not None:
            self.points.events.data.disconnect(self._points_changed)
            self.points.events.features.disconnect(self._points_changed)
        self.points = None

    def _follow_boxes(self, layer: Shapes) -> None:
        self.boxes, self._box_rows = layer, []
        layer.events.data.connect(self._boxes_changed)

    def _unfollow_boxes(self) -> None:
        if self.boxes is not None:
            self.boxes.events.data.disconnect(self._boxes_changed)
        self.boxes = None

    def _points_changed(self, event: Any) -> None:
        layer, plane = self.points, self._written_for
        if layer is None or plane is None or not self._is_users(event):
            return
        rows = _kept(self._point_rows, event, len(layer.data))
        for at, (row, name) in enumerate(zip(rows, _names_of(layer), strict=True)):
            label = NEGATIVE if name == _NAMES[NEGATIVE] else POSITIVE
            if row is None and _on_plane(layer.data[at], plane):
                rows[at] = PointPrompt(*plane.xy_plane(layer.data[at]), label)
            elif row is not None and row.label != label:
                rows[at] = PointPrompt(row.x, row.y, label)
        before, self._point_rows = self._point_rows, rows
        if _prompts(rows) != _prompts(before):
            drafts = self._subject.drafts.with_points(_prompts(rows))
            self._subject.change_drafts("points", drafts)

    def _boxes_changed(self, event: Any) -> None:
        layer, plane = self.boxes, self._written_for
        if layer is None or plane is None or not self._is_users(event):
            return
        rows = _kept(self._box_rows, event, len(layer.data))
        rows = [
            _read_box(corners, plane) if row is None else row
            for row, corners in zip(rows, layer.data, strict=True)
        ]
        before, self._box_rows = self._box_rows, rows
        if _prompts(rows) != _prompts(before):
            drafts = self._subject.drafts.with_boxes(_prompts(rows))
            self._subject.change_drafts("boxes", drafts)

    def _is_users(self, event: Any) -> bool:
        """Whether an event reports a finished change by the user; features have no action."""
        action = getattr(event, "action", "changed")
        return not self._writing and str(action) in _SETTLED

    def _write_points(
        self, layer: Points, plane: Plane, points: Sequence[PointPrompt]
    ) -> None:
        if _same(self._point_rows, points):
            self._mark_signs(layer)  # the user may have changed one in the features
            return
        self._point_rows = list(points)
        layer.selected_data = set()
        # The viewer measures all layers after each change of data, which takes longest of all and
        # is not needed: prompts lie within the image.
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
            self._choose_sign(layer)  # else it would be the last point's

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

    def _write_boxes(self, layer: Shapes, plane: Plane, boxes: Sequence[Box]) -> None:
        if _same(self._box_rows, boxes):
            return
        self._box_rows = list(boxes)
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


def _kept(rows: Sequence[_Row | None], event: Any, count: int) -> list[_Row | None]:
    """Return the known prompt of each row after an event; None: read it from the layer.

    Parameters
    ----------
    rows
        The prompts before, by row.
    event
        napari's, of the data or, without an action, of the features.
    count : int
        Number of rows now; new ones come last.
    """
    kept: list[_Row | None] = list(rows)
    action = str(getattr(event, "action", ""))
    if action == "removed":
        kept = [row for at, row in enumerate(rows) if at not in event.data_indices]
    elif action == "changed":
        moved = event.data_indices
        kept = [None if at in moved else row for at, row in enumerate(rows)]
    if len(kept) > count:  # other data were set
        kept = []
    return kept + [None] * (count - len(kept))


def _prompts(rows: Sequence[_Row | None]) -> list[_Row]:
    return [row for row in rows if row is not None]


def _same(rows: Sequence[_Row | None], prompts: Sequence[_Row]) -> bool:
    """Whether the rows are these prompts, in any order."""
    return None not in rows and Counter(rows) == Counter(prompts)


def _read_box(corners: Any, plane: Plane) -> Box | None:
    """Return the box of a shape; None on another plane, and for a slip of the mouse."""
    if not _on_plane(corners[0], plane):
        return None
    xy = np.array([plane.xy_plane(corner) for corner in corners])
    (x0, y0), (x1, y1) = xy.min(axis=0), xy.max(axis=0)
    if min(x1 - x0, y1 - y0) < SMALLEST_BOX:
        return None
    return float(x0), float(y0), float(x1), float(y1)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values of a layer's transform are the same."""
    matrices = [getattr(each, "affine_matrix", each) for each in (one, other)]
    return bool(np.array_equal(*matrices))
