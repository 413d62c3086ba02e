"""From a list of images to a better model and back to the images, in a real window."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QFileDialog

from fake_predictor import disc_predictor
from napari_tinysam.checkpoints.own import own_models
from napari_tinysam.ui.session.hints import hint
from tinysam_training.commands.adaptation import Order, all_adaptations, begin
from tinysam_training.commands.samples import Sample
from training.small_runs import discs, write_start

if TYPE_CHECKING:
    from dock_driver import OpenDock, OpenDockFactory

pytestmark = pytest.mark.gl


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images; the user's own models are elsewhere."""
    monkeypatch.setenv("NAPARI_TINYSAM_MODELS", str(tmp_path / "models"))
    folder = tmp_path / "cells"
    folder.mkdir()
    for number, image in enumerate(discs(4, 128)):
        tifffile.imwrite(folder / f"{number}.tif", image.rgb[..., 0])
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start") / "start.safetensors")


@pytest.fixture
def open_list(
    open_dock: OpenDockFactory, folder: Path, start: Path
) -> Iterator[Callable[..., OpenDock]]:
    processes: list[subprocess.Popen[bytes]] = []

    def open_(steps: int = 3) -> OpenDock:
        predictor, _ = disc_predictor()
        dock = open_dock(wait=False, load_predictor=lambda *_: predictor)
        dock.until(lambda: dock.session._parts.embedder.predictor is not None)
        adapting = dock.session.adapting

        def begins(path: Path) -> Callable[[], bool]:
            script = Path(__file__).with_name("quick_adapt.py")
            log = (path / "log.txt").open("w")
            process = subprocess.Popen(
                [sys.executable, str(script), str(path), str(steps)],
                stdout=log,
                stderr=log,
            )
            log.close()
            processes.append(process)
            return lambda: process.poll() is None

        adapting._start = begins
        adapting.set(begins_with=str(start))
        dock.widget.adapt_section.expand()
        return dock

    yield open_
    for process in processes:
        process.kill()
        process.wait()


def annotate(dock: OpenDock, folder: Path, count: int = 3) -> None:
    """Click on six places of each image, and go on with the next."""
    session = dock.session
    session.listed.open_paths([folder])
    for number in range(count):
        dock.until(
            lambda number=number: (
                session.listed.current is not None
                and session.listed.images.at == number
                and session.status.kind.name == "READY"
            )
        )
        for x in range(15, 120, 20):
            session.click_at(session.image.data_to_world((40 + 10 * number, x)))
            session.next_object()
        dock.until(lambda: session.uncommitted_count >= 6)
        dock.widget.prompts.commit.click()
        dock.until(lambda: (session.listed.current.count or 0) >= 4)
        dock.widget.images.done.click()


def test_annotate_adapt_use_segment_the_rest(
    open_list: Callable[..., OpenDock], folder: Path, tmp_path: Path
) -> None:
    dock = open_list()
    session, box = dock.session, dock.widget.adapt
    assert "Open a list of images" in box.found.text()
    assert not box.adapt.isEnabled()
    annotate(dock, folder)
    dock.until(lambda: session.listed.images.at == 3)
    assert box.found.text().startswith("3 images with ")
    assert box.adapt.isEnabled()
    box.name.setText("Discs")
    box.name.textEdited.emit("Discs")
    box.adapt.click()
    dock.until(lambda: session.adapting.progress is not None)
    assert box.cancel.isVisibleTo(box)
    assert not box.adapt.isVisibleTo(box)
    # Clicking goes on meanwhile.
    session.click_at(session.image.data_to_world((40, 40)))
    dock.until(lambda: session.uncommitted_count == 1)
    dock.until(lambda: session.adapting.result is not None)
    (model,) = own_models(tmp_path / "models")
    assert model.title == "Discs"
    assert "0.50&nbsp;→&nbsp;" in box.result.text()
    assert not session.adapting.running
    assert "3 clicks" not in box.result.text()
    box.all_figures.click()
    assert "IoU, 3 clicks" in box.result.text()
    assert "before_after.png" in box.result.text()
    box.all_figures.click()
    assert "3 clicks" not in box.result.text()

    box.use.click()
    assert session.model_name == str(model.path)
    assert dock.widget.models.model.currentText() == model.text
    assert box.back.isVisibleTo(box)
    assert not box.use.isVisibleTo(box)
    images = len(dock.viewer.layers)
    box.show_it.click()
    dock.until(lambda: session.comparison.shown)
    assert len(dock.viewer.layers) == images + 3
    dock.until(lambda: hint(session).startswith("Before on the left"))
    box.show_it.click()
    assert len(dock.viewer.layers) == images

    session.clear()
    session.previous_image()  # the last one is not done: nothing to go back to
    session.listed.go_to(0)
    dock.until(lambda: session.listed.images.at == 0)
    begun: list[Any] = []

    class Batch:
        lines = ()

        def __init__(self, command: list[str]) -> None:
            begun.append(command)
            labels = np.zeros((128, 128), np.uint16)
            labels[9:30, 9:30] = 1
            tifffile.imwrite(folder / "3_labels.tif", labels)

        def wait(self) -> int:
            return 0

        def stop(self) -> None:
            pass

    session.files._start = Batch
    box.rest.click()
    dock.until(lambda: not session.files.running)
    assert str(model.path) in begun[0]
    assert begun[0][-1] == str(folder / "3.tif")
    dock.until(lambda: session.listed.images.entries[3].labels is not None)
    # It is opened with its labels, to be corrected.
    session.listed.go_to(3)
    dock.until(lambda: session.listed.images.at == 3)
    dock.until(lambda: session.target is not None)
    assert session.target.data.max() == 1

    box.back.click()
    assert session.model_name == "default"
    box.close_result.click()
    assert box.adapt.isVisibleTo(box)


