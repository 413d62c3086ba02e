"""Removing layers without crashing the window.

When a layer is removed, napari 0.9 has vispy delete its OpenGL programs at once, in the current
context. Outside painting, the current context is Qt's. The two share their programs, but
Mesa's software driver (22.3) then draws the next layers with the deleted ones and crashes. With
the canvas's context current it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtOpenGLWidgets import QOpenGLWidget

if TYPE_CHECKING:
    import napari.viewer
    from qtpy.QtWidgets import QWidget


class ContextGuard:
    """Makes a canvas's OpenGL context current before a layer goes.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Its layers are removed.
    canvas : QWidget
        Holds the canvas they are drawn on.
    """

    def __init__(self, viewer: napari.viewer.Viewer, canvas: QWidget) -> None:
        self._viewer = viewer
        self._canvas = canvas
        viewer.layers.events.removing.connect(self._removing)

    def close(self) -> None:
        """Stop guarding."""
        self._viewer.layers.events.removing.disconnect(self._removing)

    def _removing(self, event: Any = None) -> None:
        for widget in self._canvas.findChildren(QOpenGLWidget):
            widget.makeCurrent()
