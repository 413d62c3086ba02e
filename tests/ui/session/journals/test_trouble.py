"""Disks that fail, damaged journals: the annotation goes on, and one sentence says it."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from desk import noise
from journalled_desk import commit, crash, kept, open_queued, places, same
from napari_tinysam.journal import lines_file
from napari_tinysam.journal.lines import checked

if TYPE_CHECKING:
    from desk import Desk


def warnings(desk: Desk) -> list[str]:
    return [text for level, text in desk.told if level == "warning"]


def journal_of(desk: Desk) -> Any:
    return desk.session._parts.subject.memory.journals[desk.session.target]


def until_told(desk: Desk) -> None:
    """Let the journal's thread find out what is wrong."""
    journal_of(desk).flush(0.3)
    desk.inference.turn()


def lines_of_crash() -> Path:
    """Let a session of three objects crash; return the file of its journal."""
    desk = open_queued(noise(200, 300))
    for x, y in ((40, 40), (120, 100), (250, 150)):
        commit(desk, x, y)
    crash(desk)
    (path,) = places()[0].glob("lines-*")
    return path


def goes_on(desk: Desk) -> None:
    """Check that objects can be made, taken back, kept and restored."""
    before = len(desk.ids)
    commit(desk, 200, 40)
    desk.session.undo()
    desk.session.redo()
    desk.inference.turn()
    assert len(desk.ids) == before + 1
    assert same(desk)


# ------------------------------------------------------------ while it is written


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_nothing_more_is_said_once(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_queued(noise(200, 300))
    commit(desk, 40, 40)
    saved = np.array(desk.session.target.data)
    kept(desk)

    def full(file: Any, content: bytes) -> None:
        file.write(content[: len(content) // 2])  # as much as there was room for
        raise OSError(code, "what the system says")

    with monkeypatch.context() as patch:
        patch.setattr(lines_file, "_write_all", full)
        commit(desk, 120, 100)
        until_told(desk)
        commit(desk, 250, 150)
        until_told(desk)
        assert desk.ids == [1, 2, 3]
        assert len(warnings(desk)) == 1
        assert warnings(desk)[0].endswith("Save your labels often.")
        desk.session.undo()
        desk.session.redo()
        desk.inference.turn()
        assert desk.ids == [1, 2, 3]
        crash(desk)

    # What the disk had taken is there.
    later = open_queued(noise(200, 300))
    later.session.recovery.restore()
    assert np.array_equal(later.session.target.data, saved)
    goes_on(later)


def test_a_folder_for_reading_only_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: Path) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("napari_tinysam.journal.folder.take_lock", refuse)
    desk = open_queued(noise(200, 300))
    desk.click(40, 40)
    desk.session.commit()
    commit(desk, 120, 100)
    desk.session.undo()
    desk.session.redo()

    assert desk.ids == [1, 2]
    assert len(warnings(desk)) == 1
    assert warnings(desk)[0].startswith("Nothing can be kept in ")


# ------------------------------------------------------------ when it is read


def test_garbage_in_the_middle_costs_what_it_hit() -> None:
    path = lines_of_crash()
    lines = path.read_bytes().split(b"\n")
    (hit,) = [n for n, line in enumerate(lines) if b'"ids":[2]' in line]
    middle = len(lines[hit]) // 2
    lines[hit] = lines[hit][:middle] + b"\x00\xff\n garbage {" + lines[hit][middle:]
    path.write_bytes(b"\n".join(lines))

    desk = open_queued(noise(200, 300))
    offer = desk.session.recovery.offer
    assert offer is not None
    assert "2 objects on cells" in offer.text
    assert offer.text.endswith("2 actions are damaged, and left out.")
    desk.session.recovery.restore()
    assert desk.ids == [1, 3]
    goes_on(desk)
    while desk.session.undo_text:
        desk.session.undo()
        desk.inference.turn()
    assert desk.ids == []


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.55, 0.8, 0.99])
def test_cut_at_any_byte_what_is_whole_comes_back(share: float) -> None:
    path = lines_of_crash()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    desk = open_queued(noise(200, 300))
    assert not warnings(desk)
    if desk.session.recovery.offer is not None:
        desk.session.recovery.restore()
    objects = desk.ids
    assert objects == [1, 2, 3][: len(objects)]
    assert bool(objects) == (share > 0.3)
    desk.session.clear()
    goes_on(desk)


@pytest.mark.parametrize("first", ["another version", "garbage"])
def test_a_journal_that_cannot_be_read_is_said_and_stays(first: str) -> None:
    path = lines_of_crash()
    about, rest = path.read_bytes().split(b"\n", 1)
    told = {**json.loads(about), "format": 2, "version": "9.1"}
    del told["check"]
    new = checked(told) if first == "another version" else b"\x00" * 80 + b"\n"
    path.write_bytes(new + rest)

    desk = open_queued(noise(200, 300))
    assert desk.session.recovery.offer is None
    (said,) = warnings(desk)
    assert str(path.parent) in said
    assert ("version 9.1" in said) == (first == "another version")
    goes_on(desk)
    desk.viewer.add_layer(noise(60, 80))
    desk.inference.turn()
    assert len(warnings(desk)) == 1
    assert path.exists()
