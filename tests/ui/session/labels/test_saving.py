"""Labels in files: by themselves, never over others' work, and with how they came to be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from napari.layers import Image

from journalled_desk import commit, open_queued
from napari_tinysam.files.mark import mark_of
from napari_tinysam.journal.provenance_file import read_provenance

if TYPE_CHECKING:
    from desk import Desk


class Clock:
    """Timers that go off when a test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, seconds: float, call: Callable[[], None]) -> Clock:
        self._next = call
        return self

    def start(self) -> None:
        self.waiting.append(self._next)

    def cancel(self) -> None:
        self.waiting.clear()

    def ring(self) -> None:
        calls, self.waiting = self.waiting, []
        for call in calls:
            call()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A session on an image in a file."""
    pixels = np.random.default_rng(1).integers(0, 200, (200, 300)).astype(np.uint16)
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, pixels)
    image = Image(pixels, name="cells")
    image._source = image.source.model_copy(update={"path": str(path)})
    return open_queued(image)


@pytest.fixture
def clock(desk: Desk) -> Clock:
    found = Clock()
    desk.session.saving.autosave._timer = found
    return found


def ring(desk: Desk, clock: Clock) -> None:
    clock.ring()
    desk.inference.turn()


def labels_of(desk: Desk) -> np.ndarray:
    target = desk.session.target
    assert target is not None
    return np.array(target.data)


def warnings(desk: Desk) -> list[str]:
    return [text for level, text in desk.told if level == "warning"]


# --- by themselves -------------------------------------------------------------------------


def test_labels_save_themselves_beside_the_image(
    desk: Desk, clock: Clock, tmp_path: Path
) -> None:
    session, file = desk.session, tmp_path / "cells_labels.tif"
    session.saving.autosave.set_on(True)
    commit(desk, 40, 30)
    assert not file.exists()
    ring(desk, clock)
    np.testing.assert_array_equal(tifffile.imread(file), labels_of(desk))
    assert session.saving.is_saved(session.target)
    ring(desk, clock)  # nothing is left to do

    commit(desk, 150, 100)
    commit(desk, 250, 100)
    assert len(clock.waiting) == 1
    ring(desk, clock)
    np.testing.assert_array_equal(tifffile.imread(file), labels_of(desk))
    assert not warnings(desk)


def test_what_was_changed_before_it_was_switched_on_is_saved(
    desk: Desk, clock: Clock, tmp_path: Path
) -> None:
    commit(desk, 40, 30)
    assert not clock.waiting
    desk.session.saving.autosave.set_on(True)
    ring(desk, clock)
    assert (tmp_path / "cells_labels.tif").exists()
    desk.session.saving.autosave.set_on(False)
    commit(desk, 150, 100)
    assert not clock.waiting


def test_a_file_that_another_program_changed_is_not_replaced(
    desk: Desk, clock: Clock, tmp_path: Path
) -> None:
    session, file = desk.session, tmp_path / "cells_labels.tif"
    session.saving.autosave.set_on(True)
    commit(desk, 40, 30)
    ring(desk, clock)
    tifffile.imwrite(file, np.full((200, 300), 5, np.uint16))
    os.utime(file, ns=(0, 0))
    theirs = file.read_bytes()
    target = session.target
    assert target is not None

    for x in (100, 150, 200):  # said once
        commit(desk, x, 100)
        ring(desk, clock)
    assert file.read_bytes() == theirs
    (said,) = warnings(desk)
    assert said.startswith("Another program has changed cells_labels.tif.")
    assert session.saving.autosave.is_paused(target)
    assert session.saving.changed_elsewhere(target)
    assert not session.saving.is_saved(target)

    session.saving.save(target, file)  # the user decides
    desk.inference.turn()
    assert not session.saving.autosave.is_paused(target)
    commit(desk, 250, 150)
    ring(desk, clock)
    np.testing.assert_array_equal(tifffile.imread(file), labels_of(desk))


def test_a_file_that_was_there_before_waits_for_the_user(
    desk: Desk, clock: Clock, tmp_path: Path
) -> None:
    file = tmp_path / "cells_labels.tif"
    file.write_bytes(b"older work")
    desk.session.saving.autosave.set_on(True)
    commit(desk, 40, 30)
    ring(desk, clock)
    assert file.read_bytes() == b"older work"
    assert len(warnings(desk)) == 1


def test_a_file_that_is_gone_is_written_again(
    desk: Desk, clock: Clock, tmp_path: Path
) -> None:
    file = tmp_path / "cells_labels.tif"
    desk.session.saving.autosave.set_on(True)
    commit(desk, 40, 30)
    ring(desk, clock)
    file.unlink()
    commit(desk, 100, 100)
    ring(desk, clock)
    assert file.exists()
    assert mark_of(file) is not None


def test_a_disk_that_takes_nothing_is_said_once(
    desk: Desk, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    desk.session.saving.autosave.set_on(True)
    monkeypatch.setattr("napari_tinysam.ui.session.labels.saving._write", full)
    for x in (40, 100):
        commit(desk, x, 30)
        ring(desk, clock)
    (said,) = warnings(desk)
    assert "No space left" in said
    assert not desk.session.saving.is_saved(desk.session.target)


# --- how they came to be -------------------------------------------------------------------


def test_the_provenance_is_written_with_the_labels(desk: Desk, tmp_path: Path) -> None:
    session, file = desk.session, tmp_path / "cells_labels.tif"
    commit(desk, 40, 30)
    target = session.target
    assert target is not None
    session.saving.save(target, file)
    desk.inference.turn()
    beside = tmp_path / "cells_provenance.json"
    assert not beside.exists()  # nobody asked for it

    session.saving.with_provenance = True
    commit(desk, 150, 100)
    session.saving.save(target, file)
    desk.inference.turn()
    told = read_provenance(beside)
    assert told.labels_file == "cells_labels.tif"
    assert told.about.image.address == str(tmp_path / "cells.tif")
    assert set(told.objects) == {1, 2}
    np.testing.assert_array_equal(told.labels.to_array(), labels_of(desk))

    commit(desk, 250, 100)
    assert session.saving.save_now(target, file)
    assert set(read_provenance(beside).objects) == {1, 2, 3}


def test_labels_of_another_program_have_a_provenance_too(
    desk: Desk, tmp_path: Path
) -> None:
    from napari.layers import Labels

    there = np.zeros((200, 300), np.uint16)
    there[20:40, 20:40] = 4
    layer = Labels(there, name="old")
    desk.viewer.add_layer(layer)
    desk.session.set_target(layer)
    desk.session.saving.with_provenance = True
    assert desk.session.saving.save_now(layer, tmp_path / "old.tif")
    content = json.loads((tmp_path / "old_provenance.json").read_text())
    assert [each["origin"] for each in content["objects"]] == ["imported"]
    assert content["actions"] == []


def test_neither_file_changes_when_one_cannot_be_written(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, file = desk.session, tmp_path / "cells_labels.tif"
    session.saving.with_provenance = True
    commit(desk, 40, 30)
    target = session.target
    assert target is not None
    assert session.saving.save_now(target, file)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    commit(desk, 150, 100)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_tinysam.ui.session.labels.saving._write_labels", full)
    assert not session.saving.save_now(target, file)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# --- what is known of objects --------------------------------------------------------------


def test_the_table_of_objects_is_there_on_request(desk: Desk) -> None:
    session, target = desk.session, None
    commit(desk, 40, 30)
    target = session.target
    assert target is not None
    assert not len(target.features.columns)
    assert session.objects.words(target) == ""

    session.objects.set_on(True)
    desk.inference.turn()
    commit(desk, 150, 100)
    table = target.features
    assert table["index"].tolist() == [0, 1, 2]
    assert table["origin"].tolist() == ["", "clicks", "clicks"]
    assert table["corrected"].tolist()[1:] == [0, 0]
    assert table["score"].tolist()[1:] == [0.9, 0.9]
    assert session.objects.words(target).startswith("2 objects, ")
    session.undo()
    desk.inference.turn()
    assert target.features["index"].tolist() == [0, 1]


def test_a_table_of_the_user_stays(desk: Desk) -> None:
    commit(desk, 40, 30)
    target = desk.session.target
    assert target is not None
    target.features = {"index": [0, 1], "kind": ["", "round"]}
    desk.session.objects.set_on(True)
    desk.inference.turn()
    commit(desk, 150, 100)
    assert list(target.features) == ["index", "kind"]
