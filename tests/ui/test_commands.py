"""Commands of the palette and the menus."""

from __future__ import annotations

from unittest.mock import MagicMock, call

import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from napari_tinysam.ui import _commands
from napari_tinysam.ui._session import AnnotationSession

STEPS = {
    "segment_object": "segment",
    "commit_object": "commit",
    "next_object": "next_object",
    "clear_prompts": "clear",
    "undo": "undo",
    "redo": "redo",
}


@pytest.mark.parametrize(("command", "step"), STEPS.items())
def test_command_calls_the_session_of_its_viewer(monkeypatch, command, step):
    viewer, session = ViewerModel(), MagicMock(spec=AnnotationSession)
    monkeypatch.setattr(
        _commands, "session_of", lambda asked: session if asked is viewer else None
    )

    getattr(_commands, command)(viewer)

    assert session.method_calls == [getattr(call, step)()]


@pytest.mark.parametrize("command", STEPS)
def test_command_without_an_open_dock_says_so(command):
    notification_manager.records.clear()

    getattr(_commands, command)(ViewerModel())

    (record,) = notification_manager.records
    assert "Open the TinySAM dock first" in record.message


@pytest.mark.gl
def test_palette_runs_them_on_the_current_viewer(make_napari_viewer, monkeypatch):
    from napari._app_model import get_app_model

    viewer, asked = make_napari_viewer(), []
    monkeypatch.setattr(_commands, "session_of", asked.append)
    for command in STEPS:
        get_app_model().commands.execute_command(f"napari-tinysam.{command}").result()

    assert asked == [viewer] * len(STEPS)
