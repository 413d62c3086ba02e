"""The mouse on the canvas: hover, click, Ctrl+click, right click, Shift+drag.

Two quick clicks at one place are two clicks here; napari's own double click would zoom in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_tinysam.prompts import NEGATIVE

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel

_LEFT, _RIGHT = 1, 2

#: Name of napari's own callback for double clicks, which is not public.
_ZOOM = "double_click_to_zoom"

#: Canvas pixels that a click may wander before it is a drag.
_DRAG_DISTANCE = 4.0

Position = Any  # a position in the world of the viewer, (ndim,)


class MouseTarget(Protocol):
    """What the mouse acts on."""

    def hover_at(self, position: Position) -> None:
        """Show what a click here would give."""
        ...

    def stop_hover(self) -> None:
        """Hide the hover: the mouse left."""
        ...

    def click_at(self, position: Position, label: int | None = None) -> None:
        """Add a point, positive (1), negative (0) or as the mode says (None)."""
        ...

    def click_again_at(
        self, first: Position, position: Position, label: int | None = None
    ) -> None:
        """Add the second click of a double click."""
        ...

    def drag_box(self, start: Position, end: Position, *, done: bool) -> None:
        """Show the box that is drawn; take it as a prompt when it is done."""
        ...


class MouseTool:
    """Connects the viewer's mouse callbacks to a target while armed.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Its canvas is listened to.
    target : MouseTarget
        Handles the clicks.
    """

    def __init__(self, viewer: ViewerModel, target: MouseTarget) -> None:
        self._viewer = viewer
        self._target = target
        self._armed = False
        self._pressed = False
        self._clicked: Position = None  # where the last click was
        self._zoom: list[tuple[int, Callable[..., None]]] = []  # napari's, meanwhile
        # napari keeps these lists by strong reference: one object each, to be found again.
        self._move: Callable[..., None] = self._on_move
        self._drag: Callable[..., Iterator[None]] = self._on_drag
        self._double: Callable[..., None] = self._on_double_click

    def arm(self) -> None:
        """Start listening."""
        if not self._armed:
            self._viewer.mouse_move_callbacks.append(self._move)
            self._viewer.mouse_drag_callbacks.append(self._drag)
            callbacks = self._viewer.mouse_double_click_callbacks
            self._zoom = [
                (at, each)
                for at, each in enumerate(callbacks)
                if getattr(each, "__name__", "") == _ZOOM
            ]
            for _, each in self._zoom:
                callbacks.remove(each)
            callbacks.append(self._double)
            self._armed = True

    def disarm(self) -> None:
        """Stop listening."""
        if self._armed:
            self._viewer.mouse_move_callbacks.remove(self._move)
            self._viewer.mouse_drag_callbacks.remove(self._drag)
            callbacks = self._viewer.mouse_double_click_callbacks
            callbacks.remove(self._double)
            for at, each in self._zoom:
                callbacks.insert(at, each)
            self._zoom = []
            self._armed = False

    @property
    def _layer_is_busy(self) -> bool:
        """Whether the active layer uses the mouse itself: painting, adding points, …."""
        active = self._viewer.layers.selection.active
        return active is not None and str(active.mode) != "pan_zoom"

    def _on_move(self, viewer: Any, event: Any) -> None:
        if self._pressed or self._layer_is_busy:
            self._target.stop_hover()
        else:
            self._target.hover_at(event.position)

    def _on_drag(self, viewer: Any, event: Any) -> Iterator[None]:
        # vispy's keys equal their names, but do not print as them.
        modifiers = {getattr(key, "name", key) for key in event.modifiers}
        ours = not modifiers or modifiers in ({"Shift"}, {"Control"})
        if event.button not in (_LEFT, _RIGHT) or not ours or self._layer_is_busy:
            return
        boxing = modifiers == {"Shift"} and event.button == _LEFT
        start, start_pos = tuple(event.position), np.array(event.pos, float)
        if boxing:
            event.handled = True  # no panning
        self._pressed, dragged = True, False
        try:
            yield
            while event.type == "mouse_move":
                dragged = dragged or _is_drag(start_pos, event.pos)
                if boxing:
                    event.handled = True
                    if dragged:
                        self._target.drag_box(start, event.position, done=False)
                yield
        finally:
            self._pressed = False
        # Moves can be lost while the window is busy; the place of release is not.
        dragged = dragged or _is_drag(start_pos, event.pos)
        if boxing:
            if dragged:
                self._target.drag_box(start, event.position, done=True)
        elif not dragged:
            self._clicked = start
            self._target.click_at(start, _label(modifiers, event.button))

    def _on_double_click(self, viewer: Any, event: Any) -> None:
        modifiers = {getattr(key, "name", key) for key in event.modifiers}
        if modifiers not in (set(), {"Control"}) or event.button not in (_LEFT, _RIGHT):
            for _, zoom in self._zoom:
                zoom(viewer, event)
        elif self._clicked is not None and not self._layer_is_busy:
            self._target.click_again_at(
                self._clicked, tuple(event.position), _label(modifiers, event.button)
            )


def _label(modifiers: set[str], button: int) -> int | None:
    """Label of a click's point; None: the chosen sign."""
    return NEGATIVE if modifiers == {"Control"} or button == _RIGHT else None


def _is_drag(start: npt.NDArray[np.float64], end: Any) -> bool:
    """Whether two places on the canvas, in its pixels, are too far apart for a click."""
    return bool(np.abs(np.asarray(end, float) - start).max() > _DRAG_DISTANCE)
