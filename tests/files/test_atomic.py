"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from napari_tinysam.errors import FileError
from napari_tinysam.files import atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_at_the_end_and_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to("real.txt")
    with atomic.replacing(link) as file:
        file.write(b"new")
        assert (tmp_path / "real.txt").read_text() == "old"
    assert (tmp_path / "real.txt").read_text() == "new"
    assert link.is_symlink()
    assert names(tmp_path) == ["link.txt", "real.txt"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")],
)
def test_a_failure_is_a_sentence_and_leaves_what_was_there(
    tmp_path: Path, code: int, reason: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with atomic.replacing(path) as file:
            file.write(b"half")
            raise OSError(code, os.strerror(code))

    with pytest.raises(FileError, match=rf"a\.txt cannot be written: {reason}\.$"):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_other_errors_clean_up_as_well(tmp_path: Path) -> None:
    def write() -> None:
        with atomic.unfinished(tmp_path / "new") as folder:
            folder.mkdir()
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert names(tmp_path) == []


def write_folder(place: Path, text: str, **options: object) -> None:
    with atomic.unfinished(place, **options) as folder:  # type: ignore[arg-type]
        folder.mkdir()
        (folder / "whole").write_text(text)


def test_a_folder_that_is_there_stays_if_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "place"
    write_folder(place, "first")
    write_folder(place, "second", is_whole=lambda path: (path / "whole").exists())
    assert (place / "whole").read_text() == "first"
    write_folder(place, "third", is_whole=lambda path: False)
    assert (place / "whole").read_text() == "third"
    with pytest.raises(OSError, match="not empty"):
        write_folder(place, "fourth")
    assert (place / "whole").read_text() == "third"
    assert names(tmp_path) == ["place"]


def test_an_empty_folder_is_filled_and_stays_the_same(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    before = empty.stat().st_ino
    with atomic.filling(empty) as folder:
        (folder / "a").touch()
        assert not (empty / "a").exists()
    assert names(empty) == ["a"]
    assert empty.stat().st_ino == before


def test_new_folders_go_after_a_failure(tmp_path: Path) -> None:
    def write() -> None:
        with atomic.filling(tmp_path / "deep" / "new") as folder:
            (folder / "a").touch()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write()
    assert names(tmp_path) == []


def test_only_what_is_old_is_abandoned(tmp_path: Path) -> None:
    old, young = (tmp_path / f".tinysam-{age}.unfinished" for age in ("old", "young"))
    old.mkdir()
    (old / "file").touch()
    os.utime(old, (0, 0))
    young.touch()
    (tmp_path / "mine.unfinished").touch()
    os.utime(tmp_path / "mine.unfinished", (0, 0))
    atomic.remove_abandoned(tmp_path, 60)
    assert names(tmp_path) == [young.name, "mine.unfinished"]


@pytest.mark.parametrize("text", ["two\nlines", "two\nlines\n"])
def test_the_last_line_of_a_text_ends(tmp_path: Path, text: str) -> None:
    atomic.write_text(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_bytes() == b"two\nlines\n"
