"""The keys of the annotator: one table, bound while it is active.

S, T, N, C and Shift+C are micro-sam's. In napari the active layer's keys come first, so ours are
also bound on the active layer where clicks are ours: on the image (where napari's C is "auto
contrast"), its labels, our preview and prompt layers. Keys that napari uses on a Labels layer stay
napari's there until an object is edited, except E: napari's eraser also has the 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app_model.types import KeyBinding, KeyCode, KeyMod

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
    yields : bool
        Whether the active layer's own meaning of the key comes first.
    """

    keys: tuple[int, ...]
    label: str
    method: str
    text: str
    yields: bool = False


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
        "Clear the objects that are not committed",
    ),
    KeyAction(
        (KeyCode.KeyW, KeyCode.Tab), "W", "cycle_candidate", "Next of the three masks"
    ),
    KeyAction((KeyCode.KeyA,), "A", "auto_segment", "Auto-segment: find all objects"),
    KeyAction(
        (KeyCode.KeyI,),
        "I",
        "find_similar",
        "Similar: propose the objects that are like the chosen one",
    ),
    KeyAction((KeyMod.CtrlCmd | KeyCode.KeyZ,), "Ctrl+Z", "undo", "Undo"),
    KeyAction(
        (KeyMod.CtrlCmd | KeyMod.Shift | KeyCode.KeyZ,), "Ctrl+Shift+Z", "redo", "Redo"
    ),
    KeyAction(
        (KeyCode.KeyE,),
        "E",
        "edit_object",
        "Edit the object under the cursor, or the one clicked next",
    ),
    KeyAction(
        (KeyCode.Delete,),
        "Del",
        "delete_object",
        "Delete the edited object, or the one under the cursor",
        yields=True,
    ),
    KeyAction(
        (KeyCode.KeyM,), "M", "merge_objects", "Merge with another object", yields=True
    ),
    KeyAction(
        (KeyCode.KeyX,),
        "X",
        "split_object",
        "Split the edited object",
        yields=True,
    ),
    KeyAction(
        (KeyCode.KeyG,),
        "G",
        "follow_object",
        "Go through the stack: follow the object in all planes",
    ),
    KeyAction((KeyCode.KeyH,), "H", "end_object_here", "The followed object ends here"),
    KeyAction(
        (KeyMod.Shift | KeyCode.KeyX,),
        "Shift+X",
        "split_here",
        "Another object begins in this plane",
    ),
    KeyAction(
        (KeyCode.KeyJ,),
        "J",
        "show_weakest_plane",
        "Jump to the weakest plane of the followed object",
    ),
    KeyAction((KeyCode.KeyY,), "Y", "accept_plane", "Yes: take this plane as it is"),
    KeyAction(
        (KeyCode.KeyK,),
        "K",
        "link_tracks",
        "This track goes on as … (K over it in a later frame)",
    ),
    KeyAction(
        (KeyMod.Shift | KeyCode.KeyK,),
        "Shift+K",
        "cut_track",
        "A new track begins here",
    ),
    KeyAction(
        (KeyCode.KeyQ,),
        "Q",
        "swap_tracks",
        "Swap this track from here on with … (Q over the other)",
    ),
    KeyAction(
        (KeyCode.KeyD,),
        "D",
        "divide_track",
        "Yes, a division; or: this track divides into … (D over each daughter)",
    ),
    KeyAction(
        (KeyMod.Shift | KeyCode.KeyD,), "Shift+D", "refuse_division", "No division"
    ),
    KeyAction(
        (KeyMod.Shift | KeyCode.Delete,),
        "Shift+Del",
        "delete_track",
        "Delete this track from here on",
    ),
    KeyAction(
        (KeyMod.Shift | KeyCode.KeyG,),
        "Shift+G",
        "follow_track",
        "Follow this track anew from here on",
    ),
    KeyAction((KeyCode.KeyR,), "R", "next_doubt", "Show the next possible division"),
    KeyAction(
        (KeyCode.KeyO,),
        "O",
        "finish_image",
        "OK, done: save, and open the next image that is not done",
    ),
    KeyAction(
        (KeyCode.PageDown, KeyCode.Period),
        "PgDn",
        "next_image",
        "Next image of the list; this one is saved. Also the key of the full stop",
    ),
    KeyAction(
        (KeyCode.PageUp, KeyCode.Comma),
        "PgUp",
        "previous_image",
        "Previous image of the list; this one is saved. Also the key of the comma",
    ),
)


