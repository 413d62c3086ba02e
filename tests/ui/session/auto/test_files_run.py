"""Image files segmented beside the viewer: the command, what it says, what users are told."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from napari.layers import Image

from desk import open_desk
from napari_tinysam.cli.main import app
from napari_tinysam.everything import LabelSettings
from napari_tinysam.ui.session.auto.files_run import FilesRun, ModelChoice
from napari_tinysam.ui.state.region import Region


class SpokenBatch:
    """A batch whose lines the test says."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self.said: queue.Queue[str | None] = queue.Queue()
        self.code = 0
        self.stopped = False

    @property
    def lines(self) -> Iterator[str]:
        while (line := self.said.get()) is not None:
            yield line

    def wait(self) -> int:
        return self.code

    def stop(self) -> None:
        self.stopped = True
        self.end(-15)

    def end(self, code: int = 0) -> None:
        self.code = code
        self.said.put(None)

    def file(self, image: Path, state: str = "written", **known: Any) -> None:
        event = {
            "event": "file",
            "image": str(image),
            "state": state,
            "labels": f"{image}_labels.tif",
            "objects": 7,
            "planes": 1,
            "reason": "",
            "total": 3,
            "seconds_left": 130.0,
        }
        self.said.put(json.dumps({**event, **known}))


class Table:
    """A run whose messages arrive when the test looks."""

    def __init__(self, start: Any = SpokenBatch) -> None:
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()
        self.told: list[tuple[str, str]] = []
        self.batches: list[SpokenBatch] = []

        def started(command: Sequence[str]) -> Any:
            self.batches.append(start(command))
            return self.batches[-1]

        self.run = FilesRun(
            self.posted.put, lambda *message: self.told.append(message), started
        )

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end
            try:
                self.posted.get(timeout=0.05)()
            except queue.Empty:
                continue

    def begin(self, *paths: Path, settings: LabelSettings | None = None) -> Any:
        self.run.choose(paths)
        self.run.run(ModelChoice(), settings)
        return self.batches[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        iio.imwrite(tmp_path / f"{name}.png", np.zeros((16, 16), np.uint8))
    return tmp_path


def test_images_are_counted_and_named(folder: Path, tmp_path: Path) -> None:
    table = Table()
    table.run.choose([folder])
    table.until(lambda: table.run.found == 3)
    assert table.run.folder == folder
    table.run.set_output(tmp_path / "else")
    assert table.run.folder == tmp_path / "else"
    empty = tmp_path / "empty"
    empty.mkdir()
    table.run.choose([empty])
    table.until(lambda: table.run.found == 0)
    assert table.run.text == f"There are no images in the folder {empty}."
    table.run.choose([folder / "a.png", folder / "b.png"])
    table.until(lambda: table.run.found == 2)


def test_progress_and_the_end_in_sentences(folder: Path) -> None:
    table = Table()
    batch = table.begin(folder)
    assert table.run.running
    table.until(lambda: table.run.found == 3)
    plane = {"event": "plane", "image": str(folder / "a.png"), "done": 2, "total": 4}
    batch.said.put("A plain line\n")
    batch.said.put(json.dumps({**plane, "seconds_left": 400}))
    table.until(lambda: "plane 2 of 4" in table.run.text)
    assert table.run.fraction == pytest.approx(0.5 / 3)
    assert "about 7 min left" in table.run.text
    batch.said.put(json.dumps({**plane, "event": "tile", "done": 3}))
    table.until(lambda: "a.png, tile 3 of 4" in table.run.text)
    batch.file(folder / "a.png")
    batch.file(folder / "b.png", "failed", reason="It is damaged.", objects=0)
    table.until(lambda: len(table.run.results) == 2)
    assert table.run.text == "2 of 3 images, about 2 min left"
    batch.file(folder / "c.png", "there", objects=0)
    batch.end(1)
    table.until(lambda: not table.run.running)
    level, text = table.told[-1]
    assert level == "warning"
    assert text == table.run.text
    assert text.startswith("1 image segmented, 1 image done before: 7 objects.")
    assert text.endswith("b.png failed: It is damaged.")


def test_many_failures_are_one_sentence(folder: Path) -> None:
    table = Table()
    batch = table.begin(folder)
    for number in range(8):
        batch.file(
            folder / f"{number}.png", "failed", reason="It is damaged.", objects=0
        )
    batch.end(1)
    table.until(lambda: not table.run.running)
    names = ", ".join(f"{number}.png" for number in range(5))
    assert table.run.text == f"{names} and 3 more failed: It is damaged."


def test_a_path_is_not_said_twice_and_corrected_labels_stay(folder: Path) -> None:
    table = Table()
    batch = table.begin(folder)
    reason = f"{folder / 'a.png'} cannot be read: it is damaged."
    batch.file(folder / "a.png", "failed", reason=reason, objects=0)
    batch.file(folder / "b.png", "foreign", objects=0)
    batch.end(1)
    table.until(lambda: not table.run.running)
    assert table.run.text == (
        "b.png was left alone: the labels were changed, or come from elsewhere. "
        "Failed: a.png cannot be read: it is damaged."
    )


def test_cancel_and_go_on(folder: Path) -> None:
    table = Table()
    batch = table.begin(folder)
    batch.file(folder / "a.png")
    table.until(lambda: table.run.results)
    table.run.cancel()
    assert batch.stopped
    table.until(lambda: not table.run.running)
    assert table.run.text.startswith("Stopped; press the button again to go on.")
    assert table.told[-1][0] == "info"
    table.run.run(ModelChoice(), None)
    assert table.run.running
    assert len(table.batches) == 2


def test_closing_ends_it_without_a_word(folder: Path) -> None:
    table = Table()
    batch = table.begin(folder)
    table.run.close()
    assert batch.stopped
    while threading.active_count() > 1 and not table.posted.empty():
        table.posted.get()()
    assert not table.told


def test_what_ends_it_is_said(folder: Path) -> None:
    table = Table()
    batch = table.begin(folder)
    batch.said.put("Error: /data cannot be written to: Read-only file system.\n")
    batch.end(1)
    table.until(lambda: not table.run.running)
    assert table.run.text == "/data cannot be written to: Read-only file system."
    batch = table.begin(folder)
    batch.end(-9)
    table.until(lambda: not table.run.running)
    assert "ended unexpectedly" in table.run.text

    def missing(command: Sequence[str]) -> Any:
        raise FileNotFoundError(2, "No such file", command[0])

    table = Table(missing)
    table.run.choose([folder])
    table.run.run(ModelChoice(), None)
    assert not table.run.running
    assert table.told[-1][0] == "error"


def test_nothing_chosen_too_many_and_twice(folder: Path) -> None:
    table = Table()
    table.run.run(ModelChoice(), None)
    assert table.told[-1][1] == "Choose a folder or files first."
    table.begin(folder)
    table.run.run(ModelChoice(), None)
    assert len(table.batches) == 1
    table = Table()
    table.run.choose([folder / f"{number:0100}.png" for number in range(400)])
    table.run.run(ModelChoice(), None)
    assert "choose their folder" in table.told[-1][1]
    assert not table.run.running


def test_the_command_is_one_that_the_command_line_knows(folder: Path) -> None:
    table = Table()
    table.run.set_channel(2)
    settings = LabelSettings(0.7, 20.0, 900.0, 0.4, 0.3)
    batch = table.begin(folder, settings=settings)
    at = batch.command.index("auto")
    import typer

    group = typer.main.get_command(app)
    command = group.get_command(None, "auto")  # type: ignore[attr-defined, arg-type]
    given = command.make_context("auto", batch.command[at + 1 :]).params
    assert given["images"] == [str(folder)]
    assert given["output"] == folder
    assert given["progress"] == "json"
    assert (given["confidence"], given["parts"]) == (0.7, 0.3)
    assert (given["min_area"], given["max_area"]) == (20.0, 900.0)
    assert given["max_overlap"] == 0.4
    assert given["channel"] == "2"


def test_a_real_process_says_what_is_wrong(tmp_path: Path) -> None:
    posted: queue.Queue[Callable[[], None]] = queue.Queue()
    told: list[tuple[str, str]] = []
    run = FilesRun(posted.put, lambda *message: told.append(message))
    empty = tmp_path / "empty"
    empty.mkdir()
    run.choose([empty])
    run.run(ModelChoice(), None)
    while run.running:
        posted.get(timeout=120)()
    assert told[-1] == ("warning", f"There are no images in the folder {empty}.")


def test_a_result_is_opened_with_its_labels(tmp_path: Path) -> None:
    here = open_desk(Image(np.zeros((32, 32)), name="other"))
    here.session.auto.set_region(Region.FILES)
    assert here.session.region is Region.FILES
    files = here.session.files
    batches: list[SpokenBatch] = []
    files._start = lambda command: batches.append(SpokenBatch(command)) or batches[-1]
    files.choose([tmp_path])
    here.session.auto_segment()
    assert files.running
    image = tmp_path / "cells.tif"
    pixels = np.zeros((3, 64, 64), np.uint8)
    tifffile.imwrite(image, pixels, photometric="minisblack")
    labels = np.zeros((3, 64, 64), np.uint16)
    labels[:, 10:20, 10:20] = 1
    tifffile.imwrite(tmp_path / "cells_labels.tif", labels, photometric="minisblack")
    batches[0].file(image, labels=str(tmp_path / "cells_labels.tif"))
    batches[0].end()
    _wait(lambda: not files.running)
    here.session.open_result(files.results[0])
    _wait(lambda: here.session.target is not None)
    assert here.session.image is here.viewer.layers["cells"]
    assert here.session.target is here.viewer.layers["cells_labels"]
    assert here.session.target.source.path == str(tmp_path / "cells_labels.tif")
    assert [each.name for each in here.viewer.layers if each.visible] == [
        "cells",
        "cells_labels",
    ]
    here.session.open_result(files.results[0])  # again
    (tmp_path / "cells_labels.tif").unlink()
    here.session.open_result(files.results[0])
    _wait(lambda: here.told and here.told[-1][0] == "warning")
    assert len(here.viewer.layers) == 3


def _wait(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
