"""An open dock, as the fixture of that name gives it to GUI tests."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import napari.viewer
    from pytestqt.qtbot import QtBot

    from canvas_mouse import CanvasMouse
    from fake_predictor import DiscRuntime
    from napari_tinysam.ui.dock.widget import TinySAMWidget

_PATIENCE_MS = 60_000  # until a test gives up; the machine may be busy


@dataclass
class OpenDock:
    """A viewer on the screen, the dock in it, and the ways to use both."""

    viewer: napari.viewer.Viewer
    widget: TinySAMWidget
    mouse: CanvasMouse
    runtime: DiscRuntime
    qtbot: QtBot

    @property
    def session(self) -> Any:
        return self.widget.session

    def until(self, condition: Callable[[], Any]) -> None:
        """Run the event loop until something holds."""
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=_PATIENCE_MS)

    def until_ready(self) -> None:
        self.until(lambda: self.session.status.kind.name == "READY")

    @property
    def preview(self) -> Any:
        """The preview's layer."""
        return self.viewer.layers["current_object"]

    def shows_preview(self) -> bool:
        """Whether the preview shows masks, not only what stands for them."""
        shown = self.session._parts.masks.preview.shown
        masks = shown is not None and bool(shown.objects or shown.hover)
        return masks and self.shows_something()

    def shows_something(self) -> bool:
        """Whether the preview's layer has triangles that can be seen."""
        if "current_object" not in self.viewer.layers:
            return False
        vertices, faces, _ = self.preview.data
        return len(faces) > 1 and bool(np.ptp(vertices, axis=0).any())


OpenDockFactory = Callable[..., OpenDock]


def collect() -> None:
    """Let Qt delete what it was asked to, and Python what nobody holds."""
    from qtpy.QtCore import QCoreApplication, QEvent

    for _ in range(3):
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QCoreApplication.processEvents()
        gc.collect()