#: They give classes while there are some.
_DIGITS = tuple(getattr(KeyCode, f"Digit{digit}") for digit in range(10))


def action(method: str) -> KeyAction:
    """Find the action of a session's method."""
    return next(known for known in KEYS if known.method == method)


class KeyBinder:
    """Binds the keys on a viewer and on its active layer, and restores what was bound before.

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
        self._on_viewer: dict[Any, Callable[..., Any] | None] = {}
        self._on_layer: dict[Any, Callable[..., Any] | None] = {}
        self._layer: Layer | None = None
        self._all = False
        self._digit: Callable[[int], None] | None = None

    @property
    def bound(self) -> bool:
        """Whether the keys are ours."""
        return bool(self._on_viewer)

    def bind(self) -> None:
        """Bind all keys on the viewer."""
        if not self._on_viewer:
            self._on_viewer = _bound(self._viewer, self._handlers(None))

    def set_digits(self, call: Callable[[int], None] | None) -> None:
        """Call this with the digits 0 to 9 from now on; None: they stay napari's."""
        if (call is None) == (self._digit is None):
            return
        layer, every, bound = self._layer, self._all, self.bound
        self.unbind()
        self._digit = call
        if bound:
            self.bind()
            self.follow(layer, all_keys=every)

    def follow(self, layer: Layer | None, *, all_keys: bool) -> None:
        """Also bind the keys on this layer, and unbind them from any other.

        Parameters
        ----------
        layer : napari.layers.Layer or None
            The active one, if clicks on it are ours.
        all_keys : bool
            Also those that yield to the layer's own.
        """
        if layer is self._layer and all_keys == self._all:
            return
        if self._layer is not None:
            _put_back(self._layer, self._on_layer)
        self._layer, self._all, self._on_layer = layer, all_keys, {}
        if layer is not None:
            kept = None if all_keys else layer
            self._on_layer = _bound(layer, self._handlers(kept))

    def unbind(self) -> None:
        """Leave all key maps as they were."""
        self.follow(None, all_keys=False)
        _put_back(self._viewer, self._on_viewer)
        self._on_viewer = {}

    def works(self, method: str) -> bool:
        """Whether the keys of a session's method work where the user is now."""
        active = self._viewer.layers.selection.active
        if not self.bound:
            return False
        if active is None or (active is self._layer and self._all):
            return True
        return not action(method).yields or not _owns(active, action(method))

    def _handlers(self, own: Layer | None) -> list[tuple[int, Callable[[Any], None]]]:
        found = [
            (key, self._handler(known.method))
            for known in KEYS
            if not (known.yields and own is not None and _owns(own, known))
            for key in known.keys
        ]
        if (call := self._digit) is not None:
            found += [(key, _of_digit(call, at)) for at, key in enumerate(_DIGITS)]
        return found

    def _handler(self, method: str) -> Callable[[Any], None]:
        def run(target: Any) -> None:
            self._call(method)

        return run


def _of_digit(call: Callable[[int], None], digit: int) -> Callable[[Any], None]:
    return lambda target: call(digit)


def _owns(layer: Layer, known: KeyAction) -> bool:
    """Whether a layer's kind has a meaning of its own for a key."""
    keys = {KeyBinding.from_int(key) for key in known.keys}
    maps = [getattr(cls, "class_keymap", {}) for cls in type(layer).__mro__]
    return any(keys & set(keymap) for keymap in maps)


def _bound(
    target: Any, handlers: list[tuple[int, Callable[[Any], None]]]
) -> dict[Any, Callable[..., Any] | None]:
    """Bind keys; return what was bound before."""
    before = {}
    for key, handler in handlers:
        before[key] = target.bind_key(key, None)
        target.bind_key(key, handler, overwrite=True)
    return before


def _put_back(target: Any, before: dict[Any, Callable[..., Any] | None]) -> None:
    for key, handler in before.items():
        target.bind_key(key, None)
        if handler is not None:
            target.bind_key(key, handler, overwrite=True)
