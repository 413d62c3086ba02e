"""Journals of several images, windows and processes: found, told apart, and not kept for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from journal_cases import IMAGE, about, box
from napari_tinysam.errors import FileError
from napari_tinysam.files.lock import is_locked, take_lock
from napari_tinysam.journal.folder import Journals, default_folder, is_held
from napari_tinysam.journal.identity import Match

SHAPE = (30, 40)


@pytest.fixture
def journals(tmp_path):
    return Journals(tmp_path / "journals")


def left(journals: Journals, image=IMAGE, value: int = 1) -> Path:
    """Make the journal of a process that has ended."""
    of = replace(about(SHAPE), image=image, begun=1.7e9 + value)
    journal = journals.begin(of)
    journal.note("commit", windows=[box((1, 1), (4, 4), value)])
    journal.close()
    return journal.folder


def test_a_living_journal_is_nobody_elses(journals):
    journal = journals.begin(about(SHAPE))
    journal.note("commit", windows=[box((1, 1), (4, 4), 1)])
    journal.flush()

    assert is_held(journal.folder)
    assert not journals.left_for(IMAGE)
    journals.discard(journal.folder)
    assert journal.folder.exists()

    journal.close()
    (found,) = journals.left_for(IMAGE)
    assert found.folder == journal.folder
    assert found.match is Match.SAME
    assert found.read().unsaved == {1}


def test_two_windows_do_not_mix(journals):
    first, second = journals.begin(about(SHAPE)), journals.begin(about(SHAPE))
    first.note("commit", windows=[box((1, 1), (4, 4), 1)])
    second.note("commit", windows=[box((1, 1), (4, 4), 2)])
    first.close()

    (found,) = journals.left_for(IMAGE)
    assert found.read().unsaved == {1}
    second.close()
    assert len(journals.left_for(IMAGE)) == 2


def test_journals_are_found_by_image_the_newest_first(journals):
    other = replace(IMAGE, address="/data/other.tif", content="0")
    old, new = left(journals, value=1), left(journals, value=2)
    foreign = left(journals, other)

    assert [each.folder for each in journals.left_for(IMAGE)] == [new, old]
    assert [each.folder for each in journals.left_for(other)] == [foreign]
    moved = replace(IMAGE, address="/elsewhere/c.tif")
    assert {each.match for each in journals.left_for(moved)} == {Match.MOVED}
    changed = replace(IMAGE, content="1")
    assert {each.match for each in journals.left_for(changed)} == {Match.CHANGED}


def test_a_discarded_journal_is_gone(journals):
    folder = left(journals)
    journals.discard(folder)
    journal = journals.begin(about(SHAPE))
    journal.discard()

    assert not list(journals.folder.iterdir())


def test_nothing_outside_is_removed(journals, tmp_path):
    folder = left(journals)
    (tmp_path / "mine").mkdir()

    journals.discard(tmp_path / "mine")
    journals.discard(folder.parent)

    assert (tmp_path / "mine").exists()
    assert folder.exists()


def test_old_journals_go(journals):
    old, new = left(journals), left(journals)
    long_ago = os.stat(old).st_mtime - 15 * 86_400
    for path in (old, *old.iterdir()):
        os.utime(path, (long_ago, long_ago))

    assert journals.sweep() == [old]
    assert not old.exists()
    assert new.exists()


def test_too_many_bytes_go_the_oldest_first_and_never_living_ones(journals):
    alive = journals.begin(about(SHAPE))
    places = [left(journals, value=value) for value in (1, 2, 3)]
    for age, place in zip((30, 20, 10), places, strict=True):
        for path in (*place.iterdir(), place):
            at = os.stat(path).st_mtime - age
            os.utime(path, (at, at))
    one = sum(path.stat().st_size for path in places[2].iterdir())
    journals.limit = 2 * one + 50

    assert journals.sweep() == [places[0]]
    journals.limit = 0
    assert journals.sweep() == places[1:]
    assert alive.folder.exists()
    alive.close()


def test_other_folders_are_left_alone(journals):
    place = journals.folder / "notes"
    place.mkdir(parents=True)
    journals.limit = 0

    journals.sweep()

    assert place.exists()
    assert not journals.left_for(IMAGE)


def test_a_broken_journal_is_said_and_not_in_the_way(journals):
    broken, whole = left(journals), left(journals)
    (path,) = broken.glob("lines-*")
    path.write_bytes(b"garbage")

    assert [each.folder for each in journals.left_for(IMAGE)] == [whole]
    (sentence,) = journals.broken()
    assert str(broken) in sentence


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(FileError, match="Nothing can be kept in"):
        Journals(tmp_path / "file").begin(about(SHAPE))
    assert not Journals(tmp_path / "file").left_for(IMAGE)


def test_the_folder_is_that_of_the_users_state(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_TINYSAM_JOURNALS", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("NAPARI_TINYSAM_JOURNALS")
    assert default_folder().name == "journals"


def test_asking_for_a_lock_does_not_take_it(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists()
    file = take_lock(path)
    assert file is not None
    assert is_locked(path)
    assert take_lock(path) is None
    os.close(file)
    assert not is_locked(path)


def test_a_lock_goes_with_its_process(journals):
    code = f"""
import os
from pathlib import Path
from journal_cases import about
from napari_tinysam.journal.folder import Journals
journal = Journals(Path({str(journals.folder)!r})).begin(about((30, 40)))
journal.note("click")
journal.flush()
print(journal.folder, flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])},
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert is_held(folder)
        process.kill()
        process.wait()
    assert not is_held(folder)
    assert len(journals.left_for(IMAGE)) == 1
