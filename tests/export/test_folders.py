"""Where exported files go, and that nothing is left of what failed."""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from export.small_exports import small_model
from napari_tinysam import export as exporting
from napari_tinysam.errors import TinySAMError
from napari_tinysam.export import export
from napari_tinysam.model import SegmentAnything

FILES = ["README.md", "about.json", "decoder.onnx", "encoder.onnx"]


@pytest.fixture(scope="module")
def model() -> SegmentAnything:
    return small_model(head=False, dense=False)


class Traced:
    """In place of an `onnx.ModelProto`."""

    def SerializeToString(self) -> bytes:
        return b"a graph"


@pytest.fixture(autouse=True)
def _nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the files is tested elsewhere, and takes a second."""
    monkeypatch.setattr(exporting, "_to_onnx", lambda *_: Traced())


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let a package be missing."""
    real = builtins.__import__

    def imported(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", imported)


def everything_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_new_folder_is_made(model: SegmentAnything, tmp_path: Path) -> None:
    files = export(model, tmp_path / "a" / "b")
    assert [file.name for file in files] == [
        *("encoder.onnx", "decoder.onnx", "README.md", "about.json")
    ]
    assert all(file.is_file() for file in files)
    assert everything_in(tmp_path) == ["a", "a/b", *(f"a/b/{n}" for n in FILES)]


def test_an_empty_folder_is_filled_and_stays_the_same(
    model: SegmentAnything, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell may be in it, or a disk mounted there."""
    before = tmp_path.stat().st_ino
    monkeypatch.chdir(tmp_path)
    export(model, ".")
    assert sorted(os.listdir(".")) == FILES
    assert tmp_path.stat().st_ino == before


def test_the_home_folder_has_a_short_name(
    model: SegmentAnything, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    files = export(model, "~/out")
    assert all(file.is_file() for file in files)
    assert everything_in(tmp_path) == ["out", *(f"out/{n}" for n in FILES)]


def test_a_folder_with_something_in_it_is_refused(
    model: SegmentAnything, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(TinySAMError, match="is not empty; give the name of a new one"):
        export(model, tmp_path)
    assert everything_in(tmp_path) == ["mine.txt"]


def test_a_file_is_refused(model: SegmentAnything, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(TinySAMError, match=r"mine\.txt is a file"):
        export(model, tmp_path / "mine.txt")
    with pytest.raises(TinySAMError, match="cannot be written"):
        export(model, tmp_path / "mine.txt" / "out")
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_what_is_no_name_is_refused(
    model: SegmentAnything, tmp_path: Path, name: str
) -> None:
    with pytest.raises(TinySAMError, match="cannot be written"):
        export(model, f"{tmp_path}/{name}")
    assert everything_in(tmp_path) == []


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="root may write everywhere, and Windows has other rights",
)
@pytest.mark.parametrize("name", ["", "new", "new/er"])
def test_a_folder_without_rights_is_refused(
    model: SegmentAnything, tmp_path: Path, name: str
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    try:
        with pytest.raises(TinySAMError, match="cannot be written: Permission denied"):
            export(model, locked / name)
        assert everything_in(locked) == []
    finally:
        locked.chmod(0o700)


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [OSError, RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_a_failure_in_the_middle(
    model: SegmentAnything,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    existing: bool,
) -> None:
    """With the encoder written and the decoder not."""
    write = exporting._write_graph

    def full(graph: Any, path: Path, format: Any) -> None:
        write(graph, path, format)
        assert path.with_suffix(".onnx").is_file()
        if path.name == "decoder":
            raise error(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "_write_graph", full)
    folder = tmp_path / "deep" / "out"
    if existing:
        folder.mkdir(parents=True)
    before = everything_in(tmp_path)
    expected = TinySAMError if error is OSError else error
    with pytest.raises(expected, match="No space left on device"):
        export(model, folder)
    assert everything_in(tmp_path) == before


def test_other_formats_and_frames_are_refused(
    model: SegmentAnything, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="Formats are onnx and openvino, not 'tflite'"):
        export(model, tmp_path, format="tflite")  # type: ignore[arg-type]
    for side in (-16, 100, 144):
        with pytest.raises(ValueError, match=f"multiple of 16 up to 128, not {side}"):
            export(model, tmp_path, frame_size=side)
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(
    ("package", "format", "says"),
    [
        ("onnx", "onnx", r'pip install "napari-tinysam\[export\]"'),
        ("onnx", "openvino", r'pip install "napari-tinysam\[export\]"'),
        ("openvino", "openvino", "OpenVINO is not installed.* --format onnx"),
    ],
)
def test_a_missing_package_is_named(
    model: SegmentAnything,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    format: Any,
    says: str,
) -> None:
    without(monkeypatch, package)
    with pytest.raises(TinySAMError, match=says):
        export(model, tmp_path / "out", format=format)
    assert everything_in(tmp_path) == []


def test_onnx_files_need_no_openvino(
    model: SegmentAnything, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "openvino")
    assert len(export(model, tmp_path / "out")) == 4


def test_other_encoders_are_refused(tmp_path: Path) -> None:
    plain = SegmentAnything("vit_b", 64).eval()
    with pytest.raises(
        TinySAMError, match="EfficientNet encoder can be exported, not vit_b"
    ):
        export(plain, tmp_path / "out")
    assert everything_in(tmp_path) == []
