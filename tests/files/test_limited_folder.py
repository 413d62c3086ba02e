"""A cache folder: its limit, other processes, and disks that fail."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tinysam.files import limited_folder
from napari_tinysam.files.limited_folder import LimitedFolder


@pytest.fixture
def folder(tmp_path: Path) -> LimitedFolder:
    return LimitedFolder(tmp_path / "cache", ".entry", 100)


def age(folder: LimitedFolder, name: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder.folder / f"{name}.entry", (then, then))


def names(folder: LimitedFolder) -> list[str]:
    return sorted(path.name for path in folder.folder.iterdir())


def test_what_is_written_is_read_and_removed(folder: LimitedFolder) -> None:
    assert folder.read("a") is None
    assert folder.size == len(folder) == 0
    assert folder.write("a", b"one")
    assert folder.write("a", b"three")
    assert folder.write("b", b"two")
    assert folder.read("a") == b"three"
    assert (len(folder), folder.size) == (2, 8)
    folder.remove("a")
    folder.remove("a")
    assert folder.read("a") is None
    folder.clear()
    assert names(folder) == []


def test_what_was_not_used_for_longest_goes_first(folder: LimitedFolder) -> None:
    for seconds, name in enumerate("dcba", start=1):
        assert folder.write(name, bytes(25))
        age(folder, name, 1000 * seconds)
    assert folder.read("a") is not None  # used now
    assert folder.write("e", bytes(26))
    assert names(folder) == ["a.entry", "d.entry", "e.entry"]


def test_an_entry_may_take_its_own_place(folder: LimitedFolder) -> None:
    folder.write("a", bytes(60))
    folder.write("b", bytes(40))
    assert folder.write("a", bytes(60))
    assert names(folder) == ["a.entry", "b.entry"]


def test_what_exceeds_the_limit_alone_removes_nothing(folder: LimitedFolder) -> None:
    folder.write("a", bytes(50))
    assert not folder.write("b", bytes(101))
    assert names(folder) == ["a.entry"]


def test_without_room_nothing_is_kept_or_found(folder: LimitedFolder) -> None:
    folder.write("a", b"one")
    none = LimitedFolder(folder.folder, ".entry", 0)
    assert none.read("a") is None
    assert not none.write("b", b"two")
    assert names(folder) == ["a.entry"]


def test_other_files_are_left_alone(folder: LimitedFolder) -> None:
    folder.write("a", bytes(90))
    (folder.folder / "notes.txt").write_bytes(bytes(1000))
    folder.write("b", bytes(90))
    folder.clear()
    assert names(folder) == ["notes.txt"]


def test_a_killed_process_leaves_nothing_for_long(
    folder: LimitedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(limited_folder.os, "replace", die)  # the whole module's
        patch.setattr("napari_tinysam.files.atomic._remove", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            folder.write("a", b"half")
    (left,) = folder.folder.iterdir()
    assert folder.read("a") is None
    assert len(folder) == 0
    os.utime(left, (0, 0))
    folder.write("b", b"whole")
    assert names(folder) == ["b.entry"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_fails_is_an_empty_one(
    folder: LimitedFolder,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    caplog.set_level(logging.DEBUG)
    folder.write("a", b"one")
    for what in ("read_bytes", "unlink", "mkdir"):
        monkeypatch.setattr(Path, what, fail)
    monkeypatch.setattr(limited_folder, "replacing", fail)
    for _ in range(3):
        assert folder.read("a") is None
        assert not folder.write("b", b"two")
        folder.remove("a")
        folder.clear()
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.DEBUG


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="may write everywhere"
)
def test_a_folder_that_is_only_readable(folder: LimitedFolder) -> None:
    folder.write("a", b"one")
    folder.folder.chmod(0o500)
    try:
        assert folder.read("a") == b"one"
        assert not folder.write("b", b"two")
    finally:
        folder.folder.chmod(0o700)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine")
    folder = LimitedFolder(tmp_path / "cache", ".entry", 100)
    assert folder.read("a") is None
    assert not folder.write("a", b"one")
    folder.clear()
    assert (tmp_path / "cache").read_text() == "mine"


@given(sizes=st.lists(st.integers(0, 130), max_size=12))
def test_the_limit_holds(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = LimitedFolder(tmp_path_factory.mktemp("cache"), ".entry", 100)
    for number, size in enumerate(sizes):
        assert folder.write(str(number), bytes(size)) == (size <= 100)
        assert folder.size <= 100
        if size <= 100:
            assert folder.read(str(number)) == bytes(size)


def _write_many(place: Path, letter: str, begin: object) -> None:
    folder = LimitedFolder(place, ".entry", 5000)
    begin.wait()  # type: ignore[attr-defined]
    for number in range(60):
        assert folder.write(f"{letter}{number}", letter.encode() * 500)
        assert folder.write("both", letter.encode() * 500)
        found = folder.read("both")
        assert found is None or len(set(found)) == 1


def test_two_processes_share_the_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    begin = context.Barrier(2)
    both = [
        context.Process(target=_write_many, args=(tmp_path, letter, begin))
        for letter in "ab"
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    folder = LimitedFolder(tmp_path, ".entry", 5000)
    assert 0 < folder.size <= 5000
    assert all(name.endswith(".entry") for name in names(folder))
