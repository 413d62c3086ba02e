"""What was not finished is told when the dock opens, before any image is open."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from napari.layers import Image
from napari.layers._source import layer_source

from journalled_desk import commit, crash, open_queued, places
from napari_tinysam.journal.running import TRAINING, RunningNotes
from napari_tinysam.ui.session.auto.files_run import FilesRun, ModelChoice
from napari_tinysam.ui.state.region import Region

if TYPE_CHECKING:
    import pytest

    from desk import Desk


def opened(path: Path) -> Desk:
    with layer_source(path=str(path)):
        return open_queued(Image(tifffile.imread(path), name=path.stem))


def file(folder: Path, name: str, seed: int) -> Path:
    path = folder / name
    tifffile.imwrite(path, np.random.default_rng(seed).random((60, 80)))
    return path


def show(desk: Desk, path: Path) -> None:
    """Open an image beside what is open, and look for what was not saved of it."""
    with layer_source(path=str(path)):
        desk.viewer.add_image(tifffile.imread(path), name=path.stem)
    desk.inference.turn()


def empty_dock() -> Desk:
    desk = open_queued()
    end = time.monotonic() + 20
    while not desk.inference.posted and time.monotonic() < end and is_looking():
        time.sleep(0.01)
    desk.inference.turn()
    return desk


def is_looking() -> bool:
    return any(each.name == "tinysam-unfinished" for each in threading.enumerate())


def test_images_with_unsaved_objects_are_named_and_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, wing = file(tmp_path, "cells.tif", 1), file(tmp_path, "wing.tif", 2)
    desk = opened(cells)
    commit(desk, 20, 30)
    commit(desk, 60, 30)
    labels = crash(desk)
    desk = opened(wing)
    commit(desk, 40, 30)
    crash(desk)
    wing.unlink()

    later = empty_dock()
    unfinished = later.session.recovery.unfinished
    assert "cells.tif (2 objects, " in unfinished.text
    assert "wing.tif (1 object, " in unfinished.text
    assert unfinished.next_image is not None
    assert unfinished.next_image.address == str(cells)

    monkeypatch.setattr(
        type(later.viewer), "open", lambda _, path: show(later, Path(path))
    )
    unfinished.open_next()
    assert "cells.tif" not in unfinished.text
    assert "wing.tif" in unfinished.text
    assert unfinished.next_image is None
    later.session.recovery.restore()
    assert later.session.target is not None
    np.testing.assert_array_equal(later.session.target.data, labels)
    unfinished.later()
    assert not unfinished.text
    assert len(places()) == 2


def test_what_is_not_wanted_is_discarded_with_all_its_journals(tmp_path: Path) -> None:
    cells, wing = file(tmp_path, "cells.tif", 1), file(tmp_path, "wing.tif", 2)
    for _ in range(2):
        desk = opened(cells)
        commit(desk, 20, 30)
        crash(desk)
    desk = opened(wing)
    commit(desk, 40, 30)
    crash(desk)
    later = empty_dock()
    show(later, wing)
    recovery = later.session.recovery
    assert recovery.offer is not None
    recovery.unfinished.discard()

    assert not recovery.unfinished.text
    assert recovery.offer is not None  # of the image that is open
    assert places() == [recovery.offer.folder]


def test_a_moved_image_is_not_offered_any_more_once_it_is_discarded(
    tmp_path: Path,
) -> None:
    cells = file(tmp_path, "cells.tif", 1)
    desk = opened(cells)
    commit(desk, 20, 30)
    crash(desk)
    moved = cells.rename(tmp_path / "nuclei.tif")
    later = empty_dock()
    show(later, moved)
    recovery = later.session.recovery
    assert recovery.offer is not None
    assert "cells.tif" in recovery.unfinished.text
    recovery.show()
    recovery.unfinished.discard()

    assert recovery.offer is None
    assert not recovery.showing
    assert not places()


def test_nothing_is_told_where_everything_is_saved(tmp_path: Path) -> None:
    desk = opened(file(tmp_path, "cells.tif", 1))
    commit(desk, 20, 30)
    assert desk.session.target is not None
    assert desk.session.saving.save_now(desk.session.target, tmp_path / "labels.tif")
    journal = desk.session._parts.subject.memory.journals[desk.session.target]
    journal.close()  # as a crash leaves it

    assert not empty_dock().session.recovery.unfinished.text


class Batch:
    """A process that goes on until it is let end."""

    def __init__(self) -> None:
        self.lines: Any = iter(())
        self.ended = False

    def wait(self) -> int:
        while not self.ended:
            time.sleep(0.01)
        return 0

    def stop(self) -> None:
        self.ended = True


def test_a_cut_batch_is_gone_on_with(tmp_path: Path) -> None:
    file(tmp_path, "cells.tif", 1)
    batch = Batch()
    run = FilesRun(lambda call: None, lambda *_: None, lambda _: batch)
    run.choose([tmp_path])
    run.set_channel(1)
    run.run(ModelChoice(), None)
    assert not RunningNotes().cut()  # it goes on
    run.close()

    desk = empty_dock()
    unfinished = desk.session.recovery.unfinished
    assert unfinished.text.startswith(f"Segmenting files was cut ({tmp_path.name}, ")
    unfinished.go_on()
    assert desk.session.files.paths == (tmp_path,)
    assert desk.session.files.channel == 1
    assert desk.session._parts.subject.memory.region is Region.FILES
    assert not unfinished.text
    assert not RunningNotes().cut()


def test_a_batch_that_ended_leaves_no_note(tmp_path: Path) -> None:
    file(tmp_path, "cells.tif", 1)
    batch, calls = Batch(), list[Any]()
    run = FilesRun(calls.append, lambda *_: None, lambda _: batch)
    run.choose([tmp_path])
    run.run(ModelChoice(), None)
    batch.ended = True
    end = time.monotonic() + 20
    while run.running and time.monotonic() < end:
        time.sleep(0.01)
        while calls:
            calls.pop(0)()
    assert not run.running
    run.close()
    assert not list(RunningNotes().folder.iterdir())


def test_a_cut_training_is_named_with_its_command(tmp_path: Path) -> None:
    told = {"output": str(tmp_path / "run"), "command": "napari-tinysam x --resume"}
    note = RunningNotes().begin(TRAINING, {**told, "folder": str(tmp_path)})
    assert note is not None
    assert not empty_dock().session.recovery.unfinished.text  # it goes on
    note.leave()

    unfinished = empty_dock().session.recovery.unfinished
    assert unfinished.text.startswith("Training was cut (run, ")
    assert unfinished.text.endswith(
        f"Go on in {tmp_path} with: napari-tinysam x --resume"
    )
    assert unfinished.work is None
    assert unfinished.take_command() == "napari-tinysam x --resume"
    assert not unfinished.text
    assert not empty_dock().session.recovery.unfinished.text


def test_damaged_notes_are_passed_over(tmp_path: Path) -> None:
    notes = RunningNotes(tmp_path)
    assert not notes.cut()
    (tmp_path / "1-a.json").write_text("{")
    (tmp_path / "1-b.json").write_text('{"kind": "files", "at": "x", "told": 3}')
    (tmp_path / "1-c.json").write_bytes(b"\xff\x00")
    assert not notes.cut()
    noted = notes.begin("files", {"paths": []})
    assert noted is not None
    noted.leave()
    (work,) = notes.cut()
    assert (work.kind, work.told) == ("files", {"paths": []})
    notes.forget(work)
    assert not notes.cut()
