"""Commands of the palette and the menus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, call

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager

from napari_tinysam.inference.kept import ENVIRONMENT_VARIABLE, KeptEmbeddings
from napari_tinysam.ui.contributions import commands
from napari_tinysam.ui.session.facade import AnnotationSession

STEPS = {
    "segment_object": "segment",
    "commit_object": "commit",
    "next_object": "next_object",
    "clear_prompts": "clear",
    "find_similar": "find_similar",
    "undo": "undo",
    "redo": "redo",
}


@pytest.mark.parametrize(("command", "step"), STEPS.items())
def test_command_calls_the_session_of_its_viewer(monkeypatch, command, step):
    viewer, session = ViewerModel(), MagicMock(spec=AnnotationSession)
    monkeypatch.setattr(
        commands, "session_of", lambda asked: session if asked is viewer else None
    )

    getattr(commands, command)(viewer)

    assert session.method_calls == [getattr(call, step)()]


@pytest.mark.parametrize("command", STEPS)
def test_command_without_an_open_dock_says_so(command):
    notification_manager.records.clear()

    getattr(commands, command)(ViewerModel())

    (record,) = notification_manager.records
    assert "Open the TinySAM dock first" in record.message


def test_kept_planes_are_removed(monkeypatch, tmp_path):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    random = np.random.default_rng(0).normal(size=1_500_000).astype(np.float16)
    KeptEmbeddings().keep("key", {"random": random})
    notification_manager.records.clear()

    commands.clear_kept()

    (record,) = notification_manager.records
    assert record.message == (
        f"3 MB of kept planes were removed from {tmp_path / 'embeddings'}."
    )
    assert len(KeptEmbeddings().files) == 0


@pytest.mark.gl
def test_palette_runs_them_on_the_current_viewer(make_napari_viewer, monkeypatch):
    from napari._app_model import get_app_model

    viewer, asked = make_napari_viewer(), []
    monkeypatch.setattr(commands, "session_of", asked.append)
    for command in STEPS:
        get_app_model().commands.execute_command(f"napari-tinysam.{command}").result()

    assert asked == [viewer] * len(STEPS)


def menu_paths(menu: Any, above: tuple[str, ...] = ()) -> set[str]:
    """All entries of a menu and those below it, as users are told of them."""
    menu.aboutToShow.emit()  # napari fills menus when they open
    found = set()
    for entry in menu.actions():
        if entry.isSeparator():
            continue
        path = (*above, entry.text().replace("&", ""))
        found.add(" → ".join(path))
        if entry.menu() is not None:
            found |= menu_paths(entry.menu(), path)
    return found


@pytest.mark.gl
def test_entries_that_users_are_told_of_are_in_the_menus(
    make_napari_viewer: Any, npe2pm: Any
) -> None:
    from npe2 import PluginManifest

    from napari_tinysam.ui.session.hints import _BY_STATUS

    if "napari-tinysam" not in npe2pm:
        npe2pm.register(PluginManifest.from_distribution("napari-tinysam"))
    viewer = make_napari_viewer()
    there = set()
    for entry in viewer.window._qt_window.menuBar().actions():
        there |= menu_paths(entry.menu(), (entry.text().replace("&", ""),))

    notification_manager.records.clear()
    commands.segment_object(ViewerModel())
    (record,) = notification_manager.records
    told = [record.message.removesuffix(".").partition(": ")[2]]
    told += re.findall(r"\w+ → [^.*]+", " ".join(_BY_STATUS.values()))
    root = Path(__file__).parents[3]
    for page in (root / "README.md", *(root / "docs").glob("*.md")):
        told += re.findall(
            r"\*((?:File|Layers|Plugins) → [^*]+)\*", page.read_text("utf-8")
        )
    told = [" ".join(path.split()) for path in told if "Install/" not in path]
    assert len(told) >= 5
    assert not set(told) - there
