"""Keeps the removal of layers from ending the process in vispy's drawing.

When a layer goes, napari has vispy delete its buffers, textures and programs at once, in whatever
OpenGL context is current then: often none, or that of Qt's own drawing. What is drawn next reads
what was deleted behind its back; software OpenGL crashes. So the canvas's context is made the
current one before. (napari 0.9, `VispyCanvas._clean_and_update_scenegraph`; without this plugin,
too, such as with a Points layer that is removed after its image.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel


class RemovalGuard:
    """Makes the canvas's OpenGL context current before a layer is removed.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Of the window.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        viewer.layers.events.removing.connect(self._removing)

    def close(self) -> None:
        """Let napari do as it does."""
        self._viewer.layers.events.removing.disconnect(self._removing)

    def _removing(self, event: Any = None) -> None:
        from vispy.gloo import get_current_canvas

        canvas = get_current_canvas()
        if canvas is not None and not getattr(canvas, "_closed", False):
            canvas.set_current()
