"""Damaged, foreign and unwritable folders: what is whole is used, the work goes on."""

from __future__ import annotations

import errno
import json
import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal_cases import about, box, lines_of
from napari_tinysam.errors import FileError
from napari_tinysam.journal import lines
from napari_tinysam.journal.lines import checked
from napari_tinysam.journal.reading import (
    labels_of,
    lines_file,
    read_journal,
    snapshot_file,
)
from napari_tinysam.journal.writing import Journal

SHAPE = (30, 40)


@pytest.fixture
def folder(tmp_path):
    """A journal of three squares, in one generation."""
    journal = Journal(tmp_path, about(SHAPE))
    for number in (1, 2, 3):
        journal.note("commit", windows=[box((7 * number, 5), (4, 4), number)])
    journal.close()
    return tmp_path


@pytest.fixture
def rolled(tmp_path):
    """The same, with the first two squares in a snapshot."""
    labels = np.zeros(SHAPE, np.uint32)
    labels[9:13, 5:9] = 1
    labels[18:22, 5:9] = 2
    journal = Journal(tmp_path, about(SHAPE), labels)
    journal.note("commit", windows=[box((27, 5), (3, 4), 3)])
    journal.close()
    return tmp_path


def ids(folder: Path) -> set[int]:
    return set(np.unique(labels_of(read_journal(folder))).tolist()) - {0}


def test_a_damaged_line_is_left_out(folder):
    path = lines_of(folder)
    first, one, two, three, _ = path.read_bytes().split(b"\n")
    two = two.replace(b"commit", b"Commit")
    path.write_bytes(b"\n".join([first, one, two, three, b""]))

    found = read_journal(folder)

    assert found.unsaved == {1, 3}
    assert found.remarks == ["1 action is damaged, and left out."]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_anywhere_gives_a_sentence_or_what_is_whole(folder, data):
    path = lines_of(folder)
    content = path.read_bytes()
    at = data.draw(st.floats(0, 1, exclude_max=True))
    at = int(at * len(content))
    garbage = data.draw(st.binary(min_size=1, max_size=40))
    try:
        path.write_bytes(content[:at] + garbage + content[at + len(garbage) :])
        with suppress(FileError):
            assert read_journal(folder).unsaved <= {1, 2, 3}
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"{}\n",
        b"PK\x03\x04",
        pickle.dumps([1]),
        checked({"format": 99, "version": "9.1"}),
    ],
)
def test_a_foreign_file_is_said(tmp_path, content):
    lines_file(tmp_path, 1).write_bytes(content)

    with pytest.raises(FileError, match="cannot be read"):
        read_journal(tmp_path)


def test_another_format_names_its_version(tmp_path):
    lines_file(tmp_path, 1).write_bytes(checked({"format": 99, "version": "9.1"}))

    with pytest.raises(FileError, match=r"version 9\.1"):
        read_journal(tmp_path)


def test_an_empty_folder_and_none(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileError):
            read_journal(place)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [-1, 40]},
        {"dtype": "O"},
        {"dtype": "<f4"},
        {"shape": "wide"},
        {"image": {}},
    ],
)
def test_a_first_line_of_impossible_labels(folder, change):
    path = lines_of(folder)
    first, _, rest = path.read_bytes().partition(b"\n")
    content = json.loads(first)
    del content["check"]
    path.write_bytes(checked({**content, **change}) + rest)

    with pytest.raises(FileError):
        read_journal(folder)


@pytest.mark.parametrize(
    "window",
    [
        [[0, 0], [99, 99], ""],
        [[-1, 0], [1, 1], ""],
        [[0], [1], ""],
        [[0, 0], [2, 2], "no base64"],
        [[0, 0], [2, 2], "AAAA"],
        [0, 0, 0],
        7,
    ],
)
def test_windows_that_do_not_fit_are_left_out(folder, window):
    path = lines_of(folder)
    line = checked({"n": 4, "t": 1.0, "do": "x", "labels": [window]})
    path.write_bytes(path.read_bytes() + line)

    found = read_journal(folder)

    assert found.unsaved == {1, 2, 3}
    assert len(found.remarks) == 1


def test_a_line_does_not_unpack_to_more_than_it_says(folder):
    import zlib
    from base64 import b64encode

    bomb = b64encode(zlib.compress(bytes(10**7))).decode()
    path = lines_of(folder)
    line = checked({"n": 4, "t": 1.0, "do": "x", "labels": [[[0, 0], [1, 1], bomb]]})
    path.write_bytes(path.read_bytes() + line)

    assert len(read_journal(folder).remarks) == 1


# ------------------------------------------------------------ snapshots


@pytest.mark.parametrize("how", ["gone", "empty", "cut", "garbage"])
def test_without_its_snapshot_the_later_actions_are_there(rolled, how):
    path = snapshot_file(rolled, 1)
    if how == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": content[:20], "garbage": b"x" * 99}[how])

    found = read_journal(rolled)

    assert 3 in ids(rolled)
    (remark,) = found.remarks
    assert "snapshot-000001.labels cannot be read" in remark


def test_a_damaged_part_of_a_snapshot_is_left_out(rolled):
    path = snapshot_file(rolled, 1)
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)

    assert ids(rolled) == {3}
    assert "damaged" in read_journal(rolled).remarks[0]


def test_a_roll_that_was_cut_leaves_what_was_there(folder):
    for content in (b"", b'{"format":1'):
        lines_file(folder, 2).write_bytes(content)
        snapshot_file(folder, 2).write_bytes(b"half")

        assert ids(folder) == {1, 2, 3}


# ------------------------------------------------------------ a disk that takes nothing


class FullDisk:
    """Makes writing into journals fail after some bytes, until it is emptied."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        from napari_tinysam.journal import lines_file, writing

        write = lines_file._write_all

        def limited(file, content):
            if len(content) > self.room:
                write(file, content[: self.room])
                self.room = 0
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= len(content)
            write(file, content)

        monkeypatch.setattr(lines_file, "_write_all", limited)
        monkeypatch.setattr(writing, "_TRY_AGAIN", 0.01)


def test_a_full_disk_is_said_once_and_nothing_is_lost_when_there_is_room(
    tmp_path, monkeypatch
):
    disk, told = FullDisk(monkeypatch, 900), []
    journal = Journal(tmp_path, about(SHAPE), on_problem=told.append)
    for number in range(1, 30):
        journal.note("commit", windows=[box((1, 1), (4, 4), number)])
    assert not journal.flush(0.5)
    before = read_journal(tmp_path)  # whole lines only
    assert 0 < len(before.actions) < 29
    assert not before.remarks

    disk.room = 10**9
    assert journal.flush()
    journal.close()

    (sentence,) = told
    assert sentence == (
        "What you do is not kept for the case of a crash: No space left on device. "
        "Save your labels often."
    )
    assert len(read_journal(tmp_path).actions) == 29
    assert ids(tmp_path) == {29}


def test_what_waits_for_a_full_disk_does_not_fill_the_memory(tmp_path, monkeypatch):
    FullDisk(monkeypatch, 0)
    monkeypatch.setattr("napari_tinysam.journal.writing._MOST_WAITING", 10_000)
    journal = Journal(tmp_path, about(SHAPE))
    for _ in range(100):
        journal.note("commit", windows=[box((1, 1), (20, 20), 1)])

    assert journal.failed
    assert len(journal._waiting) < 10
    assert not journal.flush()
    journal.close()


def test_the_reasons_are_the_same_for_all_lines():
    with pytest.raises(lines.DamagedError):
        lines.unchecked(b"[1]")
