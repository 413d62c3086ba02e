"""Converted graphs on disk: whole or not there, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from napari_tinysam.inference.runtime.openvino import conversion as openvino_conversion
from napari_tinysam.inference.runtime.openvino import store

pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(store.ENVIRONMENT_VARIABLE, str(folder))
    return folder


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that were converted into; a conversion writes two files."""
    done: list[Path] = []

    def convert(model: Any, folder: Path, **_: Any) -> None:
        (folder / "encoder.xml").write_text("graph")
        (folder / "arrays.npz").write_bytes(b"0123456789")
        done.append(folder)

    monkeypatch.setattr(openvino_conversion, "convert", convert)
    return done


def model() -> Any:
    return None


def test_a_conversion_is_done_once(cache: Path, conversions: list[Path]) -> None:
    first, second = store.ensure("abc", model), store.ensure("abc", model)
    assert first == second == store.folder_of("abc")
    assert len(conversions) == 1
    assert store.ensure("def", model) != first
    assert {path.name for path in first.iterdir()} >= {"encoder.xml", "arrays.npz"}
    assert all(not path.name.endswith(".unfinished") for path in cache.iterdir())


@pytest.mark.parametrize("fault", ["cut", "gone", "no list", "bad list", "empty"])
def test_half_of_one_is_noticed_and_made_anew(
    fault: str, conversions: list[Path]
) -> None:
    folder = store.ensure("abc", model)
    if fault == "cut":
        (folder / "arrays.npz").write_bytes(b"0123")
    elif fault == "gone":
        (folder / "encoder.xml").unlink()
    elif fault == "no list":
        (folder / "whole.json").unlink()
    elif fault == "bad list":
        (folder / "whole.json").write_text("[1, 2")
    else:
        (folder / "whole.json").write_text("{}")
    assert not store.is_whole(folder)
    assert store.is_whole(store.ensure("abc", model))
    assert len(conversions) == 2


def test_files_that_openvino_adds_do_not_matter(conversions: list[Path]) -> None:
    folder = store.ensure("abc", model)
    (folder / "compiled").mkdir()
    (folder / "compiled" / "1.blob").write_bytes(b"blob")
    assert store.is_whole(folder)
    store.ensure("abc", model)
    assert len(conversions) == 1


def test_another_version_of_openvino_has_its_own(
    conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.ensure("abc", model)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.2.3")
    second = store.ensure("abc", model)
    assert first != second
    assert "1.2.3" in second.name
    assert len(conversions) == 2


def test_two_that_start_at_once_both_get_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = threading.Barrier(2, timeout=30)

    def convert(model: Any, folder: Path, **_: Any) -> None:
        (folder / "encoder.xml").write_text("graph")
        meeting.wait()

    monkeypatch.setattr(openvino_conversion, "convert", convert)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(store.ensure("abc", model)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [store.folder_of("abc")] * 2
    assert [path.name for path in cache.iterdir()] == [found[0].name]
    assert store.is_whole(found[0])


def test_a_full_disk_leaves_nothing_and_is_said(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(model: Any, folder: Path, **_: Any) -> None:
        (folder / "encoder.xml").write_text("graph")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(openvino_conversion, "convert", convert)
    with pytest.raises(store.ConversionError, match="No space left on device"):
        store.ensure("abc", model)
    assert list(cache.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(
    cache: Path, conversions: list[Path]
) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(store.ConversionError, match="cannot be converted"):
        store.ensure("abc", model)
    assert conversions == []


def test_what_a_killed_process_left_goes_after_a_day(
    cache: Path, conversions: list[Path]
) -> None:
    old, young = cache / ".tinysam-1.unfinished", cache / ".tinysam-2.unfinished"
    for folder in (old, young):
        folder.mkdir(parents=True)
    long_ago = old.stat().st_mtime - 2 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    store.ensure("abc", model)
    assert not old.exists()
    assert young.exists()


def test_what_nothing_opens_any_more_goes_when_another_is_made(
    cache: Path, conversions: list[Path]
) -> None:
    left, used, other = (store.ensure(name, model) for name in ("abc", "def", "ghi"))
    beside = cache / "something else"
    beside.mkdir()
    for folder in (left, used):
        note = folder / "whole.json"
        long_ago = note.stat().st_mtime - 61 * 24 * 3600
        os.utime(note, (long_ago, long_ago))
    store.note_use(used)
    assert store.ensure("abc", model) == left  # being there is enough to be found
    store.ensure("jkl", model)
    assert not left.exists()
    for folder in (used, other, beside):
        assert folder.exists()
    store.note_use(left)  # gone meanwhile: nothing happens
    assert not left.exists()


def test_the_list_names_every_file(conversions: list[Path]) -> None:
    folder = store.ensure("abc", model)
    sizes = json.loads((folder / "whole.json").read_text())
    assert sizes == {"encoder.xml": 5, "arrays.npz": 10}


def test_without_openvino_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib.metadata import PackageNotFoundError

    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    assert not store.is_installed()
    with pytest.raises(store.ConversionError, match="OpenVINO is not installed"):
        store.ensure("abc", model)
