"""The keys of the annotator: one table, bound while it is active.

They are micro-sam's. Keys of the active layer come first in napari, so none of napari's own is ever
shadowed; where one of them would win (C on an Image layer is "auto contrast"), a click has made the
preview layer the active one, on which all of these are free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app_model.types import KeyCode, KeyMod

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


@dataclass(frozen=True)
class KeyAction:
    """One action and its keys.

    Parameters
    ----------
    keys : tuple of int
        app-model key codes.
    label : str
        How the key is written on the button.
    method : str
        The method of `AnnotationSession` it calls.
    text : str
        What it does, for the tooltip.
    """

    keys: tuple[int, ...]
    label: str
    method: str
    text: str


KEYS: tuple[KeyAction, ...] = (
    KeyAction(
        (KeyCode.KeyS,), "S", "segment", "Segment: take the mask under the cursor"
    ),
    KeyAction((KeyCode.KeyT,), "T", "toggle_sign", "Switch clicks between + and −"),
    KeyAction((KeyCode.KeyC,), "C", "commit", "Commit the mask to the labels"),
    KeyAction(
        (KeyCode.KeyN,), "N", "next_object", "Keep this mask, start the next object"
    ),
    KeyAction(
        (KeyMod.Shift | KeyCode.KeyC,),
        "Shift+C",
        "clear",
        "Clear what is not committed",
    ),
    KeyAction(
        (KeyCode.KeyW, KeyCode.Tab), "W", "cycle_candidate", "Next of the three masks"
    ),
    KeyAction((KeyCode.KeyA,), "A", "auto_segment", "Auto-segment: find all objects"),
    KeyAction((KeyMod.CtrlCmd | KeyCode.KeyZ,), "Ctrl+Z", "undo", "Undo"),
    KeyAction(
        (KeyMod.CtrlCmd | KeyMod.Shift | KeyCode.KeyZ,), "Ctrl+Shift+Z", "redo", "Redo"
    ),
)


def action(method: str) -> KeyAction:
    """Find the action of a session's method."""
    return next(known for known in KEYS if known.method == method)


class KeyBinder:
    """Binds the keys on a viewer and on the preview layer, and puts back what was there.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Its own key map is the last that napari looks at.
    call : callable
        Called with the name of a session's method.
    """

    def __init__(self, viewer: ViewerModel, call: Callable[[str], None]) -> None:
        self._viewer = viewer
        self._call = call
        self._before: dict[Any, Callable[..., Any] | None] = {}
        self._layer: Layer | None = None

    def bind(self) -> None:
        """Bind all keys on the viewer."""
        if self._before:
            return
        for key, handler in self._handlers():
            self._before[key] = self._viewer.bind_key(key, None)
            self._viewer.bind_key(key, handler, overwrite=True)

    def bind_layer(self, layer: Layer) -> None:
        """Bind all keys on our own preview layer too, where napari's undo would be in the way."""
        if layer is self._layer:
            return
        self._layer = layer
        for key, handler in self._handlers():
            layer.bind_key(key, handler, overwrite=True)

    def unbind(self) -> None:
        """Leave both key maps as they were."""
        for key, before in self._before.items():
            self._viewer.bind_key(key, None)
            if before is not None:
                self._viewer.bind_key(key, before, overwrite=True)
        self._before.clear()
        if self._layer is not None:
            for key, _ in self._handlers():
                self._layer.bind_key(key, None)
            self._layer = None

    def _handlers(self) -> list[tuple[int, Callable[[Any], None]]]:
        return [
            (key, self._handler(known.method)) for known in KEYS for key in known.keys
        ]

    def _handler(self, method: str) -> Callable[[Any], None]:
        def run(target: Any) -> None:
            self._call(method)

        return run
