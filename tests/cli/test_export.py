"""``napari-tinysam export``: what it writes, and how it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from command import Run, run_command
from export.test_folders import everything_in, without
from napari_tinysam import checkpoints
from napari_tinysam import export as exporting
from napari_tinysam.model import SegmentAnything
from training.small_runs import write_start

FILES = ["README.md", "about.json", "decoder.onnx", "encoder.onnx"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_start(tmp_path_factory.mktemp("start") / "start.safetensors")


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Run]:
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    return partial(run_command, capsys, "export")


def refused(found: Run, code: int, says: str) -> None:
    assert found.code == code
    assert found.err.startswith("Error: ") or "\nError: " in found.err
    assert says in found.err
    assert "Traceback" not in found.err
    assert not found.out


def test_a_file_is_exported(
    run: Callable[..., Run], start: Path, tmp_path: Path
) -> None:
    found = run(start, "-o", "out")
    assert found.code == 0, found.err
    assert everything_in(tmp_path) == ["out", *(f"out/{name}" for name in FILES)]
    for name in FILES:
        assert f"{Path('out') / name}: " in found.out
    about = json.loads((tmp_path / "out" / "about.json").read_text("utf-8"))
    notes = checkpoints.load(start).notes
    assert about["notes"]["name"] == "start.safetensors"
    assert about["notes"]["fingerprint"] == checkpoints.locate(start).fingerprint
    # What the plugin alone reads is left out.
    assert "everything" in notes
    assert not {"everything", "format"} & about["notes"].keys()
    again = run(start, "-o", "out")
    refused(again, 1, "The folder out is not empty")
    assert everything_in(tmp_path) == ["out", *(f"out/{name}" for name in FILES)]


def test_openvino_files_are_written(
    run: Callable[..., Run], start: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")
    found = run(start, "-o", "out", "--format", "openvino")
    assert found.code == 0, found.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("encoder.xml", "encoder.bin", "decoder.xml", "decoder.bin"),
        *("README.md", "about.json"),
    }


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("-o", "out", "--format", "tflite"), 2, "onnx or openvino, not 'tflite'"),
        ((), 2, "--output"),
        (("-o", "out", "--int8"), 1, "This model is not quantized"),
        (("-o", "start.txt"), 1, "start.txt is a file"),
        (("-o", "start.txt/out"), 1, "cannot be written"),
    ],
)
def test_bad_requests_are_refused_in_a_sentence(
    run: Callable[..., Run],
    start: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    (tmp_path / "start.txt").write_text("mine")
    refused(run(start, *arguments), code, says)
    assert everything_in(tmp_path) == ["start.txt"]


def test_other_models_are_refused(run: Callable[..., Run], tmp_path: Path) -> None:
    refused(run("missing", "-o", "out"), 1, "missing")
    (tmp_path / "none.pth").write_bytes(b"nothing")
    refused(run("none.pth", "-o", "out"), 1, "none.pth")
    assert everything_in(tmp_path) == ["none.pth"]


def test_plain_vits_are_refused(
    run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = checkpoints.LoadedCheckpoint(
        model=SegmentAnything("vit_b", 64).eval(),
        name="sam_vit_b",
        path=tmp_path / "vit.pth",
        fingerprint="0",
        notes={},
    )
    monkeypatch.setattr(checkpoints, "load", lambda *_, **__: loaded)
    refused(
        run("sam_vit_b", "-o", "out"),
        1,
        "TinyViT or EfficientNet encoder can be exported",
    )
    assert everything_in(tmp_path) == []


def test_a_missing_package_is_named_before_anything_is_loaded(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checkpoints, "load", lambda *_, **__: pytest.fail("loaded"))
    without(monkeypatch, "onnx")
    found = run("sam_vit_h", "-o", "out")
    refused(found, 1, 'pip install "napari-tinysam[export]"')
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.onnx.errors.OnnxExporterError("no such operator\nat"), "no such oper"),
        (RuntimeError(), "RuntimeError"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_failures_in_the_middle_are_told_in_a_sentence(
    run: Callable[..., Run],
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    says: str,
) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(exporting, "_to_onnx", failing)
    found = run(start, "-o", "out")
    refused(found, 1, says)
    assert len(found.err.strip().splitlines()) == 2  # with what it was about to do
    assert everything_in(tmp_path) == []


def test_help_costs_no_torch(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = run("--help")
    assert found.code == 0
    assert "docs/export.md" in found.out
