"""The loop with nothing played: the bundled model, a real window, a real process that learns."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_tinysam.checkpoints.own import own_models
from napari_tinysam.ui.session.embedding.loading import load_predictor
from tinysam_training.commands.adaptation import all_adaptations

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = [
    pytest.mark.gl,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]

#: Middles of the objects of an image, y and x, and their radius.
_PLACES = [(y, x) for y in (24, 64, 104) for x in (32, 92)]
_RADIUS = 16

_PATIENCE_MS = 300_000


def fibres(number: int, wide: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw fibres with dark sheaths; their labels are so many times as wide."""
    noise = np.random.default_rng(number)
    y, x = np.mgrid[:128, :128]
    image, labels = np.full((128, 128), 150.0), np.zeros((128, 128), np.uint16)
    for label, (cy, cx) in enumerate(_PLACES, 1):
        away = np.hypot(y - cy, x - cx - 6 * (number % 3))
        labels[away < wide * _RADIUS] = label
        image[away < _RADIUS] = 55
        image[away < 0.6 * _RADIUS] = 165
    return np.clip(image + noise.normal(0, 7, image.shape), 0, 255).astype("u1"), labels


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Three images; no process outlives the test."""
    monkeypatch.setenv("NAPARI_TINYSAM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    folder = tmp_path / "fibres"
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"{number}.tif", fibres(number)[0])
    yield folder
    for run in all_adaptations():
        if run.running:
            kill(run)


def processes(run: Any) -> list[int]:
    """Numbers of the processes that have worked on an adaptation."""
    events, _ = run.events()
    return [each["process"] for each in events if each["event"] == "began"]


def said(run: Any) -> list[str]:
    """What the processes have said, by its kind."""
    return [str(each["event"]) for each in run.events()[0]]


def kill(run: Any) -> None:
    """Kill the process of an adaptation, as a machine without memory does."""
    with suppress(ProcessLookupError):
        os.kill(processes(run)[-1], signal.SIGKILL)


def wait(dock: OpenDock, condition: Callable[[], Any]) -> None:
    dock.qtbot.waitUntil(lambda: bool(condition()), timeout=_PATIENCE_MS)


def open_list(open_dock: OpenDockFactory, folder: Path) -> OpenDock:
    dock = open_dock(wait=False, load_predictor=load_predictor)
    dock.session.listed.open_paths([folder])
    at_image(dock, 0)
    return dock


def at_image(dock: OpenDock, at: int) -> None:
    """Wait until an image of the list can be clicked."""
    session = dock.session
    wait(
        dock,
        lambda: (
            session.listed.current is not None
            and session.listed.images.at == at
            and session.status.kind.name == "READY"
            and session._parts.embedder.embedding is not None
        ),
    )


def annotate(dock: OpenDock, at: int) -> None:
    """Draw a box around each object of an image with the mouse, and commit it with its key."""
    session, mouse = dock.session, dock.mouse
    for number, (y, x) in enumerate(_PLACES, 1):
        x += 6 * (at % 3)
        mouse.drag(
            session.image,
            (y - _RADIUS, x - _RADIUS),
            (y + _RADIUS, x + _RADIUS),
            keys=Qt.KeyboardModifier.ShiftModifier,
        )
        wait(dock, lambda: session.can_commit and session.candidate_scores)
        dock.widget.prompts.commit.click()
        wait(dock, lambda number=number: (session.listed.current.count or 0) >= number)


def test_from_a_folder_to_a_better_model_and_its_labels_on_disk(
    open_dock: OpenDockFactory,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dock = open_dock(wait=False, load_predictor=load_predictor)
    session, widget = dock.session, dock.widget
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    widget.images.folder.click()
    for at in range(2):
        at_image(dock, at)
        annotate(dock, at)
        widget.images.done.click()
    at_image(dock, 2)
    assert tifffile.imread(folder / "1_labels.tif").max() == len(_PLACES)
    for number in range(2):  # a colleague draws them wider, as no model would
        tifffile.imwrite(folder / f"{number}_labels.tif", fibres(number, 1.25)[1])
    widget.adapt_section.expand()
    session.adapting.set(minutes=0.5)
    widget.adapt.adapt.click()
    wait(dock, lambda: session.adapting.progress is not None)
    (run,) = all_adaptations()
    (process,) = processes(run)
    assert os.getsid(process) != os.getsid(0)
    assert os.getpriority(os.PRIO_PROCESS, process) > os.getpriority(os.PRIO_PROCESS, 0)
    wait(dock, lambda: session.adapting.result is not None)
    (model,) = own_models(tmp_path / "models")
    assert session.adapting.result.model == str(model.path)

    widget.adapt.use.click()
    assert session.model_name == str(model.path)
    at_image(dock, 2)
    widget.auto.start.click()
    wait(dock, lambda: not session.auto.running and session.proposals.count)
    widget.auto.accept.click()
    wait(dock, lambda: session.listed.current.count)
    session.next_image()  # there is none: this one is saved
    wait(dock, (folder / "2_labels.tif").exists)
    saved, truth = tifffile.imread(folder / "2_labels.tif"), fibres(2)[1]
    assert len(np.unique(saved)) == 1 + session.listed.current.count
    overlaps = [
        np.sum((saved > 0) & (truth == label)) / np.sum(truth == label)
        for label in range(1, 1 + len(_PLACES))
    ]
    assert max(overlaps) > 0.5


def test_a_run_that_is_killed_is_offered_at_the_next_start_and_goes_on(
    open_dock: OpenDockFactory, folder: Path
) -> None:
    for number in range(2):
        tifffile.imwrite(folder / f"{number}_labels.tif", fibres(number)[1])
    dock = open_list(open_dock, folder)
    dock.session.listed.mark_labelled()
    wait(dock, lambda: dock.session.adapting.found.is_enough)
    dock.session.adapting.set(minutes=5.0)
    dock.session.adapt()
    wait(dock, lambda: dock.session.adapting.progress is not None)
    (run,) = all_adaptations()
    kill(run)
    wait(dock, lambda: dock.session.adapting.left is not None)
    assert "interrupted" in dock.widget.adapt.text.text()
    dock.widget.teardown()

    later = open_dock(wait=False, load_predictor=load_predictor)
    box, adapting = later.widget.adapt, later.session.adapting
    wait(later, lambda: box.resume.isVisibleTo(box))
    box.resume.click()
    wait(later, lambda: len(set(processes(run))) == 2)
    steps = said(run).count("step")  # of the first process, and of the second
    wait(later, lambda: said(run).count("step") > steps)
    assert len(all_adaptations()) == 1
    assert adapting.progress is not None
    box.cancel.click()
    wait(later, lambda: not adapting.running)
    assert all_adaptations() == []
