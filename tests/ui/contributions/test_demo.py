"""The window that the demo opens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari
import numpy as np

from analytic_runtime import analytic_predictor
from napari_tinysam.cli import demo as cli_demo
from napari_tinysam.inference import load
from napari_tinysam.ui.contributions import demo as _demo
from napari_tinysam.ui.session.facade import session_of

if TYPE_CHECKING:
    import pytest


def test_the_demo_goes_on_in_napari(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_napari_viewer()
    ran = []
    monkeypatch.setattr(load, "load_model", lambda *_, **__: analytic_predictor())
    monkeypatch.setattr(napari, "Viewer", lambda **_: viewer)
    monkeypatch.setattr(napari, "run", lambda: ran.append(True))
    image = cli_demo.image()
    labels = np.zeros(image.shape[:2], np.uint16)
    labels[10:20, 10:20] = 1
    _demo.open_demo(image, labels)
    assert ran
    assert [layer.name for layer in viewer.layers[:2]] == [
        "nuclei",
        "nuclei committed_objects",
    ]
    session = session_of(viewer)
    assert session is not None
    assert session.target is viewer.layers["nuclei committed_objects"]
    (dock,) = viewer.window.dock_widgets.values()
    assert dock.output.labels.currentText() == "nuclei committed_objects"
    viewer.window.remove_dock_widget(dock)