def test_closing_in_the_middle_going_on_at_the_next_start_and_cancelling(
    open_list: Callable[..., OpenDock], folder: Path, tmp_path: Path
) -> None:
    dock = open_list(steps=100_000)
    annotate(dock, folder, 2)
    session, box = dock.session, dock.widget.adapt
    session.adapting.set(partly=True)
    box.adapt.click()
    dock.until(lambda: session.adapting.progress is not None)
    box.goes_on.click()
    assert not session.adapting.goes_on
    (run,) = all_adaptations()
    dock.widget.teardown()
    dock.until(lambda: not run.running)
    assert run.end is None

    later = open_list(steps=100_000)
    box = later.widget.adapt
    later.until(lambda: box.resume.isVisibleTo(box))
    assert "paused" in box.text.text()
    box.resume.click()
    later.until(lambda: later.session.adapting.progress is not None)
    assert box.curve.isVisibleTo(box)
    box.cancel.click()
    later.until(lambda: not later.session.adapting.running)
    assert own_models(tmp_path / "models") == []
    assert all_adaptations() == []
    assert "cancelled" in box.text.text()


def test_from_the_list_to_adapting_as_soon_as_there_is_enough(
    open_list: Callable[..., OpenDock], folder: Path
) -> None:
    labels = np.zeros((128, 128), np.uint8)
    for number in range(12):
        labels[4 + 10 * number : 10 + 10 * number, 10:20] = number + 1
    for number in range(3):
        tifffile.imwrite(folder / f"{number}_labels.tif", labels)
    dock = open_list()
    session, images = dock.session, dock.widget.images
    dock.widget.adapt_section.collapse()
    session.listed.open_paths([folder])
    dock.until(lambda: session.listed.current is not None)
    assert not images.adapt.isVisibleTo(images)
    session.listed.mark_labelled()
    dock.until(lambda: images.adapt.isVisibleTo(images))
    images.adapt.click()
    # It is scrolled to.
    dock.until(lambda: not dock.widget.adapt.adapt.visibleRegion().isEmpty())


@pytest.mark.parametrize(
    ("ended", "shown", "hidden"),
    [
        (
            {
                "verdict": "worse",
                "figures": {"box": [0.5, 0.4]},
                "remark": "It is worse.",
            },
            ["It is worse.", "0.50&nbsp;→&nbsp;", "<b>0.40</b>", "2 held-out images"],
            ["ready"],
        ),
        (
            {"verdict": "none", "figures": {"box": [0.5, None]}, "remark": "It stays."},
            ["It stays.", "<td>0.50</td>"],
            ["→", "ready"],
        ),
        ({"figures": {}, "text": "Nothing there."}, ["Nothing there."], ["table"]),
    ],
)
def test_figures_are_shown_also_where_nothing_better_was_made(
    open_list: Callable[..., OpenDock],
    tmp_path: Path,
    ended: dict[str, Any],
    shown: list[str],
    hidden: list[str],
) -> None:
    dock = open_list()
    adaptation = begin(
        Order("Discs", str(tmp_path / "m.safetensors")),
        [Sample(i.name, i.rgb, i.labels[0]) for i in discs(1, 64)],
    )
    adaptation.say("done", model="", held_out=2, **ended)
    dock.session.adapting.look()
    dock.until(lambda: dock.session.adapting.result is not None)
    text = dock.widget.adapt.result.text()
    assert all(part in text for part in shown)
    assert not any(part in text for part in hidden)


def test_a_finished_model_without_a_place_is_put_into_another_folder(
    open_list: Callable[..., OpenDock], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = open_list()
    box, adapting = dock.widget.adapt, dock.session.adapting
    assert not box.elsewhere.isVisibleTo(box)
    adaptation = begin(
        Order("Discs", str(tmp_path / "m.safetensors")),
        [Sample(i.name, i.rgb, i.labels[0]) for i in discs(1, 64)],
    )
    adaptation.say("stopped", text="It cannot be written.", elsewhere=True)
    adapting.look()
    dock.until(lambda: box.elsewhere.isVisibleTo(box))
    assert "It cannot be written." in box.text.text()
    other = tmp_path / "other"
    started: list[Path] = []
    adapting._start = lambda path: started.append(path) or (lambda: False)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    box.elsewhere.click()
    assert not started
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(other))
    box.elsewhere.click()
    assert started == [adaptation.path]
    assert adaptation.order().model == str(other / "m.safetensors")
